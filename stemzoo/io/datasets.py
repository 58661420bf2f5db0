"""HDF5 datasets of labelled frames: the one schema and its lazy reader; io.dataset_writer writes them. Called by the DataModules.

/                       attributes: schema_version, material, recipe (JSON), seed, stemzoo_version, classes
/frames/<id>            attributes: pixel_size [Å/px], material, zone_axis, dose [e⁻/Å²], recipe, seed, content, …
    image    (H, W)     float32, detector units
    columns  (N, 2)     float64, yx px
    species  (N,)       int64, index into the root's `classes`
    expected (H, W)     float32, electrons expected at each pixel (simulated frames only)
    counts   (N,)       float64, electrons expected in each column's peak (simulated frames only)

Version 2 added attributes that a reader may find missing: `content`, the sha256 of the image, and on simulated frames how `image` was
recorded from `expected`: `row_jitter` [Å], `flicker`, `gain`, `offset`, `readout` [electrons], `hot_pixels` and `saturation` [shares],
`smoothing_px`. Version 1 is read as it stands.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stemzoo.errors import DatasetError
from stemzoo.io.hdf5_claims import attribute, attributes, check_array, check_file

SUFFIXES = (".h5", ".hdf5")  # by which training and reading tell a dataset
SCHEMA = 2
OLDEST = 1
_METADATA_BYTES = 2**19


class Dataset:
    """A dataset open for reading; frames are read when asked for, windows without reading the rest.

    Opened anew in each worker process (pickling drops the handle). Raises: DatasetError for a file that is missing, truncated, damaged, not
    of this schema, or of a version that this stemzoo does not know.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._owner = -1
        self._checked = set[tuple[int, str]]()
        root = self._open()
        try:
            version, held = attribute(root, "schema_version"), "frames" in root
        except (KeyError, OSError, RuntimeError, ValueError) as failure:
            raise DatasetError(f"{self.path}: its root is damaged ({failure}); make the file again") from None
        if version is None or not held:
            raise DatasetError(f"{self.path}: no stemzoo dataset (no schema_version and /frames); make one with `stemzoo data simulate`")
        self.version = int(version) if str(version).isdigit() else 0
        if not OLDEST <= self.version <= SCHEMA:
            newer = self.version > SCHEMA
            way_out = "upgrade with pip install -U stemzoo" if newer else "make it again with stemzoo data simulate or label"
            raise DatasetError(f"{self.path}: schema version {version}; this stemzoo reads {OLDEST} to {SCHEMA}: {way_out}")
        try:
            self.ids: list[str] = sorted(root["frames"])
            self.classes: tuple[str, ...] = tuple(json.loads(attribute(root, "classes", "[]")))
            self.material, self.recipe = (str(attribute(root, name, "")) for name in ("material", "recipe"))
        except (AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError) as failure:
            raise DatasetError(f"{self.path}: /frames or an attribute of the file is damaged ({failure}); make the file again") from None
        if not self.ids:
            raise DatasetError(f"{self.path}: the dataset holds no frame")

    def __len__(self) -> int:
        return len(self.ids)

    def attributes(self, index: int) -> dict[str, Any]:
        """The attributes of frame `index`, `pixel_size` [Å/px] among them."""
        with self.reading(index) as group:
            facts = {key: _plain(value) for key, value in attributes(group).items()}
        if not float(facts.get("pixel_size", 0)) > 0:
            raise DatasetError(f"{self.path}: frame {self.ids[index]} has pixel_size {facts.get('pixel_size')!r}; wanted Å/px above 0")
        return facts

    def scene(self, index: int) -> str:
        """Which piece of specimen frame `index` shows: frames of one scene are never divided between training and validation.

        A simulated frame's scene is its recipe and seed, whatever its dose; a real frame's is the microscope file, a stack being one scene.
        """
        facts = self.attributes(index)
        if "source_sha256" in facts:
            return f"file {facts['source_sha256']}"
        if facts.get("seed", "") != "":
            return f"recipe {facts.get('recipe', '')} [{facts.get('zone_axis', '')}] seed {facts['seed']}"
        return f"image {self.content(index)}"

    def content(self, index: int) -> str:
        """The sha256 of frame `index`'s image, as stored when it was written; computed for a file of version 1."""
        with self.reading(index) as group:
            stored = attribute(group, "content")
        return str(stored) if stored is not None else digest(self.image(index))

    def shape(self, index: int) -> tuple[int, int]:
        """(H, W) of frame `index`."""
        with self.reading(index, "image") as array:
            height, width = array.shape
        return int(height), int(width)

    def columns(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Truth of frame `index`: (N, 2) float64 yx px, and (N,) int64 species."""
        with self.reading(index, "species") as species:
            return self.positions(index), species[...]

    def positions(self, index: int) -> np.ndarray:
        """True columns of frame `index`, (N, 2) float64 yx px."""
        with self.reading(index, "columns") as yx:
            return np.asarray(yx[...])

    def counts(self, index: int) -> np.ndarray | None:
        """(N,) electrons expected in each column's peak; None for a real frame."""
        with self.reading(index) as group:
            held = "counts" in group
        if not held:
            return None
        with self.reading(index, "counts") as array:
            return np.asarray(array[...])

    def window(self, index: int, corner: tuple[int, int], size: tuple[int, int], name: str = "image") -> np.ndarray:
        """(h, w) float32 of `image` or `expected`, read from the chunks that the window touches and no others."""
        y, x = corner
        with self.reading(index, name) as array:
            return np.asarray(array[y : y + size[0], x : x + size[1]], dtype=np.float32)

    def image(self, index: int) -> np.ndarray:
        """(H, W) float32, detector units."""
        return self.window(index, (0, 0), self.shape(index))

    def has_expected(self, index: int) -> bool:
        """Whether the noise-free expectation is stored, so that noise can be drawn anew."""
        with self.reading(index) as group:
            return "expected" in group

    @contextmanager
    def reading(self, index: int, name: str = "") -> Iterator[Any]:
        """The group of frame `index`, or its array `name`; what cannot be read in the `with` block becomes a DatasetError."""
        try:
            file, path = self._open(), f"frames/{self.ids[index]}/{name}"
            # Straight to the array: looking it up through its groups takes as long again as reading a patch's window of it.
            part = h5py.Dataset(h5py.h5d.open(file.id, path.encode())) if name else file[path]
            if name and (index, name) not in self._checked:
                check_array(part)
                self._checked.add((index, name))
            yield part
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as failure:
            why = str(failure).strip("'\"")
            raise DatasetError(
                f"{self.path}: frame {self.ids[index]} cannot be read ({why}); the file is damaged: copy it or make it again"
            ) from None

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
                check_file(self.path)
                self._file = _lean(h5py.File(self.path, "r"))
            except (OSError, ValueError) as failure:
                raise DatasetError(f"{self.path}: {_why_unreadable(failure)}") from None
            self._owner = os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_owner": -1, "_checked": set()}


def _lean(file: h5py.File) -> h5py.File:
    """The open file, remembering no more than `_METADATA_BYTES` of its index; by default HDF5 keeps 32 MB of what was once looked at."""
    config = file.id.get_mdc_config()
    config.set_initial_size, config.initial_size = True, _METADATA_BYTES
    config.min_size = config.max_size = _METADATA_BYTES
    file.id.set_mdc_config(config)
    return file


def digest(image: np.ndarray) -> str:
    """The sha256 of an image's float32 pixels, by which a frame is known again."""
    return hashlib.sha256(np.ascontiguousarray(image, dtype=np.float32).data).hexdigest()


def _why_unreadable(failure: Exception) -> str:
    cut = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", str(failure))
    if cut:
        return f"cut short, {cut[1]} of {cut[2]} bytes are there; copy it or make it again"
    if "signature not found" in str(failure):
        return "not an HDF5 file; wanted a dataset from `stemzoo data simulate` or `stemzoo data label`"
    return f"not a readable HDF5 file ({failure}); copy it or make it again"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
