"""By how much a frame is resampled for a network. Owns the choice between the pixel size and a stand-in, and the warnings about it.

The pixel size decides where it is known and plausible. Where it is missing, or where lattice and peaks make it impossible, the estimate of
geometry.scale stands in: good to some tens of percent, which is enough for a network trained over a range of samplings, and never used for
a length in Å. Called by runtime.pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from stemzoo.geometry.filters import middle_of
from stemzoo.geometry.scale import ScaleEstimate, scale_to_network
from stemzoo.geometry.width import Spots, find_blobs, find_spots
from stemzoo.runtime.bundle import ModelSpec
from stemzoo.types import Frames

PLAUSIBLE_PERIOD = (1.2, 12.0)  # Å
PLAUSIBLE_WIDTH = (0.12, 1.8)  # Å
WIDEST_PERIOD = 20.0  # peak sigmas: a longer period is no lattice of columns but the scatter of a few atoms, and says nothing of the scale
NARROW = 1.0  # px: peaks this narrow may be single counts of a frame with few, and speak against nothing
FIRST_GLANCE = (64, 4)  # side of a frame's middle [px] and number of scales, the strongest of which may do to see that …
GLANCES = ((128, 4), (256, 8))  # … or else the width of the spots found there may do to see that its pixel size can be true
SCALE_OFF = 2.0  # the strongest of four scales is within this factor of the spots' width: on real frames 0.65 to 1.6 times it
ROUNDING = 1e-3  # relative: a file's 0.2 Å may read 0.19999, which is no finer than what a network was trained on
ESTIMATE_SPREAD = 1.25  # a stand-in this close to the trained range's ends may in truth lie outside


@dataclass(frozen=True)
class Scale:
    """The sampling of a frame, as far as a network's input is concerned.

    Args:
        sampling: Å/px taken for the frame; None where nothing tells.
        source: `file` or `user` as in Frames; `lattice` or `width` for a stand-in by lattice and peaks or by peaks alone; `unknown`.
        notices: one sentence each, for the report.
        estimated: whether `sampling` is a stand-in rather than a pixel size.
    """

    sampling: Optional[float]
    source: str
    notices: Tuple[str, ...] = ()
    estimated: bool = False

    def factor(self, spec: ModelSpec) -> float:
        """Return network pixels per frame pixel: 1 inside the trained range, else what brings the frame to the nominal sampling."""
        if self.sampling is None:
            return 1.0
        low, high, nominal = spec.sampling
        margin = min(ESTIMATE_SPREAD, (high / low) ** 0.5) if self.estimated else 1 - ROUNDING
        return 1.0 if low * margin <= self.sampling <= high / margin else self.sampling / nominal


def find_scale(frames: Frames, image: np.ndarray) -> Scale:
    """Return the sampling to take for `frames`, judged by its cleaned frame `image` (H, W).

    The whole search is made only where there is no pixel size, or where the peaks in the middle of the frame make it doubtful.
    """
    known = frames.pixel_size
    if known is not None and (_surely(known, image) or any(_plausible(known, find_spots(image, *glance)) for glance in GLANCES)):
        return Scale(known, frames.pixel_size_source)
    estimate = scale_to_network(image, 1.0)
    if known is None:
        if estimate is not None and estimate.period_px is None and estimate.peak_sigma_px < NARROW:
            estimate = None
        return _stand_in(estimate, "the pixel size is unknown")
    contradiction = None if estimate is None else _contradiction(known, estimate)
    if contradiction is None:
        return Scale(known, frames.pixel_size_source)
    scale = _stand_in(estimate, contradiction)
    told = (
        "the pixel size that was passed: check it"
        if frames.pixel_size_source == "user"
        else "the file's pixel size: check it, or pass --pixel-size Å"
    )
    advice = f"Å columns still follow {told}"
    return Scale(scale.sampling, scale.source, (*scale.notices, advice), True)


def _surely(pixel_size: float, image: np.ndarray) -> bool:
    """Return whether peaks in the middle of `image` (H, W) are so usual at `pixel_size` [Å/px] that their width need not be measured."""
    side, scales = FIRST_GLANCE
    blobs = find_blobs(middle_of(image, side), scales)
    return blobs is not None and PLAUSIBLE_WIDTH[0] * SCALE_OFF <= blobs.scale_px * pixel_size <= PLAUSIBLE_WIDTH[1] / SCALE_OFF


def _plausible(pixel_size: float, spots: Optional[Spots]) -> bool:
    """Return whether peaks of the width of `spots` can be columns at `pixel_size` [Å/px]."""
    return spots is not None and PLAUSIBLE_WIDTH[0] <= spots.sigma_px * pixel_size <= PLAUSIBLE_WIDTH[1]


def _contradiction(pixel_size: float, estimate: ScaleEstimate) -> Optional[str]:
    """Return why `pixel_size` [Å/px] cannot be true, or None. The peaks and, where there is one, the lattice must both speak against it."""
    if estimate.peak_sigma_px < NARROW:
        return None
    period = estimate.period_px
    if period is not None and period > WIDEST_PERIOD * estimate.peak_sigma_px:
        period = None
    problems = []
    for value, (low, high), what in (
        (period, PLAUSIBLE_PERIOD, "lattice period"),
        (estimate.peak_sigma_px, PLAUSIBLE_WIDTH, "peak width (σ)"),
    ):
        if value is None:
            continue
        length = value * pixel_size
        if low <= length <= high:
            return None
        problems.append(f"the {what} of {value:.3g} px {length:.3g} Å (columns have {low:g}–{high:g} Å)")
    return f"the pixel size of {pixel_size:.4g} Å makes {' and '.join(problems)}"


def _stand_in(estimate: Optional[ScaleEstimate], why: str) -> Scale:
    """Return the scale that the estimate amounts to; say `why` it was needed."""
    why = why[0].upper() + why[1:]
    if estimate is None:
        return Scale(
            None, "unknown", (f"{why}, and no columns stand out that would tell the scale; the frame went to the network as it is",)
        )
    by = f"the width of its peaks (σ {estimate.peak_sigma_px:.3g} px)"
    if estimate.source == "lattice" and estimate.period_px is not None:
        by = f"its lattice (period {estimate.period_px:.3g} px) and {by}"
    said = f"{why}; the frame was brought to the network's scale by {by}: about {estimate.sampling:.2g} Å/px"
    return Scale(estimate.sampling, estimate.source, (said,), True)
