"""How noisy a frame is, learnt from what a fit leaves over. Owns the variance model and the correction for correlated noise; NumPy only.

A frame's units are not counts: gain, offset and readout noise are unknown, smoothing may have correlated neighbouring pixels. Called by
residuals and rowjitter.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

from stemzoo.geometry.leftover import Leftover

CLIP = 9.0  # squared residuals above this many variances (three sigma) are outliers, not noise …
KEPT = 0.9733  # … and the mean square of a normal law below it
MOST_HIDDEN = 0.5  # of a position's variance: as much as a film's speckle or the probe's tails leave, and up to so much, columns took up
ENDS_PX = 5_000  # pixels that tell how dark and how bright a frame is
ITERATIONS, SETTLED = 8, 1e-3  # of the variance's fit: at most so many, or until it changes by less than this share of the variance


class VarianceModel(NamedTuple):
    """Variance of a pixel whose expected value is v: `low` at `v_low`, `high` at `v_high`, linear between and beyond, never below `floor`.

    A line through two points instead of readout + gain × v, because the zero of the detector is unknown.
    """

    v_low: float
    v_high: float
    low: float
    high: float
    floor: float

    def __call__(self, value: np.ndarray) -> np.ndarray:
        """Return the variance at each expected value, same shape and dtype."""
        slope = (self.high - self.low) / (self.v_high - self.v_low)
        variance = value * slope
        variance += self.low - slope * self.v_low
        return np.maximum(variance, self.floor, out=variance)


def flat(variance: float) -> VarianceModel:
    """Return the model of a frame whose noise does not depend on the signal."""
    return VarianceModel(0.0, 1.0, variance, variance, variance)


def fit_variance(expected: np.ndarray, squared: np.ndarray, smallest: float, guess: Optional[VarianceModel] = None) -> VarianceModel:
    """Return the variance model that squared residuals (k,) at expected values (k,) follow, fitted by reweighted least squares.

    Args: smallest: variance below which nothing is believed (rounding, noise-free simulations); guess: the model to begin with.
    Poisson noise gives a line whose slope is the gain; readout noise lifts it; a misfit of the model counts as noise.
    """
    v_low, v_high = (float(v) for v in np.percentile(expected[:: 1 + len(expected) // ENDS_PX], (2, 98)))
    level = max(float(squared.mean()), smallest)
    if len(squared) < 50 or not v_high - v_low > 1e-6:
        return flat(level)
    rise = np.clip((expected - v_low) / (v_high - v_low), -0.5, 2.0)
    bright = float(np.clip(rise, 0, 1).mean())
    low, high = (guess or flat(level))(np.array([v_low, v_high])).tolist()
    for _ in range(ITERATIONS):
        before = low, high
        variance = (high - low) * rise
        variance += low
        np.maximum(variance, 0.05 * level, out=variance)
        weight = (squared < CLIP * variance) / np.square(variance)
        rising, noise = weight * rise, weight * squared
        a, b, a22, all_noise, rising_noise = (float(s) for s in (weight.sum(), rising.sum(), rising @ rise, noise.sum(), noise @ rise))
        # the two ends' shares of a pixel are 1 − rise and rise
        a11, a12, b1, b2 = a - 2 * b + a22, b - a22, (all_noise - rising_noise) / KEPT, rising_noise / KEPT
        determinant = a11 * a22 - a12 * a12
        if not determinant > 1e-9 * a11 * a22:
            return flat(level)
        low, high = (a22 * b1 - a12 * b2) / determinant, (a11 * b2 - a12 * b1) / determinant
        if low < 0.02 * high:  # a fit through the origin: the faintest pixels cannot be noiseless
            low, high = 0.02 * high, b2 / a22
        if high < 0.02 * low:
            low, high = b1 / a11, 0.02 * low
        level = max(low + (high - low) * bright, smallest)
        if max(abs(low - before[0]), abs(high - before[1])) < SETTLED * level:
            break
    low, high = max(low, smallest), max(high, smallest)
    return VarianceModel(v_low, v_high, low, high, max(smallest, 0.25 * min(low, high)))


def correlation_inflation(left: Leftover, shape: np.ndarray, pixels_each: float) -> np.ndarray:
    """Return by how much correlated noise raises the standard error of y and of x over that of independent pixels: (2,), 1 or more.

    Args:
        left: what a fit left over in some windows.
        shape: (2, 2) covariance of the peak, px².
        pixels_each: pixels per column of the frame that the fit had to itself.

    The variance of a position is Σ ρ(l) κ(l) times the uncorrelated one: ρ the residuals' autocorrelation at lag l, κ that of the peak's
    derivative, (1 − pull²) exp(−lᵀ S⁻¹ l / 4) with pull the lag along the derivative's direction. Only short lags: longer ones are the
    fit's doing. A fit also takes the more of the noise away the fewer independent pixels there are, which the residuals cannot show.
    """
    inverse = np.linalg.inv(shape)
    reach = int(np.sqrt(2.0 * max(shape[0, 0], shape[1, 1])))
    ly, lx = (axis.ravel() for axis in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    squared = inverse[0, 0] * ly * ly + 2 * inverse[0, 1] * ly * lx + inverse[1, 1] * lx * lx
    near = squared <= 2.0
    ly, lx, squared = ly[near], lx[near], squared[near]
    count = _autocorrelation(left.inside.astype(np.float32), ly, lx)
    correlations = []
    for stack in (left.residual, left.white):
        total = _autocorrelation(stack, ly, lx) / np.maximum(count, 1.0)
        correlations.append(total / max(float(total[squared == 0][0]), 1e-30))
    near = count > 0.2 * count.max()
    out = []
    grain = 1.0 + max(0.0, float((correlations[0] - correlations[1])[near].sum()))  # pixels that share their noise
    grain /= max(0.3, 1 - 5 * grain / pixels_each)  # the fit hides some of that as well
    for pull, variance in (
        (inverse[0, 0] * ly + inverse[0, 1] * lx, inverse[0, 0]),
        (inverse[0, 1] * ly + inverse[1, 1] * lx, inverse[1, 1]),
    ):
        kernel = (1 - pull * pull / (2 * variance)) * np.exp(-squared / 4)
        observed, expected = (float((rho * kernel)[near].sum()) for rho in correlations)
        scatter = np.sqrt(2 * float((kernel[near] ** 2).sum()) / max(float(left.inside.sum()), 1.0))
        excess = observed - expected
        taken = max(0.2, 1 - 5 * grain / pixels_each) / max(0.2, 1 - 5 / pixels_each)
        out.append(1 + told(excess, scatter) * ((1 + excess) / taken - 1 + min(max(excess, 0.0), MOST_HIDDEN)))
    inflation: np.ndarray = np.sqrt(out)
    return inflation


def told(excess: float, scatter: float) -> float:
    """Return how much of an excess is told from chance, of standard error `scatter`: nothing up to one, all from three on."""
    return float(np.clip(0.5 * (excess / max(scatter, 1e-12) - 1), 0, 1))


def _autocorrelation(stack: np.ndarray, ly: np.ndarray, lx: np.ndarray) -> np.ndarray:
    """Return the summed autocorrelation of (k, P, P) windows at the lags (ly, lx) (m,), which hold −l with every l."""
    total = np.zeros(len(ly))
    (many, height, width), reach = stack.shape, int(lx.max(initial=0))
    apart = np.zeros((many, height + reach, width + reach), stack.dtype)  # so that what is shifted out of a row or a window meets nothing
    apart[:, :height, :width] = stack
    pixels = apart.ravel()
    for k, shift in enumerate((ly * (width + reach) + lx).tolist()):
        if shift >= 0:  # the other half follows by symmetry
            total[k] = pixels[shift:] @ pixels[: len(pixels) - shift]
    return np.where((ly > 0) | ((ly == 0) & (lx >= 0)), total, total[::-1])
