"""Frames brought to another sampling. Owns `rescale` and its map of positions; NumPy only.

Called by runtime.pipeline before a network sees a frame, and by subimages where a window is sampled more coarsely than its frame.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Tuple

import numpy as np

from stemzoo.errors import ShapeError

BLOCK = 16  # output rows per matrix product: few enough that many of the banded weights are not zero


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
    out = np.empty((new, image.shape[1]) if axis == 0 else (image.shape[0], new), np.float32)
    for start, low, weight in _blocks(old, new):
        high, stop = low + weight.shape[1], start + len(weight)
        if low >= 0 and high <= old:
            source = image[low:high] if axis == 0 else image[:, low:high]
        else:
            source = image.take(reflect(np.arange(low, high), old), axis=axis)
        if axis == 0:
            np.matmul(weight, source, out=out[start:stop])
        else:
            np.matmul(source, weight.T, out=out[:, start:stop])
    return out


@lru_cache(maxsize=8)
def _blocks(old: int, new: int) -> Tuple[Tuple[int, int, np.ndarray], ...]:
    """Return, for each block of new pixels, the first of them, the first old pixel that it touches and the weights (block, touched)."""
    scale = old / new
    reach = 2.0 * max(1.0, scale)
    centre = (np.arange(new) + 0.5) * scale - 0.5
    first = np.floor(centre - reach).astype(np.int64)
    offset = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 2) - centre[:, None]
    weight = cubic(offset / max(1.0, scale))
    weight /= weight.sum(axis=1, keepdims=True)
    if scale > 1:  # a widened kernel is sampled unevenly: put its centre of mass back, or every column would shift by a hundredth
        lever = offset * np.abs(weight)
        weight -= lever * ((weight * offset).sum(axis=1) / (lever * offset).sum(axis=1))[:, None]
        weight /= weight.sum(axis=1, keepdims=True)
    blocks = []
    for start in range(0, new, BLOCK):
        rows = slice(start, min(start + BLOCK, new))
        shift = first[rows] - first[start]
        dense = np.zeros((len(shift), int(shift[-1]) + weight.shape[1]), np.float32)
        dense[np.arange(len(shift))[:, None], shift[:, None] + np.arange(weight.shape[1])] = weight[rows]
        blocks.append((start, int(first[start]), dense))
    return tuple(blocks)
