"""Frames brought to another sampling, and freed of dead and hot pixels. Owns `rescale`, its map of positions, and `clean`; NumPy only.

Called by runtime.pipeline before a network sees a frame, and by subimages where a window is sampled more coarsely than its frame.
"""

from __future__ import annotations

from typing import Iterator, Tuple

import numpy as np

from stemzoo.errors import ShapeError

BLOCK = 64  # output rows per matrix product: small enough that the banded weights are mostly non-zero
STRIP_PX = 250_000  # pixels of a frame that hot ones are looked for in at a time
HOT_EXCESS = 5.0  # times what 95 % of this frame's own local maxima have over their neighbours
TAIL = 4.3  # 95th percentile over the median of an exponential: what the 95th would be, were it not itself hot pixels
HOT_ISOLATION = 3.0  # times the range among the neighbours; a Gaussian column stays below this for a sigma above 0.67 px


def rescale(image: np.ndarray, factor: float) -> Tuple[np.ndarray, Tuple[float, float]]:
    """Return the image with round(H·f) × round(W·f) pixels, float32, and the factors (fy, fx) actually reached.

    Cubic interpolation; for factors below 1 the kernel is widened, so that what the new pixels cannot hold is averaged, not aliased.
    The outer edges of both images coincide, hence y_in = (y_out + ½) / fy − ½ (`to_original`). Edges are continued by reflection.

    Args: image (H, W), finite; factor > 0, output pixels per input pixel.
    Source: R. G. Keys, IEEE Trans. ASSP 29, 1153 (1981), the kernel with a = −½.
    """
    if image.ndim != 2 or not factor > 0:
        raise ShapeError(f"rescale got an image of shape {image.shape} and factor {factor!r}; wanted (H, W) and a factor above 0")
    data = np.asarray(image, dtype=np.float32)
    height, width = data.shape
    new_height, new_width = max(1, round(height * float(factor))), max(1, round(width * float(factor)))
    factors = (new_height / height, new_width / width)
    if (new_height, new_width) == (height, width):
        return data.copy(), factors
    return _resample(_resample(data, new_height, 0), new_width, 1), factors


def to_original(yx: np.ndarray, factors: Tuple[float, float]) -> np.ndarray:
    """Return positions (n, 2) of the rescaled image in pixels of the original."""
    original: np.ndarray = (np.asarray(yx, dtype=np.float64) + 0.5) / np.asarray(factors) - 0.5
    return original


def to_rescaled(yx: np.ndarray, factors: Tuple[float, float]) -> np.ndarray:
    """Return positions (n, 2) of the original image in pixels of the rescaled one."""
    rescaled: np.ndarray = (np.asarray(yx, dtype=np.float64) + 0.5) * np.asarray(factors) - 0.5
    return rescaled


def cubic(distance: np.ndarray) -> np.ndarray:
    """Return the weight of Keys' cubic kernel (a = −½) at a distance in pixels."""
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Return integer positions folded back into 0 … size−1 at the outer pixel edges (−1 → 0, size → size−1)."""
    folded: np.ndarray = np.mod(index, 2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def _resample(image: np.ndarray, new: int, axis: int) -> np.ndarray:
    """Return `image` with one axis resampled to `new` pixels; a block of them is one product of weights with the pixels it touches."""
    old = image.shape[axis]
    if new == old:
        return image
    scale = old / new
    reach = 2.0 * max(1.0, scale)
    out = np.empty((new, image.shape[1]) if axis == 0 else (image.shape[0], new), np.float32)
    for start in range(0, new, BLOCK):
        stop = min(start + BLOCK, new)
        centre = (np.arange(start, stop) + 0.5) * scale - 0.5
        low, high = int(np.floor(centre[0] - reach)), int(np.ceil(centre[-1] + reach)) + 1
        taps = np.arange(low, high)
        offset = taps[None] - centre[:, None]
        weight = cubic(offset / max(1.0, scale))
        weight /= weight.sum(axis=1, keepdims=True)
        if scale > 1:  # a widened kernel is sampled unevenly: put its centre of mass back, or every column would shift by a hundredth
            lever = offset * np.abs(weight)
            weight -= lever * ((weight * offset).sum(axis=1) / (lever * offset).sum(axis=1))[:, None]
            weight /= weight.sum(axis=1, keepdims=True)
        weight = weight.astype(np.float32)
        source = image.take(reflect(taps, old), axis=axis)
        if axis == 0:
            out[start:stop] = weight @ source
        else:
            out[:, start:stop] = source @ weight.T
    return out


def clean(image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the frame, float32, with non-finite, hot and dead pixels replaced by their surroundings, and the (H, W) mask of those pixels.

    A pixel is hot if it stands alone: it exceeds all but one of its eight neighbours (so that a pair is caught too) by several times
    what this frame's own local maxima do, and by several times the range among those neighbours. A dead one is the same downwards.
    The first rule spares Poisson maxima at any dose, the second a column of any brightness that is sampled at all.
    """
    if image.ndim != 2:
        raise ShapeError(f"clean got an array of shape {image.shape}; wanted one frame (H, W)")
    data = np.array(image, dtype=np.float32)
    bad = ~np.isfinite(data)
    if bad.all():
        return np.zeros_like(data), bad
    if bad.any():
        data[bad] = np.nan
        _fill(data, bad)
    lone = _lone_pixels(data, bad)
    if lone.any():
        data[lone] = np.nan
        _fill(data, lone)
    return data, bad | lone


