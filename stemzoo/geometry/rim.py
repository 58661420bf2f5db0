"""Columns beyond the edge of a frame, known by the flank that reaches into it. Owns their detection in residuals; NumPy only.

Without them the flank would pull at the columns along the edge, and through the shared width and background at all others. Called by
jointfit.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from stemzoo.geometry.neighbours import pairs_within

OUTSIDE = 1.0  # sigmas beyond the edge: where a column is supposed to be at first
SEEN = 2.0  # sigmas inside the edge that are looked at
SIGNIFICANT = 5.0  # standard errors of the flank's height


def find_beyond(
    residual: np.ndarray, weight: np.ndarray, known_yx: np.ndarray, width_px: float, typical: float
) -> Tuple[np.ndarray, np.ndarray]:
    """Return supposed positions (k, 2) px, outside the frame, and amplitudes (k,) of columns whose flank the residuals show along the
    edges.

    Args: residual and weight (H, W) of the model so far; known_yx (n, 2) columns in it; width_px their sigma; typical their amplitude.
    """
    depth = max(2, round(SEEN * width_px))
    outside = OUTSIDE * width_px
    positions, amplitudes = [], []
    for axis, far in ((0, False), (0, True), (1, False), (1, True)):
        strips = [np.moveaxis(array, axis, 0) for array in (residual, weight)]
        left, w = (strip[::-1][:depth] if far else strip[:depth] for strip in strips)
        flank = np.exp(-0.5 * ((np.arange(len(left)) + outside) / width_px) ** 2)
        score, information = flank @ (left * w), (flank**2) @ w
        reach = int(np.ceil(3 * width_px))
        across = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width_px) ** 2)
        if len(score) < len(across):
            continue
        score, information = np.convolve(score, across, "same"), np.convolve(information, across**2, "same")
        height = score / np.maximum(information, 1e-30)
        clear = score / np.sqrt(np.maximum(information, 1e-30))
        top = np.flatnonzero(
            (clear[1:-1] > SIGNIFICANT) & (clear[1:-1] >= clear[:-2]) & (clear[1:-1] > clear[2:]) & (height[1:-1] > 0.05 * typical)
        )
        along = top + 1.0
        beyond = np.full(len(along), residual.shape[axis] - 1 + outside if far else -outside)
        positions.append(np.stack([beyond, along] if axis == 0 else [along, beyond], axis=1))
        amplitudes.append(np.minimum(height[top + 1], 3 * typical))
    yx, amplitude = np.concatenate(positions), np.concatenate(amplitudes)
    free = np.ones(len(yx), bool)
    free[pairs_within(yx, known_yx, 1.2 * width_px).first] = False  # the known column explains it, or will
    return yx[free], amplitude[free]
