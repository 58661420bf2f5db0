"""Real frames and the columns known in them to the dataset that training reads. Called by `stemzoo data label`.

The columns may come from anywhere that writes `y_px` and `x_px`: `stemzoo locate`, corrected by hand; atomap; StatSTEM; a table of clicks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stemzoo.errors import DatasetError, PixelSizeError
from stemzoo.io.datasets import DatasetWriter, LabelledFrame
from stemzoo.io.read import read
from stemzoo.runtime.tables import read_columns


def label_frames(pairs: list[tuple[Path, Path]], out: Path, *, pixel_size: float | None = None, material: str = "") -> Path:
    """Write frames and their columns to the HDF5 dataset `out`, whole or not at all.

    Args:
        pairs: image file and table of its columns; a stack's table names the frame in each row.
        pixel_size: Å/px, overrides the files'; needed where a file has none.
        material: name of what the frames show.
    Raises: ReadError, TableError from the files; PixelSizeError if a pixel size is missing; DatasetError if a table has no column
    in a frame or names a position outside it.
    """
    if not pairs:
        raise DatasetError("nothing to label; wanted at least one frame with its table of columns")
    with DatasetWriter(out, recipe="", material=material or "labelled frames", seed=0) as writer:
        for frame_path, table_path in pairs:
            frames = read(frame_path, pixel_size)
            if frames.pixel_size is None:
                raise PixelSizeError(f"{frame_path}: no pixel size; a labelled frame needs one: pass --pixel-size Å (e.g. 0.12)")
            table = read_columns(table_path, len(frames), frames.pixel_size)
            for index, columns in enumerate(table.columns):
                if not len(columns):
                    raise DatasetError(f"{table_path}: no column for frame {index} of {frame_path}; label every frame, or cut the stack")
                outside = ((columns.yx < -0.5) | (columns.yx > np.array(frames.shape) - 0.5)).any(axis=1)
                if outside.any():
                    y, x = columns.yx[outside][0]
                    raise DatasetError(
                        f"{table_path}: column at y {y:.1f}, x {x:.1f} px lies outside the {frames.shape[0]}×{frames.shape[1]} px of "
                        f"{frame_path}; are y and x exchanged, or in another unit?"
                    )
                writer.add(
                    LabelledFrame(
                        image=frames.frame(index),
                        columns=columns.yx,
                        species=columns.species,
                        classes=columns.classes,
                        pixel_size=frames.pixel_size,
                        attributes={
                            "material": material,
                            "source": str(frame_path),
                            "source_sha256": frames.sha256,
                            "labels": str(table_path),
                        },
                    )
                )
    return out
