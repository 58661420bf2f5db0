"""Sums over a window's pixels of products of 1, u, v and r = u² + v². Owns the basis and how it moves from a window's centre to a column.

(u, v) are a pixel's offset in the frame's mean peak's own sigmas: in them the peak is round, so everything that a fit asks of a column is a
product of two of these four; and the four seen from another point are mixtures of the same four. Arrays of many columns have them last,
(4, 4, n): small matrices side by side, worked through element by element. NumPy only. Called by columnmodel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

U, V, ONE, R = range(4)
UPPER = np.triu_indices(4)
"""Rows and columns of the ten products that make a symmetric (4, 4) matrix."""
PLACE = np.zeros((4, 4), np.int64)
PLACE[UPPER] = PLACE[UPPER[1], UPPER[0]] = np.arange(10)
"""Which of the ten is where in it."""


class Basis(NamedTuple):
    """The basis at each of m pixels of a window, float32: values (4, m) are u, v, 1, r; products (m, 10) of two of them, as in UPPER;
    pulling (m, 6) are u, v, 1, r, u² − v², uv."""

    values: np.ndarray
    products: np.ndarray
    pulling: np.ndarray


def whitening(shape: np.ndarray) -> np.ndarray:
    """Return the (2, 2) matrix that takes an offset (y, x) [px] to (u, v), for a peak of covariance `shape` (2, 2) [px²]."""
    # written out: for so small a matrix, the linear algebra takes longer to be called than to work
    along_y = float(shape[0, 0]) ** 0.5
    slant = float(shape[1, 0]) / along_y
    along_x = (float(shape[1, 1]) - slant * slant) ** 0.5
    return np.array([[1 / along_y, 0.0], [-slant / (along_y * along_x), 1 / along_x]])


def functions(dy: np.ndarray, dx: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Return u, v, 1, r at the pixels (dy, dx) (m,) of a window, `white` as from whitening: (4, m) float32."""
    u, v = white[0, 0] * dy, white[1, 0] * dy + white[1, 1] * dx
    values = np.empty((4, len(u)), np.float32)
    values[U], values[V], values[ONE], values[R] = u, v, 1.0, u * u + v * v
    return values


def basis(dy: np.ndarray, dx: np.ndarray, white: np.ndarray) -> Basis:
    """Return the basis at the pixels (dy, dx) (m,) of a window."""
    values = functions(dy, dx, white)
    u, v = values[:2]
    products, uneven = values[UPPER[0]] * values[UPPER[1]], [u * u - v * v, u * v]
    return Basis(values, np.ascontiguousarray(products.T), np.ascontiguousarray(np.concatenate([values, uneven]).T))


def as_gram(moments: np.ndarray) -> np.ndarray:
    """Return the symmetric matrices (4, 4, n) float64 of the sums (n, 10) of products."""
    return np.ascontiguousarray(moments.T, np.float64).take(PLACE, axis=0)


def recentred(gram: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the sums (k, k, n) of products of the basis about the points `left` with that about the points `right`.

    Args: gram (k, k, n) about the windows' centres, k 4 or, without r, 3; left and right (2, n), the points' (u, v) from those.
    """
    return moved(moved(gram, left).transpose(1, 0, 2), right).transpose(1, 0, 2)


def moved(sums: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the sums (k, …, n) of u, v, 1 and, if k is 4, r about `point` (2, n), from those about the windows' centres."""
    out = sums.copy()
    u, v = point
    out[U] -= u * sums[ONE]
    out[V] -= v * sums[ONE]
    if len(sums) > R:
        out[R] -= u * (sums[U] + out[U])
        out[R] -= v * (sums[V] + out[V])
    return out


def uneven_moved(uneven: np.ndarray, sums: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the sums (2, n) of u² − v² and uv about `point` (2, n), from those about the windows' centres and the `sums` (4, n) there."""
    u, v = point
    stretch = uneven[0] - 2 * (u * sums[U] - v * sums[V]) + (u * u - v * v) * sums[ONE]
    shear = uneven[1] - v * sums[U] - u * sums[V] + u * v * sums[ONE]
    return np.stack([stretch, shear])
