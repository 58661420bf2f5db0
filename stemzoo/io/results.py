"""analysis.h5: an Analysis to HDF5 with NeXus data groups. Owns its layout; the file opens in silx, h5web and HyperSpy.

/entry                 NXentry, `default` leads to the frame
  frame                NXdata: frame 0 as an image, axes in Å (px where the pixel size is unknown)
  probability          NXdata: the network's probability for frame 0, at the network's sampling
  columns              NXcollection: one dataset a quantity, one row a column, units as attributes
  maps/angle, latent_1 NXdata: scatter over x, y of frame 0
  encoding             NXcollection: angle, latents … of every column
  provenance           NXcollection: input, pixel size, models, notices, options, times, version

Frames after the first are not copied: `provenance/input` says where they lie. io.read_results reads the file
back. Called by `stemzoo.analyze`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from stemzoo.errors import OutputError
from stemzoo.io.outputs import need_room
from stemzoo.types import ENCODING_FIELDS, Analysis, Columns, Encoding, Frames

SCHEMA = 1
ROWS = 1 << 16  # columns that are held before they are written
IN_MEMORY = 1_000_000  # columns: the file of so many, some 200 MB, is put together in memory
BYTES_A_COLUMN = 300  # of a file, at most, with encoding and maps
UNITS = {
    **dict.fromkeys(("y_px", "x_px", "sigma_y_px", "sigma_x_px"), "px"),
    **dict.fromkeys(("y_A", "x_A"), "angstrom"),
    **dict.fromkeys(("angle", "angle_sigma"), "rad"),
    "intensity": "counts*px^2",
}


class ResultsWriter:
    """Writes analysis.h5 frame by frame, in order; the file appears under its name when `finish` was called and the `with` block ends well.

    HDF5 ends the process when a disk fills up under a file that it has open. So the file is put together in memory and written in one go,
    or, for more than IN_MEMORY columns, begun only where the disk has room for it.

    Args:
        n_columns: how many columns will be added in all; the tables are laid out for them.
        latents: how many an encoding has; None where there is none.
    Raises: OutputError if the file cannot be written where it was asked for.
    """

    def __init__(self, path: Path, n_columns: int, latents: int | None = None) -> None:
        self.path = Path(path)
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._n, self._latents, self._row = n_columns, latents, 0
        self._per_frame: list[dict[str, Any]] = []
        self._waiting: list[dict[str, dict[str, np.ndarray]]] = []
        self._rows_waiting = 0

    def __enter__(self) -> ResultsWriter:
        with self._refusing():
            if self._n <= IN_MEMORY:
                self._file = h5py.File(self._temporary, "w", driver="core", backing_store=False, block_size=1 << 20)
            else:
                need_room(self.path, BYTES_A_COLUMN * self._n)
                self._file = h5py.File(self._temporary, "w")
            self._file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "stemzoo", "stemzoo_schema": SCHEMA})
            self._entry = _group(self._file, "entry", "NXentry", default="frame")
        return self

    def add(self, columns: Columns, encoding: Encoding | None = None) -> None:
        """Append one frame: its columns and, in their order, their encoding."""
        self._per_frame.append(
            {"n": len(columns), "frame": columns.frame, "classes": list(columns.classes), "pixel_size": columns.pixel_size}
        )
        tables = {"columns": _quantities(columns)}
        if self._latents is not None:
            encoding = encoding or Encoding.empty(self._latents)
            tables["encoding"] = {name: np.asarray(getattr(encoding, name)) for name in ENCODING_FIELDS}
        self._waiting.append(tables)
        self._rows_waiting += len(columns)
        if self._rows_waiting >= ROWS:
            self._flush()

    def _flush(self) -> None:
        """Write what waits; a call of HDF5 a frame and quantity would take longer than the columns' text."""
        rows = slice(self._row, self._row + self._rows_waiting)
        with self._refusing():
            for table in self._waiting[0] if self._waiting else ():
                parts = [tables[table] for tables in self._waiting]
                _put(self._entry, table, self._n, rows, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, UNITS)
        self._row, self._rows_waiting, self._waiting = rows.stop, 0, []

    def finish(
        self, about: Analysis, probability: np.ndarray | None = None, options: Mapping[str, str] | None = None, frames: Frames | None = None
    ) -> None:
        """Write frame, maps and provenance.

        Args:
            about: notices, doubts, models and scale; its first frame and the columns of that are what is shown.
            probability: (h, w) of that frame, over the whole frame at any sampling. options: as given by the user.
            frames: all that were analysed, where `about` holds some of them only.
        """
        frames = frames or about.frames
        self._flush()
        with self._refusing():
            self._entry["title"] = f"Atomic columns of {Path(frames.path).name}"
            _write_frame(self._entry, about, len(frames), probability)
            group = self._entry["columns"]
            group.create_dataset("per_frame", data=json.dumps(self._per_frame))
            group["species"].attrs["classes"] = self._per_frame[0]["classes"] if self._per_frame else []
            if about.encoding is not None:
                _write_maps(self._entry, about.columns[0], about.encoding)
            _write_provenance(self._entry, about, frames, options or {})

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with self._refusing():
                if kind is None and self._file.driver == "core":
                    self._file.flush()
                    self._temporary.write_bytes(self._file.id.get_file_image())
                self._file.close()
                if kind is None:
                    os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror or error}); pass another --out") from error


