"""How wide the columns of a frame are, before anything is fitted. Owns the scale search around known positions; NumPy only.

Called by refine for its start and by lattice for frames where nothing is known yet.
"""

from __future__ import annotations

import numpy as np


def mean_width(image: np.ndarray, usable: np.ndarray, yx: np.ndarray, nearest_px: float) -> float:
    """Return the sigma [px] of the mean peak: the scale at which a Laplacian-of-Gaussian answers most strongly to the mean of all columns.

    For a Gaussian of width σ the scale-normalised answer is proportional to (σ s / (σ² + s²))², whose maximum is at s = σ whatever the
    background. Close neighbours make it up to a quarter too small.
    Args: image (H, W); usable (H, W) bool; yx (n, 2) px; nearest_px the typical distance to the next column.
    Source: T. Lindeberg, Int. J. Comput. Vision 30, 79 (1998).
    """
    reach = int(np.clip(1.5 * nearest_px, 6, 45))
    picked = yx[:: max(1, len(yx) // max(20, 1_500_000 // (2 * reach + 1) ** 2))]
    side = np.arange(-reach, reach + 1)
    row = np.rint(picked[:, 0]).astype(np.int64)[:, None, None] + side[:, None]
    col = np.rint(picked[:, 1]).astype(np.int64)[:, None, None] + side
    distance = np.hypot(row - picked[:, 0, None, None], col - picked[:, 1, None, None])
    inside = (row >= 0) & (row < image.shape[0]) & (col >= 0) & (col < image.shape[1]) & (distance <= reach)
    inside &= usable[np.clip(row, 0, image.shape[0] - 1), np.clip(col, 0, image.shape[1] - 1)]
    if not inside.any():
        return 2.0
    row, col = (np.broadcast_to(axis, inside.shape)[inside] for axis in (row, col))
    ring = np.rint(2 * distance[inside]).astype(np.int64)
    count = np.bincount(ring)
    total = np.bincount(ring, weights=image[row, col])
    filled = count > 0
    radius, profile = np.flatnonzero(filled) / 2.0, total[filled] / count[filled]
    if len(radius) < 4:
        return 2.0
    scales = np.geomspace(0.7, max(0.8, min(0.6 * nearest_px, reach / 2.2)), 48)[:, None]
    kernel = (1 - radius**2 / (2 * scales**2)) * np.exp(-(radius**2) / (2 * scales**2)) * np.maximum(radius, 0.125)
    centre, around = np.maximum(kernel, 0), np.maximum(-kernel, 0)
    # centre minus surroundings, each a mean: exactly zero for a constant although the rings are few and the disk is cut off
    answer = (centre * profile).sum(axis=1) / centre.sum(axis=1) - (around * profile).sum(axis=1) / np.maximum(around.sum(axis=1), 1e-9)
    return float(scales[int(answer.argmax()), 0])
