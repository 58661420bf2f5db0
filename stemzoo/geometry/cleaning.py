"""Frames freed of hot, dead and non-finite pixels. Owns what such a pixel is and what is put in its place; NumPy only.

Called by runtime.cleaned as frames are read, and by whoever looks at a single frame.
"""

from __future__ import annotations

from typing import Iterator, Tuple

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.geometry.parallel import spread

STRIP_PX = 40_000  # pixels of a frame that hot ones are looked for in at a time: they fit a processor's cache
SAMPLE_PX = 120_000  # pixels, spread over the frame, whose local maxima tell what is usual …
FEWEST_MAXIMA = 2000  # … unless they hold fewer
HOT_EXCESS = 5.0  # times what 95 % of this frame's own local maxima have over their neighbours
TAIL = 4.3  # 95th percentile over the median of an exponential: what the 95th would be, were it not itself hot pixels
HOT_ISOLATION = 3.0  # times the range among the neighbours; a Gaussian column stays below this for a sigma above 0.67 px


def clean(image: np.ndarray, threads: int = 1) -> Tuple[np.ndarray, np.ndarray]:
    """Return the frame, float32, with non-finite, hot and dead pixels replaced by their surroundings, and the (H, W) mask of those pixels.
    A float32 frame without any is returned as it is, not copied.

    A pixel is hot if it stands alone: it exceeds all but one of its eight neighbours (so that a pair is caught too) by several times
    what this frame's own local maxima do, and by several times the range among those neighbours. A dead one is the same downwards.
    The first rule spares Poisson maxima at any dose, the second a column of any brightness that is sampled at all.
    Args: threads: that the work is divided among; two help.
    """
    if image.ndim != 2:
        raise ShapeError(f"clean got an array of shape {image.shape}; wanted one frame (H, W)")
    data = np.asarray(image, dtype=np.float32)
    bad = np.isfinite(data)
    np.logical_not(bad, out=bad)
    if bad.all():
        return np.zeros_like(data), bad
    if bad.any():
        data = _filled(data, bad)
    lone = _lone_pixels(data, bad, threads)
    if lone.any():
        data = _filled(data, lone)
        bad |= lone
    return data, bad


