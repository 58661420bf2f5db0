"""Defects: each is one function from a scene to a scene, chosen by `[[defects]] kind = "<its name>"`. Called by `simulation.generate`.

To add a defect, write a function here with the signature `(scene, rng, *, …)`: its keyword arguments are the keys of the recipe's table, a
pair `[low, high]` given for a number is drawn from before the call, and an unknown key is refused with the nearest right one.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stemzoo.errors import RecipeError
from stemzoo.simulation.recipe import Defect
from stemzoo.simulation.scene import Scene


def _of(scene: Scene, species: str | None) -> np.ndarray:
    """True for the visible columns of one species, or of all."""
    if species is None:
        return scene.species >= 0
    if species not in scene.classes:
        raise RecipeError(f"defect wants the species {species!r}; this structure shows {', '.join(scene.classes)}")
    return np.asarray(scene.species == scene.classes.index(species))


def vacancy(scene: Scene, rng: np.random.Generator, *, fraction: float, remaining: float = 0.0, species: str | None = None) -> Scene:
    """Empty a fraction of the columns, or leave `remaining` of their intensity (one sulphur of two)."""
    hit = _of(scene, species) & (rng.random(len(scene.yx)) < fraction)
    if remaining > 0:
        return replace(scene, weight=np.where(hit, scene.weight * remaining, scene.weight))
    return scene.chosen(~hit)


def dopant(scene: Scene, rng: np.random.Generator, *, fraction: float, factor: float, species: str | None = None) -> Scene:
    """Multiply the intensity of a fraction of the columns by `factor`."""
    hit = _of(scene, species) & (rng.random(len(scene.yx)) < fraction)
    return replace(scene, weight=np.where(hit, scene.weight * factor, scene.weight))


def polar(scene: Scene, rng: np.random.Generator, *, shift: float, species: str, direction_deg: float = 0.0) -> Scene:
    """Displace one species against the rest by `shift` [Å], counter-clockwise from +x as displayed."""
    angle = math.radians(direction_deg)
    step = shift * np.array([-math.sin(angle), math.cos(angle)])
    return replace(scene, yx=scene.yx + np.where(_of(scene, species)[:, None], step, 0.0))


def strain(scene: Scene, rng: np.random.Generator, *, amplitude: float, period: float = 60.0) -> Scene:
    """Add a smooth displacement field of rms `amplitude` [Å] and wavelength about `period` [Å]."""
    field = np.zeros_like(scene.yx)
    for _ in range(4):
        wave = rng.normal(0, 2 * np.pi / period, 2)
        field += rng.normal(0, amplitude / 2, 2) * np.cos(scene.yx @ wave + rng.uniform(0, 2 * np.pi))[:, None] * math.sqrt(2)
    return replace(scene, yx=scene.yx + field)


def fault(scene: Scene, rng: np.random.Generator, *, shift: float, shift_deg: float | None = None) -> Scene:
    """Shift everything on one side of a random line by `shift` [Å], along the line or towards `shift_deg`; the columns in the way go."""
    line = rng.uniform(0, 2 * np.pi)
    normal = np.array([math.cos(line), math.sin(line)])
    towards = line + np.pi / 2 if shift_deg is None else math.radians(shift_deg)
    beyond = scene.yx @ normal > rng.uniform(-0.3, 0.3) * scene.extent
    moved = replace(scene, yx=scene.yx + np.where(beyond[:, None], shift * np.array([math.cos(towards), math.sin(towards)]), 0.0))
    from stemzoo.simulation.scene import _without_collisions

    return _without_collisions(moved, 0.62)


def step(scene: Scene, rng: np.random.Generator, *, factor: float) -> Scene:
    """Change the thickness beyond a random line: intensities there are multiplied by `factor`."""
    line = rng.uniform(0, 2 * np.pi)
    beyond = scene.yx @ np.array([math.cos(line), math.sin(line)]) > rng.uniform(-0.4, 0.4) * scene.extent
    return replace(scene, weight=np.where(beyond, scene.weight * factor, scene.weight))


DEFECTS: dict[str, Callable[..., Scene]] = {f.__name__: f for f in (vacancy, dopant, polar, strain, fault, step)}


def apply(defect: Defect, scene: Scene, rng: np.random.Generator) -> Scene:
    """Return `scene` with one defect of a recipe in it, by its probability.

    Raises: RecipeError for an unknown defect or argument, naming the nearest right one.
    """
    function = DEFECTS.get(defect.kind)
    if function is None:
        near = difflib.get_close_matches(defect.kind, DEFECTS, n=1)
        raise RecipeError(f"unknown defect {defect.kind!r}; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(DEFECTS)}"))
    given = dict(defect.model_extra or {})
    parameters = {name: p for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    for name in given:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            raise RecipeError(
                f"defect {defect.kind!r} has no argument {name!r}; "
                + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(parameters)}")
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in given:
            raise RecipeError(f"defect {defect.kind!r} wants the argument {name!r}")
    if rng.random() >= defect.probability:
        return scene
    drawn = {name: float(rng.uniform(*value)) if isinstance(value, list | tuple) else value for name, value in given.items()}
    return function(scene, rng, **drawn)
