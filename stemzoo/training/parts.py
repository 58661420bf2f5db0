"""Which sub-images are loaded together when an encoder learns from more than fits into memory, and which are held back. Owns parts: made of
rows of an array or of a dataset's frame, loaded when asked, divided into training and validation, grouped into chunks.

Called by training.subimages.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stemzoo.geometry.subimages import cut
from stemzoo.io.datasets import Dataset
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.pool import hold_back
from stemzoo.types import Columns, Frames


@dataclass(frozen=True)
class Part:
    """Some sub-images that are loaded together, e.g. those of one frame.

    Args:
        load: returns (n, S, S) float32. n: how many. first: number of the first within the set. frame: which frame they come from.
        scene: which piece of specimen the frame shows; a scene is trained on or validated on, never both.
    """

    load: Callable[[], np.ndarray]
    n: int
    first: int
    frame: int
    scene: str = ""


@dataclass(frozen=True)
class Cut:
    """Cuts the windows of one frame of a dataset when called."""

    dataset: Dataset
    index: int
    yx: np.ndarray
    side_px: float
    samples: int

    def __call__(self) -> np.ndarray:
        frames = Frames(self.dataset.image(self.index)[None])
        return cut(frames, Columns.at(self.yx), self.side_px, self.samples).data


@dataclass(frozen=True)
class Rows:
    """Loads some rows of an array."""

    data: np.ndarray
    rows: np.ndarray

    def __call__(self) -> np.ndarray:
        return np.asarray(self.data[self.rows])


@dataclass(frozen=True)
class _Slice:
    """Loads rows `start` to `end` of a part."""

    part: Part
    start: int
    end: int

    def __call__(self) -> np.ndarray:
        return self.part.load()[self.start : self.end]


def load(chunk: Sequence[Part]) -> np.ndarray:
    """Return the sub-images of all parts as one float32 array, filled part by part: there is never a second copy of them all."""
    first = chunk[0].load()
    data = np.empty((sum(part.n for part in chunk), *first.shape[1:]), np.float32)
    start = 0
    for number, part in enumerate(chunk):
        data[start : start + part.n] = part.load() if number else first
        start += part.n
    return data


def split(parts: Sequence[Part], config: EncoderConfig) -> tuple[list[Part], list[Part]]:
    """Return training and validation parts: by scene where there are several, else by frame, else within the one; numbered from 0."""
    rng = np.random.default_rng(config.seed)
    share = config.validation_fraction
    if not share:
        return _numbered(parts), []
    if len(parts) > 1:
        kept, held = hold_back([part.scene for part in parts], share, rng)
        return _numbered([parts[i] for i in kept]), _numbered([parts[i] for i in held])
    (part,) = parts
    rows = rng.permutation(part.n)
    n_held = max(1, round(share * part.n))
    return _numbered([_some(part, np.sort(rows[n_held:]))]), _numbered([_some(part, np.sort(rows[:n_held]))])


def _some(part: Part, rows: np.ndarray) -> Part:
    return Part(lambda: part.load()[rows], len(rows), 0, part.frame, part.scene)


def _numbered(parts: Sequence[Part]) -> list[Part]:
    starts = np.cumsum([0] + [part.n for part in parts])
    return [replace(part, first=int(start)) for part, start in zip(parts, starts, strict=False)]


def chunks(parts: Sequence[Part], capacity: int) -> list[list[Part]]:
    """Return parts grouped so that a group holds at most `capacity` sub-images; a larger part is cut into pieces."""
    pieces = []
    for part in parts:
        n = -(-part.n // capacity)
        bounds = np.linspace(0, part.n, n + 1).astype(int)
        for start, end in itertools.pairwise(bounds.tolist()):
            pieces.append(part if n == 1 else replace(part, load=_Slice(part, start, end), n=end - start, first=part.first + start))
    groups: list[list[Part]] = []
    room = 0
    for piece in pieces:
        if not groups or piece.n > room:
            groups.append([])
            room = capacity
        groups[-1].append(piece)
        room -= piece.n
    return groups
