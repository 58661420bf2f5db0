"""How far the rows of a scan are shifted sideways, learnt from what a fit leaves over, and how far that moves columns. Owns `row_jitter`.

A scan shifts each row by a little of its own. A column takes the mean of its rows' shifts for its place, which no fit can undo: only how
rows differ within columns shows, and how much they differ tells how far their means lie off. NumPy only. Called by residuals.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np

from stemzoo.geometry.leftover import Leftover
from stemzoo.geometry.noise import told


class RowJitter(NamedTuple):
    """How far rows are shifted sideways, rms [px], and the standard deviation [px] that this gives the x of a column."""

    shift: float
    error: float


def row_jitter(left: Leftover) -> RowJitter:
    """Return the jitter of the rows that columns lie on, none where chance alone could leave as much over.

    Each row's residuals say how far it lies beside the columns on it, once each column has taken its own mean. The variance of that is
    what noise makes of it and the jitter's part. How noisy it is beyond what the pixels say, the same sums along the other axis show, in
    which nothing jitters.
    Source: the method of moments for a variance component, S. R. Searle, G. Casella and C. E. McCulloch, Variance Components (1992).
    """
    seen, spread = _lines(left.along_x, left.residual, left.centre[:, 0])
    if not spread > 0:
        return RowJitter(0.0, 0.0)
    noise, _ = _lines(left.along_y.transpose(0, 2, 1), left.residual.transpose(0, 2, 1), left.centre[:, 1])
    level = max(1.0, noise[0] / max(noise[1], 1e-30))
    variance, error = (seen[0] - level * seen[1]) / spread, level * (2 / spread) ** 0.5
    square = max(variance, 0.0) * told(variance, error)
    information = np.square(left.along_x).sum(axis=2, dtype=np.float64)
    each = information.sum(axis=1)
    share = np.median(np.square(information).sum(axis=1)[each > 0] / each[each > 0] ** 2)
    return RowJitter(square**0.5, float(square * share) ** 0.5)


def _lines(along: np.ndarray, residual: np.ndarray, centre: np.ndarray) -> Tuple[Tuple[float, float], float]:
    """Return the sum over lines of the squared score of a shift of each, what of that independent pixels make, and what a shift of unit
    variance adds.

    Args: along, residual (k, P, P): derivatives by the shift, and residuals, lines along the last axis; centre (k,): the line in the
        middle.
    """
    information = np.square(along).sum(axis=2, dtype=np.float64)  # (k, P): of a shift of each line of each column
    score = (along * residual).sum(axis=2, dtype=np.float64)
    each = np.maximum(information.sum(axis=1), 1e-30)[:, None]
    score -= information * (score.sum(axis=1)[:, None] / each)  # each column lies where its own lines want it in the mean
    reach = along.shape[1]
    line = (centre - centre.min())[:, None] + np.arange(reach)
    many = int(line.max()) + 1
    squared = float(np.square(np.bincount(line.ravel(), score.ravel(), many)).sum())
    # the information of the lines' shifts together, columns' places unknown: a band, of which each pass makes a diagonal
    root = information / np.sqrt(each)
    diagonal = np.bincount(line.ravel(), (information - root**2).ravel(), many)
    spread = float(np.square(diagonal).sum())
    for apart in range(1, reach):
        shared = np.bincount(line[:, apart:].ravel(), (root[:, apart:] * root[:, :-apart]).ravel(), many)
        spread += 2 * float(np.square(shared).sum())
    return (squared, float(diagonal.sum())), spread
