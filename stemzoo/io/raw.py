"""What a format's reader hands to io.read: an image as stored, its axes and, where a file holds several images, which one was meant.

Owns `Raw`, `Signal`, stacks that stay on disk, and the rule that picks a signal. Each reader (dm_tia, hdf5, mrc, npy, picture, tiff, zarr)
returns a `Raw`; io.read makes Frames of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stemzoo.errors import ReadError
from stemzoo.io.units import Axis, is_other_quantity

EAGER_BYTES = 256 * 1024**2
"""Images up to this size are read at once; larger stacks are read frame by frame when asked for."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One image or stack as its file holds it.

    Args:
        data: (H, W), (T, H, W), or as found; an array, or anything with `shape`, `dtype` and slicing.
        axes: calibration of (y, x); None where the file has none.
        metadata: JSON-serialisable facts.
        notices: what the reader decided, one sentence each.
    """

    data: Any
    axes: tuple[Axis, Axis] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


class Stack:
    """Frames (T, H, W) that stay in their file, each read when asked for; no handle stays open, so it can be pickled to a worker.

    Frames read once do not stay in memory. A format's own class holds `shape`, `dtype` and where the frames lie, and says how one is read.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, number: int) -> np.ndarray:
        """Return frame `number` (H, W), counted from 0. Raises: ReadError if the file no longer holds it."""
        raise NotImplementedError

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """Return frame `index` (H, W), or several (n, H, W)."""
        if isinstance(index, slice):
            return np.stack([self[i] for i in range(*index.indices(self.shape[0]))])
        return self.read(range(self.shape[0])[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all frames."""
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class OnDisk(Stack):
    """Frames that lie in a file one behind the other.

    Args: path, offset [bytes], shape (T, H, W) and dtype say where the pixels are.
    """

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, number: int) -> np.ndarray:
        """Return frame `number` (H, W)."""
        size = math.prod(self.shape[1:])
        frame = np.fromfile(self.path, self.dtype, size, offset=self.offset + number * size * self.dtype.itemsize)
        if len(frame) < size:
            raise ReadError(f"{self.path}: ends within frame {number} of {self.shape[0]}; it was cut short: copy it again")
        return frame.reshape(self.shape[1:])

    def reshape(self, shape: tuple[int, ...]) -> OnDisk:
        """Return the same frames with axes of length 1 added or dropped."""
        return replace(self, shape=tuple(shape))


@dataclass(frozen=True, slots=True)
class Signal:
    """One of a file's images, before it is read: its name, its shape and what keeps it from being frames (empty: nothing does)."""

    name: str
    shape: tuple[int, ...]
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.name!r} {'×'.join(map(str, self.shape))}"


def problem(shape: Sequence[int], dtype: Any, units: Sequence[str] = ()) -> str:
    """Return why an array cannot be frames, in words that complete "the image is …"; empty where it can.

    Args:
        shape: as stored; axes of length 1 do not count.
        units: of the last axes, where the format states them.
    """
    sides = [side for side in shape if side != 1]
    size = "×".join(map(str, shape))
    if 0 in shape:
        return f"empty ({size})"
    if getattr(dtype, "kind", "f") == "c":
        return f"complex ({size}); frames are real intensities: take the modulus or an image signal"
    if getattr(dtype, "kind", "f") not in "biuf" and not is_rgb(dtype):
        return f"of type {dtype}; frames are numbers"
    other = next((unit for unit in units[-2:] if is_other_quantity(unit)), None)
    if other is not None:
        return f"a spectrum image ({size}, an axis in {other}); export the ADF signal"
    if len(sides) < 2:
        if len(shape) > 1:
            return f"{size} px; the smallest frame that can hold a column is 16×16 px"
        return f"1-D ({size}); frames are 2-D images or 3-D stacks of them"
    if len(sides) > 3:
        return f"{len(sides)}-D ({size}), as 4D-STEM is; form an image with a virtual detector first"
    return ""


def is_rgb(dtype: Any) -> bool:
    """Return True for DigitalMicrograph's colour pixels, records with fields R, G and B."""
    return {"R", "G", "B"} <= set(getattr(dtype, "names", None) or ())


def choose(path: str, signals: Sequence[Signal], wanted: str | None) -> tuple[int, tuple[str, ...]]:
    """Return the index of the signal to read, and notices naming what was passed over.

    A single image is taken whatever its name; of several, the one whose name says HAADF, else the one that says ADF or DF.
    `wanted` (from `FILE::NAME`) is a name or a number and overrides all that.

    Raises: ReadError if there is none, or no single best one.
    """
    listed = ", ".join(map(str, signals)) or "nothing"
    if wanted is not None:
        matches = [i for i, signal in enumerate(signals) if signal.name == wanted or str(i) == wanted]
        matches = matches or [i for i, signal in enumerate(signals) if signal.name.lower().strip("/") == wanted.lower().strip("/")]
        if len(matches) != 1:
            raise ReadError(f"{path}: no single signal is called {wanted!r}; it holds {listed}; pass FILE::NAME or FILE::NUMBER (from 0)")
        refuse(path, signals[matches[0]])
        return matches[0], ()
    good = [i for i, signal in enumerate(signals) if not signal.problem]
    if not good:
        if len(signals) == 1:
            refuse(path, signals[0])
        raise ReadError(f"{path}: holds no image or stack of images; it holds {listed}")
    best = min(_rank(signals[i].name) for i in good)
    chosen = [i for i in good if _rank(signals[i].name) == best]
    if len(chosen) > 1:
        raise ReadError(f"{path}: holds several images ({listed}); name one: '{path}::{signals[chosen[0]].name}'")
    others = [str(signals[i]) for i in range(len(signals)) if i != chosen[0]]
    notices = (f"read signal {signals[chosen[0]]} and left {', '.join(others)}",) if others else ()
    return chosen[0], notices


def refuse(path: str, signal: Signal) -> None:
    """Raise ReadError if `signal` has a problem."""
    if signal.problem:
        raise ReadError(f"{path}: {signal.name + ' ' if signal.name else ''}is {signal.problem}")


def _rank(name: str) -> int:
    upper = name.upper()
    if "HAADF" in upper:
        return 0
    if re.search(r"ADF|(?<![A-Z])DF", upper):
        return 1
    return 2
