"""Atoms that lie on the specimen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.simulation.scene import FREE, SLACK, Scene

_APART = 1.2
"""An atom nearer to a column than this [Å] is taken to sit on top of it."""


def adatom(scene: Scene, rng: np.random.Generator, *, element: str, density: float, name: str = "adatom") -> Scene:
    """Scatter single atoms of `element`, `density` for each Å²; those near a column add to it, others are columns of the class `name`."""
    scene = scene.with_element(element)
    which = scene.elements.index(element)
    reach = scene.extent / 2 + SLACK
    yx = rng.uniform(-reach, reach, (rng.poisson(density * (2 * reach) ** 2), 2))
    if not len(yx):
        return scene
    if len(scene.yx):
        distance, nearest = cKDTree(scene.yx).query(yx)
        on_top = distance < _APART
        atoms, hit = scene.atoms.copy(), np.zeros(len(scene.yx), dtype=bool)
        np.add.at(atoms[:, which], nearest[on_top], 1.0 / np.maximum(scene.repeats[nearest[on_top]], 1.0))
        hit[nearest[on_top]] = True
        scene, yx = replace(scene, atoms=atoms, home=scene.homes(hit)), yx[~on_top]
    pairs = cKDTree(yx).query_pairs(2 * _APART, output_type="ndarray") if len(yx) else np.zeros((0, 2), int)
    keep = np.ones(len(yx), dtype=bool)
    keep[pairs[:, 1]] = False
    yx = yx[keep]
    scene = scene.with_class(name)
    thickness = float(np.median(scene.repeats)) if len(scene.repeats) and scene.repeat > 0 else 1.0
    one = np.zeros((len(yx), len(scene.elements)))
    one[:, which] = 1.0 / thickness
    added = Scene(
        yx=yx,
        atoms=one,
        repeats=np.full(len(yx), thickness),
        species=np.full(len(yx), scene.classes.index(name)),
        thermal=np.full(len(yx), float(np.median(scene.thermal)) if len(scene.thermal) else 0.08),
        elements=scene.elements,
        classes=scene.classes,
        extent=scene.extent,
        home=np.full(len(yx), FREE),
    )
    return scene.joined(added)
