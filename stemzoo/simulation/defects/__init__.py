"""Defects: each file holds one function from a scene to a scene, chosen in a recipe by `[[defects]] kind = "<its name>"`.

To add a defect, add a file here that defines a function of the file's name with the signature `(scene, rng, *, …)`; nothing else is to be
registered. Its keyword arguments are the keys of the recipe's table: a pair `[low, high]` is drawn from before the call, three numbers are
a crystal vector [u, v, w], and an unknown key is refused with the nearest right one. Defects act in the recipe's order.

Called by `simulation.frame`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from stemzoo.errors import RecipeError
from stemzoo.simulation.recipe import Defect
from stemzoo.simulation.scene import Scene

DEFECTS: dict[str, Callable[..., Scene]] = {
    module.name: getattr(importlib.import_module(f"{__name__}.{module.name}"), module.name) for module in pkgutil.iter_modules(__path__)
}


def apply(defect: Defect, scene: Scene, rng: np.random.Generator) -> Scene:
    """Return `scene` with one defect of a recipe in it, by its probability.

    Raises: RecipeError for an unknown defect or argument, naming the nearest right one.
    """
    function = DEFECTS.get(defect.kind)
    if function is None:
        raise RecipeError(f"unknown defect {defect.kind!r}; {_nearest(defect.kind, DEFECTS)}")
    given = dict(defect.model_extra or {})
    parameters = {name: p for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    for name in given:
        if name not in parameters:
            raise RecipeError(f"defect {defect.kind!r} has no argument {name!r}; {_nearest(name, parameters)}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in given:
            raise RecipeError(f"defect {defect.kind!r} wants the argument {name!r}")
    if rng.random() >= defect.probability:
        return scene
    return function(scene, rng, **{name: _drawn(value, rng) for name, value in given.items()})


def _drawn(value: Any, rng: np.random.Generator) -> Any:
    """A value of a recipe's table: a pair of numbers is a range to draw from, any other list stays what it is."""
    if isinstance(value, list | tuple):
        return float(rng.uniform(*value)) if len(value) == 2 else tuple(value)
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
