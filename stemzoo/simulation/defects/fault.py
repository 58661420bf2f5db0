"""A slip along a line that no lattice plane explains."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stemzoo.simulation.scene import Scene, without_collisions


def fault(scene: Scene, rng: np.random.Generator, *, shift: float, shift_deg: float | None = None) -> Scene:
    """Shift everything on one side of a random line by `shift` [Å], along the line or towards `shift_deg`; the columns in the way go.

    For a fault in a plane of the crystal see `planar_fault`.
    """
    line = rng.uniform(0, 2 * np.pi)
    normal = np.array([math.cos(line), math.sin(line)])
    towards = line + np.pi / 2 if shift_deg is None else math.radians(shift_deg)
    beyond = scene.yx @ normal > rng.uniform(-0.3, 0.3) * scene.extent
    step = shift * np.array([math.cos(towards), math.sin(towards)])
    return without_collisions(replace(scene, yx=scene.yx + np.where(beyond[:, None], step, 0.0)))
