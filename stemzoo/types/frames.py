"""Frames: the stack of images that one file holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

import numpy as np

from stemzoo.errors import FrameError, PixelSizeError, ShapeError
from stemzoo.types.pixel_size import PIXEL_SIZE_SOURCES, check_pixel_size, per_px

MIN_FRAME_PX = 16


@dataclass(frozen=True)
class Frames:
    """A stack of ADF-STEM frames from one file.

    Args:
        data: (T, H, W), any real dtype; a NumPy array or anything with `shape`, `dtype` and slicing (read lazily).
        pixel_size: Å/px, or None where unknown.
        pixel_size_source: one of `PIXEL_SIZE_SOURCES`.
        path: the file read, or a name for frames made in memory.
        sha256: of the file's bytes, hex; empty for frames made in memory.
        metadata: small, JSON-serialisable facts from the file (energy_kev, detector, signal …).
        notices: what the reader had to decide, one sentence each; the report repeats them.

    Raises: ShapeError if `data` is not 3-D or a frame is smaller than 16 px; PixelSizeError.
    """

    data: Any
    pixel_size: Optional[float] = None
    pixel_size_source: str = "unknown"
    path: str = "array"
    sha256: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notices: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.data.shape)
        if len(shape) != 3 or 0 in shape:
            raise ShapeError(f"{self.path}: frames have shape {shape}; wanted (T, H, W), one or more images")
        if min(shape[1:]) < MIN_FRAME_PX:
            raise ShapeError(
                f"{self.path}: frame is {shape[1]}×{shape[2]} px; the smallest that can hold a column is {MIN_FRAME_PX}×{MIN_FRAME_PX} px"
            )
        check_pixel_size(self.pixel_size, self.path)
        if self.pixel_size_source not in PIXEL_SIZE_SOURCES or (self.pixel_size is None) != (self.pixel_size_source == "unknown"):
            raise PixelSizeError(f"{self.path}: pixel size {self.pixel_size} cannot have the source {self.pixel_size_source!r}")

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def __repr__(self) -> str:
        size = f"{self.shape[0]}×{self.shape[1]} px {self.data.dtype}"
        return f"Frames({self.path}: {len(self)} of {size}, {per_px(self.pixel_size)} ({self.pixel_size_source}))"

    @property
    def shape(self) -> Tuple[int, int]:
        """(H, W) of every frame."""
        return int(self.data.shape[1]), int(self.data.shape[2])

    def frame(self, index: int) -> np.ndarray:
        """Return frame `index` as (H, W) float32, contiguous.

        Raises: FrameError if no pixel is finite, or if all pixels are equal.
        """
        image = np.ascontiguousarray(self.data[index], dtype=np.float32)
        finite = np.isfinite(image)
        if not finite.any():
            raise FrameError(f"{self.path}: frame {index} has no finite pixel; check the export")
        values = image[finite] if not finite.all() else image
        if values.min() == values.max():
            raise FrameError(f"{self.path}: frame {index} is constant ({values.flat[0]:g}); there is no signal to analyse")
        return image
