"""How alike the columns of a frame are, learnt from the frame: the spread of their widths, the shape that all have. NumPy only.

Empirical Bayes: widths are left as free as the columns of this frame show them to be beyond their noise, so a column pays in precision
only for freedom that the frame needs. Called by jointfit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FEW = 8
MOST_SHAPE, SHAPE_TOLD = 0.15, 3.0  # largest change of the mean peak's shape at a time; standard errors from which on it counts


class WidthPrior(NamedTuple):
    """Mean and standard deviation of the columns' log widths."""

    mean: float
    spread: float


def learn_width(estimate: np.ndarray, variance: np.ndarray) -> WidthPrior:
    """Return the prior that free estimates (n,) of log width with error variances (n,) support."""
    good = np.isfinite(estimate) & np.isfinite(variance) & (variance > 0) & (np.abs(estimate) < 1)
    if not good.any():
        return WidthPrior(0.0, 0.2)
    value, error = estimate[good], variance[good]
    mean = _weighted_median(value, 1 / (error + 0.02**2))
    spread = _excess(value - mean, error)
    if len(value) < FEW:
        spread = max(spread, 0.05)
    return WidthPrior(mean, float(np.clip(spread, 0.01, 0.3)))


def learn_shape(ellipticity: np.ndarray, misfit: np.ndarray) -> np.ndarray:
    """Return the change (2, 2) of the mean peak's covariance, in its own sigmas, that columns agree on beyond noise: nothing if on none.

    Args: ellipticity (2, 2, n): score and information of each column's stretch and shear; misfit (n,), of which the worst are left out.
    """
    score, information = ellipticity[:, :, misfit <= np.percentile(misfit, 90)].sum(axis=2)
    step = np.clip(score / np.maximum(information, 1e-30), -MOST_SHAPE, MOST_SHAPE)
    stretch, shear = step * (score**2 > SHAPE_TOLD**2 * information)
    return np.array([[2 * stretch, shear], [shear, -2 * stretch]])


def _excess(value: np.ndarray, variance: np.ndarray) -> float:
    """Return the standard deviation of `value` beyond its known error variances."""
    total = float((value**2).mean()) if len(value) < FEW else float(1.4826 * np.median(np.abs(value))) ** 2
    return float(np.sqrt(max(0.0, total - float(np.median(variance)))))


def _weighted_median(value: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(value)
    rising = np.cumsum(weight[order])
    return float(value[order[int(np.searchsorted(rising, 0.5 * rising[-1]))]])
