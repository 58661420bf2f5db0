"""What an analysis starts from: the chosen frames of a file, still read one at a time, and a table of columns that lies on them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import stemzoo
from stemzoo.analyze.options import AnalyzeOptions, parse_frames
from stemzoo.errors import FrameError, TableError
from stemzoo.io.read import read
from stemzoo.runtime.tables import read_columns
from stemzoo.types import Analysis, Frames, ModelId


class Part:
    """Some frames of a stack, still read one at a time."""

    def __init__(self, data: Any, first: int, end: int) -> None:
        self._data, self._first = data, first
        self.shape = (end - first, *data.shape[1:])
        self.dtype = data.dtype

    def __getitem__(self, index: int) -> Any:
        return self._data[self._first + index]


def read_frames(path: str, options: AnalyzeOptions) -> tuple[Frames, int]:
    """Return the frames that the options choose, and the number in the file of the first. Raises: StemzooError of io.read; FrameError."""
    frames = read(path, options.pixel_size)
    first, end = parse_frames(options.frames, len(frames))
    if (first, end) == (0, len(frames)):
        return frames, 0
    said = f"Frames {first} to {end - 1} of {len(frames)} were analysed; they keep their numbers"
    return replace(frames, data=Part(frames.data, first, end), notices=(*frames.notices, said)), first


def numbered(analysis: Analysis, first: int) -> Analysis:
    """Return the analysis with frames counted from `first`, their number in the file."""
    if first == 0:
        return analysis
    encoding = analysis.encoding
    return replace(
        analysis,
        columns=tuple(replace(columns, frame=columns.frame + first) for columns in analysis.columns),
        encoding=None if encoding is None else replace(encoding, frame=np.asarray(encoding.frame) + first),
    )


def read_table(path: Path, frames: Frames) -> Analysis:
    """Return the columns of the CSV `path`, ours or anyone's with y_px and x_px, as the analysis of `frames` that they came from.

    Raises: TableError for a table that cannot be read or does not fit the frames; FrameError for one without a column.
    """
    table = read_columns(path, len(frames), frames.pixel_size)
    if not any(len(columns) for columns in table.columns):
        raise FrameError(f"{path} names no column; wanted at least one row with y_px and x_px")
    for columns in table.columns:
        outside = ((columns.yx < -0.5) | (columns.yx > np.array(frames.shape) - 0.5)).any(axis=1)
        if outside.any():
            y, x = columns.yx[outside][0]
            raise TableError(
                f"{path}: column at y {y:.1f}, x {x:.1f} px of frame {columns.frame} lies outside the "
                f"{frames.shape[0]}×{frames.shape[1]} px of {frames.path}; are y and x exchanged, or is it another frame's table?"
            )
    model = ModelId(f"table {path.name}", _sha256(path))
    return Analysis(frames, table.columns, model, notices=frames.notices, version=stemzoo.__version__)


def _sha256(path: Path) -> str:

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
