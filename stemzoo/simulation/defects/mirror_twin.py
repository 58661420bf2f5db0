"""A twin: the crystal beyond a line is the mirror image of that before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemzoo.simulation.scene import Scene, without_collisions


def mirror_twin(
    scene: Scene, rng: np.random.Generator, *, along: tuple[float, ...], through: str | None = None, offset: float = 0.0
) -> Scene:
    """Mirror the crystal in a line along the crystal direction `along`, as seen.

    The line passes through a column, of the species `through` if named, moved by `offset` [Å] across the line; columns on it are shared by
    both sides.
    """
    direction = scene.placed("mirror_twin").direction(along)
    normal = np.array([-direction[1], direction[0]]) * rng.choice([-1, 1])
    candidates = scene.yx[scene.of(through) & (np.abs(scene.yx) < 0.3 * scene.extent).all(axis=1)]
    if not len(candidates):
        return scene
    depth = (scene.yx - candidates[rng.integers(len(candidates))]) @ normal - offset
    before, own = scene.chosen(depth < -0.05), scene.chosen(np.abs(depth) <= 0.05)
    image = replace(before, yx=before.yx - 2 * depth[depth < -0.05, None] * normal)
    return without_collisions(before.joined(own).joined(image), 0.55)
