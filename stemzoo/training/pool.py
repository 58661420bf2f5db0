"""The frames of several HDF5 datasets as one pool, and their division into training and validation. Called by the DataModules.

Owns what a patch needs to know of its frame, read once; pixels stay in the files until a window of them is asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from stemzoo.errors import DatasetError
from stemzoo.io.datasets import Dataset
from stemzoo.simulation.noise import Recording

NO_SPECIES = "column"  # what a column is called of which nobody said what it is


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What is known of a frame without reading its pixels.

    Args:
        shape: (H, W).
        pixel_size: Å/px.
        scene: frames of one scene show the same piece of specimen.
        recording: how a simulated frame was recorded from its expectation; None for a real one, whose noise is its own.
    """

    shape: tuple[int, int]
    pixel_size: float
    scene: str
    recording: Recording | None


def materials_of(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the materials of datasets, each once; nothing of those that are no longer there."""
    found = []
    for path in paths:
        try:
            found.append(Dataset(path).material)
        except DatasetError:
            continue
    return tuple(dict.fromkeys(name for name in found if name))


class FramePool:
    """The frames of several datasets, numbered through, with their species mapped on to one list of classes.

    Raises: DatasetError for unreadable files, species that `classes` does not name (one class takes them all) or, where `classes` leaves
    them as they are, columns of some species beside columns of none.
    """

    def __init__(self, paths: tuple[str, ...], classes: tuple[str, ...] | None) -> None:
        if not paths:
            raise DatasetError("no dataset given; wanted one or more HDF5 files made by `stemzoo data simulate`")
        self.datasets = [Dataset(path) for path in paths]
        found = tuple(dict.fromkeys(name for dataset in self.datasets for name in dataset.classes))
        if classes is None and NO_SPECIES in found and len(found) > 1:
            named = ", ".join(name for name in found if name != NO_SPECIES)
            raise DatasetError(
                f"the datasets hold columns of the species {named} and some of no species ({NO_SPECIES!r}), which no network can tell from "
                f'them; train on all alike by classes = ["{NO_SPECIES}"] in --config, or name the species of the others'
            )
        self.classes = classes or found
        merged = len(self.classes) == 1
        unknown = () if merged else tuple(name for name in found if name not in self.classes)
        if unknown:
            raise DatasetError(
                f"the datasets hold the classes {', '.join(found)}, of which {', '.join(unknown)} are not among {', '.join(self.classes)}"
            )
        self._maps = [np.array([0 if merged else self.classes.index(name) for name in d.classes], dtype=np.int64) for d in self.datasets]
        self._index = [(number, frame) for number, dataset in enumerate(self.datasets) for frame in range(len(dataset))]
        self.facts = [_facts(self.datasets[number], frame) for number, frame in self._index]
        for dataset in self.datasets:
            dataset.close()  # a worker opens its own handle and inherits none

    def __len__(self) -> int:
        return len(self._index)

    def columns(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, 2) yx px and (N,) class of a frame."""
        number, frame = self._index[index]
        if len(self.classes) == 1:
            yx = self.datasets[number].positions(frame)
            return yx, np.zeros(len(yx), dtype=np.int64)
        yx, species = self.datasets[number].columns(frame)
        return yx, self._maps[number][species]

    def window(self, index: int, corner: tuple[int, int], size_px: int) -> np.ndarray:
        """(size_px, size_px) float32: electrons expected where the frame is simulated, else the recorded image."""
        number, frame = self._index[index]
        name = "image" if self.facts[index].recording is None else "expected"
        return self.datasets[number].window(frame, corner, (size_px, size_px), name)


def _facts(dataset: Dataset, frame: int) -> FrameFacts:
    known = dataset.attributes(frame)
    size = float(known["pixel_size"])
    recording = None
    if dataset.has_expected(frame):
        saturation = float(known.get("saturation", math.inf))
        recording = Recording(
            row_jitter_px=float(known.get("row_jitter", 0.0)) / size,
            flicker=float(known.get("flicker", 0.0)),
            gain=float(known.get("gain", 1.0)),
            offset=float(known.get("offset", 0.0)),
            readout=float(known.get("readout", 0.0)),
            hot_fraction=float(known.get("hot_pixels", 0.0)),
            saturation=saturation if saturation < 1e9 else None,
            smoothing_px=float(known.get("smoothing_px", 0.0)),
        )
    return FrameFacts(dataset.shape(frame), size, dataset.scene(frame), recording)


def hold_back(scenes: Sequence[Hashable], share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the frames to train on and of those to validate on, both sorted.

    Scenes are held back whole, since a frame of a scene that was trained on flatters the score. Frames of a single scene, such as one
    stack, cannot be divided so and are divided frame by frame.

    Args:
        scenes: the scene of each frame, two frames or more.
        share: of the frames to hold back; at least one frame is.
    """
    sizes = Counter(scenes)
    if len(sizes) == 1:
        scenes = range(len(scenes))
        sizes = Counter(scenes)
    names = list(sizes)
    wanted = max(1, round(share * len(scenes)))
    held: set[Hashable] = set()
    room = wanted
    for name in (names[k] for k in rng.permutation(len(names))):
        if sizes[name] <= room and len(held) < len(names) - 1:
            held.add(name)
            room -= sizes[name]
    if not held:
        held = {min(names, key=lambda name: sizes[name])}
    kept = np.array([scene not in held for scene in scenes])
    return np.flatnonzero(kept), np.flatnonzero(~kept)
