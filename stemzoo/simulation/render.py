"""Columns to expected ADF intensity, sub-pixel exact and linear in the number of columns. Called by `simulation.frame`, tests and scripts.

Every column is spread on the pixel grid with a Gaussian wide enough to be sampled without aliasing; in Fourier space that Gaussian is
divided out and the probe's transfer function and the thermal spread are multiplied in. This is the type-1 non-uniform FFT with Gaussian
gridding (Source: Greengard & Lee, SIAM Review 46 (2004) 443): one FFT each way a frame, whatever the probe, and one more where columns
differ in thermal width.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from scipy.sparse import csc_array, csr_array

from stemzoo.simulation.interpolate import bilinear
from stemzoo.simulation.probe import Optics, transfer

_SPREAD_PX = 1.3
_REACH_PX = 6
_PAD_PX = 24
_HAZE = 2.6
"""Rms distance along an axis [Å] from its column at which an electron that left it is scattered: enough that no column stands out."""
_HAZE_PAD = 14
_SAME_WIDTH = 2e-4
"""Mean squared displacements [Å²] that differ by less than this are one width."""


def render(
    yx: np.ndarray,
    weight: np.ndarray,
    thermal: np.ndarray,
    shape: tuple[int, int],
    pixel_size: float,
    optics: Optics,
    *,
    row_shift_px: np.ndarray | None = None,
) -> np.ndarray:
    """Return the expected intensity of columns under a probe.

    Args:
        yx: (n, 2) float64, px; columns up to `_PAD_PX` outside the frame still shine into it.
        weight: (n,) float64, scattering cross-section of each column [Å²].
        thermal: (n,) float64, rms thermal displacement along an axis [Å].
        shape: (H, W) of the frame.
        pixel_size: Å/px.
        row_shift_px: (H,) shift of each row to the right, or None.
    Returns: (H, W) float32, scattered fraction of the beam at each probe position; times dose × pixel area it is expected counts.

    Widths that differ from the mean enter to first order in their mean squares, which errs by up to a percent of the brightest peak in
    most crystals, by two beside lead.
    """
    height, width = shape
    padded = (scipy.fft.next_fast_len(height + 2 * _PAD_PX), scipy.fft.next_fast_len(width + 2 * _PAD_PX, real=True))
    fy, fx = np.fft.fftfreq(padded[0], pixel_size), np.fft.rfftfreq(padded[1], pixel_size)
    square = thermal**2
    mean = float(weight @ square / weight.sum()) if weight.sum() > 0 else 0.0
    spectrum = scipy.fft.rfft2(_spread(yx + _PAD_PX, weight, padded))
    if len(square) and np.ptp(square) > _SAME_WIDTH:
        change = scipy.fft.rfft2(_spread(yx + _PAD_PX, weight * (square - mean), padded))
        spectrum -= change * (2 * np.pi**2 * (fy[:, None] ** 2 + fx**2)).astype(np.float32)
    exponent = -2 * np.pi**2 * (mean - (_SPREAD_PX * pixel_size) ** 2)
    spectrum *= transfer(optics, fy, fx)
    spectrum *= np.outer(np.exp(exponent * fy**2), np.exp(exponent * fx**2) / pixel_size**2).astype(np.float32)
    rows = scipy.fft.ifft(spectrum, axis=0)[_PAD_PX : _PAD_PX + height]
    if row_shift_px is not None:
        rows = rows * np.exp(np.outer(row_shift_px, -2j * np.pi * pixel_size * fx)).astype(np.complex64)
    image = scipy.fft.irfft(rows, n=padded[1], axis=1)[:, _PAD_PX : _PAD_PX + width]
    return np.asarray(np.maximum(image, 0))


def render_haze(yx: np.ndarray, weight: np.ndarray, shape: tuple[int, int], pixel_size: float) -> np.ndarray:
    """Return the intensity (H, W) float32 of electrons that left their columns.

    Args: (n, 2) px where the columns are, (n,) cross-sections [Å²] of what they lost; each is spread over `_HAZE` Å.
    """
    step = max(_HAZE / _SPREAD_PX / pixel_size, 1.0)
    coarse = (math.ceil(shape[0] / step) + 2 * _HAZE_PAD + 1, math.ceil(shape[1] / step) + 2 * _HAZE_PAD + 1)
    density = _spread(yx / step + _HAZE_PAD, weight, coarse) / np.float32((step * pixel_size) ** 2)
    rows, cols = (np.arange(n) / step + _HAZE_PAD for n in shape)
    return bilinear(density, rows, cols)


def _spread(yx: np.ndarray, weight: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Sum of unit-volume Gaussians of width `_SPREAD_PX` at `yx`, on a float32 grid of `shape`.

    A Gaussian is the product of one along y and one along x, so that the sum over columns is a product of two sparse matrices.
    """
    taps = 2 * _REACH_PX + 1
    near = ((yx >= _REACH_PX) & (yx < np.array(shape) - 1 - _REACH_PX)).all(axis=1)
    yx, weight = yx[near], weight[near]
    at = np.rint(yx).astype(np.int32)[:, :, None] + np.arange(-_REACH_PX, taps - _REACH_PX, dtype=np.int32)
    profile = np.exp(-((at - yx[:, :, None]) ** 2) / (2 * _SPREAD_PX**2)) / (_SPREAD_PX * math.sqrt(2 * math.pi))
    first = np.arange(0, taps * len(yx) + 1, taps)
    down = csc_array(((profile[:, 0] * weight[:, None]).astype(np.float32).ravel(), at[:, 0].ravel(), first), shape=(shape[0], len(yx)))
    across = csr_array((profile[:, 1].astype(np.float32).ravel(), at[:, 1].ravel(), first), shape=(len(yx), shape[1]))
    return np.asarray((down.tocsr() @ across).toarray())
