"""analysis.h5: an Analysis to HDF5 with NeXus data groups, and back. Owns its layout; the file opens in silx, h5web and HyperSpy.

/entry                 NXentry, `default` leads to the frame
  frame                NXdata: frame 0 as an image, axes in Å (px where the pixel size is unknown)
  probability          NXdata: the network's probability for frame 0, at the network's sampling
  columns              NXcollection: one dataset a quantity, one row a column, units as attributes
  maps/angle, latent_1 NXdata: scatter over x, y of frame 0
  encoding             NXcollection: angle, latents … of every column
  provenance           NXcollection: input, pixel size, models, notices, options, times, version

Frames after the first are not copied: `provenance/input` says where they lie. Called by `stemzoo.analyze` and readers of results.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stemzoo.errors import OutputError, ReadError
from stemzoo.types import Analysis, Columns, Encoding, Frames, ModelId

SCHEMA = 1
ENCODING_FIELDS = ("angle", "angle_sigma", "symmetry", "latents", "frame", "column", "inside")
ENCODING_UNITS = {"angle": "rad", "angle_sigma": "rad"}


def write_results(path: Path, analysis: Analysis, probability: np.ndarray | None = None, options: Mapping[str, str] | None = None) -> None:
    """Write analysis.h5; the file appears whole or not at all.

    Args: probability: (h, w) of frame 0, over the whole frame at any sampling. options: as given by the user.
    Raises: OutputError if the file cannot be written where it was asked for.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "stemzoo", "stemzoo_schema": SCHEMA})
            entry = _group(file, "entry", "NXentry", default="frame")
            entry["title"] = f"Atomic columns of {Path(analysis.frames.path).name}"
            _write_frame(entry, analysis, probability)
            _write_columns(entry, analysis)
            _write_encoding(entry, analysis)
            _write_provenance(entry, analysis, options or {})
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); pass another --out") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_results(path: Path) -> Analysis:
    """Return the Analysis behind an analysis.h5, as the report needs it.

    Its frames hold frame 0 only: asking for a later one raises ReadError naming the input file.
    Raises: ReadError if the file is missing, damaged, of a newer schema or not an analysis.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            schema = int(file.attrs.get("stemzoo_schema", 0))
            if schema == 0:
                raise ReadError(f"{path}: an HDF5 file, but not an analysis; wanted analysis.h5 from stemzoo analyze")
            if schema > SCHEMA:
                raise ReadError(f"{path}: schema {schema}; this stemzoo reads up to {SCHEMA}: upgrade stemzoo")
            return _analysis(file["entry"])
    except OSError as error:
        why = error.strerror or str(error).split("(")[0].strip()
        raise ReadError(f"{path}: cannot be read as HDF5 ({why}); wanted analysis.h5 from stemzoo analyze") from error
    except (KeyError, ValueError, TypeError) as error:
        raise ReadError(f"{path}: damaged, a part is missing or does not fit ({error}); run stemzoo analyze again") from error


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """A stack of which only frame 0 was kept; behaves as (T, H, W) data."""

    image: np.ndarray
    n_frames: int
    path: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        return (self.n_frames, int(self.image.shape[0]), int(self.image.shape[1]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the frame."""
        return self.image.dtype

    def __getitem__(self, index: int) -> np.ndarray:
        if index != 0:
            raise ReadError(f"frame {index} is not kept in analysis.h5, which holds frame 0; read it from {self.path}")
        return self.image


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


def _write_frame(entry: h5py.Group, analysis: Analysis, probability: np.ndarray | None) -> None:
    frames = analysis.frames
    title = Path(frames.path).name if len(frames) == 1 else f"{Path(frames.path).name}, frame 0 of {len(frames)}"
    group = _image(entry, "frame", title, frames.frame(0), frames.shape, frames.pixel_size)
    group.attrs["frames_in_input"] = len(frames)
    if probability is not None:
        _image(entry, "probability", "probability that a column is there", probability, frames.shape, frames.pixel_size)


