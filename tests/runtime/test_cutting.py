"""Windows around columns: a window follows from the columns' spacing, and its sub-images show each column in their middle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stemzoo.errors import FrameError
from stemzoo.runtime import Segmenter
from stemzoo.runtime.cutting import subimages, window_for
from stemzoo.runtime.pipeline import locate
from stemzoo.types import Columns, Frames


def test_window_and_subimages_for_an_encoder_to_be_fitted(segmenter: Segmenter, lattice_frames: tuple[Frames, np.ndarray]) -> None:
    frames, _ = lattice_frames
    analysis = locate(frames, segmenter)
    window = window_for(analysis)
    assert window == pytest.approx(2.75 * 14.4, abs=1.5)  # the nearest of four displaced neighbours lies a little below the period of 15 px
    pieces = subimages(analysis, window, 31)
    assert pieces.data.shape == (len(analysis.columns[0]), 31, 31)
    centre = pieces.data[:, 14:17, 14:17].mean(axis=(1, 2))
    assert (centre > 2 * np.median(pieces.data)).all()
    with pytest.raises(FrameError, match="no frame holds two columns"):
        window_for(replace(analysis, columns=(Columns.empty(),)))
