"""A smooth displacement field."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stemzoo.simulation.scene import Scene


def strain(scene: Scene, rng: np.random.Generator, *, amplitude: float, period: float = 60.0) -> Scene:
    """Add a smooth displacement field of rms `amplitude` [Å] and wavelength about `period` [Å]."""
    moved = np.zeros_like(scene.yx)
    for _ in range(4):
        wave = rng.normal(0, 2 * np.pi / period, 2)
        moved += rng.normal(0, amplitude / 2, 2) * np.cos(scene.yx @ wave + rng.uniform(0, 2 * np.pi))[:, None] * math.sqrt(2)
    return replace(scene, yx=scene.yx + moved)
