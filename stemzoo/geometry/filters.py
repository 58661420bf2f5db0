"""Filters that a whole frame goes through before its lattice or its peaks are looked for. Owns blurring and evening-out; NumPy only.

Called by lattice, width, runtime.scale and analyze.choosing; never by what measures positions or intensities.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from stemzoo.geometry.cleaning import clean
from stemzoo.geometry.resample import reflect, rescale

FINE_ENOUGH = 3.0  # px: a blur this wide can be worked out on a grid of every second, fourth … pixel, to a thousandth


def middle_of(image: np.ndarray, largest_px: int) -> np.ndarray:
    """Return the middle of a frame (H, W), at most `largest_px` a side."""
    starts = [max(0, (length - largest_px) // 2) for length in image.shape]
    return image[starts[0] : starts[0] + largest_px, starts[1] : starts[1] + largest_px]


def even_frame(image: np.ndarray, largest_px: int) -> Optional[np.ndarray]:
    """Return the middle of a frame (H, W), cleaned, its slow background taken off and its contrast evened out; None if flat."""
    frame, _ = clean(middle_of(image, largest_px))
    low, high = np.percentile(frame.ravel()[:: max(1, frame.size // 200_000)], (0.2, 99.8))
    if min(frame.shape) < 16 or not high > low:
        return None
    frame = np.clip(frame, low, high)
    frame -= np.float32(low)
    reach = max(4.0, min(frame.shape) / 24)
    frame = frame - blur(frame, reach)
    contrast = np.sqrt(np.maximum(blur(frame * frame, 2 * reach), 0))
    floor = 0.3 * float(np.median(contrast))
    even: np.ndarray = frame / np.maximum(contrast, max(floor, 1e-12))
    return even.astype(np.float64)


def blur(image: np.ndarray, sigma_px: float, every: int = 1) -> np.ndarray:
    """Return the image (H, W) convolved with a Gaussian, float32, edges continued by reflection; of it `every` so many-th row and column.

    Wide Gaussians are applied to block means and brought back by interpolation, their width reduced by what those two steps add.
    """
    height, width = image.shape
    block = 1
    while sigma_px / (2 * block) >= FINE_ENOUGH and min(image.shape) >= 16 * block:
        block *= 2
    padded = np.pad(image, ((0, -height % block), (0, -width % block)), mode="symmetric")
    blocks = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block)
    coarse: np.ndarray = blocks.mean(axis=(1, 3), dtype=np.float32)
    narrower = np.sqrt(sigma_px**2 - (block**2 - 1) / 12) / block
    for axis in (0, 1):
        coarse = _blur_axis(coarse, narrower, axis, every if block == 1 else 1)
    if block == 1:
        return coarse
    fine, _ = rescale(coarse, block)
    return fine[:height:every, :width:every]


def _blur_axis(image: np.ndarray, sigma_px: float, axis: int, every: int) -> np.ndarray:
    """Return the image blurred along one axis, at `every` so many-th place: a banded matrix times it, reflected at both ends."""
    length = image.shape[axis]
    reach = int(np.ceil(4 * sigma_px))
    offset = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offset**2) / (2 * sigma_px**2))
    kernel /= kernel.sum()
    places = np.arange(0, length, every)
    matrix = np.zeros((len(places), length), dtype=np.float32)
    target = reflect(places[:, None] + offset, length)
    np.add.at(matrix, (np.arange(len(places))[:, None], target), kernel.astype(np.float32))
    blurred: np.ndarray = matrix @ image if axis == 0 else image @ matrix.T
    return blurred
