"""Columns of one frame linked to those of the next, drift taken out: each column's course through a stack. NumPy only.

Owns drift between tables of positions and the linking; called by `stemzoo.analyze` for time and focal series.
"""

from __future__ import annotations

from typing import List, Sequence

import numpy as np

from stemzoo.geometry.matching import match
from stemzoo.geometry.neighbours import nearest_distance, pairs_within
from stemzoo.types import Tracks

STEP = 0.45  # of the column spacing: a column that moved farther against its neighbours is another column
REACH = 2.0  # of the column spacing: drift between two frames is looked for up to here
MEMORY = 2  # frames that a column may be missing and still be itself
BEST = 0.97  # of the most pairs: among drifts that link nearly as many columns, the shortest is taken


def link(positions: Sequence[np.ndarray]) -> Tracks:
    """Return the tracks of columns at `positions`, (n, 2) yx px for each frame; frames may be empty.

    Drift of a perfect lattice is known only up to its own periods, so that the shortest one counts: between neighbouring frames it must
    stay below half the shortest period, unless borders or defects tell more.
    """
    frames = [np.asarray(yx, dtype=np.float64).reshape(-1, 2) for yx in positions]
    spacing = _spacing(frames)
    drift = np.zeros((len(frames), 2))
    track: List[np.ndarray] = []
    known, seen, number = np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0, np.int64)  # where, when and which, drift taken out
    total = 0
    for t, yx in enumerate(frames):
        before = drift[t - 1] if t else np.zeros(2)
        drift[t] = before + displacement(known[seen == seen.max()] + before, yx, spacing) if len(known) and len(yx) else before
        there = yx - drift[t]
        mine = np.full(len(yx), -1, dtype=np.int64)
        pairs = match(there, known, STEP * spacing) if len(known) and len(yx) else None
        if pairs is not None:
            mine[pairs.found] = number[pairs.truth]
        fresh = np.flatnonzero(mine < 0)
        mine[fresh] = total + np.arange(len(fresh))
        total += len(fresh)
        gone = np.setdiff1d(np.flatnonzero(t - seen < MEMORY + 1), pairs.truth if pairs is not None else np.zeros(0, np.int64))
        known = np.concatenate([there, known[gone]])
        seen = np.concatenate([np.full(len(yx), t, dtype=np.int64), seen[gone]])
        number = np.concatenate([mine, number[gone]])
        track.append(mine)
    return Tracks(tuple(track), drift)


def displacement(before: np.ndarray, after: np.ndarray, spacing: float) -> np.ndarray:
    """Return by how much (2,) px most points (m, 2) of `after` lie displaced against (n, 2) of `before`: the shortest of the best.

    Zero where nothing is near. Columns that move by themselves, appear or vanish do not count as long as most stay.
    """
    pairs = pairs_within(before, after, REACH * spacing)
    if not len(pairs.first):
        return np.zeros(2)
    steps = after[pairs.second] - before[pairs.first]
    width = 0.25 * spacing
    n = int(np.ceil(REACH * spacing / width))
    cells = _Cells(steps, width, n)
    padded = np.pad(cells.counts, 1)
    blurred = sum(padded[i : i + 2 * n + 1, j : j + 2 * n + 1] for i in range(3) for j in range(3))
    best, most = np.zeros(2), -1.0
    for i, j in zip(*np.unravel_index(np.argsort(-np.asarray(blurred), axis=None)[:24], cells.counts.shape)):
        around = cells.around(int(i), int(j), 3)  # whatever is nearer than three widths
        guess = np.array([i - n, j - n]) * width
        near = around[np.hypot(*(around - guess).T) < 2 * width]
        if not len(near):
            continue
        guess = np.median(near, axis=0)
        near = around[np.hypot(*(around - guess).T) < width]
        if not len(near):
            continue
        guess, found = np.median(near, axis=0), float(len(near))
        shorter = np.hypot(*guess) < np.hypot(*best) - 1e-6
        if found * BEST > most or (found > BEST * most and shorter):
            best, most = guess, max(found, most)
    return best


class _Cells:
    """Points (m, 2) in square cells, (2 n + 1)² of them around zero: those near a cell are found without the others."""

    def __init__(self, points: np.ndarray, width: float, n: int) -> None:
        self.side = 2 * n + 1
        index = np.clip(np.floor(points / width + n + 0.5).astype(np.int64), 0, self.side - 1)
        cell = index[:, 0] * self.side + index[:, 1]
        counts = np.bincount(cell, minlength=self.side**2)
        self.counts = counts.reshape(self.side, self.side)
        self._points = points[np.argsort(cell, kind="stable")]
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def around(self, i: int, j: int, reach: int) -> np.ndarray:
        """Return the points (m, 2) of cell (i, j) and of those up to `reach` cells away."""
        rows = range(max(0, i - reach), min(self.side, i + reach + 1))
        first, last = max(0, j - reach), min(self.side, j + reach + 1)
        return np.concatenate([self._points[self._starts[row * self.side + first] : self._starts[row * self.side + last]] for row in rows])


def _spacing(frames: Sequence[np.ndarray]) -> float:
    """Return the median distance to the nearest neighbour in the fullest frame; 1 px where no frame holds two columns."""
    fullest = max(frames, key=len, default=np.zeros((0, 2)))
    if len(fullest) < 2:
        return 1.0
    extent = np.ptp(fullest, axis=0) + 1e-9
    distance = nearest_distance(fullest, float((extent.prod() / len(fullest)) ** 0.5) + 1e-9)
    distance = distance[np.isfinite(distance) & (distance > 0)]
    return float(np.median(distance)) if len(distance) else 1.0
