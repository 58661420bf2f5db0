"""Pairs of points closer than a radius, from a cell grid. Owns neighbour search; NumPy only, memory and time linear in points and pairs.

Called by peaks (suppression), matching (candidates) and refine (overlapping columns).
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np

TABLE = 16  # cells per point up to which a table of all cells is quicker than a search
SLACK = 1.2  # times the radius asked for: how far a vicinity looks, so that points may move before it looks again


class Pairs(NamedTuple):
    """Index `first` into one set of points, `second` into the other, and the distance between the two; (p,) each."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray


def pairs_within(first_yx: np.ndarray, second_yx: np.ndarray, radius: float) -> Pairs:
    """Return every pair (i, j) with |first_yx[i] − second_yx[j]| ≤ radius, ordered by i.

    Args: first_yx (n, 2) and second_yx (m, 2), finite; radius > 0 in the same unit.
    """
    a = np.asarray(first_yx, dtype=np.float64).reshape(-1, 2)
    b = np.asarray(second_yx, dtype=np.float64).reshape(-1, 2)
    none = np.zeros(0, np.int64)
    if len(a) == 0 or len(b) == 0:
        return Pairs(none, none, np.zeros(0))
    points = a if second_yx is first_yx else np.concatenate([a, b])
    origin = points.min(axis=0)
    extent = points.max(axis=0) - origin
    cell = max(float(radius), float(extent.max()) / 30000.0, 1e-9)  # at most 30,000 cells a side: keys stay small integers
    cells = np.floor((points - origin) / cell).astype(np.int64)
    cell_a, cell_b = cells[: len(a)], cells[len(cells) - len(b) :]
    stride = int(cells[:, 1].max()) + 3
    key_b = (cell_b[:, 0] + 1) * stride + cell_b[:, 1] + 1
    order = np.argsort(key_b, kind="stable")
    sorted_keys = key_b[order]
    # cells of one row are neighbours in the key, so three ranges of keys cover the 3×3 neighbourhood
    rows = ((cell_a[:, :1] + 1 + np.arange(-1, 2)) * stride + cell_a[:, 1:] + 1).ravel()
    start, stop = _ranges(sorted_keys, rows - 1, rows + 1)
    count = stop - start
    first = np.repeat(np.repeat(np.arange(len(a)), 3), count)
    ends = np.cumsum(count)
    position = np.arange(len(first)) - np.repeat(ends - count, count) + np.repeat(start, count)
    second = order[position]
    distance = _distance(a, first, b, second)
    near = np.flatnonzero(distance <= radius)
    return Pairs(first[near], second[near], distance[near])


def _ranges(keys: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return where in the ascending `keys` ≥ 0 those from `lowest` ≥ 0 to `highest`, both included, begin and end."""
    top = int(highest.max()) + 2
    if top > TABLE * (len(keys) + len(lowest)):
        return np.searchsorted(keys, lowest, side="left"), np.searchsorted(keys, highest, side="right")
    before = np.zeros(top + 1, np.int64)  # how many keys are smaller than each number
    np.cumsum(np.bincount(keys, minlength=top)[:top], out=before[1:])
    return before[lowest], before[highest + 1]


def _distance(a: np.ndarray, first: np.ndarray, b: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return |a[first] − b[second]|, (p,): axis by axis, which is quicker than summing over a last axis of two."""
    dy, dx = (np.take(np.ascontiguousarray(a[:, axis]), first) - np.take(np.ascontiguousarray(b[:, axis]), second) for axis in (0, 1))
    dy *= dy
    dx *= dx
    dy += dx
    distance: np.ndarray = np.sqrt(dy, out=dy)
    return distance


def pairs_among(yx: np.ndarray, radius: float) -> Pairs:
    """Return every ordered pair (i, j), i ≠ j, of points of one set within `radius`; each couple appears twice."""
    pairs = pairs_within(yx, yx, radius)
    other = pairs.first != pairs.second
    return Pairs(pairs.first[other], pairs.second[other], pairs.distance[other])


class Vicinity:
    """The pairs of points that move a little from one time to the next; a search is made only when some pair might have been missed."""

    def __init__(self) -> None:
        self._found, self._at, self._reach = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)), np.zeros((0, 2)), -1.0

    def among(self, yx: np.ndarray, radius: float) -> Pairs:
        """Return every ordered pair (i, j), i ≠ j, of points yx (n, 2) within `radius`, ordered by i, then j."""
        moved = 0.0
        if len(yx) == len(self._at) and len(yx):
            step = yx - self._at
            moved = float(np.sqrt((step * step).sum(axis=1).max()))
        if len(yx) != len(self._at) or not radius + 2 * moved <= self._reach:
            self._reach = SLACK * radius
            found = pairs_among(yx, self._reach)
            order = np.argsort(found.first * len(yx) + found.second, kind="stable")  # quick, since they are ordered by the first already
            self._found, self._at = Pairs(*(part[order] for part in found)), yx.copy()
        first, second, _ = self._found
        distance = _distance(yx, first, yx, second)
        near = distance <= radius
        return Pairs(first[near], second[near], distance[near])


def nearest_distance(yx: np.ndarray, guess: float) -> np.ndarray:
    """Return the distance of each of (n, 2) points to its nearest neighbour, (n,); infinite where there is no other within 64 × `guess`."""
    points = np.asarray(yx, dtype=np.float64).reshape(-1, 2)
    nearest = np.full(len(points), np.inf)
    todo = np.arange(len(points))
    radius = float(guess)
    for _ in range(7):
        if len(todo) == 0 or len(points) < 2:
            break
        pairs = pairs_within(points[todo], points, radius)
        other = todo[pairs.first] != pairs.second
        first, distance = pairs.first[other], pairs.distance[other]
        begins = np.flatnonzero(np.diff(first, prepend=-1))  # pairs are ordered by their first point
        if len(begins):
            nearest[todo[first[begins]]] = np.minimum.reduceat(distance, begins)
        todo = todo[~np.isfinite(nearest[todo])]
        radius *= 2
    return nearest
