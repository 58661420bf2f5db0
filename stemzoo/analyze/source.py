"""What an analysis starts from: the chosen frames of a file, still read one at a time, and a table of columns that lies on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import stemzoo
from stemzoo.analyze.options import AnalyzeOptions, parse_frames
from stemzoo.errors import FrameError, ReadError, StemzooError, TableError, storable
from stemzoo.geometry.cleaning import clean
from stemzoo.io.labels import read_labels, require_frames
from stemzoo.io.read import read
from stemzoo.runtime.tables import is_ours, read_columns, require_inside
from stemzoo.types import Analysis, Columns, Frames, ModelId


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
    chosen = f"Frame {first} of {len(frames)} was" if end - first == 1 else f"Frames {first} to {end - 1} of {len(frames)} were"
    said = f"{chosen} analysed, counted from 0, as in the tables"
    return replace(frames, data=Chosen(frames.data, range(first, end)), notices=(*frames.notices, said)), first


def read_table(path: Path, frames: Frames) -> Analysis:
    """Return the columns in a table, ours or another program's, as the analysis of `frames` that they came from.

    Its notices, beside those of the frames, say how another program's table was understood, its doubts what speaks against the columns'
    lying where the table says.
    Raises: TableError for a table that cannot be read or does not fit the frames; PixelSizeError for one in Å or nm and frames without a
    pixel size; FrameError for one without a column.
    """
    ours = is_ours(path)
    tables, said = (read_columns(path, len(frames), frames.pixel_size).columns, ()) if ours else _foreign(path, frames)
    if not any(len(columns) for columns in tables):
        raise FrameError(f"{path} names no column; wanted at least one row with y_px and x_px")
    for columns in tables:
        require_inside(path, columns.yx, frames)
    doubts = _misplaced(path, frames, next(columns for columns in tables if len(columns)))
    return Analysis(frames, tables, table_id(path), notices=(*frames.notices, *said), version=stemzoo.__version__, doubts=doubts)


def _foreign(path: Path, frames: Frames) -> tuple[tuple[Columns, ...], tuple[str, ...]]:
    """Return the columns of each frame in another program's table, and how it was understood; what it does not say of them is unknown."""
    labels = read_labels(path, frames.pixel_size)
    require_frames(path, labels.frame, frames)
    classes, species = np.unique(np.array(labels.species), return_inverse=True)
    order = np.lexsort((labels.yx[:, 1], labels.yx[:, 0]))
    tables = []
    for index in range(len(frames)):
        rows = order[labels.frame[order] == index]
        table = Columns.at(labels.yx[rows], pixel_size=frames.pixel_size, frame=index)
        tables.append(replace(table, species=species[rows], classes=tuple(classes.tolist()), fit_ok=np.ones(len(rows), dtype=bool)))
    return tuple(tables), (labels.understood,)


def _misplaced(path: Path, frames: Frames, columns: Columns) -> tuple[str, ...]:
    """Return what speaks against the columns of one frame lying where the table at `path` says; nothing without a pixel size."""
    from stemzoo.validate.placement import doubt, place  # whose scipy takes longer to import than a frame to locate

    if frames.pixel_size is None:
        return ()
    question = doubt(place(clean(frames.frame(columns.frame))[0], columns.yx, frames.pixel_size))
    return () if question is None else (f"{storable(path.name)}: {question}",)


def table_id(path: Path) -> ModelId:
    """Return what stands for a segmenter where the columns come from a table."""
    try:
        with path.open("rb") as file:
            return ModelId(f"table {storable(path.name)}", hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror or error}); name a CSV file with y_px and x_px") from error