def write_results(path: Path, analysis: Analysis, probability: np.ndarray | None = None, options: Mapping[str, str] | None = None) -> None:
    """Write analysis.h5; the file appears whole or not at all.

    Args: probability: (h, w) of frame 0, over the whole frame at any sampling. options: as given by the user.
    Raises: OutputError if the file cannot be written where it was asked for.
    """
    encoding, first = analysis.encoding, 0
    latents = None if encoding is None else int(encoding.latents.shape[1])
    with ResultsWriter(path, sum(map(len, analysis.columns)), latents) as writer:
        for columns in analysis.columns:
            rows = slice(first, first + len(columns))
            writer.add(columns, None if encoding is None else encoding.rows(rows))
            first = rows.stop
        writer.finish(analysis, probability, options)


def _group(parent: h5py.Group, name: str, kind: str, **attributes: Any) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    group.attrs.update(attributes)
    return group


def _image(entry: h5py.Group, name: str, title: str, data: np.ndarray, extent: tuple[int, int], pixel_size: float | None) -> h5py.Group:
    """Write an image over a frame of `extent` (H, W) px as NXdata, with axes at its pixels' centres."""
    group = _group(entry, name, "NXdata", signal="data", axes=["y", "x"], interpretation="image")
    group["title"] = title
    stored = group.create_dataset("data", data=np.asarray(data, dtype=np.float32), compression="gzip", compression_opts=1, shuffle=True)
    stored.attrs["interpretation"] = "image"
    for axis, n, size in (("y", data.shape[0], extent[0]), ("x", data.shape[1], extent[1])):
        centres = (np.arange(n) + 0.5) * size / n - 0.5
        dataset = group.create_dataset(axis, data=centres * (pixel_size or 1.0))
        dataset.attrs["units"] = "angstrom" if pixel_size else "px"
    return group


def _write_frame(entry: h5py.Group, about: Analysis, n_frames: int, probability: np.ndarray | None) -> None:
    frames = about.frames
    name = Path(frames.path).name
    group = _image(
        entry, "frame", name if n_frames == 1 else f"{name}, first of {n_frames}", frames.frame(0), frames.shape, frames.pixel_size
    )
    group.attrs["frames_in_input"] = n_frames
    if probability is not None:
        _image(entry, "probability", "probability that a column is there", probability, frames.shape, frames.pixel_size)


