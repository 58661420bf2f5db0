"""Scattering that belongs to no column: flat, slowly varying, amorphous. Called by `simulation.frame`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import shift

from stemzoo.simulation import noise
from stemzoo.simulation.recipe import Specimen, draw

_LEAST = 0.002
"""Share of the lattice's mean intensity that vacuum scatters, too."""

_BORDER = 2.0
"""Width over which the background falls at the specimen's border [Å]."""

MOST_CONTRAST = 0.4
"""What an amorphous film varies by, rms, of what it scatters: 1/√N for the N atoms that a probe covers at once, 6 in 2 nm of carbon at
2 g/cm³ under a peak of 0.5 Å. No film carries a specimen and is thinner, and none is as dark as vacuum between bright specks."""


class Ground(NamedTuple):
    """What lies under and over the columns.

    Args:
        field: (H, W) float32, the share of the beam that it scatters; never negative.
        speckle: rms of its amorphous part over the frame, as `field`.
        grain: sigma of the Gaussian that independent points become in that part [Å].
    """

    field: np.ndarray
    speckle: float
    grain: float


def surroundings(
    specimen: Specimen,
    depths: list[np.ndarray],
    shape: tuple[int, int],
    mean: float,
    pixel_size: float,
    rng: np.random.Generator,
    shift_px: np.ndarray,
) -> Ground:
    """Return the scattering by no column.

    Material whose speckle is as strong as the recipe draws it scatters at least 1 / `MOST_CONTRAST` of that itself, however little flat
    background is drawn; where contamination makes it thicker or thinner, its speckle goes with the root of its thickness.

    Args:
        depths: (H, W) each, how far inside an outline of the specimen each pixel lies [Å].
        mean: mean intensity of the lattice, of which the recipe's numbers are shares.
        shift_px: (2,) by which all of it has drifted; the same `rng` gives the same ground, what leaves the field coming in again opposite.
    """
    flat, slow = draw(specimen.background, rng), draw(specimen.contamination, rng)
    wave = noise.smooth_field(shape, 0.7 * shape[0], rng) if slow else np.zeros(shape, dtype=np.float32)
    speckle, grain = draw(specimen.carbon, rng), 0.0
    flat = max(flat, speckle / MOST_CONTRAST)
    field = np.maximum(np.float32(flat) + np.float32(slow) * wave, np.float32(0))
    varying = np.zeros(shape, dtype=np.float32)
    if speckle:
        grain = draw(specimen.grain, rng)
        strength = np.minimum(np.float32(speckle) * np.sqrt(field / np.float32(flat)), np.float32(MOST_CONTRAST) * field)
        varying = strength * noise.amorphous(shape, grain / pixel_size, rng)
    field = field + varying
    if shift_px.any():
        field = shift(field, shift_px, order=1, mode="grid-wrap")
    for depth in depths:
        field *= np.clip(depth / _BORDER + 0.5, 0, 1)
    return Ground(np.asarray(mean * np.maximum(field, _LEAST), dtype=np.float32), mean * float(varying.std()), grain)