def _lone_pixels(data: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """Return the (H, W) mask of hot and dead pixels."""
    found = np.zeros(data.shape, bool)
    if min(data.shape) < 3:
        return found
    for sign in (1.0, -1.0):
        parts = [excess[excess > 0] for excess in (strip[1:-1, 1:-1] - _highest(strip) for _, strip in _strips(data, sign))]
        own = np.concatenate(parts)
        if len(own) == 0:
            continue
        median, high = np.percentile(own[:: max(1, len(own) // 20000)], (50, 95))
        limit = HOT_EXCESS * min(float(high), TAIL * float(median))
        for start, signed in _strips(data, sign):
            centre = signed[1:-1, 1:-1]
            # of an equal pair neither exceeds the other, so candidates are judged against the second highest neighbour
            sides = np.maximum(np.minimum(signed[1:-1, :-2], signed[1:-1, 2:]), np.minimum(signed[:-2, 1:-1], signed[2:, 1:-1]))
            row, col = np.nonzero((centre - sides > limit) & (centre >= _highest(signed) - limit))
            trusted = ~ignore[start + row, col]
            row, col = row[trusted], col[trusted]
            if len(row) == 0:
                continue
            around = np.stack([signed[row + 1 + dy, col + 1 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx], axis=1)
            around.sort(axis=1)
            lead = signed[row + 1, col + 1] - around[:, -2]
            lone = (lead > limit) & (lead > HOT_ISOLATION * (around[:, -2] - around[:, 0]))
            found[start + row[lone], col[lone]] = True
    return found


def _strips(data: np.ndarray, sign: float) -> Iterator[Tuple[int, np.ndarray]]:
    """Yield the first row of each strip of `data` and sign × the strip, a pixel added on every side; strips fit a processor's cache."""
    height, width = data.shape
    step = max(1, STRIP_PX // width)
    for start in range(0, height, step):
        stop = min(start + step, height)
        rows = np.arange(start - 1, stop + 1)
        rows[0], rows[-1] = abs(rows[0]), min(rows[-1], 2 * height - 2 - rows[-1])
        strip = np.pad(data[rows], ((0, 0), (1, 1)), mode="reflect")
        yield start, strip if sign > 0 else -strip


def _highest(strip: np.ndarray) -> np.ndarray:
    """Return the highest of the eight neighbours of each inner pixel."""
    across = np.maximum(np.maximum(strip[:, :-2], strip[:, 1:-1]), strip[:, 2:])
    highest: np.ndarray = np.maximum(across[:-2], across[2:])
    np.maximum(highest, strip[1:-1, :-2], out=highest)
    np.maximum(highest, strip[1:-1, 2:], out=highest)
    return highest


def _fill(data: np.ndarray, bad: np.ndarray) -> None:
    """Replace the NaN pixels marked `bad`, in place: by the mean of finite neighbours, inside larger holes by ever coarser block means."""
    row, col = np.nonzero(bad)
    padded = np.pad(data, 1, mode="edge")
    around = np.stack([padded[row + 1 + dy, col + 1 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx], axis=1)
    known = np.isfinite(around)
    count = known.sum(axis=1)
    total = np.where(known, around, 0.0).sum(axis=1, dtype=np.float64)
    near = count > 0
    data[row[near], col[near]] = (total[near] / count[near]).astype(np.float32)
    hole = np.isnan(data)
    if hole.any():
        data[hole] = _coarse_fill(data)[hole]


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
