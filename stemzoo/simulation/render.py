"""Columns to expected ADF intensity, sub-pixel exact and linear in the number of columns. Called by `simulation.scene` and by tests.

Every column is spread on the pixel grid with a Gaussian wide enough to be sampled without aliasing; in Fourier space that Gaussian is
divided out and the probe's transfer function and the thermal spread are multiplied in. This is the type-1 non-uniform FFT with Gaussian
gridding (Source: Greengard & Lee, SIAM Review 46 (2004) 443): two FFTs a frame, whatever the probe.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft

from stemzoo.simulation.probe import Optics, transfer

_SPREAD_PX = 1.3
_REACH_PX = 8
_PAD_PX = 24


def render(
    yx: np.ndarray, weight: np.ndarray, thermal: np.ndarray, shape: tuple[int, int], pixel_size: float, optics: Optics
) -> np.ndarray:
    """Return the expected intensity of columns under a probe.

    Args:
        yx: (n, 2) float64, px; columns up to `_PAD_PX` outside the frame still shine into it.
        weight: (n,) float64, scattering cross-section of each column [Å²].
        thermal: (n,) float64, rms thermal displacement [Å].
        shape: (H, W) of the frame.
        pixel_size: Å/px.
    Returns: (H, W) float64, scattered fraction of the beam at each probe position; times dose × pixel area it is expected counts.
    """
    height, width = shape
    padded = (scipy.fft.next_fast_len(height + 2 * _PAD_PX, real=True), scipy.fft.next_fast_len(width + 2 * _PAD_PX, real=True))
    fy = np.fft.fftfreq(padded[0], pixel_size)[:, None]
    fx = np.fft.rfftfreq(padded[1], pixel_size)[None]
    f2 = fy**2 + fx**2
    total = np.zeros((padded[0], padded[1] // 2 + 1), dtype=np.complex128)
    widths = np.round(thermal, 2)
    for value in np.unique(widths):
        chosen = widths == value
        grid = _spread(yx[chosen] + _PAD_PX, weight[chosen], padded)
        total += scipy.fft.rfft2(grid) * np.exp(-2 * np.pi**2 * (value**2 - (_SPREAD_PX * pixel_size) ** 2) * f2)
    total *= transfer(optics, fy, fx)
    image = scipy.fft.irfft2(total, s=padded)[_PAD_PX : _PAD_PX + height, _PAD_PX : _PAD_PX + width]
    return np.asarray(np.maximum(image, 0) / pixel_size**2)


def _spread(yx: np.ndarray, weight: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Sum of unit-volume Gaussians of width `_SPREAD_PX` at `yx`, on a grid of `shape`."""
    near = ((yx >= 0) & (yx < np.array(shape) - 1)).all(axis=1)
    yx, weight = yx[near], weight[near]
    offset = np.arange(-_REACH_PX, _REACH_PX + 1)
    base = np.round(yx).astype(np.int64)
    profile = np.exp(-((base[:, :, None] + offset - yx[:, :, None]) ** 2) / (2 * _SPREAD_PX**2)) / (_SPREAD_PX * math.sqrt(2 * math.pi))
    values = (weight[:, None] * profile[:, 0])[:, :, None] * profile[:, 1][:, None, :]
    rows = (base[:, 0, None] + offset) % shape[0]
    cols = (base[:, 1, None] + offset) % shape[1]
    index = rows[:, :, None] * shape[1] + cols[:, None, :]
    return np.bincount(index.ravel(), values.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
