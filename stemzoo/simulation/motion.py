"""What moves between the frames of a time series: point defects from site to site, free atoms anywhere. Called by `simulation.frame`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.simulation.scene import FREE, PRISTINE, Scene

_NEAR = 1.15
"""Neighbours within this factor of the nearest are as good as it."""


def advance(scene: Scene, rng: np.random.Generator, *, hop: float, wander: float) -> Scene:
    """Return the scene one frame later.

    Each point defect changes places, with the chance `hop`, with a neighbouring column of the species that its own site had; free atoms
    make a random step of rms `wander` [Å] along each axis.
    """
    free = scene.home == FREE
    if wander > 0 and free.any():
        scene = replace(scene, yx=scene.yx + np.where(free[:, None], rng.normal(0, wander, scene.yx.shape), 0.0))
    if hop <= 0:
        return scene
    atoms, species, home = scene.atoms.copy(), scene.species.copy(), scene.home.copy()
    for kind in np.unique(home[home >= 0]):
        movers = np.flatnonzero((home == kind) & (rng.random(len(home)) < hop))
        sites = np.flatnonzero((home == PRISTINE) & (species == kind))
        if not len(movers) or len(sites) < 6:
            continue
        distance, nearest = cKDTree(scene.yx[sites]).query(scene.yx[movers], k=6)
        for mover, near, reach in zip(movers, nearest, distance, strict=True):
            site = sites[rng.choice(near[reach <= _NEAR * reach[0]])]
            if home[site] == PRISTINE:  # not taken by another defect in this very frame
                for values in (atoms, species, home):
                    values[[mover, site]] = values[[site, mover]]
    return replace(scene, atoms=atoms, species=species, home=home)
