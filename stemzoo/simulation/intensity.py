"""How much of the beam a column sends to the annular detector: contrast with the atoms in it and with thickness. Owns every cross-section.

Called by `simulation.scene` and `simulation.draft`; `scripts/validate_simulation.py` holds it against multislice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stemzoo.simulation.elements import atomic_number
from stemzoo.simulation.probe import wavelength

ABSORPTION_DEPTH = 250.0
"""Depth over which a column of mean contrast stops adding to its own intensity [Å]."""


def cross_section(z: float, exponent: float, energy_kev: float, inner_mrad: float = 80.0, outer_mrad: float = 200.0) -> float:
    """Return the cross-section of one atom for scattering on to the ADF detector [Å²].

    Source: Rutherford scattering in the small-angle form, σ = 4γ²Z²/a₀² (λ/2π)⁴ π (1/θ₁² − 1/θ₂²), with Z² replaced by
    79² (Z/79)^exponent to follow the measured Z^1.6–1.9 of annular detectors.
    """
    gamma = 1 + energy_kev / 510.999
    geometry = math.pi * ((inner_mrad * 1e-3) ** -2 - (outer_mrad * 1e-3) ** -2)
    return float(4 * gamma**2 * 79**2 * (z / 79) ** exponent / 0.529177**2 * (wavelength(energy_kev) / (2 * math.pi)) ** 4 * geometry)


@dataclass(frozen=True)
class Contrast:
    """What turns atoms into intensity for one frame.

    Args:
        exponent: intensity of a thin column goes as Z to this power.
        energy_kev: beam energy.
        inner_mrad, outer_mrad: angles of the annular detector.
    """

    exponent: float = 1.7
    energy_kev: float = 200.0
    inner_mrad: float = 80.0
    outer_mrad: float = 200.0

    def weights(self, atoms: np.ndarray, elements: tuple[str, ...], repeats: np.ndarray, repeat: float) -> np.ndarray:
        """Return (n,) scattering cross-sections [Å²] of columns.

        Args:
            atoms: (n, E) atoms of each element per repeat. elements: their symbols. repeats: (n,) repeats along the beam.
            repeat: its length [Å]; 0 where nothing repeats, as in a monolayer.
        """
        angles = (self.inner_mrad, self.outer_mrad)
        one = np.array([cross_section(atomic_number(element), self.exponent, self.energy_kev, *angles) for element in elements])
        thin = atoms @ one
        if repeat <= 0:
            return np.asarray(thin * repeats)
        depth = ABSORPTION_DEPTH / repeat
        return np.asarray(thin * depth * -np.expm1(-repeats / depth))
