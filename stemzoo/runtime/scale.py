"""By how much a frame is resampled for a network. Owns the choice between pixel size, lattice period and peak width, and the warnings
about it.

The pixel size decides where it is known and plausible. Where it is missing, or where the frame's own lattice makes it impossible, a typical
lattice period (or peak width) stands in: good to some tens of percent, which is enough for a network trained over a range of samplings, and
never used for a length in Å. Called by runtime.pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from stemzoo.geometry.lattice import find_lattice, peak_width_px
from stemzoo.runtime.bundle import ModelSpec
from stemzoo.types import Frames

TYPICAL_PERIOD = 3.5  # Å: shortest projected period; 2.5 (graphene, Si dumbbells apart) to 5.5 (fluorites) in the materials of the zoo
TYPICAL_WIDTH = 0.45  # Å: Gaussian sigma of a column: a 0.5–1.2 Å probe (FWHM) widened by source and vibration
PLAUSIBLE_PERIOD = (1.2, 12.0)  # Å
PLAUSIBLE_WIDTH = (0.12, 1.8)  # Å
WIDEST_PERIOD = 20.0  # peak sigmas: a longer period is no lattice of columns but the scatter of a few atoms, and says nothing of the scale
ESTIMATE_SPREAD = 1.25  # a stand-in this close to the trained range's ends may in truth lie outside


@dataclass(frozen=True)
class Scale:
    """The sampling of a frame, as far as a network's input is concerned.

    Args:
        sampling: Å/px taken for the frame; None where nothing tells.
        source: `file`, `user` or `lattice` as in Frames; `period` or `width` for a stand-in; `unknown`.
        notices: one sentence each, for the report.
    """

    sampling: Optional[float]
    source: str
    notices: Tuple[str, ...] = ()

    @property
    def estimated(self) -> bool:
        """Whether `sampling` is a stand-in rather than a pixel size."""
        return self.source in ("period", "width")

    def factor(self, spec: ModelSpec) -> float:
        """Return network pixels per frame pixel: 1 inside the trained range, else what brings the frame to the nominal sampling."""
        if self.sampling is None:
            return 1.0
        low, high, nominal = spec.sampling
        margin = min(ESTIMATE_SPREAD, (high / low) ** 0.5) if self.estimated else 1.0
        return 1.0 if low * margin <= self.sampling <= high / margin else self.sampling / nominal


def find_scale(frames: Frames, image: np.ndarray) -> Scale:
    """Return the sampling to take for `frames`, judged by its cleaned frame `image` (H, W)."""
    lattice = find_lattice(image)
    width = peak_width_px(image)
    period = None if lattice is None else float(lattice.period_px)
    if period is not None and width is not None and period > WIDEST_PERIOD * width:
        period = None
    known = frames.pixel_size
    if known is None:
        return _estimate(period, width, "the pixel size is unknown")
    contradiction = _contradiction(known, period, width)
    if contradiction is None:
        return Scale(known, frames.pixel_size_source)
    scale = _estimate(period, width, contradiction)
    return Scale(
        scale.sampling, scale.source, (*scale.notices, "Å columns still follow the stated pixel size: check it, or pass --pixel-size Å")
    )


def _contradiction(pixel_size: float, period: Optional[float], width: Optional[float]) -> Optional[str]:
    """Return why `pixel_size` [Å/px] cannot be true, or None. Lattice and peak width must both speak against it, as far as they are
    known."""
    problems = []
    for value, (low, high), what in ((period, PLAUSIBLE_PERIOD, "lattice period"), (width, PLAUSIBLE_WIDTH, "peak width (σ)")):
        if value is None:
            continue
        length = value * pixel_size
        if low <= length <= high:
            return None
        problems.append(f"the {what} of {value:.3g} px {length:.3g} Å (columns have {low:g}–{high:g} Å)")
    return f"the pixel size of {pixel_size:.4g} Å makes {' and '.join(problems)}" if problems else None


def _estimate(period: Optional[float], width: Optional[float], why: str) -> Scale:
    """Return a stand-in from the lattice period or, without one, the peak width; say `why` it was needed."""
    why = why[0].upper() + why[1:]
    if period is not None:
        value = TYPICAL_PERIOD / period
        return Scale(
            value,
            "period",
            (f"{why}; the frame was brought to the network's scale by its lattice period of {period:.3g} px (about {value:.2g} Å/px)",),
        )
    if width is not None:
        value = TYPICAL_WIDTH / width
        return Scale(
            value,
            "width",
            (f"{why}; the frame was brought to the network's scale by its peak width of {width:.3g} px (about {value:.2g} Å/px)",),
        )
    return Scale(None, "unknown", (f"{why}, and neither a lattice nor peaks tell the scale; the frame went to the network as it is",))