def _quantities(columns: Columns) -> dict[str, np.ndarray]:
    """Return the columns of one frame as they are stored, one array (n,) a quantity."""
    angstrom = columns.yx * (columns.pixel_size or np.nan)
    return {
        "frame": np.full(len(columns), columns.frame),
        "column": np.arange(len(columns)),
        "y_px": columns.yx[:, 0],
        "x_px": columns.yx[:, 1],
        "y_A": angstrom[:, 0],
        "x_A": angstrom[:, 1],
        "sigma_y_px": columns.sigma[:, 0],
        "sigma_x_px": columns.sigma[:, 1],
        "species": columns.species,
        "intensity": columns.intensity,
        "confidence": columns.confidence,
        "fit_ok": columns.fit_ok,
        "agreement": np.asarray(columns.agreement),
    }


def _put(entry: h5py.Group, name: str, n: int, rows: slice, arrays: Mapping[str, np.ndarray], units: Mapping[str, str]) -> None:
    """Write `rows` of a table of `n` rows, which is laid out when its first rows come."""
    if name not in entry:
        group = _group(entry, name, "NXcollection")
        for key, array in arrays.items():
            kind = np.dtype(np.uint8) if array.dtype == bool else array.dtype
            dataset = group.create_dataset(key, shape=(n, *array.shape[1:]), dtype=kind)
            if key in units:
                dataset.attrs["units"] = units[key]
    if rows.stop > rows.start:
        for key, array in arrays.items():
            entry[name][key][rows] = array


def _write_maps(entry: h5py.Group, columns: Columns, encoding: Encoding) -> None:
    maps = _group(entry, "maps", "NXcollection")
    first, yx, size = slice(0, len(columns)), columns.yx, columns.pixel_size
    _scatter(maps, "angle", "angle", encoding.folded[first], "rad", yx, size)
    for k in range(encoding.latents.shape[1]):
        _scatter(maps, f"latent_{k + 1}", f"latent {k + 1}", encoding.latents[first, k], "", yx, size)


def _scatter(maps: h5py.Group, name: str, title: str, values: np.ndarray, units: str, yx: np.ndarray, pixel_size: float | None) -> None:
    """Write values at positions as NXdata with two axes as long as the signal, which viewers show as a scatter plot."""
    group = _group(maps, name, "NXdata", signal=name, axes=["x", "y"])
    group["title"] = title
    dataset = group.create_dataset(name, data=values)
    if units:
        dataset.attrs["units"] = units
    for axis, positions in (("y", yx[:, 0]), ("x", yx[:, 1])):
        stored = group.create_dataset(axis, data=positions * (pixel_size or 1.0))
        stored.attrs["units"] = "angstrom" if pixel_size else "px"


def _write_provenance(entry: h5py.Group, analysis: Analysis, frames: Frames, options: Mapping[str, str]) -> None:
    group = _group(entry, "provenance", "NXcollection")
    facts: dict[str, Any] = {
        "input": frames.path,
        "input_sha256": frames.sha256,
        "n_frames": len(frames),
        "pixel_size_source": frames.pixel_size_source,
        "metadata": json.dumps(dict(frames.metadata), default=str),
        "reader_notices": json.dumps(list(frames.notices)),
        "notices": json.dumps(list(analysis.notices)),
        "doubts": json.dumps(list(analysis.doubts)),
        "seconds": json.dumps(dict(analysis.seconds)),
        "options": json.dumps(dict(options)),
        "segmenter": analysis.segmenter.id,
        "segmenter_sha256": analysis.segmenter.sha256,
        "sampling_factor": analysis.sampling_factor,
        "stemzoo_version": analysis.version,
    }
    if analysis.encoder is not None:
        facts.update(encoder=analysis.encoder.id, encoder_sha256=analysis.encoder.sha256)
    for name, value in facts.items():
        group[name] = value
    for name, number, units in (
        ("pixel_size", frames.pixel_size, "angstrom/px"),
        ("window", analysis.window_px, "px"),
        ("sampling", analysis.sampling, "angstrom/px"),
    ):
        if number is not None:
            group[name] = number
            group[name].attrs["units"] = units
