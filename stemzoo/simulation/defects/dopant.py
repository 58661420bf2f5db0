"""Foreign atoms in the place of a column's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemzoo.errors import RecipeError
from stemzoo.simulation.elements import atomic_number
from stemzoo.simulation.scene import Scene


def dopant(
    scene: Scene,
    rng: np.random.Generator,
    *,
    fraction: float,
    factor: float | None = None,
    element: str | None = None,
    share: float = 1.0,
    species: str | None = None,
    name: str | None = None,
) -> Scene:
    """Replace the share `share` of the atoms in a fraction of the columns by `element`; or, where the element is not known, multiply the
    columns' atoms by `factor`.

    `name` makes a class of its own of the columns that were changed. Raises: RecipeError unless one of `factor` and `element` is given.
    """
    if (factor is None) == (element is None):
        raise RecipeError("defect 'dopant' wants either `element` or `factor`, and not both")
    hit = scene.of(species) & (rng.random(len(scene.yx)) < fraction)
    if factor is not None:
        scene = replace(scene, atoms=np.where(hit[:, None], scene.atoms * factor, scene.atoms))
    elif element is not None:
        scene = _substituted(scene, hit, element, share)
    scene = replace(scene, home=scene.homes(hit))
    if name is None:
        return scene
    scene = scene.with_class(name)
    return replace(scene, species=np.where(hit, scene.classes.index(name), scene.species))


def _substituted(scene: Scene, hit: np.ndarray, element: str, share: float) -> Scene:
    """Return the scene with the heaviest atoms of the columns `hit` replaced by `element`; lighter ones of the same column (the oxygen of
    Ti-O) stay."""
    scene = scene.with_element(element)
    atoms, numbers = scene.atoms.copy(), np.array([atomic_number(e) for e in scene.elements])
    rows = np.flatnonzero(hit)
    heaviest = np.where(atoms[rows] > 0, numbers, 0).argmax(axis=1)
    moved = share * atoms[rows, heaviest]
    atoms[rows, heaviest] -= moved
    atoms[rows, scene.elements.index(element)] += moved
    return replace(scene, atoms=atoms)
