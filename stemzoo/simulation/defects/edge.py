"""The specimen's edge, with vacuum beyond."""

from __future__ import annotations

import math

import numpy as np

from stemzoo.simulation.scene import Scene, cut_out


def edge(scene: Scene, rng: np.random.Generator, *, taper: float = 15.0, roughness: float = 1.0) -> Scene:
    """Cut the specimen along a wavy line; towards it the thickness falls over `taper` [Å] to a sixth. `roughness` scales the waves."""
    direction = rng.uniform(0, 2 * np.pi)
    normal = np.array([math.cos(direction), math.sin(direction)])
    place = rng.uniform(-0.3, 0.2) * scene.extent
    waves = [(n, rng.normal(0, roughness * 0.015 / n), rng.uniform(0, 2 * np.pi)) for n in range(2, 7)]

    def depth(yx: np.ndarray) -> np.ndarray:
        across, along = yx @ normal, yx @ np.array([-normal[1], normal[0]]) / scene.extent
        border = place + scene.extent * sum(a * np.cos(2 * np.pi * n * along + phase) for n, a, phase in waves)
        return np.asarray(across - border)

    return cut_out(scene, depth, taper)
