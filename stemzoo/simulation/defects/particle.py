"""A particle in the field, and nothing around it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stemzoo.simulation.scene import Scene, cut_out


def particle(
    scene: Scene,
    rng: np.random.Generator,
    *,
    radius: float = 0.3,
    taper: float = 20.0,
    facets: int = 0,
    along: tuple[float, ...] | None = None,
    supported: bool = False,
) -> Scene:
    """Keep only a particle: a rounded blob, or with `facets` a polygon of that many sides.

    Args:
        radius: about that of the particle, as a share of the field's side.
        taper: the thickness falls over this distance from the border [Å] to a sixth.
        along: a crystal direction that one facet faces; without it they face anywhere.
        supported: the background goes on around the particle; else vacuum is there.
    """
    centre, size = rng.uniform(-0.15, 0.15, 2) * scene.extent, radius * scene.extent
    if facets:
        facing = rng.uniform(0, 2 * np.pi)
        if along is not None:
            toward = scene.placed("particle").direction(along)
            facing = math.atan2(toward[0], toward[1])
        angles = facing + 2 * np.pi * np.arange(int(facets)) / int(facets)
        normals = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        distances = size * rng.uniform(0.75, 1.05, len(angles))

        def depth(yx: np.ndarray) -> np.ndarray:
            return np.asarray((distances - (yx - centre) @ normals.T).min(axis=-1))
    else:
        waves = [(n, rng.normal(0, 0.12 / n), rng.uniform(0, 2 * np.pi)) for n in range(2, 7)]

        def depth(yx: np.ndarray) -> np.ndarray:
            offset = yx - centre
            phi = np.arctan2(offset[..., 0], offset[..., 1])
            border = size * (1 + sum(a * np.cos(n * phi + phase) for n, a, phase in waves))
            return np.asarray(border - np.linalg.norm(offset, axis=-1))

    cut = cut_out(scene, depth, taper)
    return replace(cut, outlines=scene.outlines) if supported else cut
