"""Frames freed of hot, dead and non-finite pixels. Owns what such a pixel is and what is put in its place; NumPy only.

Called by runtime.cleaned as frames are read, and by whoever looks at a single frame.
"""

from __future__ import annotations

from typing import Iterator, List, Tuple

import numpy as np

from stemzoo.errors import ShapeError

STRIP_PX = 40_000  # pixels of a frame that hot ones are looked for in at a time: they fit a processor's cache
SAMPLE_PX = 120_000  # pixels, spread over the frame, whose local maxima tell what is usual …
FEWEST_MAXIMA = 2000  # … unless they hold fewer
HOT_EXCESS = 5.0  # times what 95 % of this frame's own local maxima have over their neighbours
TAIL = 4.3  # 95th percentile over the median of an exponential: what the 95th would be, were it not itself hot pixels
MANY = 0.06  # share of pixels steep enough for lone ones from which it is quicker to look at all
NEIGHBOURS = np.array([(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx])[..., None]
HOT_ISOLATION = 3.0  # times the range among the neighbours; a Gaussian column stays below this for a sigma above 0.67 px


def clean(image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the frame, float32, with non-finite, hot and dead pixels replaced by their surroundings, and the (H, W) mask of those pixels.
    A float32 frame without any is returned as it is, not copied.

    A pixel is hot if it stands alone: it exceeds all but one of its eight neighbours (so that a pair is caught too) by several times
    what this frame's own local maxima do, and by several times the range among those neighbours. A dead one is the same downwards.
    The first rule spares Poisson maxima at any dose, the second a column of any brightness that is sampled at all.
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
    lone = _lone_pixels(data, bad)
    if lone.any():
        data = _filled(data, lone)
        bad |= lone
    return data, bad


def _lone_pixels(data: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """Return the (H, W) mask of hot and dead pixels."""
    found = np.zeros(data.shape, bool)
    if min(data.shape) < 3:
        return found
    limits = _limit(data, 1.0), _limit(data, -1.0)
    standing: Tuple[List[np.ndarray], ...] = ([], [])
    for start, strip in _strips(data, 1.0):
        for places, (row, col) in zip(standing, _standing(strip, limits)):
            places.append(np.stack([row + start, col]))
    for places, sign, limit in zip(standing, (1.0, -1.0), limits):
        row, col = np.concatenate(places, axis=1)
        around = sign * data[_mirrored(row + NEIGHBOURS[:, 0], len(data)), _mirrored(col + NEIGHBOURS[:, 1], data.shape[1])]
        around.sort(axis=0)
        # of an equal pair neither exceeds the other, so a pixel is judged against the second highest neighbour
        lead = sign * data[row, col] - around[-2]
        lone = (lead > limit) & (lead > HOT_ISOLATION * (around[-2] - around[0])) & ~ignore[row, col]
        found[row[lone], col[lone]] = True
    return found


def _limit(data: np.ndarray, sign: float) -> float:
    """Return by how much a pixel of sign × `data` exceeds its neighbours if it is no maximum of the usual kind."""
    usual = _excess(data, sign)
    if len(usual) == 0:
        return np.inf
    median, high = np.percentile(usual, (50, 95))
    return HOT_EXCESS * min(float(high), TAIL * float(median))


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Return positions −1 … size folded back at the middle of the outer pixels (−1 → 1, size → size−2)."""
    folded: np.ndarray = size - 1 - np.abs(size - 1 - np.abs(index))
    return folded


def _excess(data: np.ndarray, sign: float) -> np.ndarray:
    """Return by how much local maxima of sign × `data` exceed their highest neighbour: those of some rows from all over the frame, or of
    every row where these hold few."""
    height, width = data.shape
    strips = -(-height // _strip_rows(width))
    every = max(1, int(strips * STRIP_PX / SAMPLE_PX))
    for step in dict.fromkeys((every, 1)):
        found = np.concatenate([_over_highest(strip) for _, strip in _strips(data, sign, step)])
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


def _over_highest(strip: np.ndarray) -> np.ndarray:
    """Return by how much the inner pixels that exceed all eight neighbours exceed the highest of them (n,)."""
    centre, beside = _neighbours(strip)
    highest = np.maximum(*beside[0])
    for one, other in beside[1:]:
        np.maximum(highest, one, out=highest)
        np.maximum(highest, other, out=highest)
    over: np.ndarray = np.subtract(centre, highest, out=highest)
    exceeding: np.ndarray = over[_inner(over > 0, strip.shape[1])]
    return exceeding


def _standing(strip: np.ndarray, limits: Tuple[float, float]) -> List[Tuple[np.ndarray, np.ndarray]]:
    """Return row and column of the inner pixels that may exceed all but one of their neighbours by the first of the limits, and of those
    that may fall short of all but one by the second; some pixels may come twice."""
    flat, stride = strip.ravel(), strip.shape[1]
    inner = flat[stride:-stride]
    step = inner[1:] - inner[:-1]
    before = stride + np.flatnonzero(np.abs(step, out=step) > min(limits))
    if len(before) > MANY * len(inner):
        return _exceeding_pairs(strip, limits)
    # nearly all pixels hardly differ from those beside them: of these nothing more need be known
    rises = flat[before + 1] > flat[before]
    up, down = before + rises, before + ~rises
    up = up[flat[up] - np.minimum(flat[up - stride], flat[up + stride]) > limits[0]]
    down = down[np.maximum(flat[down - stride], flat[down + stride]) - flat[down] > limits[1]]
    found = []
    for places in (up, down):
        row, col = np.divmod(places, stride)
        own = (col > 0) & (col <= stride - 2)
        found.append((row[own] - 1, col[own] - 1))
    return found


def _exceeding_pairs(strip: np.ndarray, limits: Tuple[float, float]) -> List[Tuple[np.ndarray, np.ndarray]]:
    """Return what `_standing` does, as far as pairs of opposite neighbours tell: the second highest of all is at least the higher of the
    lower ones, which on a slope in any direction is about the pixel itself."""
    centre, beside = _neighbours(strip)
    high, low = np.minimum(*beside[0]), np.maximum(*beside[0])
    lower, higher = np.empty_like(high), np.empty_like(low)
    for one, other in beside[1:]:
        np.maximum(high, np.minimum(one, other, out=lower), out=high)
        np.minimum(low, np.maximum(one, other, out=higher), out=low)
    stride = strip.shape[1]
    found = (np.subtract(centre, high, out=high) > limits[0], np.subtract(low, centre, out=low) > limits[1])
    return [divmod(_inner(flags, stride), stride) for flags in found]


def _neighbours(strip: np.ndarray) -> Tuple[np.ndarray, List[Tuple[np.ndarray, np.ndarray]]]:
    """Return the inner pixels of a strip (h, w), and for each direction their neighbours before and behind, (n,) each.

    All rows as one, which is several times quicker than row by row; where one ends and the next begins the neighbours are false ones.
    """
    flat, stride = strip.ravel(), strip.shape[1]
    first, last = stride + 1, len(flat) - stride - 1
    ways = (1, stride - 1, stride, stride + 1)
    return flat[first:last], [(flat[first - way : last - way], flat[first + way : last + way]) for way in ways]


def _inner(flags: np.ndarray, stride: int) -> np.ndarray:
    """Return the places (n,) of the flags that are set, but for those where one row of the strip ends and the next begins."""
    flags[stride - 2 :: stride] = flags[stride - 1 :: stride] = False
    places: np.ndarray = np.flatnonzero(flags)
    return places


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
