"""How wide and how far apart the columns of a frame are, in pixels, before anything is fitted. Owns the scale search; NumPy only.

`mean_width` starts a refinement from known positions; `peak_width_px` and `nearest_spacing_px` know nothing of the frame beforehand.
Called by refine, lattice and scale.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

from stemzoo.geometry.filters import LARGEST_PX
from stemzoo.geometry.neighbours import nearest_distance
from stemzoo.geometry.resample import clean

SIGNIFICANT = 5.5  # standard deviations of white noise that a blob stands above its surroundings: one in 10⁷ by chance
SPIKE = 0.62  # px: a spot this narrow is one pixel: rare counts of a frame with almost none
FEWEST = 3  # blobs that make a typical one
DETECTED_NOISE = 1.0 / 3.0  # cycles per px: beyond, a frame of sampled columns holds little but noise


class Blobs(NamedTuple):
    """Bright spots of one scale: yx (n, 2) px, their answers to the Laplacian of a Gaussian (n,), and that Gaussian's sigma in px."""

    yx: np.ndarray
    answer: np.ndarray
    scale_px: float


def mean_width(image: np.ndarray, usable: np.ndarray, yx: np.ndarray, nearest_px: float) -> float:
    """Return the sigma [px] of the mean peak: the scale at which a Laplacian-of-Gaussian answers most strongly to the mean of all columns.

    For a Gaussian of width σ the scale-normalised answer is proportional to (σ s / (σ² + s²))², whose maximum is at s = σ whatever the
    background. Close neighbours make it up to a quarter too small.
    Args: image (H, W); usable (H, W) bool; yx (n, 2) px; nearest_px the typical distance to the next column.
    Source: T. Lindeberg, Int. J. Comput. Vision 30, 79 (1998).
    """
    reach = int(np.clip(1.5 * nearest_px, 6, 45))
    picked = yx[:: max(1, len(yx) // max(20, 600_000 // (2 * reach + 1) ** 2))]
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
    scales = np.geomspace(0.5, max(0.8, min(0.6 * nearest_px, reach / 2.2)), 48)[:, None]
    kernel = (1 - radius**2 / (2 * scales**2)) * np.exp(-(radius**2) / (2 * scales**2)) * np.maximum(radius, 0.125)
    centre, around = np.maximum(kernel, 0), np.maximum(-kernel, 0)
    # centre minus surroundings, each a mean: exactly zero for a constant although the rings are few and the disk is cut off
    answer = (centre * profile).sum(axis=1) / centre.sum(axis=1) - (around * profile).sum(axis=1) / np.maximum(around.sum(axis=1), 1e-9)
    return float(scales[int(answer.argmax()), 0])


def peak_width_px(image: np.ndarray) -> Optional[float]:
    """Return the typical sigma [px] of a frame's bright spots (H, W), lattice or not, or None where none stands out of the noise."""
    blobs = find_blobs(image)
    if blobs is None:
        return None
    middle, _ = clean(middle_of(image))
    nearest = nearest_distance(blobs.yx, 4 * blobs.scale_px)
    typical = float(np.median(np.minimum(nearest, 8 * blobs.scale_px)))
    width = mean_width(middle, np.ones(middle.shape, bool), blobs.yx, typical)
    return width if width > SPIKE else None


def nearest_spacing_px(image: np.ndarray) -> Optional[float]:
    """Return the typical distance [px] from a bright spot to the nearest other one, or None where fewer than three stand out of the
    noise."""
    blobs = find_blobs(image)
    if blobs is None:
        return None
    nearest = nearest_distance(blobs.yx, 4 * blobs.scale_px)
    finite = nearest[np.isfinite(nearest)]
    return float(np.median(finite)) if len(finite) else None


def middle_of(image: np.ndarray) -> np.ndarray:
    """Return the middle of a frame, at most 1024 px a side."""
    starts = [max(0, (length - LARGEST_PX) // 2) for length in image.shape]
    return image[starts[0] : starts[0] + LARGEST_PX, starts[1] : starts[1] + LARGEST_PX]


def find_blobs(image: np.ndarray) -> Optional[Blobs]:
    """Return the bright spots in the middle of a frame (H, W) at the scale at which all of them together answer most strongly; None for
    too few."""
    middle, _ = clean(middle_of(image))
    low, high = np.percentile(middle, (0.1, 99.9))
    if not high > low or min(middle.shape) < 16:
        return None
    frame = (np.clip(middle, low, high + 0.5 * (high - low)).astype(np.float64) - low) / (high - low)
    pad = min(48, min(frame.shape) - 1)
    padded = np.pad(frame, pad, mode="reflect")
    spectrum = np.fft.rfft2(padded)
    squared = np.fft.fftfreq(padded.shape[0])[:, None] ** 2 + np.fft.rfftfreq(padded.shape[1])[None] ** 2
    noise = float(np.sqrt(np.mean(np.abs(spectrum[squared > DETECTED_NOISE**2]) ** 2) / padded.size))
    best: Optional[Blobs] = None
    strongest = 0.0
    for scale in np.geomspace(0.8, max(1.0, min(14.0, min(frame.shape) / 12)), 15):
        kernel = (2 * np.pi * scale) ** 2 * squared * np.exp(-2 * (np.pi * scale) ** 2 * squared)
        answer = np.fft.irfft2(spectrum * kernel, padded.shape)[pad : pad + frame.shape[0], pad : pad + frame.shape[1]]
        limit = SIGNIFICANT * noise / (scale * np.sqrt(2 * np.pi))
        blobs = _maxima(answer, limit, float(scale))
        if blobs is None:
            continue
        # all blobs together, and by what they have beyond the limit, so that a few noisy pixels at a fine scale, or patches of carbon at a
        # coarse one, do not outvote the columns
        together = float((blobs.answer**2 - limit**2).sum())
        if together > strongest:
            best, strongest = blobs, together
    return best


def _maxima(answer: np.ndarray, limit: float, scale: float) -> Optional[Blobs]:
    centre = answer[1:-1, 1:-1]
    top = centre > limit
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy or dx:
                top &= centre >= answer[1 + dy : answer.shape[0] - 1 + dy, 1 + dx : answer.shape[1] - 1 + dx]
    y, x = np.nonzero(top)
    if len(y) < FEWEST:
        return None
    value = centre[y, x]
    kept = value > 0.3 * np.percentile(value, 90)
    if kept.sum() < FEWEST:
        return None
    return Blobs(np.stack([y[kept], x[kept]], axis=1) + 1.0, value[kept], scale)
