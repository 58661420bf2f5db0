"""Scattering that belongs to no column: flat, slowly varying, amorphous. Called by `simulation.frame`."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import shift

from stemzoo.simulation import noise
from stemzoo.simulation.recipe import Specimen, draw

_LEAST = 0.002
"""Share of the lattice's mean intensity that vacuum scatters, too."""

_BORDER = 2.0
"""Width over which the background falls at the specimen's border [Å]."""


def surroundings(
    specimen: Specimen,
    depths: list[np.ndarray],
    shape: tuple[int, int],
    mean: float,
    pixel_size: float,
    rng: np.random.Generator,
    shift_px: np.ndarray,
) -> np.ndarray:
    """Return (H, W) float32, the share of the beam scattered by no column; never negative.

    Args:
        depths: (H, W) each, how far inside an outline of the specimen each pixel lies [Å].
        mean: mean intensity of the lattice, of which the recipe's numbers are shares.
        shift_px: (2,) by which all of it has drifted; the same `rng` gives the same ground, what leaves the field coming in again opposite.
    """
    field = np.full(shape, draw(specimen.background, rng), dtype=np.float32)
    if slow := draw(specimen.contamination, rng):
        field += np.float32(slow) * noise.smooth_field(shape, 0.7 * shape[0], rng)
    if speckle := draw(specimen.carbon, rng):
        field += np.float32(speckle) * noise.amorphous(shape, rng.uniform(0.4, 0.7) / pixel_size, rng)
    if shift_px.any():
        field = shift(field, shift_px, order=1, mode="grid-wrap")
    for depth in depths:
        field *= np.clip(depth / _BORDER + 0.5, 0, 1)
    return np.asarray(mean * np.maximum(field, _LEAST), dtype=np.float32)
