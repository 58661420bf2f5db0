"""HDF5 datasets of labelled frames, written: frame by frame, whole or not at all. io.datasets owns the schema and reads them.

Called by simulation, labelling and io.merge.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

import stemzoo
from stemzoo.errors import DatasetError, OutputError
from stemzoo.io.datasets import SCHEMA, SUFFIXES, Dataset, digest
from stemzoo.io.outputs import need_room


@dataclass(frozen=True)
class LabelledFrame:
    """One frame and its columns.

    Args:
        image: (H, W) float32, detector units.
        columns: (N, 2) float64, yx px.
        species: (N,) int, index into `classes`.
        classes: names of the species.
        pixel_size: Å/px.
        expected: (H, W) float32, electrons expected, or None for a real frame.
        counts: (N,) float64, electrons in each column's peak, or None for a real frame.
        attributes: material, zone_axis, dose, recipe, seed and whatever else is known; strings and numbers.
    """

    image: np.ndarray
    columns: np.ndarray
    species: np.ndarray
    classes: tuple[str, ...]
    pixel_size: float
    expected: np.ndarray | None = None
    counts: np.ndarray | None = None
    attributes: Mapping[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or self.columns.shape != (len(self.columns), 2) or self.species.shape != (len(self.columns),):
            raise DatasetError(
                f"labelled frame: image {self.image.shape}, columns {self.columns.shape}, species {self.species.shape}; "
                "wanted (H, W), (N, 2), (N,)"
            )


class DatasetWriter:
    """Writes a dataset frame by frame; the file appears under its name only when the `with` block ends without an error.

    Raises: OutputError for a name that is no dataset's, for another's file, and if it cannot be written.
    """

    def __init__(self, path: str | Path, *, recipe: str, material: str, seed: int) -> None:
        self.path = Path(path)
        self._classes: list[str] = []
        self._n = 0
        if self.path.suffix.lower() not in SUFFIXES:
            raise OutputError(f"{self.path}: a dataset is an HDF5 file and named so; call it {self.path.stem}.h5")
        if self.path.exists() and not _is_ours(self.path):
            raise OutputError(f"{self.path}: already there, and no dataset of stemzoo; name another --out")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, self._temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".part")
            os.close(handle)
            self._file = h5py.File(self._temporary, "w")
        except OSError as failure:
            raise OutputError(f"{self.path}: cannot be written ({failure.strerror or failure}); choose another --out") from None
        self._file.attrs.update(schema_version=SCHEMA, material=material, recipe=recipe, seed=seed, stemzoo_version=stemzoo.__version__)
        self._file.create_group("frames")

    def __len__(self) -> int:
        return self._n

    def add(self, frame: LabelledFrame) -> None:
        """Append one frame; its species are mapped on to the dataset's list of classes, which grows as needed.

        Raises: OutputError if the disk has no room for it.
        """
        mapping = self._mapping(frame.classes)
        image = np.ascontiguousarray(frame.image, dtype=np.float32)
        need_room(self.path, 3 * image.nbytes + np.asarray(frame.columns).nbytes)
        group = self._file.create_group(self._next())
        group.attrs.update({"pixel_size": frame.pixel_size, **dict(frame.attributes), "content": digest(image)})
        chunks = tuple(min(128, side) for side in image.shape)
        group.create_dataset("image", data=image, chunks=chunks)
        group.create_dataset("columns", data=np.asarray(frame.columns, dtype=np.float64))
        group.create_dataset("species", data=mapping[frame.species] if len(frame.species) else np.zeros(0, np.int64))
        if frame.expected is not None:
            group.create_dataset("expected", data=frame.expected.astype(np.float32, copy=False), chunks=chunks)
        if frame.counts is not None:
            group.create_dataset("counts", data=frame.counts)

    def adopt(self, dataset: Dataset, index: int) -> None:
        """Append frame `index` of another dataset as it lies on disk, chunk by chunk and with all of its attributes."""
        mapping, name, content = self._mapping(dataset.classes), self._next(), dataset.content(index)
        with dataset.reading(index) as group:
            need_room(self.path, sum(part.id.get_storage_size() for part in group.values()))
            self._file.copy(group, self._file, name)
            species = group["species"][...]
        self._file[name].attrs["content"] = content
        self._file[name]["species"][...] = mapping[species] if len(species) else species

    def _next(self) -> str:
        self._n += 1
        return f"frames/{self._n - 1:06d}"

    def _mapping(self, classes: tuple[str, ...]) -> np.ndarray:
        """Return this dataset's number of each of `classes`."""
        self._classes += [name for name in dict.fromkeys(classes) if name not in self._classes]
        return np.array([self._classes.index(name) for name in classes], dtype=np.int64)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._file.attrs["classes"] = json.dumps(self._classes)
        self._file.close()
        if kind is None:
            os.chmod(self._temporary, 0o644)
            os.replace(self._temporary, self.path)
        else:
            os.unlink(self._temporary)


def _is_ours(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return "schema_version" in file.attrs and "frames" in file
    except OSError:
        return False
