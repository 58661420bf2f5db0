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
    classes = scene.classes if name in scene.classes else (*scene.classes, name)
    return replace(scene, classes=classes, species=np.where(hit, classes.index(name), scene.species))


def _substituted(scene: Scene, hit: np.ndarray, element: str, share: float) -> Scene:
    """Heaviest atoms of the columns `hit` replaced by `element`; lighter ones of the same column (the oxygen of Ti-O) stay."""
    atomic_number(element)
    elements = scene.elements if element in scene.elements else (*scene.elements, element)
    atoms = np.concatenate([scene.atoms, np.zeros((len(scene.atoms), len(elements) - len(scene.elements)))], axis=1)
    numbers = np.array([atomic_number(e) for e in elements])
    rows = np.flatnonzero(hit)
    heaviest = np.where(atoms[rows] > 0, numbers, 0).argmax(axis=1)
    moved = share * atoms[rows, heaviest]
    atoms[rows, heaviest] -= moved
    atoms[rows, elements.index(element)] += moved
    return replace(scene, elements=elements, atoms=atoms)
