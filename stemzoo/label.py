"""Real frames and the columns known in them to the dataset that training reads. Called by `stemzoo data label`.

The columns may come from anywhere: `stemzoo locate`, corrected by hand; atomap; StatSTEM; ImageJ; a table of clicks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemzoo.errors import DatasetError, PixelSizeError, storable
from stemzoo.geometry.cleaning import clean
from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame
from stemzoo.io.labels import Labels, Program, read_labels, require_frames
from stemzoo.io.read import read
from stemzoo.runtime.tables import is_ours, read_columns, require_inside
from stemzoo.types import Frames
from stemzoo.validate.placement import doubt, place


@dataclass(frozen=True)
class Labelled:
    """The dataset that was written, how its tables were understood, and why columns may not be where they say; a sentence each."""

    path: Path
    notices: tuple[str, ...]
    doubts: tuple[str, ...]


def label_frames(
    pairs: list[tuple[Path, Path]], out: Path, *, pixel_size: float | None = None, material: str = "", program: Program | None = None
) -> Labelled:
    """Write frames and their columns to the HDF5 dataset `out`, whole or not at all.

    Args:
        pairs: image file and table of its columns; a stack's table names the frame in each row.
        pixel_size: Å/px, overrides the files'; needed where a file has none.
        material: name of what the frames show.
        program: which program wrote the tables; None finds out.
    Returns: frames whose columns do not lie on intensity are written all the same.
    Raises: ReadError, TableError from the files; PixelSizeError if a pixel size is missing; DatasetError if a table has no column
    in a frame.
    """
    if not pairs:
        raise DatasetError("nothing to label; wanted at least one frame with its table of columns")
    notices: list[str] = []
    doubts: list[str] = []
    with DatasetWriter(out, recipe="", material=material or "labelled frames", seed=0) as writer:
        for frame_path, table_path in pairs:
            frames, name = read(frame_path, pixel_size), storable(frame_path.name)
            if frames.pixel_size is None:
                raise PixelSizeError(f"{frame_path}: no pixel size; a labelled frame needs one: pass --pixel-size Å (e.g. 0.12)")
            labels = _labels(table_path, frames, program)
            notices += [labels.understood] if labels.understood else []
            source = {"material": material, "source": name, "source_sha256": frames.sha256, "labels": storable(table_path.name)}
            for index in range(len(frames)):
                labelled = _frame(frames, index, labels, table_path, {**source, "source_frame": index})
                writer.add(labelled)
                question = doubt(place(labelled.image, labelled.columns, frames.pixel_size))
                doubts += [f"{name}, frame {index}: {question}"] if question else []
    return Labelled(out, tuple(notices), tuple(doubts))


def _labels(path: Path, frames: Frames, program: Program | None) -> Labels:
    """Return the columns in a table of ours or of another program, refusing those that no frame can hold."""
    if program is None and is_ours(path):
        table = read_columns(path, len(frames), frames.pixel_size)
        labels = Labels(
            np.concatenate([columns.yx for columns in table.columns]),
            tuple(columns.classes[k] for columns in table.columns for k in columns.species),
            np.concatenate([np.full(len(columns), columns.frame) for columns in table.columns]),
            "",
        )
    else:
        labels = read_labels(path, frames.pixel_size, program)
    require_frames(path, labels.frame, frames)
    require_inside(path, labels.yx, frames)
    return labels


def _frame(frames: Frames, index: int, labels: Labels, table: Path, source: dict[str, float | str]) -> LabelledFrame:
    mine = labels.frame == index
    if not mine.any():
        raise DatasetError(f"{table}: no column for frame {index} of {frames.path}; label every frame, or cut the stack")
    image = frames.frame(index)
    if not np.isfinite(image).all():
        image = np.where(np.isfinite(image), image, clean(image)[0])
    names = np.array(labels.species)[mine]
    classes, species = np.unique(names, return_inverse=True)
    yx = labels.yx[mine]
    order = np.lexsort((yx[:, 1], yx[:, 0]))
    assert frames.pixel_size is not None
    return LabelledFrame(image, yx[order], species[order], tuple(classes.tolist()), frames.pixel_size, attributes=source)
