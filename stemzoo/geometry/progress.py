"""What is known of each column of a fit besides its parameters. Owns `Starts` and `Progress`; NumPy only. Called by refine and jointfit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from stemzoo.geometry.starts import Trust


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