def _write_columns(entry: h5py.Group, analysis: Analysis) -> None:
    tables = analysis.columns
    group = _group(entry, "columns", "NXcollection")
    yx = np.concatenate([c.yx for c in tables])
    sigma = np.concatenate([c.sigma for c in tables])
    angstrom = np.concatenate([c.yx * (c.pixel_size or np.nan) for c in tables])
    quantities: dict[str, tuple[np.ndarray, str]] = {
        "frame": (np.concatenate([np.full(len(c), c.frame) for c in tables]), ""),
        "column": (np.concatenate([np.arange(len(c)) for c in tables]), ""),
        "y_px": (yx[:, 0], "px"),
        "x_px": (yx[:, 1], "px"),
        "y_A": (angstrom[:, 0], "angstrom"),
        "x_A": (angstrom[:, 1], "angstrom"),
        "sigma_y_px": (sigma[:, 0], "px"),
        "sigma_x_px": (sigma[:, 1], "px"),
        "species": (np.concatenate([c.species for c in tables]), ""),
        "intensity": (np.concatenate([c.intensity for c in tables]), "counts*px^2"),
        "confidence": (np.concatenate([c.confidence for c in tables]), ""),
        "fit_ok": (np.concatenate([c.fit_ok for c in tables]).astype(np.uint8), ""),
    }
    for name, (values, units) in quantities.items():
        dataset = group.create_dataset(name, data=values)
        if units:
            dataset.attrs["units"] = units
    per_frame = [{"n": len(c), "frame": c.frame, "classes": list(c.classes), "pixel_size": c.pixel_size} for c in tables]
    group.create_dataset("per_frame", data=json.dumps(per_frame))
    group["species"].attrs["classes"] = list(tables[0].classes) if tables else []


def _write_encoding(entry: h5py.Group, analysis: Analysis) -> None:
    encoding = analysis.encoding
    if encoding is None:
        return
    group = _group(entry, "encoding", "NXcollection")
    for name in ENCODING_FIELDS:
        values = np.asarray(getattr(encoding, name))
        dataset = group.create_dataset(name, data=values.astype(np.uint8) if values.dtype == bool else values)
        if name in ENCODING_UNITS:
            dataset.attrs["units"] = ENCODING_UNITS[name]
    maps = _group(entry, "maps", "NXcollection")
    first = slice(0, len(analysis.columns[0]))
    yx, size = analysis.columns[0].yx, analysis.columns[0].pixel_size
    _scatter(maps, "angle", "angle", np.asarray(encoding.angle)[first], "rad", yx, size)
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


def _write_provenance(entry: h5py.Group, analysis: Analysis, options: Mapping[str, str]) -> None:
    group = _group(entry, "provenance", "NXcollection")
    frames = analysis.frames
    facts: dict[str, Any] = {
        "input": frames.path,
        "input_sha256": frames.sha256,
        "n_frames": len(frames),
        "pixel_size_source": frames.pixel_size_source,
        "metadata": json.dumps(dict(frames.metadata), default=str),
        "reader_notices": json.dumps(list(frames.notices)),
        "notices": json.dumps(list(analysis.notices)),
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


def _analysis(entry: h5py.Group) -> Analysis:
    facts = entry["provenance"]

    def text(name: str) -> str:
        return str(facts[name].asstr()[()])

    path, n_frames = text("input"), int(facts["n_frames"][()])
    data = FirstFrame(entry["frame/data"][()], n_frames, path)
    frames = Frames(
        data=data,
        pixel_size=float(facts["pixel_size"][()]) if "pixel_size" in facts else None,
        pixel_size_source=text("pixel_size_source"),
        path=path,
        sha256=text("input_sha256"),
        metadata=json.loads(text("metadata")),
        notices=tuple(json.loads(text("reader_notices"))),
    )
    encoding = None
    if "encoding" in entry:
        values = {name: entry["encoding"][name][()] for name in ENCODING_FIELDS}
        values["inside"] = values["inside"].astype(bool)
        encoding = Encoding(**values)
    return Analysis(
        frames=frames,
        columns=_columns(entry["columns"]),
        segmenter=ModelId(text("segmenter"), text("segmenter_sha256")),
        encoding=encoding,
        encoder=ModelId(text("encoder"), text("encoder_sha256")) if "encoder" in facts else None,
        sampling_factor=float(facts["sampling_factor"][()]),
        window_px=float(facts["window"][()]) if "window" in facts else None,
        notices=tuple(json.loads(text("notices"))),
        seconds=json.loads(text("seconds")),
        version=text("stemzoo_version"),
        sampling=float(facts["sampling"][()]) if "sampling" in facts else None,
    )


def _columns(group: h5py.Group) -> tuple[Columns, ...]:
    per_frame = json.loads(str(group["per_frame"].asstr()[()]))
    names = ("y_px", "x_px", "sigma_y_px", "sigma_x_px", "species", "intensity", "confidence", "fit_ok")
    values = {name: group[name][()] for name in names}
    ends = np.cumsum([0, *(table["n"] for table in per_frame)])
    tables = []
    for k, table in enumerate(per_frame):
        part = {name: array[ends[k] : ends[k + 1]] for name, array in values.items()}
        tables.append(
            Columns(
                yx=np.stack([part["y_px"], part["x_px"]], axis=1),
                sigma=np.stack([part["sigma_y_px"], part["sigma_x_px"]], axis=1),
                species=part["species"],
                intensity=part["intensity"],
                confidence=part["confidence"],
                fit_ok=part["fit_ok"],
                classes=tuple(table["classes"]),
                pixel_size=table["pixel_size"],
                frame=table["frame"],
            )
        )
    return tuple(tables)
