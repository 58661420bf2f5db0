"""A polar displacement of one sublattice."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stemzoo.simulation.scene import Scene


def polar(
    scene: Scene,
    rng: np.random.Generator,
    *,
    shift: float,
    species: str,
    direction_deg: float = 0.0,
    along: tuple[float, ...] | None = None,
) -> Scene:
    """Displace one species against the rest by `shift` [Å], along the crystal direction `along` = [u, v, w] as it is seen, or towards
    `direction_deg`, counter-clockwise from +x as displayed."""
    angle = math.radians(direction_deg)
    unit = np.array([-math.sin(angle), math.cos(angle)]) if along is None else scene.placed("polar").direction(along)
    return replace(scene, yx=scene.yx + np.where(scene.of(species)[:, None], shift * unit, 0.0))
