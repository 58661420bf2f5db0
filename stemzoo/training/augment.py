"""Random views of a patch: symmetry of the plane, then the microscope's own noise, drawn anew each time. Called by `training.patches`.

Geometry comes from torchvision's transforms v2, which move image and target together; what a microscope does to intensities is ours and
touches the image alone. All randomness comes from torch's global generator, which the dataset seeds for each patch.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from skimage.filters import gaussian
from torchvision import tv_tensors
from torchvision.transforms import v2

from stemzoo.simulation.noise import Recording, record
from stemzoo.training.config import Augmentation

AS_STATED = Augmentation(dose_factor=(1, 1), row_jitter=(0, 0), readout=(0, 0), hot_fraction=(0, 0))
"""Recorded as the frame's own recipe says, with nothing on top."""


def _uniform(bounds: tuple[float, float]) -> float:
    return float(torch.empty(()).uniform_(*bounds)) if bounds[1] > bounds[0] else float(bounds[0])


class RandomTranspose(v2.Transform):  # type: ignore[misc]
    """Swap rows and columns half of the time; with the two flips this makes all eight symmetries of the square."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw once for image and target."""
        return {"swap": bool(torch.rand(()) < 0.5)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Transpose the last two axes, keeping the kind of tensor."""
        return tv_tensors.wrap(inpt.transpose(-1, -2).contiguous(), like=inpt) if params["swap"] else inpt


class _OnImage(v2.Transform):  # type: ignore[misc]
    """A transform of intensities: leaves targets alone.

    Args:
        config: ranges to draw from.
        pixel_size: Å/px of the patch.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, config: Augmentation, pixel_size: float) -> None:
        super().__init__()
        self.config, self.pixel_size = config, pixel_size


class RecordAnew(_OnImage):
    """Expected electrons to a recorded patch: dose, row jitter, shot noise, readout, hot pixels.

    Args:
        config, pixel_size: as everywhere here.
        stated: how the frame's recipe records; what `config` draws comes on top, independently.
    """

    def __init__(self, config: Augmentation, pixel_size: float, stated: Recording) -> None:
        super().__init__(config, pixel_size)
        self.stated = stated

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """(1, h, w) expected electrons -> recorded detector units."""
        config, stated = self.config, self.stated
        rng = np.random.default_rng(int(torch.randint(0, 2**62, ())))
        factor = math.exp(_uniform((math.log(config.dose_factor[0]), math.log(config.dose_factor[1]))))
        expected = inpt[0].numpy() * np.float32(factor)
        shot = math.sqrt(max(float(expected.mean()), 1e-6))
        recording = replace(
            stated,
            row_jitter_px=math.hypot(stated.row_jitter_px, _uniform(config.row_jitter) / self.pixel_size),
            readout=math.hypot(stated.readout, _uniform(config.readout) * shot),
            hot_fraction=stated.hot_fraction + _uniform(config.hot_fraction),
        )
        return tv_tensors.Image(torch.from_numpy(record(expected, recording, rng))[None])


class RandomBlur(_OnImage):
    """Blur the recorded patch, as a filter or a resampling would."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """(1, h, w) -> (1, h, w)."""
        if torch.rand(()) >= self.config.blur_probability:
            return inpt
        sigma_px = _uniform(self.config.blur) / self.pixel_size
        blurred = gaussian(inpt[0].numpy(), sigma_px, mode="reflect", preserve_range=True)  # type: ignore[no-untyped-call]
        return tv_tensors.Image(torch.from_numpy(blurred)[None])


class RandomGamma(_OnImage):
    """Bend the intensity scale, as exported frames often are; gain and offset need none of this, the network normalises them away."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """(1, h, w) -> (1, h, w), between the patch's extremes."""
        low, high = inpt.amin(), inpt.amax()
        span = (high - low).clamp_min(1e-12)
        return tv_tensors.Image(low + span * ((inpt - low) / span) ** _uniform(self.config.gamma))


def views(config: Augmentation, pixel_size: float, recording: Recording | None) -> v2.Compose:
    """Return the transform of a training patch.

    Args:
        recording: how the patch's frame was recorded, where the patch holds expected electrons; None where it is recorded already.
    """
    plane = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), RandomTranspose()]
    microscope = [] if recording is None else [RecordAnew(config, pixel_size, recording)]
    return v2.Compose([*plane, *microscope, RandomBlur(config, pixel_size), RandomGamma(config, pixel_size)])
