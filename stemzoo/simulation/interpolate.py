"""Bilinear interpolation at the crossings of given rows and columns. Called by `simulation.probe` and `simulation.frame`."""

from __future__ import annotations

import numpy as np


def bilinear(grid: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Return (R, C) values of `grid` (H, W) at fractional `rows` (R,) × `cols` (C,); 0 outside.

    >>> bilinear(np.array([[0.0, 2.0], [4.0, 6.0]]), np.array([0.5]), np.array([0.25, 3.0])).tolist()
    [[2.5, 0.0]]
    """
    return _along(_along(grid, rows).T, cols).T


def _along(grid: np.ndarray, rows: np.ndarray) -> np.ndarray:
    below = np.clip(np.floor(rows).astype(np.intp), 0, max(len(grid) - 2, 0))
    share = (rows - below).astype(grid.real.dtype)
    inside = ((rows >= 0) & (rows <= len(grid) - 1)).astype(grid.real.dtype)
    return np.asarray(grid[below] * ((1 - share) * inside)[:, None] + grid[below + 1] * (share * inside)[:, None])
