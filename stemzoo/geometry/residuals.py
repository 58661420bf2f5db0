"""What a model leaves of a frame while it is fitted, how noisy that is, and the weight of each pixel that follows. Owns `Residuals`.

NumPy only. Called by jointfit.
"""

from __future__ import annotations

import numpy as np

from stemzoo.geometry import noise
from stemzoo.geometry.background import Background
from stemzoo.geometry.columnmodel import CORE, State, render
from stemzoo.geometry.leftover import Leftover, leftover
from stemzoo.geometry.rowjitter import RowJitter, row_jitter
from stemzoo.geometry.windows import Windows

SAMPLE_PX = 16_000  # pixels that the noise model is fitted to
OUTLIER = 4.0  # standard deviations beyond which a residual pulls with the same force
SMALLEST_VARIANCE = 1e-8  # in normalised units: rounding of an 8-bit frame is 1e-6, of a float32 one 1e-14
CROWDED = 0.4  # share of a window's pixels that other columns' windows hold too, from which on these take its level and slopes as well
TELLING = 120  # columns whose surroundings tell how the noise is correlated


class Residuals:
    """The frame of some windows less its model: `residual` and `weight` in the padded frame, 0 where a pixel does not count; `total`, the
    sum of all weights; `variance`, the noise; `left`, the share of it that a fit of so many parameters leaves in the residuals; `calmed`,
    by how much the noise changed the last time, in logarithms."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.residual, self.weight = np.empty_like(windows.image), np.empty_like(windows.image)
        self.variance = noise.flat(1.0)
        self.left, self.calmed, self.total = 1.0, np.inf, 0.0

    @property
    def contrast(self) -> float:
        """How much noisier bright pixels are than dark ones, in logarithms."""
        return float(np.log(self.variance.high / self.variance.low))

    def take(self, state: State, background: Background, first: bool = False) -> None:
        """Compare the model with the frame, and learn the noise from that: a constant one at `first`, when outliers count as the others."""
        windows = self.windows
        expected = self.residual  # in the place of the old one, which nobody needs any more
        render(state, windows, expected)
        background.draw(windows.inner(expected))
        sample = windows.calm[:: max(1, len(windows.calm) // SAMPLE_PX)]
        modelled = expected.ravel().take(sample)
        squared = np.square(windows.image.ravel().take(sample) - modelled)
        # a fit follows part of the noise: the residuals of m pixels with k parameters carry (m − k) / m of it
        self.left = max(0.25, 1 - CORE * len(state.yx) / max(1, windows.many_covered))
        if first:
            self.variance = noise.flat(max(float(squared.mean()), SMALLEST_VARIANCE))
        else:
            before = self.variance.low
            self.variance = noise.fit_variance(modelled, squared / self.left, SMALLEST_VARIANCE, self.variance)
            self.calmed = abs(float(np.log(self.variance.low / before)))
        windows.each_rows(lambda rows: self._compare(rows, robust=not first))
        self.total = float(self.weight.sum())

    def _compare(self, rows: slice, robust: bool) -> None:
        """Set weight, and residual where the expected intensities stand, in rows of the padded frame; outliers weigh less if `robust`."""
        residual, weight = self.residual[rows], self.weight[rows]
        np.divide(self.windows.covered[rows], self.variance(residual), out=weight)
        np.subtract(self.windows.image[rows], residual, out=residual)
        residual *= self.windows.covered[rows]
        if robust:
            far = np.square(residual)
            far *= weight
            outlying = np.flatnonzero(far > OUTLIER**2)
            weight.ravel()[outlying] *= OUTLIER / np.sqrt(far.ravel()[outlying])

    def correlation(self, state: State, free: np.ndarray, misfit: np.ndarray) -> np.ndarray:
        """Return the factors (2,) by which correlated noise widens the standard errors in y and x.

        Args: free (n,) bool, columns that were fitted; misfit (n,), squared residuals over the noise, of which the worst are left out.
        """
        free = self._inner(state, free)
        if not free.any():
            return np.ones(2)
        left = self._leftover(state, free & (misfit <= np.percentile(misfit[free], 75)))
        return noise.correlation_inflation(left, state.shape, self._pixels_each(state))

    def row_jitter(self, state: State, free: np.ndarray) -> RowJitter:
        """Return how far rows are shifted sideways, told by the columns that were fitted, `free` (n,) bool."""
        free = self._inner(state, free)
        return row_jitter(self._leftover(state, free)) if free.any() else RowJitter(0.0, 0.0)

    def _inner(self, state: State, free: np.ndarray) -> np.ndarray:
        """Return which of the columns `free` (n,) lie with their whole windows in the frame, or all if none does."""
        rim = 4 * float(np.linalg.det(state.shape)) ** 0.25
        inner = ((state.yx > rim) & (state.yx < np.asarray(self.windows.size) - rim)).all(axis=1)
        return np.asarray(free & inner if (free & inner).any() else free)

    def _pixels_each(self, state: State) -> float:
        """Return the pixels of the frame that a column has to itself, at most all of its window."""
        return min(len(self.windows.fit_y), self.windows.many_covered / len(state.yx))

    def _leftover(self, state: State, told: np.ndarray) -> Leftover:
        """Return what the fit left over around `TELLING` of the columns `told` (n,) bool."""
        which = np.flatnonzero(told)
        which = which[:: max(1, len(which) // TELLING)]
        crowd = min(1.0, (1 - self._pixels_each(state) / len(self.windows.fit_y)) / CROWDED)
        return leftover(state, self.windows, self.residual, self.weight, which, crowd)
