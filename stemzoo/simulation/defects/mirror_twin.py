"""A twin: the crystal beyond a line is the mirror image of that before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.simulation.scene import Scene, without_collisions

_ON = 0.05
"""Columns this near to the line lie on it [Å]."""

_TRIES = 4


def mirror_twin(
    scene: Scene, rng: np.random.Generator, *, along: tuple[float, ...], through: str | None = None, offset: float = 0.0
) -> Scene:
    """Mirror the crystal in a line along the crystal direction `along`, as seen.

    The line passes through a column, of the species `through` if named, moved by `offset` [Å] across the line; columns on it are shared by
    both sides. Of a few such lines the one is taken at which columns come least near to each other.
    """
    direction = scene.placed("mirror_twin").direction(along)
    normal = np.array([-direction[1], direction[0]]) * rng.choice([-1, 1])
    candidates = scene.yx[scene.of(through) & (np.abs(scene.yx) < 0.3 * scene.extent).all(axis=1)]
    if not len(candidates):
        return scene
    twins = []
    for column in candidates[rng.integers(len(candidates), size=_TRIES)]:
        depth = (scene.yx - column) @ normal - offset
        before, own = scene.chosen(depth < -_ON), scene.chosen(np.abs(depth) <= _ON)
        twin = before.joined(own).joined(replace(before, yx=before.yx - 2 * depth[depth < -_ON, None] * normal))
        seen = twin.yx[twin.filled & (np.abs(twin.yx) < scene.extent / 2).all(axis=1)]
        twins.append((float(cKDTree(seen).query(seen, k=2)[0][:, 1].min()) if len(seen) > 1 else 0.0, twin))
    return without_collisions(max(twins, key=lambda pair: pair[0])[1], 0.55)
