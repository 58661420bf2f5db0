"""Many small matrices side by side, (k, k, n): products, inverses, marginal covariances. NumPy only, no loop over the n.

A library's routine for one matrix at a time costs a microsecond a call; here each step of the elimination is one operation on all matrices.
Called by coupling.
"""

from __future__ import annotations

import numpy as np

TOGETHER = 600  # matrices worked on at a time, so that they stay in a processor's cache
SMALLEST = 1e-9  # of a unit diagonal: added to it, against rounding


def times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return (i, j, n) matrices times their own (j, n) vectors: (i, n)."""
    out: np.ndarray = np.einsum("ijn,jn->in", matrices, vectors)
    return out


def times_transposed(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the transposes of (i, j, n) matrices times their own (i, n) vectors: (j, n)."""
    out: np.ndarray = np.einsum("ijn,in->jn", matrices, vectors)
    return out


def inner(one: np.ndarray, other: np.ndarray) -> float:
    """Return the inner product of two arrays of one shape, by this thread alone: OpenBLAS gives long ones to all of its threads."""
    return float(np.einsum("i,i->", one.ravel(), other.ravel()))


def inverse(matrices: np.ndarray) -> np.ndarray:
    """Return the inverses of symmetric positive definite matrices (k, k, n); rubbish, but no error, where one is not."""
    out = matrices.copy()
    for pivot in range(len(out)):
        one = 1 / out[pivot, pivot]
        row = out[pivot] * one
        column = out[:, pivot].copy()
        out -= column[:, None] * row[None]
        out[pivot] = row
        out[:, pivot] = -column * one
        out[pivot, pivot] = one
    return out


def marginal(matrices: np.ndarray, wanted: int) -> np.ndarray:
    """Return the leading (wanted, wanted, n) blocks of the inverses of symmetric matrices (k, k, n), NaN where one is not positive
    definite.

    The other unknowns are eliminated one by one, the last first; what is left is inverted.
    """
    out = np.empty((wanted, wanted, matrices.shape[2]))
    for start in range(0, matrices.shape[2], TOGETHER):
        part = slice(start, start + TOGETHER)
        out[:, :, part] = _marginal(matrices[:, :, part], wanted)
    return out


def _marginal(matrices: np.ndarray, wanted: int) -> np.ndarray:
    size = len(matrices)
    corner = np.arange(size)
    diagonal = matrices[corner, corner]
    scale = np.sqrt(np.maximum(diagonal, 1e-300))
    left = matrices / (scale[:, None] * scale[None])
    good: np.ndarray = np.isfinite(left).all(axis=(0, 1)) & (diagonal > 0).all(axis=0)
    left[:, :, ~good] = np.eye(size)[:, :, None]
    left[corner, corner] += SMALLEST
    with np.errstate(all="ignore"):  # of those that are not positive definite, nothing is believed
        for last in range(size - 1, wanted - 1, -1):
            pivot, column = left[last, last], left[:last, last]
            good &= pivot > 0
            share = column / np.where(pivot > 0, pivot, 1.0)
            left = left[:last, :last] - column[:, None] * share[None]
        block: np.ndarray = inverse(left) / (scale[:wanted, None] * scale[None, :wanted])
    good &= (block[corner[:wanted], corner[:wanted]] > 0).all(axis=0)
    block[:, :, ~good] = np.nan
    return block
