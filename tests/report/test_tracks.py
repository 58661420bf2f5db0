"""Tracks of a stack: one row a column of each frame, in order of track; the figure marks the track that changes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from stemzoo.geometry.tracks import link
from stemzoo.report.tracks import tracks_figure, write_tracks

from .conftest import layered


def test_a_row_for_each_column_of_each_frame_with_what_is_known_of_it(tmp_path: Path) -> None:
    stack = layered(128, frames=4)
    tracks = link([columns.yx for columns in stack.columns])
    assert tracks.n == len(stack.columns[0])
    write_tracks(tmp_path / "tracks.csv", stack, tracks)
    with (tmp_path / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["track"]) for row in rows] == np.repeat(np.arange(tracks.n), 4).tolist()
    assert [int(row["frame"]) for row in rows[:4]] == [0, 1, 2, 3]
    row = rows[4 * 7 + 2]
    columns, number = stack.columns[2], int(row["column"])
    assert abs(float(row["y_px"]) - columns.yx[number, 0]) < 1e-5
    first = sum(len(table) for table in stack.columns[:2])
    assert abs(float(row["z2"]) - stack.encoding.latents[first + number, 1]) < 1e-5


def test_the_track_that_changes_is_marked() -> None:
    stack = layered(128, frames=5)
    tracks = link([columns.yx for columns in stack.columns])
    rows = np.concatenate(tracks.track) == 9
    stack.encoding.latents[rows, 0] = np.linspace(0, 30, 5)
    figure = tracks_figure(stack, tracks)
    assert figure is not None and len(figure.axes) == 2
    assert "track 9" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
