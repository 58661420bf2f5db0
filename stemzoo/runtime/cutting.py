"""The window around a column: how large an encoder's is on a frame, how large one to fit should be, and the sub-images cut with it.

Called by pipeline before an encoder sees a frame, by doubts, and by whoever fits an encoder to the columns of one file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Tuple

import numpy as np

from stemzoo.errors import FrameError
from stemzoo.geometry.cleaning import clean
from stemzoo.geometry.neighbours import nearest_distance
from stemzoo.geometry.subimages import cut
from stemzoo.runtime.cleaned import Cleaned
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.scale import find_scale
from stemzoo.types import Analysis, SubImages

WINDOW_SPACINGS = 2.75  # side of a default window in nearest-neighbour spacings: the first and second shell around a column, whole


def first_shown(analysis: Analysis) -> int:
    """Return the number of the first frame that has columns, which stands for its stack; 0 where none has."""
    return next((index for index, columns in enumerate(analysis.columns) if len(columns)), 0)


def encoder_window(analysis: Analysis, encoder: Encoder) -> Tuple[float, Tuple[str, ...]]:
    """Return the side, in pixels of the frame, of the window that the encoder was trained on, and what had to be decided."""
    sampling = analysis.sampling
    notices: Tuple[str, ...] = ()
    shown = first_shown(analysis)
    if sampling is None and len(analysis.columns[shown]):  # where nothing was found, nothing is cut, and the frame may be blank
        scale = find_scale(analysis.frames, clean(analysis.frames.frame(shown))[0])
        sampling, notices = scale.sampling, scale.notices
    window, more = window_at(sampling, encoder)
    return window, (*notices, *more)


def window_at(sampling: Optional[float], encoder: Encoder) -> Tuple[float, Tuple[str, ...]]:
    """Return the window [px of the frame] of the encoder at `sampling` [Å/px], and what had to be decided where that is unknown."""
    spec = encoder.spec
    if sampling is not None:
        return spec.window_angstrom / sampling, ()
    return float(spec.window_px), (f"The encoder's window of {spec.window_angstrom:g} Å was taken as {spec.window_px} px",)


def window_for(analysis: Analysis, spacings: float = WINDOW_SPACINGS) -> float:
    """Return a window for an encoder that is still to be fitted [px of the frame]: `spacings` times the median distance to the nearest
    column.

    Raises: FrameError if no frame holds two columns.
    """
    nearest = []
    for columns in analysis.columns:
        if len(columns) > 1:
            height, width = analysis.frames.shape
            distance = nearest_distance(columns.yx, (height * width / len(columns)) ** 0.5)
            nearest.append(distance[np.isfinite(distance)])
    spacing = float(np.median(np.concatenate(nearest))) if nearest else float("nan")
    if not spacing > 0:
        raise FrameError(f"{analysis.frames.path}: no frame holds two columns, so no window follows from their spacing; pass one in px")
    return min(spacings * spacing, float(min(analysis.frames.shape)))


def subimages(analysis: Analysis, window_px: float, size: Optional[int] = None) -> SubImages:
    """Return the sub-images of every column of every frame, cut from cleaned frames: (N, size, size).

    Those with too many pixels that were not measured are marked `inside=False`, as those over the edge.
    Raises: ShapeError as geometry.subimages.cut.
    """
    cleaned = Cleaned(analysis.frames)
    tables = [replace(columns, frame=index) for index, columns in enumerate(analysis.columns)]
    pieces = cut(cleaned.frames(), tables, window_px, size)
    hidden = [cleaned.unmeasured(index, columns.yx, window_px) for index, columns in enumerate(tables)]
    return replace(pieces, inside=pieces.inside & ~np.concatenate(hidden)) if hidden else pieces
