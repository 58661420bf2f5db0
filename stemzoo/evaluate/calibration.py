"""What a stated confidence is worth: the share of columns among located ones by what was said of them, and the map that mends it.

Called by evaluate.scores, evaluate.figure and the scripts that write the zoo's cards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

KNOTS = 16


class CalibrationCurve(NamedTuple):
    """What was said and what came true, by bin: mean confidence (k,), share of true columns (k,), how many were located (k,)."""

    stated: np.ndarray
    found: np.ndarray
    located: np.ndarray


def calibration_curve(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> CalibrationCurve:
    """Return the calibration by equal bins of confidence; empty bins are left out.

    Args: confidence (n,) in [0, 1]; right (n,) bool, whether the located column was one.
    """
    index = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    used = count > 0
    stated, found = (np.bincount(index, values, minlength=bins)[used] / count[used] for values in (confidence, right))
    return CalibrationCurve(stated, found, count[used])


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error: the mean gap between stated and found share of true columns, weighted by bin; NaN for none.

    Args: confidence: (n,) in [0, 1]. right: (n,) bool, whether a column is there.
    Source: Guo et al., ICML 2017.
    """
    if not len(confidence):
        return float("nan")
    curve = calibration_curve(confidence, right, bins)
    return float((np.abs(curve.stated - curve.found) * curve.located).sum() / curve.located.sum())


def fit_calibration(probability: np.ndarray, right: np.ndarray, knots: int = KNOTS) -> dict[str, list[float]]:
    """Return the `calibration` of a card: up to `knots` probabilities and the share of true columns at each, both rising.

    Half of the knots hold equal numbers of maxima, the other half equal stretches of probability, so that neither the crowd near 1 nor the
    few doubtful ones go unseen.

    Args: probability (n,) of the map at its maxima; right (n,) bool.
    Source: isotonic regression, Zadrozny & Elkan, KDD 2002.
    """
    probability, right = np.asarray(probability, dtype=np.float64), np.asarray(right, dtype=np.float64)
    shares = np.linspace(0, 1, knots // 2 + 1)[1:-1]
    low, high = float(probability.min()), float(probability.max())
    edges = np.unique(np.concatenate([np.quantile(probability, shares), low + (high - low) * shares]))
    index = np.searchsorted(edges, probability)
    count = np.bincount(index, minlength=len(edges) + 1)
    used = count > 0
    stated, found = (np.bincount(index, values, minlength=len(count))[used] / count[used] for values in (probability, right))
    rising = isotonic_regression(found, weights=count[used]).x
    return {"probability": [round(float(v), 4) for v in stated], "confidence": [round(float(np.clip(v, 0, 1)), 4) for v in rising]}
