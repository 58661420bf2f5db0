"""Columns: what is known of each atomic column of a frame; Tracks: which columns of a stack are one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Sequence, Tuple, Union

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.types.pixel_size import check_pixel_size, per_px

COLUMN_FIELDS = {
    "yx": np.float64,
    "sigma": np.float64,
    "species": np.int64,
    "intensity": np.float64,
    "confidence": np.float32,
    "fit_ok": np.bool_,
    "agreement": np.float32,
}
"""The arrays of Columns that have a row for each column, and their dtype."""
Rows = Union[slice, np.ndarray]
"""A slice, a mask or numbers: some rows of a table."""


@dataclass(frozen=True)
class Columns:
    """Atomic columns found in one frame, sorted by y then x; the position in the arrays is the column's number.

    Args:
        yx: (n, 2) float64, px.
        sigma: (n, 2) float64, px, standard error of `yx`; positive, or NaN where another program's table does not say.
        species: (n,) int, index into `classes`.
        intensity: (n,) float64, integrated intensity above the local background (detector units × px²); NaN where unknown.
        confidence: (n,) float32 in [0, 1], probability that a column is there; NaN where unknown.
        fit_ok: (n,) bool, False where the fit failed and `yx` is the network's position.
        classes: names of the species.
        pixel_size: Å/px, or None where unknown.
        frame: number of the frame in its stack.
        agreement: (n,) float32 in [0, 1], share of an ensemble's networks that find the column; NaN for a single network.

    Raises: ShapeError if the lengths disagree.
    """

    yx: np.ndarray
    sigma: np.ndarray
    species: np.ndarray
    intensity: np.ndarray
    confidence: np.ndarray
    fit_ok: np.ndarray
    classes: Tuple[str, ...] = ("column",)
    pixel_size: Optional[float] = None
    frame: int = 0
    agreement: Optional[np.ndarray] = None

    def __post_init__(self) -> None:
        if self.agreement is None:
            object.__setattr__(self, "agreement", np.full(len(self.yx), np.nan))
        n = len(self.yx)
        for name, dtype in COLUMN_FIELDS.items():
            array: np.ndarray = np.asarray(getattr(self, name), dtype=dtype)
            shape = (n, 2) if name in ("yx", "sigma") else (n,)
            if n == 0:
                array = array.reshape(shape)
            if array.shape != shape:
                raise ShapeError(f"Columns.{name} has shape {array.shape}; wanted {shape}")
            object.__setattr__(self, name, array)
        if n and (self.species.min() < 0 or self.species.max() >= len(self.classes)):
            raise ShapeError(f"Columns.species runs from {self.species.min()} to {self.species.max()}; wanted indices into {self.classes}")
        check_pixel_size(self.pixel_size, "Columns")

    def __len__(self) -> int:
        return len(self.yx)

    def __repr__(self) -> str:
        said = [f"{len(self)} in frame {self.frame}", per_px(self.pixel_size)]
        if len(self.classes) > 1:
            said[1:1] = [f"{int((self.species == index).sum())} {name}" for index, name in enumerate(self.classes)]
        if np.isfinite(self.sigma).any():
            said.append(f"median σ {np.nanmedian(self.sigma):.3g} px")
            if failed := int((~self.fit_ok).sum()):
                said.append(f"{failed} {'fit' if failed == 1 else 'fits'} failed")
        return f"Columns({', '.join(said)})"

    @classmethod
    def empty(cls, classes: Sequence[str] = ("column",), pixel_size: Optional[float] = None, frame: int = 0) -> Columns:
        """Return a table without columns."""
        none = np.zeros(0)
        return cls(np.zeros((0, 2)), np.zeros((0, 2)), none, none, none, none, tuple(classes), pixel_size, frame)

    @classmethod
    def at(cls, yx: np.ndarray, *, pixel_size: Optional[float] = None, frame: int = 0) -> Columns:
        """Return columns at `yx` (n, 2) [px] of which nothing else is known, in that order."""
        n = len(yx)
        unknown = np.full(n, np.nan)
        return cls(yx, np.full((n, 2), np.nan), np.zeros(n), unknown, unknown, np.zeros(n), pixel_size=pixel_size, frame=frame)

    def rows(self, chosen: Rows) -> Columns:
        """Return the chosen columns, numbered anew."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in COLUMN_FIELDS})


@dataclass(frozen=True)
class Tracks:
    """Which columns of a stack are one column.

    Args:
        track: for each frame (n,) int, the number of each column's track, counted from 0 in order of first appearance.
        drift: (T, 2) px, by how much frame t lies displaced against frame 0, y and x.
    """

    track: Tuple[np.ndarray, ...]
    drift: np.ndarray

    @property
    def n(self) -> int:
        """How many tracks there are."""
        return max((int(numbers.max()) + 1 for numbers in self.track if len(numbers)), default=0)
