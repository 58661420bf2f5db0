"""Filters that a whole frame goes through before its lattice or its peaks are looked for. Owns blurring and evening-out; NumPy only.

Called by lattice and width; never by what measures positions or intensities.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from stemzoo.geometry.resample import clean

LARGEST_PX = 1024  # a frame's middle of this size decides: more pixels sharpen nothing that is asked for here


def even_frame(image: np.ndarray) -> Optional[np.ndarray]:
    """Return the middle of a frame, at most 1024 px a side, cleaned, its slow background taken off and its contrast evened out; None if
    flat."""
    middle = image[
        tuple(slice(max(0, (length - LARGEST_PX) // 2), max(0, (length - LARGEST_PX) // 2) + LARGEST_PX) for length in image.shape)
    ]
    frame, _ = clean(middle)
    low, high = np.percentile(frame, (0.2, 99.8))
    if min(frame.shape) < 16 or not high > low:
        return None
    frame = np.clip(frame, low, high).astype(np.float64)
    reach = max(4.0, min(frame.shape) / 24)
    frame = frame - blur(frame, reach)
    contrast = np.sqrt(np.maximum(blur(frame * frame, 2 * reach), 0))
    floor = 0.3 * float(np.median(contrast))
    even: np.ndarray = frame / np.maximum(contrast, max(floor, 1e-12))
    return even


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return the image (H, W) convolved with a Gaussian, edges continued by reflection; exact, by FFT."""
    reach = int(min(np.ceil(4 * sigma_px), min(image.shape) - 1))
    padded = np.pad(image, reach, mode="reflect")
    fy, fx = np.fft.fftfreq(padded.shape[0])[:, None], np.fft.rfftfreq(padded.shape[1])[None]
    spectrum = np.fft.rfft2(padded) * np.exp(-2 * (np.pi * sigma_px) ** 2 * (fy**2 + fx**2))
    out: np.ndarray = np.fft.irfft2(spectrum, padded.shape)[reach : reach + image.shape[0], reach : reach + image.shape[1]]
    return out
