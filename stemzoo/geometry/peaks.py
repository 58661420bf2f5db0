"""Probability maps to sub-pixel columns. Owns peak finding; NumPy only. Called by runtime.pipeline and by the training metrics."""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.geometry.neighbours import pairs_among

TIE = 1e-6
FLOOR = 1e-6
STRIP_PX = 250_000  # pixels of a map that maxima are looked for in at a time: they fit a processor's cache


class Peaks(NamedTuple):
    """Columns found in a probability map, sorted by y then x.

    Args:
        yx: (n, 2) float64, px of the map.
        species: (n,) int64, the channel with the highest probability there.
        confidence: (n,) float32 in [0, 1], the probability summed over channels at the maximum.
    """

    yx: np.ndarray
    species: np.ndarray
    confidence: np.ndarray


def find_peaks(probability: np.ndarray, threshold: float, min_separation_px: float) -> Peaks:
    """Return one sub-pixel position for each maximum of the summed probability.

    Args:
        probability: (C, H, W) float32 in [0, 1], background left out.
        threshold: smallest summed probability of a column.
        min_separation_px: of two maxima closer than this, only the higher is kept.

    Raises: ShapeError if `probability` is not (C, H, W).
    Does not look at intensities; see refine. A flat-topped maximum gives its middle.
    """
    if probability.ndim != 3 or 0 in probability.shape:
        raise ShapeError(f"probability has shape {probability.shape}; wanted (C, H, W) with C ≥ 1")
    total = probability[0] if len(probability) == 1 else probability.sum(axis=0)
    row, col = _local_maxima(total, threshold)
    score = total[row, col].astype(np.float64)
    yx = np.stack([row, col], axis=1) + _parabola_step(total, row, col)
    kept, yx = _suppress(yx, score, min_separation_px)
    order = kept[np.lexsort((yx[kept, 1], yx[kept, 0]))]
    species = probability[:, row[order], col[order]].argmax(axis=0).astype(np.int64) if len(order) else np.zeros(0, np.int64)
    return Peaks(yx[order], species, np.clip(score[order], 0, 1).astype(np.float32))


def _local_maxima(total: np.ndarray, threshold: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of pixels ≥ threshold that no pixel of their 3×3 neighbourhood exceeds."""
    least = max(threshold, FLOOR)
    height, width = total.shape
    step, stride = max(1, STRIP_PX // width), width + 2
    rows, cols = [], []
    for start in range(0, height, step):
        top, stop, bottom = max(start - 1, 0), min(start + step, height), min(start + step + 1, height)
        strip = np.full((stop - start + 2, stride), -np.inf, total.dtype)  # a rim that nothing falls short of
        strip[top - start + 1 : bottom - start + 1, 1:-1] = total[top:bottom]
        flat = strip.ravel()  # all rows as one, which is several times quicker than row by row
        across = np.maximum(flat[:-2], flat[2:])
        np.maximum(across, flat[1:-1], out=across)
        highest = np.maximum(across[: -2 * stride], across[2 * stride :])
        np.maximum(highest, across[stride:-stride], out=highest)
        centre = flat[stride + 1 : -stride - 1]
        row, col = np.divmod(np.flatnonzero((centre >= highest) & (centre >= least)), stride)
        rows.append(row + start)
        cols.append(col)
    return np.concatenate(rows), np.concatenate(cols)


def _parabola_step(total: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Return the (n, 2) sub-pixel step to the top of a parabola through the logarithm of 3×3 pixels.

    The logarithm of a Gaussian is a parabola, so for one the step is exact.
    """
    height, width = total.shape
    r = np.clip(row, 1, height - 2)
    c = np.clip(col, 1, width - 2)
    log = {(dy, dx): np.log(np.maximum(total[r + dy, c + dx].astype(np.float64), FLOOR)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    weight = {-1: 1.0, 0: 2.0, 1: 1.0}  # across the fitted direction: the middle line counts most, it is least touched by neighbours
    above, middle_y, below = (sum(weight[dx] * log[dy, dx] for dx in (-1, 0, 1)) / 4 for dy in (-1, 0, 1))
    left, middle_x, right = (sum(weight[dy] * log[dy, dx] for dy in (-1, 0, 1)) / 4 for dx in (-1, 0, 1))
    bend_y, bend_x = 2 * middle_y - above - below, 2 * middle_x - left - right
    step_y = np.where(bend_y > TIE, (below - above) / (2 * np.maximum(bend_y, TIE)), 0.0)
    step_x = np.where(bend_x > TIE, (right - left) / (2 * np.maximum(bend_x, TIE)), 0.0)
    inner = (r == row) & (c == col)  # a maximum on the rim of the map keeps its pixel: half of its neighbourhood is missing
    limit = np.where(inner, 0.75, 0.0)
    return np.stack([np.clip(step_y, -limit, limit), np.clip(step_x, -limit, limit)], axis=1)


def agreement(members: np.ndarray, yx: np.ndarray, threshold: float) -> np.ndarray:
    """Return the share of networks whose own map reaches the threshold at each position or beside it: (n,) float32.

    Args: members (N, H, W) probability that a column is there; yx (n, 2) px.
    """
    limit = np.asarray(members.shape[1:]) - 1
    place = np.clip(np.rint(yx).astype(np.int64), 0, limit)
    highest = np.zeros((len(members), len(place)), members.dtype)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            row, col = np.clip(place + np.array([dy, dx]), 0, limit).T
            np.maximum(highest, members[:, row, col], out=highest)
    share: np.ndarray = (highest >= threshold).mean(axis=0, dtype=np.float32)
    return share


def _suppress(yx: np.ndarray, score: np.ndarray, min_separation_px: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return the indices kept (the highest within the separation) and positions, where a flat-topped winner moved to its plateau's mean."""
    n = len(yx)
    pairs = pairs_among(yx, max(float(min_separation_px), 1.5))
    rank = np.empty(n, np.int64)
    rank[np.lexsort((np.arange(n), -score))] = np.arange(n)  # 0 is the highest; ties go to the first
    first, second = pairs.first, pairs.second
    state = np.zeros(n, np.int8)  # 0 undecided, 1 kept, -1 suppressed
    winner = np.arange(n)
    while (state == 0).any():
        open_pair = (state[first] == 0) & (state[second] == 0)
        best = np.where(state == 0, rank, n)
        np.minimum.at(best, first[open_pair], rank[second[open_pair]])
        state[(state == 0) & (best == rank)] = 1
        loser = (state[first] == 0) & (state[second] == 1)
        winner[first[loser]] = second[loser]
        state[first[loser]] = -1
    level = (winner != np.arange(n)) & (np.abs(score - score[winner]) <= TIE)
    moved = yx.copy()
    if level.any():
        members = level | np.isin(np.arange(n), winner[level])
        count = np.bincount(winner[members], minlength=n)
        flat = (count > 1) & (state == 1)
        for axis in (0, 1):
            total = np.bincount(winner[members], weights=yx[members, axis], minlength=n)
            moved[flat, axis] = total[flat] / count[flat]
    return np.flatnonzero(state == 1), moved
