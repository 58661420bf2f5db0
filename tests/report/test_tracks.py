"""Tracks of a stack as a drawing: the track that changes is marked."""

from __future__ import annotations

import numpy as np

from stemzoo.geometry.tracks import link
from stemzoo.report.tracks import tracks_figure

from .conftest import layered


def test_the_track_that_changes_is_marked() -> None:
    stack = layered(128, frames=5)
    tracks = link([columns.yx for columns in stack.columns])
    rows = np.concatenate(tracks.track) == 9
    stack.encoding.latents[rows, 0] = np.linspace(0, 30, 5)
    figure = tracks_figure(stack, tracks)
    assert figure is not None and len(figure.axes) == 2
    assert "track 9" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
