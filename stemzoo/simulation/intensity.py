"""How much of the beam a column sends to the annular detector, and how much it loses to the crystal around it. Owns every cross-section.

What is here was fitted to multislice with frozen phonons (`scripts/validate_simulation.py`): a column's own peak levels off with thickness,
as electrons leave the column; they are not lost but scatter anywhere, a haze between the columns that soon carries half of the intensity.
Called by `simulation.scene`, `simulation.layout` and `simulation.draft`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stemzoo.simulation.elements import atomic_number
from stemzoo.simulation.probe import wavelength

_BOHR = 0.529177
_REST_KEV = 510.999
_ANCHOR = 40
"""Z at which the screened Rutherford cross-section is taken as it is; others follow from it by the power law."""

DEPTH, DEPTH_POWER, WEAK_POWER = 85.0, 0.45, 0.23
"""An electron stays with its column for about `DEPTH` Å at 200 kV if that has one atom of Z = 30 every 4 Å. A stronger column scatters it
away sooner: the depth goes as scattering power a length to the minus `DEPTH_POWER`. A weaker one cannot hold the converging beam, which
spreads again below its focus: there the depth goes as that power to the `WEAK_POWER`. Fitted to the peaks of Sr, Ti-O, Au and Si columns;
Ge, and Si columns far from one another, served as a check."""

WEAKEST = 0.15
"""Scattering power below which columns are taken to be no weaker; nothing of less was fitted."""

FOCUSING, TOTAL = 1.5, 1.1
"""A column draws the beam to itself and scatters `FOCUSING` times what its atoms would alone, while all that reaches the detector stays
`TOTAL` times that of the atoms at any thickness."""

SPREAD, SPREAD_POWER, SPREAD_DEPTH = 0.175, 0.36, 35.0
"""Rms widening of a peak along an axis [Å] by the beam's spread about such a column, how it grows with that scattering power, and the
thickness over which it sets in [Å]."""

WEAK_SPREAD, WEAK_SPREAD_POWER = 0.077, -0.75
"""Rms widening of a peak along an axis [Å] by the beam's convergence, which weak columns do not hold together, and how it goes with that
power; it adds to the other in square."""


def cross_section(z: float, exponent: float, energy_kev: float, inner_mrad: float = 80.0, outer_mrad: float = 200.0) -> float:
    """Return the cross-section of one atom for scattering on to the ADF detector [Å²].

    Source: the screened Rutherford cross-section 4γ²Z²/a₀² (λ/2π)⁴ π [1/(θ₁² + θ₀²) − 1/(θ₂² + θ₀²)], θ₀ = λ Z^⅓ / (2π 0.885 a₀), at
    Z = 40; from there (Z/40)^exponent, as annular detectors measure Z^1.6–1.9 over the elements.
    """
    gamma = 1 + energy_kev / _REST_KEV
    per_angle = wavelength(energy_kev) / (2 * math.pi)
    screening = (per_angle * _ANCHOR ** (1 / 3) / (0.885 * _BOHR)) ** 2
    rings = 1 / ((inner_mrad * 1e-3) ** 2 + screening) - 1 / ((outer_mrad * 1e-3) ** 2 + screening)
    return float(4 * (gamma * _ANCHOR / _BOHR) ** 2 * per_angle**4 * math.pi * rings * (z / _ANCHOR) ** exponent)


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
        """Return (n,) scattering cross-sections of columns' own peaks [Å²].

        Args:
            atoms: (n, E) atoms of each element per repeat. elements: their symbols. repeats: (n,) repeats along the beam.
            repeat: its length [Å]; 0 where nothing repeats, as in a monolayer.
        """
        thin = atoms @ self._one(elements)
        if repeat <= 0:
            return np.asarray(thin * repeats)
        depth = self.depth(atoms, elements, repeat) / repeat
        return np.asarray(FOCUSING * thin * depth * -np.expm1(-repeats / depth))

    def haze(self, atoms: np.ndarray, elements: tuple[str, ...], repeats: np.ndarray, repeat: float) -> np.ndarray:
        """Return (n,) cross-sections [Å²] of what columns lose and the crystal around them scatters; arguments as for `weights`."""
        if repeat <= 0:
            return np.zeros(len(atoms))
        lost = TOTAL * (atoms @ self._one(elements)) * repeats - self.weights(atoms, elements, repeats, repeat)
        return np.asarray(np.maximum(lost, 0.0))

    def spread(self, atoms: np.ndarray, elements: tuple[str, ...], repeats: np.ndarray, repeat: float) -> np.ndarray:
        """Return (n,) rms widening of columns' peaks along an axis [Å]; arguments as for `weights`."""
        if repeat <= 0:
            return np.zeros(len(atoms))
        power = self._power(atoms, elements, repeat)
        fully = np.hypot(SPREAD * power**SPREAD_POWER, WEAK_SPREAD * power**WEAK_SPREAD_POWER)
        return np.asarray(fully * np.sqrt(-np.expm1(-repeats * repeat / SPREAD_DEPTH)))

    def depth(self, atoms: np.ndarray, elements: tuple[str, ...], repeat: float) -> np.ndarray:
        """Return (n,) the depth over which electrons leave a column [Å]; it grows with the square of their speed."""
        speed = 1 - 1 / (1 + self.energy_kev / _REST_KEV) ** 2
        at_200 = 1 - 1 / (1 + 200 / _REST_KEV) ** 2
        power = self._power(atoms, elements, repeat)
        return np.asarray(DEPTH * speed / at_200 * np.minimum(power**-DEPTH_POWER, power**WEAK_POWER))

    def _power(self, atoms: np.ndarray, elements: tuple[str, ...], repeat: float) -> np.ndarray:
        """(n,) scattering power a length of columns, that of one atom of Z = 30 every 4 Å being 1, and `WEAKEST` the least."""
        power = atoms @ np.array([(atomic_number(element) / 30) ** 1.7 for element in elements]) * 4 / repeat
        return np.asarray(np.maximum(power, WEAKEST))

    def _one(self, elements: tuple[str, ...]) -> np.ndarray:
        """(E,) cross-section of one atom of each element [Å²]."""
        angles = (self.inner_mrad, self.outer_mrad)
        return np.array([cross_section(atomic_number(element), self.exponent, self.energy_kev, *angles) for element in elements])
