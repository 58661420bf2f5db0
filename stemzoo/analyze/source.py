"""What an analysis starts from: the chosen frames of a file, still read one at a time, and a table of columns that lies on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import stemzoo
from stemzoo.analyze.options import AnalyzeOptions, parse_frames
from stemzoo.errors import FrameError, ReadError, StemzooError, TableError
from stemzoo.io.read import read
from stemzoo.runtime.tables import read_columns, require_inside
from stemzoo.types import Analysis, Frames, ModelId


class Chosen:
    """Some frames of a stack, by their numbers, still read one at a time."""

    def __init__(self, data: Any, numbers: Sequence[int]) -> None:
        self._data, self._numbers = data, numbers
        self.shape = (len(numbers), *data.shape[1:])
        self.dtype = data.dtype

    def __getitem__(self, index: int) -> Any:
        number = self._numbers[index]
        try:
            return self._data[number]
        except StemzooError:
            raise
        except Exception as error:  # h5py, tifffile and zlib each have their own for a file that was cut short
            why = " ".join(str(error).split())[:120] or type(error).__name__
            raise ReadError(f"frame {number} cannot be read ({why}); the file is damaged or was cut short: copy it again") from error


def read_frames(path: str, options: AnalyzeOptions, sha256: str | None = None) -> tuple[Frames, int]:
    """Return the frames that the options choose, and the number in the file of the first.

    Args: sha256: of the file, where known; else it is computed.
    Raises: StemzooError of io.read; FrameError.
    """
    frames = read(path, options.pixel_size, sha256)
    first, end = parse_frames(options.frames, len(frames))
    if (first, end) == (0, len(frames)):
        return replace(frames, data=Chosen(frames.data, range(end))), 0
    said = f"Frames {first} to {end - 1} of {len(frames)} were analysed; they keep their numbers"
    return replace(frames, data=Chosen(frames.data, range(first, end)), notices=(*frames.notices, said)), first


def read_table(path: Path, frames: Frames) -> Analysis:
    """Return the columns of the CSV `path`, ours or anyone's with y_px and x_px, as the analysis of `frames` that they came from.

    Raises: TableError for a table that cannot be read or does not fit the frames; FrameError for one without a column.
    """
    table = read_columns(path, len(frames), frames.pixel_size)
    if not any(len(columns) for columns in table.columns):
        raise FrameError(f"{path} names no column; wanted at least one row with y_px and x_px")
    for columns in table.columns:
        require_inside(path, columns.yx, frames)
    model = table_id(path)
    return Analysis(frames, table.columns, model, notices=frames.notices, version=stemzoo.__version__)


def table_id(path: Path) -> ModelId:
    """Return what stands for a segmenter where the columns come from a table."""
    try:
        with path.open("rb") as file:
            return ModelId(f"table {path.name}", hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror or error}); name a CSV file with y_px and x_px") from error
