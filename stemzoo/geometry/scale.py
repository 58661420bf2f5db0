"""A stand-in for the pixel size of a frame that has none, good enough to bring it to a network's scale. Owns the guess; NumPy only.

Called by runtime.scale. Never used for a length in Å: it rests on what columns are like in general, not on what the sample is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from stemzoo.geometry.lattice import find_lattice
from stemzoo.geometry.width import find_spots

TYPICAL_SIGMA = 0.46  # Å, Gaussian sigma of a column: 0.38–0.5 in five calibrated frames, 0.35–0.6 by probe, source and vibration …
SIGMA_SPREAD = 0.20  # … and its scatter, in logarithms
TYPICAL_SPACING = 2.5  # Å between nearest visible columns: graphene 1.4, Mo–S 1.8, perovskite A–B 2.8, A–A alone 3.9
SPACING_SPREAD = 0.33


@dataclass(frozen=True)
class ScaleEstimate:
    """How a frame without pixel size compares with a network's sampling.

    Args:
        factor: network pixels per frame pixel.
        sampling: Å/px that this amounts to.
        period_px: shortest lattice translation, or None without a lattice.
        spacing_px: typical distance to the nearest bright spot.
        peak_sigma_px: typical sigma of a bright spot.
        source: `lattice` where the spacing of columns took part, `width` where only their width did.
    """

    factor: float
    sampling: float
    period_px: Optional[float]
    spacing_px: Optional[float]
    peak_sigma_px: float
    source: str


def scale_to_network(image: np.ndarray, nominal_sampling: float) -> Optional[ScaleEstimate]:
    """Return by how much to resample a cleaned frame (H, W) so that columns are as wide and far apart as at `nominal_sampling` [Å/px].

    The width of the bright spots speaks for itself; where there is a lattice, the distance between nearest spots has a say too, each
    weighted by how much it varies among materials and microscopes. None where no spots stand out.
    """
    spots = find_spots(image)
    if spots is None:
        return None
    lattice = find_lattice(image)
    sigma, spacing = spots
    log_sampling, weight = np.log(TYPICAL_SIGMA / sigma) / SIGMA_SPREAD**2, 1 / SIGMA_SPREAD**2
    if lattice is not None and spacing is not None:
        log_sampling += np.log(TYPICAL_SPACING / spacing) / SPACING_SPREAD**2
        weight += 1 / SPACING_SPREAD**2
    sampling = float(np.exp(log_sampling / weight))
    period = None if lattice is None else lattice.period_px
    return ScaleEstimate(sampling / nominal_sampling, sampling, period, spacing, sigma, "width" if lattice is None else "lattice")
