"""HDF5 datasets of labelled frames: the one schema, its writer and its lazy reader. Called by simulation, labelling and the DataModules.

/                       attributes: schema_version, material, recipe (JSON), seed, stemzoo_version, classes
/frames/<id>            attributes: pixel_size [Å/px], material, zone_axis, dose [e⁻/Å²], recipe, seed, …
    image    (H, W)     float32, detector units
    columns  (N, 2)     float64, yx px
    species  (N,)       int64, index into the root's `classes`
    expected (H, W)     float32, electrons expected at each pixel (simulated frames only)
    counts   (N,)       float64, electrons expected in each column's peak (simulated frames only)
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

import stemzoo
from stemzoo.errors import DatasetError, OutputError

SCHEMA = 1


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
    """Writes a dataset frame by frame; the file appears under its name only when the `with` block ends without an error."""

    def __init__(self, path: str | Path, *, recipe: str, material: str, seed: int) -> None:
        self.path = Path(path)
        self._classes: list[str] = []
        self._n = 0
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

    def add(self, frame: LabelledFrame) -> None:
        """Append one frame; its species are mapped on to the dataset's list of classes, which grows as needed."""
        for name in frame.classes:
            if name not in self._classes:
                self._classes.append(name)
        mapping = np.array([self._classes.index(name) for name in frame.classes], dtype=np.int64)
        group = self._file.create_group(f"frames/{self._n:06d}")
        group.attrs.update({"pixel_size": frame.pixel_size, **dict(frame.attributes)})
        chunks = tuple(min(128, side) for side in frame.image.shape)
        group.create_dataset("image", data=frame.image.astype(np.float32, copy=False), chunks=chunks)
        group.create_dataset("columns", data=np.asarray(frame.columns, dtype=np.float64))
        group.create_dataset("species", data=mapping[frame.species] if len(frame.species) else np.zeros(0, np.int64))
        if frame.expected is not None:
            group.create_dataset("expected", data=frame.expected.astype(np.float32, copy=False), chunks=chunks)
        if frame.counts is not None:
            group.create_dataset("counts", data=frame.counts)
        self._n += 1

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


class Dataset:
    """A dataset open for reading; frames are read when asked for, windows without reading the rest.

    Opened anew in each worker process (pickling drops the handle). Raises: DatasetError for a file that is missing, truncated, not of this
    schema, or of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._owner = -1
        root = self._open()
        version = root.attrs.get("schema_version")
        if version is None or "frames" not in root:
            raise DatasetError(f"{self.path}: no stemzoo dataset (no schema_version and /frames); make one with `stemzoo data simulate`")
        if not 1 <= int(version) <= SCHEMA:
            raise DatasetError(
                f"{self.path}: schema version {version}; this stemzoo reads up to {SCHEMA}: upgrade it with pip install -U stemzoo"
            )
        self.ids: list[str] = sorted(root["frames"])
        if not self.ids:
            raise DatasetError(f"{self.path}: the dataset holds no frame")
        self.classes: tuple[str, ...] = tuple(json.loads(root.attrs.get("classes", "[]")))
        self.material = str(root.attrs.get("material", ""))
        self.recipe = str(root.attrs.get("recipe", ""))

    def __len__(self) -> int:
        return len(self.ids)

    def attributes(self, index: int) -> dict[str, Any]:
        """The attributes of frame `index`, `pixel_size` [Å/px] among them."""
        attributes = {key: _plain(value) for key, value in self._group(index).attrs.items()}
        if not float(attributes.get("pixel_size", 0)) > 0:
            raise DatasetError(f"{self.path}: frame {self.ids[index]} has pixel_size {attributes.get('pixel_size')!r}; wanted Å/px above 0")
        return attributes

    def shape(self, index: int) -> tuple[int, int]:
        """(H, W) of frame `index`."""
        height, width = self._group(index)["image"].shape
        return int(height), int(width)

    def columns(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Truth of frame `index`: (N, 2) float64 yx px, and (N,) int64 species."""
        group = self._group(index)
        return group["columns"][...], group["species"][...]

    def counts(self, index: int) -> np.ndarray | None:
        """(N,) electrons expected in each column's peak; None for a real frame."""
        group = self._group(index)
        return group["counts"][...] if "counts" in group else None

    def window(self, index: int, corner: tuple[int, int], size: tuple[int, int], name: str = "image") -> np.ndarray:
        """(h, w) float32 of `image` or `expected`, read from the chunks that the window touches and no others."""
        y, x = corner
        try:
            return np.asarray(self._group(index)[name][y : y + size[0], x : x + size[1]], dtype=np.float32)
        except OSError as failure:
            raise DatasetError(
                f"{self.path}: frame {self.ids[index]} cannot be read ({failure}); the file is damaged: make it again"
            ) from None

    def image(self, index: int) -> np.ndarray:
        """(H, W) float32, detector units."""
        return self.window(index, (0, 0), self.shape(index))

    def has_expected(self, index: int) -> bool:
        """Whether the noise-free expectation is stored, so that noise can be drawn anew."""
        return "expected" in self._group(index)

    def close(self) -> None:
        """Close the file; it opens again on the next read."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> h5py.File:
        if self._file is None or self._owner != os.getpid():
            if not self.path.is_file():
                raise DatasetError(f"{self.path}: no such dataset; make one with `stemzoo data simulate` or `stemzoo data label`")
            try:
                self._file = h5py.File(self.path, "r")
            except OSError as failure:
                raise DatasetError(f"{self.path}: not a readable HDF5 file ({failure}); it may be truncated: make it again") from None
            self._owner = os.getpid()
        return self._file

    def _group(self, index: int) -> h5py.Group:
        return self._open()["frames"][self.ids[index]]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_owner": -1}


def _is_ours(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return "schema_version" in file.attrs and "frames" in file
    except OSError:
        return False


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Summary:
    """What is inside a dataset, as `stemzoo data inspect` prints it."""

    path: str
    material: str
    n_frames: int
    n_columns: int
    columns_by_class: dict[str, int]
    frames_by_material: dict[str, int]
    pixel_size: tuple[float, float]
    dose: tuple[float, float] | None
    counts_per_column: tuple[float, float] | None
    shapes: list[tuple[int, int]]


def inspect(path: str | Path) -> Summary:
    """Return counts, doses, sampling and class balance of a dataset; every frame is visited, no image is read."""
    dataset = Dataset(path)
    by_class = np.zeros(max(len(dataset.classes), 1), dtype=np.int64)
    materials: dict[str, int] = {}
    facts = []
    shapes = set()
    for index in range(len(dataset)):
        attributes = dataset.attributes(index)
        _, species = dataset.columns(index)
        by_class += np.bincount(species, minlength=len(by_class))[: len(by_class)]
        name = str(attributes.get("material", ""))
        materials[name] = materials.get(name, 0) + 1
        shapes.add(dataset.shape(index))
        facts.append(attributes)

    def span(key: str) -> tuple[float, float] | None:
        values = [float(fact[key]) for fact in facts if key in fact]
        return (min(values), max(values)) if values else None

    sampling = span("pixel_size")
    assert sampling is not None
    return Summary(
        str(path),
        dataset.material,
        len(dataset),
        int(by_class.sum()),
        dict(zip(dataset.classes, by_class.tolist(), strict=False)),
        materials,
        sampling,
        span("dose"),
        span("counts_per_column"),
        sorted(shapes),
    )
