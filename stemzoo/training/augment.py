"""Random views of a patch: symmetry of the plane, then the microscope's own noise, drawn anew each time. Called by `training.patches`.

Image and target are turned together by torchvision's transforms v2, in their functional form: the classes draw from a global generator.
What a microscope does to intensities is ours and touches the image alone. Everything is drawn from the generator that is handed in.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from skimage.filters import gaussian
from torchvision.transforms.v2 import functional

from stemzoo.simulation.noise import Recording, record
from stemzoo.training.config import Augmentation

AS_STATED = Augmentation(dose_factor=(1, 1), row_jitter=(0, 0), readout=(0, 0), hot_fraction=(0, 0))
"""Recorded as the frame's own recipe says, with nothing on top."""


def view(
    image: np.ndarray, target: np.ndarray, config: Augmentation, pixel_size: float, recording: Recording | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a training patch and its target as they are seen this time.

    Args:
        image: (h, w) float32, expected electrons where there is a `recording` to make of them, else recorded already.
        target: (C, h, w) float32.
        pixel_size: Å/px of the patch.
    """
    image, target = turned(image, target, rng)
    if recording is not None:
        image = recorded_anew(image, config, pixel_size, recording, rng)
    if rng.random() < config.blur_probability:
        sigma_px = rng.uniform(*config.blur) / pixel_size
        image = gaussian(image, sigma_px, mode="reflect", preserve_range=True)  # type: ignore[no-untyped-call]
    return bent(image, rng.uniform(*config.gamma)), target


def turned(image: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return both under the same of the square's eight symmetries."""
    both = torch.from_numpy(np.concatenate([image[None], target]))
    across, down, diagonal = rng.random(3) < 0.5
    if across:
        both = functional.horizontal_flip(both)
    if down:
        both = functional.vertical_flip(both)
    if diagonal:
        both = both.transpose(-1, -2)
    moved = both.contiguous().numpy()
    return moved[0], moved[1:]


def recorded_anew(expected: np.ndarray, config: Augmentation, pixel_size: float, stated: Recording, rng: np.random.Generator) -> np.ndarray:
    """Return (h, w) expected electrons as recorded: dose, row jitter, shot noise, readout, hot pixels.

    Args:
        config: what is drawn on top of what is stated, independently.
        stated: how the frame's own recipe records.
    """
    low, high = config.dose_factor
    expected = expected * np.float32(math.exp(rng.uniform(math.log(low), math.log(high))))
    shot = math.sqrt(max(float(expected.mean()), 1e-6))
    recording = replace(
        stated,
        row_jitter_px=math.hypot(stated.row_jitter_px, rng.uniform(*config.row_jitter) / pixel_size),
        readout=math.hypot(stated.readout, rng.uniform(*config.readout) * shot),
        hot_fraction=stated.hot_fraction + rng.uniform(*config.hot_fraction),
    )
    return record(expected, recording, rng)


def bent(image: np.ndarray, gamma: float) -> np.ndarray:
    """Return the image with its intensity scale bent between its extremes, as exported frames often are.

    Gain and offset need nothing of the kind: the network normalises them away.
    """
    low, high = image.min(), image.max()
    span = max(high - low, np.float32(1e-12))
    return np.asarray(low + span * ((image - low) / span) ** np.float32(gamma), dtype=np.float32)
