"""Missing atoms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemzoo.simulation.scene import Scene


def vacancy(scene: Scene, rng: np.random.Generator, *, fraction: float, remaining: float = 0.0, species: str | None = None) -> Scene:
    """Empty a fraction of the columns, or leave the share `remaining` of their atoms (one sulphur of two)."""
    hit = scene.of(species) & (rng.random(len(scene.yx)) < fraction)
    return replace(scene, atoms=np.where(hit[:, None], scene.atoms * remaining, scene.atoms), home=scene.homes(hit))
