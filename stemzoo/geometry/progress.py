"""What is known of each column of a fit besides its parameters, and whether it rests. Owns `Starts`, `Progress` and `restlessness`.

NumPy only. Called by refine and jointfit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from stemzoo.geometry.starts import Trust

RESTING = 0.25  # standard errors: a smaller step of a column is its last, since what is left after it is a small part of that …
FINEST = 1e-3  # … or one of so many sigmas: half a thousandth of an ångström
RESTLESS = 0.03  # … and of the fit, when no more than this fraction of columns steps farther …
UNSETTLED = 0.5, 0.01  # standard errors and sigmas: a column that still moves by more than both has not converged …
STRAYS = 0.002  # … and no more than this fraction of them is left so
MOST_DAMPING, BEYOND_DAMPING = 10.0, 0.03  # at most, and at least of a column beyond the edge: its distance and height look much alike


class Starts(NamedTuple):
    """Where n columns are supposed to be, sorted by y: their place in refine's starts, yx (n, 2) px, distance to the next; and how far
    that can be trusted, None for not at all."""

    place: np.ndarray
    yx: np.ndarray
    nearest: np.ndarray
    trust: Optional[Trust] = None


@dataclass
class Progress:
    """What is known of each column while the fit runs, (n,) each: its place in refine's starts (−1 for one beyond the edge, which only
    helps to explain the rim), start (n, 2), distance to the nearest other, whether it is held at its start, Levenberg damping, squared
    residuals before."""

    place: np.ndarray
    start: np.ndarray
    nearest: np.ndarray
    held: np.ndarray
    damping: np.ndarray
    squares: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """Which columns lie in the frame, (n,) bool."""
        seen: np.ndarray = self.place >= 0
        return seen

    def joined(self, beyond: np.ndarray, order: np.ndarray, damping: float) -> Progress:
        """Return this with columns beyond the edge, at `beyond` (k, 2), all in a new `order` (n + k,)."""
        none = np.zeros(len(beyond))
        return Progress(
            np.append(self.place, np.full(len(beyond), -1))[order],
            np.concatenate([self.start, beyond])[order],
            np.append(self.nearest, none + np.inf)[order],
            np.append(self.held, none.astype(bool))[order],
            np.append(self.damping, none + damping)[order],
            np.append(self.squares, none + np.inf)[order],
        )

    def damp(self, worse: np.ndarray, least: float) -> None:
        """Damp the next steps of columns that fit worse (n,) more, of all others less, down to `least`."""
        least_each = np.where(self.place < 0, BEYOND_DAMPING, least)
        self.damping = np.where(worse, np.minimum(10 * self.damping, MOST_DAMPING), np.maximum(0.2 * self.damping, least_each))


def restlessness(step: np.ndarray, error: np.ndarray, width_px: float) -> float:
    """Return the fraction of columns that a step moved noticeably, those that it moved much counted for many: below RESTLESS, they rest.

    Args: step (n,) px, its lengths; error (n,) px, the columns' standard errors; width_px the sigma of the mean peak.
    """
    moving = step > np.maximum(RESTING * error, FINEST * width_px)
    unsettled = step > np.maximum(UNSETTLED[0] * error, UNSETTLED[1] * width_px)
    return max(float(moving.mean()), RESTLESS / STRAYS * float(unsettled.mean()))
