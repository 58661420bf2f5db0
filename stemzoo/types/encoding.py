"""SubImages: what lies around each column; Encoding: the angle and the latents that an encoder gives it for that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Sequence

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.types.columns import Rows
from stemzoo.types.pixel_size import per_px

ORDERS = (1, 2, 3, 4, 6)  # of rotational symmetry that a pattern is judged by
SUB_IMAGE_FIELDS = ("data", "frame", "column", "inside")
ENCODING_FIELDS = ("angle", "angle_sigma", "symmetry", "latents", "frame", "column", "inside")


@dataclass(frozen=True)
class SubImages:
    """Square cut-outs centred on columns.

    Args:
        data: (N, S, S) float32; the column lies at ((S - 1) / 2, (S - 1) / 2).
        frame: (N,) int, frame of each column.
        column: (N,) int, number of the column within its frame.
        inside: (N,) bool, False where the window reaches over the edge of the frame (filled by reflection; not used for training).
        pixel_size: Å/px of the sub-images, or None where unknown.
    """

    data: np.ndarray
    frame: np.ndarray
    column: np.ndarray
    inside: np.ndarray
    pixel_size: Optional[float] = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.data.shape[1] != self.data.shape[2]:
            raise ShapeError(f"SubImages.data has shape {self.data.shape}; wanted (N, S, S)")
        for name in ("frame", "column", "inside"):
            if getattr(self, name).shape != (len(self.data),):
                raise ShapeError(f"SubImages.{name} has shape {getattr(self, name).shape}; wanted ({len(self.data)},)")

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        size = f"{self.window_px}×{self.window_px} px, {per_px(self.pixel_size)}"
        return f"SubImages({len(self)} of {size}, {int(self.inside.sum())} inside their frame)"

    def rows(self, chosen: Rows) -> SubImages:
        """Return the chosen sub-images."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in SUB_IMAGE_FIELDS})

    @property
    def window_px(self) -> int:
        """Side S of a sub-image."""
        return int(self.data.shape[1])


@dataclass(frozen=True)
class Encoding:
    """What an encoder says of each column, in the order of the sub-images it was given.

    Args:
        angle: (N,) float64, radians in (-π, π]: by how much the gauge's reference pattern must be turned, counter-clockwise as
            displayed, to lie on the sub-image.
        angle_sigma: (N,) float64, radians, standard error of `angle`; NaN where the encoder gives none.
        symmetry: (N,) int, order n of the pattern's rotational symmetry; `angle` is known modulo 2π/n.
        latents: (N, Z) float32.
        frame, column: (N,) int, which column each row belongs to.
        inside: (N,) bool, as in SubImages.
    """

    angle: np.ndarray
    angle_sigma: np.ndarray
    symmetry: np.ndarray
    latents: np.ndarray
    frame: np.ndarray
    column: np.ndarray
    inside: np.ndarray

    def __post_init__(self) -> None:
        if self.latents.ndim != 2:
            raise ShapeError(f"Encoding.latents has shape {self.latents.shape}; wanted (N, Z)")
        for name in ("angle", "angle_sigma", "symmetry", "frame", "column", "inside"):
            if getattr(self, name).shape != (len(self.latents),):
                raise ShapeError(f"Encoding.{name} has shape {getattr(self, name).shape}; wanted ({len(self.latents)},)")

    def __len__(self) -> int:
        return len(self.latents)

    def __repr__(self) -> str:
        known = int(np.isfinite(self.angle).sum())
        return f"Encoding({len(self)} columns, {known} with angle and {self.latents.shape[1]} latents)"

    @property
    def folded(self) -> np.ndarray:
        """The angles modulo 2π/n, in (−π/n, π/n] (N,): what is known of them, and what tables and maps give."""
        period = 2 * np.pi / self.symmetry
        folded: np.ndarray = self.angle - period * np.ceil(self.angle / period - 0.5)
        return folded

    @classmethod
    def empty(cls, latents: int) -> Encoding:
        """Return the encoding of a frame without columns, by so many latents."""
        none, numbers = np.zeros(0), np.zeros(0, dtype=np.int64)
        return cls(none, none, numbers, np.zeros((0, latents), dtype=np.float32), numbers, numbers, np.zeros(0, dtype=bool))

    @classmethod
    def joined(cls, parts: Sequence[Encoding]) -> Encoding:
        """Return the encodings of several frames, one or more, as one."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in ENCODING_FIELDS})

    def rows(self, chosen: Rows) -> Encoding:
        """Return the chosen rows."""
        return Encoding(**{name: getattr(self, name)[chosen] for name in ENCODING_FIELDS})
