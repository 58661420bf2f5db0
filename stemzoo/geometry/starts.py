"""What the starts of a fit say of where columns are, beside the electrons. Owns `Trust`, the model of their errors; NumPy only.

A network that found the columns looked at the same electrons as the fit does, so its error and the fit's have a part in common; but it also
knows what neighbourhoods of columns look like, so where electrons are few it errs less than any fit of free columns. Called by jointfit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ALONE = 0.5  # share of a variance that start and fit do not have in common, on lattices
COMMON_ALL, GAIN, MOST_KNOWN = 0.2, 1.0, 0.5  # share below which starts know nothing of their own, what each more is worth, at most
CROWDED, ROOMY = 18.0, 36.0  # squared sigmas of area a column: what is no column hides among them up to the one, shows from the other on
MISFIT = 0.12  # sigmas that a film's speckle and the probe's tails shift fits by, at most
TYPICAL = 0.455  # median of a squared normal deviate of unit variance
WEAKEST = 0.25  # variance of a fit beyond which the start's does not grow any more: those of a wrong place are not starts
FEWEST = 12  # columns that tell how far starts and fits differ


class Trust(NamedTuple):
    """How far starts can be trusted; variances in sigmas of the mean peak, squared, and for each axis.

    With S = start and F = fit + misfit, the best position lies S / (S + F) of the way from the start to where the electrons alone would
    have the column, and has the variance F (1 − known F / (S + F)).

    Args:
        start: of starts where electrons abound.
        misfit: of fits because the frame is not the model, beyond what the electrons' scatter makes.
        known: share of the fit's variance that is not the start's too.
    """

    start: float
    misfit: float = 0.0
    known: float = 0.0

    def learnt(self, away: np.ndarray, fit: np.ndarray, room: float) -> Trust:
        """Return the trust that a frame supports: starts and fits differ by as much as both err.

        What they differ by beyond that is the network's error, but among crowded columns by half the fit's too.

        Args: away (2, n): from the starts to where the electrons alone would have the columns; fit (2, n): variance of these places;
            room: area a column.
        """
        told = np.isfinite(away) & np.isfinite(fit) & (fit > 0) & (fit < WEAKEST)
        if told.sum() < 2 * FEWEST:
            return self
        share = float(np.median(away[told] ** 2 / (self.start + fit[told]))) / TYPICAL
        excess = max(0.0, share / ALONE - 1) * float(self.start + np.median(fit[told]))
        crowd = float(np.clip((ROOMY - room) / (ROOMY - CROWDED), 0, 1))
        misfit = min(0.5 * crowd * excess, MISFIT**2)
        return Trust(self.start + excess - misfit, misfit, float(np.clip(GAIN * (share - COMMON_ALL), 0, MOST_KNOWN)))

    def prior(self, fit: np.ndarray) -> np.ndarray:
        """Return the variance (n,) that makes a start the prior which draws a fit of variance `fit` (n,) as far as it should."""
        variance: np.ndarray = self.start * fit / (fit + self.misfit)
        return variance

    def drawn(self, posterior: np.ndarray, prior: np.ndarray, wider: np.ndarray) -> np.ndarray:
        """Return the variance (n, 2) of positions whose `posterior` (n, 2) takes the `prior` (n, 1) for independent of the frame, where
        the electrons' part is `wider` (n, 2) than was thought: by so much pulls that were not weaker for it widen them too."""
        alone = posterior * prior / np.maximum(prior - posterior, 1e-6 * prior)
        weight, fit = prior / (prior + alone), alone * wider + self.misfit
        shared = fit * (1 - self.known)
        own = self.known * (weight**2 * fit + (1 - weight) ** 2 * self.start)
        out: np.ndarray = np.where(posterior > 0, shared + own, np.nan)
        return out

    def left(self, fit: np.ndarray) -> np.ndarray:
        """Return the variance (…, n) of starts that are left where they are, by that of their `fit` (…, n)."""
        weak = np.where(np.isfinite(fit) & (fit > 0), np.minimum(fit, WEAKEST), WEAKEST) + self.misfit
        out: np.ndarray = weak * (1 - self.known) + ALONE * self.start
        return out
