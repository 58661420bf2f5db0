"""Found columns against true ones: who is who, and how well. Owns one-to-one matching and its scores; NumPy only.

Called by training metrics, `stemzoo evaluate`, linking between frames, and most tests.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stemzoo.geometry.neighbours import pairs_within


class Match(NamedTuple):
    """`found[k]` and `truth[k]` are the indices of the k-th matched pair, nearest pair first."""

    found: np.ndarray
    truth: np.ndarray


class Scores(NamedTuple):
    """Detection and position scores. NaN where there is nothing to divide by.

    Args:
        precision, recall, f1: in [0, 1].
        rmse_px: per-axis root mean square error of the matched pairs: √(mean of dy² and dx²).
        bias_px: (2,) mean error in y and x.
        n_found, n_true, n_matched: counts behind them.
    """

    precision: float
    recall: float
    f1: float
    rmse_px: float
    bias_px: np.ndarray
    n_found: int
    n_true: int
    n_matched: int


def match(found_yx: np.ndarray, true_yx: np.ndarray, tolerance_px: float) -> Match:
    """Return one-to-one pairs no farther apart than `tolerance_px`, the nearest pair taken first.

    Args: found_yx (n, 2) and true_yx (m, 2), px.
    """
    first, second, distance = pairs_within(found_yx, true_yx, tolerance_px)
    order = np.lexsort((second, first, distance))
    first, second, distance = first[order], second[order], distance[order]
    n_found, n_true = len(np.asarray(found_yx).reshape(-1, 2)), len(np.asarray(true_yx).reshape(-1, 2))
    taken = []
    alive = np.arange(len(first))
    while len(alive):
        # a pair that is the nearest left for both of its ends is what a one-by-one greedy pass would take
        rank_found = np.full(n_found, len(first))
        rank_true = np.full(n_true, len(first))
        np.minimum.at(rank_found, first[alive], alive)
        np.minimum.at(rank_true, second[alive], alive)
        mutual = alive[(rank_found[first[alive]] == alive) & (rank_true[second[alive]] == alive)]
        taken.append(mutual)
        used_found = np.zeros(n_found, bool)
        used_true = np.zeros(n_true, bool)
        used_found[first[mutual]] = True
        used_true[second[mutual]] = True
        alive = alive[~used_found[first[alive]] & ~used_true[second[alive]]]
    chosen = np.sort(np.concatenate(taken)) if taken else np.zeros(0, np.int64)
    return Match(first[chosen], second[chosen])


def scores(found_yx: np.ndarray, true_yx: np.ndarray, tolerance_px: float) -> Scores:
    """Return precision, recall, F1, RMSE and bias of found positions (n, 2) against true ones (m, 2)."""
    found = np.asarray(found_yx, dtype=np.float64).reshape(-1, 2)
    true = np.asarray(true_yx, dtype=np.float64).reshape(-1, 2)
    pairs = match(found, true, tolerance_px)
    n = len(pairs.found)
    error = found[pairs.found] - true[pairs.truth]
    total = len(found) + len(true)
    return Scores(
        precision=n / len(found) if len(found) else float("nan"),
        recall=n / len(true) if len(true) else float("nan"),
        f1=2 * n / total if total else float("nan"),
        rmse_px=float(np.sqrt((error**2).mean())) if n else float("nan"),
        bias_px=error.mean(axis=0) if n else np.full(2, np.nan),
        n_found=len(found),
        n_true=len(true),
        n_matched=n,
    )
