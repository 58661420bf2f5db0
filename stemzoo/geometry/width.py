"""How wide and how far apart the columns of a frame are, in pixels, before anything is fitted. Owns the scale search; NumPy only.

`mean_width` starts a refinement from known positions; `find_spots` knows nothing of the frame beforehand. Called by refine and scale.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

import numpy as np

from stemzoo.geometry.filters import middle_of
from stemzoo.geometry.neighbours import nearest_distance

SIGNIFICANT = 5.5  # standard deviations of white noise that a blob stands above its surroundings: one in 10⁷ by chance
SPIKE = 0.62  # px: a spot this narrow is one pixel: rare counts of a frame with almost none
LONE_COUNT = 0.5  # skewness of a blob's answer over that of a pixel's noise, at a scale of one pixel
EMPTY = 0.05  # share of pixels without an electron from which single counts matter
FEWEST = 3  # blobs that make a typical one
DETECTED_NOISE = 1.0 / 3.0  # cycles per px: beyond, a frame of sampled columns holds little but noise
LARGEST_PX = 1024  # a frame's middle of this size decides: more pixels sharpen nothing that is asked for here
RIM = 48  # px added around an image before it is filtered; a multiple of COARSEST
COARSEST = 8  # px between the samples of the coarsest answers
SCALES = 15  # between the finest and the coarsest spots
MANY = 40  # columns whose mean is a mean peak
SAMPLED = 1.2  # samples per sigma that an answer needs at least


class Spots(NamedTuple):
    """Typical bright spots of a frame: sigma [px], and distance to the nearest other [px], None where they stand alone."""

    sigma_px: float
    spacing_px: Optional[float]


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
    picked = yx[:: max(1, len(yx) // max(MANY, 30_000 // (2 * reach + 1) ** 2))]
    side = np.arange(-reach, reach + 1)
    rows = side[reach % 2 :: 2] if len(picked) >= MANY else side  # of many columns, every second row holds pixels at every distance
    row = np.rint(picked[:, 0]).astype(np.int64)[:, None, None] + rows[:, None]
    col = np.rint(picked[:, 1]).astype(np.int64)[:, None, None] + side
    ring = np.rint(2 * np.sqrt((row - picked[:, 0, None, None]) ** 2 + (col - picked[:, 1, None, None]) ** 2)).astype(np.int64)
    index = np.clip(row, 0, image.shape[0] - 1) * image.shape[1] + np.clip(col, 0, image.shape[1] - 1)
    inside = (row >= 0) & (row < image.shape[0]) & ((col >= 0) & (col < image.shape[1])) & usable.ravel().take(index)
    outside = 2 * reach + 1
    ring[~inside | (ring > outside)] = outside
    count = np.bincount(ring.ravel(), minlength=outside)[:outside]
    if not count.any():
        return 2.0
    total = np.bincount(ring.ravel(), weights=image.ravel().take(index).ravel(), minlength=outside)[:outside]
    filled = count > 0
    radius, profile = np.flatnonzero(filled) / 2.0, total[filled] / count[filled]
    if len(radius) < 4:
        return 2.0
    scales = np.geomspace(0.5, max(0.8, min(0.6 * nearest_px, reach / 2.2)), 48)[:, None]
    kernel = (1 - radius**2 / (2 * scales**2)) * np.exp(-(radius**2) / (2 * scales**2)) * np.maximum(radius, 0.125)
    centre, around = np.maximum(kernel, 0), np.maximum(-kernel, 0)
    told = centre.sum(axis=1) > 0  # where a hole hides all that lies within a scale, that scale says nothing
    if told.sum() < 3:
        return 2.0
    scales, centre, around = scales[told], centre[told], around[told]
    # centre minus surroundings, each a mean: exactly zero for a constant although the rings are few and the disk is cut off
    answer = (centre * profile).sum(axis=1) / centre.sum(axis=1) - (around * profile).sum(axis=1) / np.maximum(around.sum(axis=1), 1e-9)
    best = int(np.clip(answer.argmax(), 1, len(answer) - 2))
    between = _parabola(*answer[best - 1 : best + 2])
    return float(scales[best, 0] * (scales[1, 0] / scales[0, 0]) ** between)


def find_spots(image: np.ndarray, largest_px: int = LARGEST_PX, scales: int = SCALES) -> Optional[Spots]:
    """Return how wide and how far apart the bright spots of a frame are, lattice or not, or None where none stand out of the noise.

    Args: image (H, W), cleaned (cleaning.clean); largest_px: side of its middle that is looked at; scales: how many are tried,
            between the finest and the coarsest that spots of a frame can have.
    """
    middle = middle_of(image, largest_px)
    blobs = find_blobs(middle, scales)
    if blobs is None:
        return None
    nearest = nearest_distance(blobs.yx, 4 * blobs.scale_px)
    typical = float(np.median(np.minimum(nearest, 8 * blobs.scale_px)))
    width = mean_width(middle, np.ones(middle.shape, bool), blobs.yx, typical)
    finite = nearest[np.isfinite(nearest)]
    return Spots(width, float(np.median(finite)) if len(finite) else None) if width > SPIKE else None


def find_blobs(image: np.ndarray, scales: int = SCALES) -> Optional[Blobs]:
    """Return the bright spots of an image (H, W) at the scale at which all of them together answer most strongly; None for too few.

    The answers at coarse scales hold no high frequencies, so they are worked out on every second, fourth … pixel alone. Where single
    counts show, the limit at fine scales rises with the skewness of their sum.
    Source: E. A. Cornish & R. A. Fisher, Rev. Inst. Int. Stat. 5, 307 (1938), first term, for that rise.
    """
    low, high = np.percentile(image, (0.1, 99.9))
    if not high > low or min(image.shape) < 16:
        return None
    frame = (np.clip(image, low, high + 0.5 * (high - low)).astype(np.float64) - low) / (high - low)
    sides = [_fast_length(length + 2 * RIM) for length in frame.shape]
    padded = np.pad(frame, [(RIM, side - RIM - length) for side, length in zip(sides, frame.shape)], mode="reflect")
    spectrum = np.fft.rfft2(padded)
    squared = np.fft.fftfreq(sides[0])[:, None] ** 2 + np.fft.rfftfreq(sides[1])[None] ** 2
    noise = float(np.sqrt(np.mean(np.abs(spectrum[squared > DETECTED_NOISE**2]) ** 2) / padded.size))
    bent = (2 * np.pi) ** 2 * squared * spectrum  # minus the Laplacian of the image
    skewness = _skewness(image)
    best: Optional[Blobs] = None
    strongest = 0.0
    for scale in np.geomspace(0.8, max(1.0, min(14.0, min(frame.shape) / 12)), scales).tolist():
        step = 1
        while step < COARSEST and scale / (2 * step) >= SAMPLED:
            step *= 2
        answer = _answer(bent, scale, step)[: -(-frame.shape[0] // step), : -(-frame.shape[1] // step)]
        significant = SIGNIFICANT + skewness * LONE_COUNT / scale * (SIGNIFICANT**2 - 1) / 6
        limit = significant * noise / (scale * np.sqrt(2 * np.pi))
        blobs = _maxima(answer, limit, scale, step)
        if blobs is None:
            continue
        # all blobs together, and by what they have beyond the limit, so that a few noisy pixels at a fine scale, or patches of carbon at a
        # coarse one, do not outvote the columns
        together = float((blobs.answer**2 - limit**2).sum())
        if together > strongest:
            best, strongest = blobs, together
    return best


def _skewness(image: np.ndarray) -> float:
    """Return the skewness of the noise of single pixels where electrons are counted one by one and most pixels may have none: 1/√λ for λ
    counts a pixel, taken from the share exp(−λ) of pixels with the lowest value; 0 where few pixels share it."""
    empty = float((image == image.min()).mean())
    return 1 / float(np.sqrt(-np.log(min(empty, 0.999)))) if empty > EMPTY else 0.0


def _fast_length(least: int) -> int:
    """Return the smallest length of at least `least` that is COARSEST times products of 2, 3 and 5: such Fourier transforms are fast."""
    parts = -(-least // COARSEST)
    while True:
        rest = parts
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return parts * COARSEST
        parts += 1


def _answer(bent: np.ndarray, scale: float, step: int) -> np.ndarray:
    """Return the answer to the Laplacian of a Gaussian of `scale` px at every `step`-th pixel, the rim before the image cut off.

    Args: bent: (n, m // 2 + 1) spectrum of minus the padded image's Laplacian.
    """
    height, width = len(bent), 2 * (bent.shape[1] - 1)
    rows, cols = height // step, width // step
    by_row, by_col = (np.exp(-2 * (np.pi * scale * axis) ** 2) for axis in (np.fft.fftfreq(height), np.fft.rfftfreq(width)))
    low, part = bent[:, : cols // 2 + 1], (scale / step) ** 2 * by_col[: cols // 2 + 1]
    if step > 1:
        kept = np.concatenate([np.arange(rows // 2), np.arange(height - rows // 2, height)])
        low, by_row = low[kept], by_row[kept]
    answer: np.ndarray = np.fft.irfft2(low * (by_row[:, None] * part), (rows, cols))
    return answer[RIM // step :, RIM // step :]


def _maxima(answer: np.ndarray, limit: float, scale: float, step: int) -> Optional[Blobs]:
    """Return the maxima of `answer` beyond `limit`, to a fraction of its pixels, which are `step` px of the image."""
    if min(answer.shape) < 3:
        return None
    across = np.maximum(np.maximum(answer[:, :-2], answer[:, 1:-1]), answer[:, 2:])
    highest = np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])
    centre = answer[1:-1, 1:-1]
    y, x = np.nonzero((centre > limit) & (centre >= highest))
    if len(y) < FEWEST:
        return None
    value = centre[y, x]
    kept = value > 0.3 * np.percentile(value, 90)
    if kept.sum() < FEWEST:
        return None
    y, x, value = y[kept] + 1, x[kept] + 1, value[kept]
    place = [where + _parabola(low, value, high) for where, (low, high) in ((y, _pair(answer, y, x, 1, 0)), (x, _pair(answer, y, x, 0, 1)))]
    return Blobs(np.stack(place, axis=1) * step, value, scale)


def _pair(answer: np.ndarray, y: np.ndarray, x: np.ndarray, dy: int, dx: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the values before and after each place along one axis."""
    return answer[y - dy, x - dx], answer[y + dy, x + dx]


def _parabola(low: np.ndarray, middle: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the step from the middle of three values to the top of the parabola through them, at most half; for numbers or arrays."""
    bend = 2 * middle - low - high
    step: np.ndarray = np.clip((high - low) / np.maximum(2 * bend, 1e-30), -0.5, 0.5)
    return step
