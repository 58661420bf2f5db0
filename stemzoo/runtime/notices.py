"""The sentences that the report says of how frames were located and encoded. Called by runtime.pipeline, and by analyze for many frames."""

from __future__ import annotations

from typing import List, Mapping, Optional, Tuple

import numpy as np

from stemzoo.runtime.scale import Scale
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import ORDERS

MOST = 0.6  # of the columns: in a crystal so many are of one order of symmetry, else chance decides
RARE = 0.03  # of the columns: an order that so few have is a mistake


def scale_notices(scale: Scale, segmenter: Segmenter) -> Tuple[str, ...]:
    """Return what is to be said of the scale: how it was found and, where the pixel size is the cause, that frames are resampled."""
    if scale.factor(segmenter.spec) == 1 or scale.sampling is None or scale.estimated:
        return scale.notices
    low, high, nominal = segmenter.spec.sampling
    return (
        *scale.notices,
        f"The frame has {scale.sampling:.4g} Å/px; {segmenter.spec.id} was trained on {low:g}–{high:g} Å/px, so the network saw it "
        f"resampled to {nominal:g} Å/px; positions are in the original pixels",
    )


def without_columns(indices: List[int], total: int, threshold: float) -> str:
    """Return the sentence that says in which frames no column was found."""
    return f"No column was found in {_frames_text(indices, total)} (probability stays below {threshold:g})"


def frames_lost(why: Mapping[int, str], total: int) -> str:
    """Return the sentence that says which frames of a stack gave nothing. Args: why: the reason by the frame's number."""
    shown = "; ".join(f"frame {frame}: {reason}" for frame, reason in list(why.items())[:3]) + (" …" if len(why) > 3 else "")
    return f"{len(why)} of {total} frames failed and have no columns ({shown})"


def over_the_edge(outside: int, total: int, window_px: float) -> str:
    """Return the sentence that says how many columns lie too near an edge to be encoded."""
    return (
        f"{outside} of {total} columns lie so near an edge that their window of {window_px:.3g} px reaches over it; they have no "
        "angle and no latents"
    )


def in_holes(unmeasured: int, total: int, window_px: float) -> str:
    """Return the sentence that says around how many columns too little was measured for an encoder."""
    return (
        f"{unmeasured} of {total} columns have too many pixels in their window of {window_px:.3g} px that were not measured (NaN, dead or "
        "saturated); they have no angle and no latents"
    )


def several_orders(symmetry: np.ndarray) -> Optional[str]:
    """Return the sentence that says that columns whose orders of symmetry are given (n,) cannot all be compared by their angles; None where
    most are of one order."""
    count = np.bincount(symmetry, minlength=ORDERS[-1] + 1)
    order = int(count.argmax())
    if count[order] >= MOST * len(symmetry):
        return None
    several = [n for n in ORDERS if count[n] > RARE * len(symmetry)]
    counted = ", ".join(f"{count[n]} are {n}-fold" for n in several)
    said = f"Columns have several orders of symmetry ({counted}), and angles compare those of one"
    common = several[-1]
    if all(common % n == 0 for n in several):
        said += f"; to compare all of them modulo {360 // common}°, fit an encoder with --fit-encoder --symmetry {common}"
    return said


def _frames_text(indices: List[int], total: int) -> str:
    """Return `the frame`, `every frame` or `frames 3, 4, 5 …`."""
    if total == 1:
        return "the frame"
    if len(indices) == total:
        return "every frame"
    return f"frame{'s' if len(indices) > 1 else ''} {', '.join(map(str, indices[:8]))}{' …' if len(indices) > 8 else ''}"
