"""From expected counts to a recorded frame: row jitter, the beam's flicker, shot noise and the detector. Called by `simulation.frame`
and by the augmentation of training patches, so that both know one physics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True)
class Recording:
    """How one frame is recorded.

    Args:
        row_jitter_px: rms shift of a scan row.
        flicker: rms relative change of the beam's current from row to row.
        gain: detector units per electron.
        offset: detector units at zero electrons.
        readout: rms readout noise [electrons].
        hot_fraction: share of pixels that record something unrelated.
        saturation: share of the brightest expected intensity above which the detector clips; None: nowhere.
        smoothing_px: sigma of a Gaussian low-pass over what was recorded, as averaging and filtering leave it.
    """

    row_jitter_px: float = 0.0
    flicker: float = 0.0
    gain: float = 1.0
    offset: float = 0.0
    readout: float = 0.0
    hot_fraction: float = 0.0
    saturation: float | None = None
    smoothing_px: float = 0.0


def record(expected: np.ndarray, recording: Recording, rng: np.random.Generator) -> np.ndarray:
    """Return one noisy frame.

    Args:
        expected: (H, W), electrons expected at each pixel; not negative.
    Returns: (H, W) float32, detector units.
    """
    if recording.row_jitter_px > 0:
        expected = shift_rows(expected, rng.normal(0.0, recording.row_jitter_px, len(expected)))
    if recording.flicker > 0:
        current = 1 + recording.flicker * rng.standard_normal((len(expected), 1), dtype=np.float32)
        expected = expected * np.maximum(current, np.float32(0))
    counts = rng.poisson(np.maximum(expected, 0)).astype(np.float32)
    if recording.readout > 0:
        counts += np.float32(recording.readout) * rng.standard_normal(counts.shape, dtype=np.float32)
    if recording.saturation is not None:
        counts = np.minimum(counts, np.float32(recording.saturation * expected.max()))
    if recording.smoothing_px > 0:
        counts = gaussian_filter(counts, recording.smoothing_px, mode="nearest")
    image = np.float32(recording.gain) * counts + np.float32(recording.offset)
    if recording.hot_fraction > 0:
        hot = rng.random(image.shape) < recording.hot_fraction
        image[hot] = rng.uniform(image.min(), 5 * image.max() + 1, int(hot.sum()))
    return np.asarray(image, dtype=np.float32)


def shift_rows(image: np.ndarray, shift_px: np.ndarray) -> np.ndarray:
    """Return `image` with row i moved to the right by `shift_px[i]`, interpolated by a cubic (Catmull–Rom) kernel."""
    width = image.shape[1]
    whole = np.floor(-shift_px).astype(np.intp)
    t = (-shift_px - whole).astype(image.dtype)
    taps = ((-t + 2 * t**2 - t**3) / 2, (2 - 5 * t**2 + 3 * t**3) / 2, (t + 4 * t**2 - 3 * t**3) / 2, (t**3 - t**2) / 2)
    first, last = int(whole.min()) - 1, int(whole.max()) + 2
    weight = np.zeros((last - first + 1, len(image), 1), dtype=image.dtype)
    for k, tap in enumerate(taps):
        weight[whole - 1 - first + k, np.arange(len(image)), 0] = tap
    before, after = max(-first, 0), max(last, 0)
    wide = np.pad(image, ((0, 0), (before, after)), mode="edge")
    shifted = np.zeros_like(image)
    for column, share in enumerate(weight, before + first):
        shifted += share * wide[:, column : column + width]
    return shifted


def smooth_field(shape: tuple[int, int], period_px: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random field (H, W) of zero mean and unit rms, made of eight long waves of at least about `period_px`; float32."""
    y, x = 2 * np.pi * np.arange(shape[0]), 2 * np.pi * np.arange(shape[1])
    frequency = rng.uniform(0.2, 1.0, 8) / period_px
    direction, phase = rng.uniform(0, 2 * np.pi, (2, 8))
    down = np.exp(1j * (np.outer(y, frequency * np.cos(direction)) + phase))
    across = np.exp(1j * np.outer(frequency * np.sin(direction), x))
    return np.asarray((down.real @ across.real - down.imag @ across.imag) / 2.0, dtype=np.float32)


def amorphous(shape: tuple[int, int], correlation_px: float, rng: np.random.Generator) -> np.ndarray:
    """Return the speckle (H, W) of amorphous material: Gaussian-correlated noise of zero mean and unit rms; float32."""
    decay = -2 * (np.pi * correlation_px) ** 2
    spectrum = scipy.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    spectrum *= np.outer(np.exp(decay * np.fft.fftfreq(shape[0]) ** 2), np.exp(decay * np.fft.rfftfreq(shape[1]) ** 2)).astype(np.float32)
    spectrum[0, 0] = 0.0
    speckle = scipy.fft.irfft2(spectrum, s=shape)
    return np.asarray(speckle / speckle.std())
