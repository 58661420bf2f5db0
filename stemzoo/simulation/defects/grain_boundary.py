"""Grains that meet along straight boundaries."""

from __future__ import annotations

import math

import numpy as np

from stemzoo.simulation.scene import Scene, without_collisions

_OVERLAP = 1.2
"""Grains reach over the line between them by about half of this [Å], so that no gap is left where columns that collide are dropped."""


def grain_boundary(
    scene: Scene, rng: np.random.Generator, *, misorientation_deg: float = 20.0, number: float = 2.0, mirrored: bool = False
) -> Scene:
    """Fill the cells of `number` random points with grains turned against the first by up to `misorientation_deg`, to either side;
    with `mirrored` every second grain is the mirror image of the first, not turned.

    Columns that come too near to each other at a boundary are dropped. Anything done to the scene before is lost in the new grains.
    """
    crystal = scene.placed("grain_boundary")
    n_grains = max(round(number), 1)
    points = rng.uniform(-scene.extent / 2, scene.extent / 2, (n_grains, 2))
    whole = None
    for grain in range(n_grains):
        if grain == 0:
            filled = scene
        else:
            is_mirrored = mirrored and grain % 2 == 1
            angle = 0.0 if mirrored else math.radians(misorientation_deg) * rng.choice([-1, 1]) * rng.uniform(0.3 if grain > 1 else 1.0, 1)
            filled = scene.refilled(crystal.turned(angle, mirrored=is_mirrored, origin=rng.random(2) @ crystal.lattice))
        distance = np.linalg.norm(filled.yx[:, None] - points[None], axis=-1)
        mine = distance[:, grain] < distance.min(axis=1) + _OVERLAP
        whole = filled.chosen(mine) if whole is None else whole.joined(filled.chosen(mine))
    assert whole is not None
    return whole if n_grains == 1 else without_collisions(whole)
