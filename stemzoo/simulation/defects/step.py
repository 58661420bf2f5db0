"""A step in thickness."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stemzoo.simulation.scene import Scene


def step(scene: Scene, rng: np.random.Generator, *, factor: float) -> Scene:
    """Change the thickness beyond a random line by `factor`."""
    line = rng.uniform(0, 2 * np.pi)
    beyond = scene.yx @ np.array([math.cos(line), math.sin(line)]) > rng.uniform(-0.4, 0.4) * scene.extent
    return replace(scene, repeats=np.where(beyond, scene.repeats * factor, scene.repeats))
