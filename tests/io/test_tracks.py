"""tracks.csv: one row a column of each frame, in order of track; its digits are those of columns.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from stemzoo.geometry.tracks import link
from stemzoo.io.tracks import write_tracks
from stemzoo.types import Analysis, Columns, Encoding, Frames, ModelId


def moved(frames: int) -> Analysis:
    """Return nine columns that wander a little from frame to frame, those on the left without an angle."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0 + 5
    none, ones = np.full((9, 2), 0.1), np.ones(9)
    columns = tuple(Columns(grid + rng.normal(0, 0.1, (9, 2)), none, 0 * ones, ones, ones, ones, ("A",), 0.2, t + 4) for t in range(frames))
    n = 9 * frames
    angle = np.where(np.tile(grid[:, 1], frames) < 10, np.nan, rng.random(n))
    number = np.tile(np.arange(9), frames)
    encoding = Encoding(
        angle, angle, np.ones(n, dtype=int), rng.random((n, 2)).astype(np.float32), np.repeat(np.arange(frames), 9), number, angle == angle
    )
    data = Frames(np.zeros((frames, 30, 30), np.float32), 0.2, "user", "a.tif", "0" * 64)
    return Analysis(data, columns, ModelId("m@1", "1" * 64), encoding, ModelId("e@1", "2" * 64))


def test_a_row_for_each_column_of_each_frame_with_what_is_known_of_it(tmp_path: Path) -> None:
    stack = moved(frames=4)
    tracks = link([columns.yx for columns in stack.columns])
    assert tracks.n == 9
    write_tracks(tmp_path / "tracks.csv", stack, tracks)
    with (tmp_path / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["track"]) for row in rows] == np.repeat(np.arange(9), 4).tolist()
    assert [int(row["frame"]) for row in rows[:4]] == [4, 5, 6, 7]
    row = rows[4 * 7 + 2]
    columns, number = stack.columns[2], int(row["column"])
    assert row["y_px"] == f"{columns.yx[number, 0]:.6f}"
    assert row["drift_x_px"] == f"{tracks.drift[2, 1]:.4f}"
    assert stack.encoding is not None and row["z2"] == f"{stack.encoding.latents[9 * 2 + number, 1]:.8g}"
    assert {bool(row["angle_rad"]) for row in rows if float(row["x_px"]) < 10} == {False}
    assert all(np.isfinite(float(row["angle_rad"])) for row in rows if float(row["x_px"]) > 10)


def test_a_stack_without_columns_has_a_table_without_rows(tmp_path: Path) -> None:
    stack = moved(frames=2)
    empty = tuple(Columns.empty(("A",), 0.2, t) for t in range(2))
    bare = Analysis(stack.frames, empty, stack.segmenter)
    write_tracks(tmp_path / "tracks.csv", bare, link([columns.yx for columns in empty]))
    assert (tmp_path / "tracks.csv").read_text() == "track,frame,column,y_px,x_px,drift_y_px,drift_x_px\n"