def _lone_pixels(data: np.ndarray, ignore: np.ndarray, threads: int) -> np.ndarray:
    """Return the (H, W) mask of hot and dead pixels."""
    found = np.zeros(data.shape, bool)
    if min(data.shape) < 3:
        return found

    def look(sign: float) -> None:
        usual = _excess(data, sign)
        if len(usual) == 0:
            return
        median, high = np.percentile(usual, (50, 95))
        limit = HOT_EXCESS * min(float(high), TAIL * float(median))
        for start, strip in _strips(data, sign):
            standing = strip[1:-1, 1:-1] - _second_highest_at_least(strip) > limit
            row, col = np.divmod(np.flatnonzero(standing), standing.shape[1])
            trusted = ~ignore[start + row, col]
            row, col = row[trusted], col[trusted]
            if len(row) == 0:
                continue
            around = np.stack([strip[row + 1 + dy, col + 1 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx], axis=1)
            around.sort(axis=1)
            # of an equal pair neither exceeds the other, so a pixel is judged against the second highest neighbour
            lead = strip[row + 1, col + 1] - around[:, -2]
            lone = (lead > limit) & (lead > HOT_ISOLATION * (around[:, -2] - around[:, 0]))
            found[start + row[lone], col[lone]] = True

    spread(look, (1.0, -1.0), threads)
    return found


def _excess(data: np.ndarray, sign: float) -> np.ndarray:
    """Return by how much local maxima of sign × `data` exceed their highest neighbour: those of some rows from all over the frame, or of
    every row where these hold few."""
    height, width = data.shape
    strips = -(-height // _strip_rows(width))
    every = max(1, int(strips * STRIP_PX / SAMPLE_PX))
    for step in dict.fromkeys((every, 1)):
        parts = [centre[centre > 0] for centre in (strip[1:-1, 1:-1] - _highest(strip) for _, strip in _strips(data, sign, step))]
        found = np.concatenate(parts)
        if len(found) >= FEWEST_MAXIMA:
            break
    return found


def _strip_rows(width: int) -> int:
    return max(1, STRIP_PX // width)


def _strips(data: np.ndarray, sign: float, every: int = 1) -> Iterator[Tuple[int, np.ndarray]]:
    """Yield the first row of each strip of `data`, or of every so many, and sign × the strip, a pixel added on every side by reflection.
    The next one overwrites it."""
    height, width = data.shape
    rows = _strip_rows(width)
    buffer = np.empty((min(rows, height) + 2, width + 2), np.float32)
    for start in range(0, height, rows * every):
        stop = min(start + rows, height)
        top, bottom = max(start - 1, 0), min(stop + 1, height)
        strip = buffer[: stop - start + 2]
        np.multiply(data[top:bottom], np.float32(sign), out=strip[top - start + 1 : bottom - start + 1, 1:-1])
        if start == 0:
            strip[0] = strip[2]
        if stop == height:
            strip[-1] = strip[-3]
        strip[:, 0], strip[:, -1] = strip[:, 2], strip[:, -3]
        yield start, strip


def _highest(strip: np.ndarray) -> np.ndarray:
    """Return the highest of the eight neighbours of each inner pixel."""
    across = np.maximum(np.maximum(strip[:, :-2], strip[:, 1:-1]), strip[:, 2:])
    highest: np.ndarray = np.maximum(across[:-2], across[2:])
    np.maximum(highest, strip[1:-1, :-2], out=highest)
    np.maximum(highest, strip[1:-1, 2:], out=highest)
    return highest


def _second_highest_at_least(strip: np.ndarray) -> np.ndarray:
    """Return what the second highest neighbour of each inner pixel is at least: the highest of the lower ones of opposite neighbours. On a
    slope in any direction that is about the pixel itself."""
    least: np.ndarray = np.minimum(strip[1:-1, :-2], strip[1:-1, 2:])
    lower = np.empty_like(least)
    for one, other in ((strip[:-2, 1:-1], strip[2:, 1:-1]), (strip[:-2, :-2], strip[2:, 2:]), (strip[:-2, 2:], strip[2:, :-2])):
        np.maximum(least, np.minimum(one, other, out=lower), out=least)
    return least


def _filled(image: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Return a copy of the image with the pixels marked `bad` replaced: by the mean of finite neighbours, in larger holes by ever coarser
    block means."""
    data = image.copy()
    data[bad] = np.nan
    row, col = np.nonzero(bad)
    rows, cols = ([np.clip(at + step, 0, length - 1) for step in (-1, 0, 1)] for at, length in zip((row, col), data.shape))
    around = np.stack([data[rows[dy], cols[dx]] for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)], axis=1)
    known = np.isfinite(around)
    count = known.sum(axis=1)
    total = np.where(known, around, 0.0).sum(axis=1, dtype=np.float64)
    near = count > 0
    data[row[near], col[near]] = (total[near] / count[near]).astype(np.float32)
    hole = np.isnan(data)
    if hole.any():
        data[hole] = _coarse_fill(data)[hole]
    return data


def _coarse_fill(data: np.ndarray) -> np.ndarray:
    """Return `data` with NaN replaced by the mean of the smallest block of 2^k × 2^k pixels that has a finite one."""
    hole = np.isnan(data)
    if not hole.any() or data.size == 1:
        return data
    height, width = data.shape
    even = np.pad(data, ((0, height % 2), (0, width % 2)), mode="edge")
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0.0).sum(axis=(1, 3), dtype=np.float64)
    coarse = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
    upsampled = np.repeat(np.repeat(_coarse_fill(coarse), 2, axis=0), 2, axis=1)[:height, :width]
    return np.where(hole, upsampled, data)
