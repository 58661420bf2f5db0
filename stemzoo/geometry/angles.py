"""Angles that are known only modulo 2π/n: wrapping, differences, means and spreads. NumPy only.

Everything is in radians, counter-clockwise as displayed. `symmetry` is the order n of a pattern's rotational symmetry, a number or an
array that broadcasts against the angles. Called by runtime.encoder, evaluate.encoding and every test of an angle.
"""

from __future__ import annotations

import math
from typing import Optional, Union

import numpy as np

Symmetry = Union[int, np.ndarray]


def wrap(angle: np.ndarray, symmetry: Symmetry = 1) -> np.ndarray:
    """Return `angle` brought into (−π/n, π/n], any shape, float64.

    >>> float(wrap(np.array(1.5 * np.pi)) / np.pi)
    -0.5
    """
    period = 2 * math.pi / np.asarray(symmetry, dtype=np.float64)
    turned = np.asarray(angle, dtype=np.float64)
    inside = turned - period * np.ceil(turned / period - 0.5)
    # one rounding error can leave the result a hair outside the half-open interval
    return np.where(inside <= -period / 2, inside + period, inside)


def difference(angle: np.ndarray, reference: np.ndarray, symmetry: Symmetry = 1) -> np.ndarray:
    """Return the smallest turn from `reference` to `angle`, in (−π/n, π/n].

    >>> round(math.degrees(float(difference(np.radians(179.0), np.radians(-179.0)))), 6)
    -2.0
    """
    return wrap(np.asarray(angle, dtype=np.float64) - np.asarray(reference, dtype=np.float64), symmetry)


def resultant(angle: np.ndarray, symmetry: int = 1, weights: Optional[np.ndarray] = None) -> complex:
    """Return the weighted mean of exp(i n angle): its argument is n times the mean angle, its length the agreement; 0 for no angles."""
    turned = np.asarray(angle, dtype=np.float64).ravel()
    w = np.ones_like(turned) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    total = w.sum()
    if total <= 0:
        return 0j
    return complex((w * np.exp(1j * symmetry * turned)).sum() / total)


def mean(angle: np.ndarray, symmetry: int = 1, weights: Optional[np.ndarray] = None) -> float:
    """Return the circular mean in (−π/n, π/n]; NaN where the angles have no preferred direction (or there are none)."""
    vector = resultant(angle, symmetry, weights)
    if abs(vector) < 1e-12:
        return math.nan
    return float(wrap(np.array(math.atan2(vector.imag, vector.real) / symmetry), symmetry))


def spread(angle: np.ndarray, symmetry: int = 1, weights: Optional[np.ndarray] = None) -> float:
    """Return the circular standard deviation in radians: that of a wrapped normal with the same resultant; infinite for none.

    Source: K. V. Mardia and P. E. Jupp, Directional Statistics (2000), eq. 2.3.12: √(−2 ln R), divided by n for angles modulo 2π/n.
    """
    length = abs(resultant(angle, symmetry, weights))
    if length < 1e-12:
        return math.inf
    return math.sqrt(max(0.0, -2 * math.log(min(1.0, length)))) / symmetry
