"""HDF5 in all its dialects to Raw: Velox emd, NCEM emd, HyperSpy hspy, our own datasets, and any file with one clear image.

Owns which dialect a file speaks and a stack that is read frame by frame without keeping the file open. Called by io.read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from stemzoo.errors import ReadError
from stemzoo.io.hdf5_claims import attribute, check_array, check_file
from stemzoo.io.raw import EAGER_BYTES, Raw, Signal, Stack, choose, problem
from stemzoo.io.units import Axis
from stemzoo.types import MIN_FRAME_PX


@dataclass(frozen=True)
class InFile(Stack):
    """Frames (T, H, W) inside an HDF5 file.

    Args:
        path: the file.
        names: one dataset that holds all frames, or one dataset a frame.
        order: for a single dataset, which of its axes are (T, H, W).
        shape, dtype: of the stack.
    """

    path: str
    names: tuple[str, ...]
    order: tuple[int, int, int]
    shape: tuple[int, int, int]
    dtype: np.dtype

    def read(self, number: int) -> np.ndarray:
        """Return frame `number` (H, W)."""
        try:
            frame = self._read(number)
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as failure:
            why = str(failure).strip("'\"")
            raise ReadError(f"{self.path}: frame {number} cannot be read ({why}); the file is damaged: copy it again") from None
        return frame if self.order[1] < self.order[2] else frame.T

    def _read(self, number: int) -> np.ndarray:
        with h5py.File(self.path, "r") as file:
            stored = file[self.names[number if len(self.names) > 1 else 0]]
            check_array(stored, EAGER_BYTES, math.prod(self.shape[1:]) * self.dtype.itemsize)
            if len(self.names) > 1 or stored.ndim == 2:
                return np.asarray(stored[()]).reshape(self.shape[1:])
            return np.asarray(stored[tuple(number if axis == self.order[0] else slice(None) for axis in range(stored.ndim))])


@dataclass(frozen=True)
class _Image:
    """A dataset that may be frames: `order` names its (T,) H, W axes, `axes` their calibration, `group` where its metadata is."""

    signal: Signal
    dataset: str
    order: tuple[int, ...]
    axes: tuple[Axis, Axis] | None
    facts: Mapping[str, Any]


def read_hdf5(path: str, wanted: str | None) -> Raw:
    """Return the image or stack of an HDF5 file of any dialect.

    `wanted` is the name of a signal (Velox, NCEM, HyperSpy), of a frame (our datasets) or an internal path (`/scan/image`).

    Raises: ReadError if it is no HDF5 file, holds no image, or several that no name tells apart.
    """
    if not h5py.is_hdf5(path):
        raise ReadError(f"{path}: is not an HDF5 file, or its beginning is damaged; export it again")
    check_file(path)
    with h5py.File(path, "r") as file:
        if wanted is None and "frames" in file and isinstance(file["frames"], h5py.Group):
            own = _own(file, path)
            if own is not None:
                return own
        images = _velox(file) or _ncem(file) or _hyperspy(file)
        if not images or (wanted is not None and wanted.strip("/") in file and not any(wanted == i.signal.name for i in images)):
            images = _plain(file, wanted)
        index, notices = choose(path, [image.signal for image in images], wanted)
        image = images[index]
        dataset = file[image.dataset]
        facts = {**image.facts, "signal": image.signal.name}
        if len(image.order) == 3 and dataset.nbytes > EAGER_BYTES:
            t, y, x = image.order
            shape = (dataset.shape[t], dataset.shape[y], dataset.shape[x])
            return Raw(InFile(path, (image.dataset,), (t, y, x), shape, dataset.dtype), image.axes, facts, notices)
        check_array(dataset, EAGER_BYTES)
        data = np.asarray(dataset[()])
    if len(image.order) == data.ndim:
        data = np.transpose(data, image.order)
    return Raw(data, image.axes, facts, notices)


def _own(file: h5py.File, path: str) -> Raw | None:
    """Return all frames of a dataset file as one stack; None where `/frames` is something else."""
    frames = {name: group for name, group in file["frames"].items() if isinstance(group, h5py.Group) and "image" in group}
    if not frames:
        return None
    kinds = {(group["image"].shape, float(attribute(group, "pixel_size", np.nan))) for group in frames.values()}
    if len({repr(kind) for kind in kinds}) > 1:
        listed = ", ".join(list(frames)[:6]) + (" …" if len(frames) > 6 else "")
        raise ReadError(f"{path}: its frames ({listed}) differ in size or pixel size; name one: '{path}::/frames/{next(iter(frames))}'")
    shape, size = next(iter(kinds))
    first = next(iter(frames.values()))
    dtype = first["image"].dtype
    names = tuple(f"/frames/{name}/image" for name in frames)
    stack = InFile(path, names, (0, 1, 2), (len(names), *shape[-2:]), dtype)
    small = len(names) * int(np.prod(shape)) * dtype.itemsize <= EAGER_BYTES
    data = stack[:] if small else stack
    facts = {key: str(value) for key in ("material", "zone_axis") if (value := attribute(first, key)) is not None}
    return Raw(data, None if np.isnan(size) else (Axis(size, "Å"), Axis(size, "Å")), facts)


def _velox(file: h5py.File) -> list[_Image]:
    """Images of a Velox file: `/Data/Image/<id>` with `Data` (H, W, T) and `Metadata`, a column of JSON bytes a frame."""
    images = []
    group = file.get("Data/Image")
    for name in group if isinstance(group, h5py.Group) else ():
        data = group[name].get("Data")
        if data is None:
            continue
        facts = _velox_metadata(group[name])
        result = facts.get("BinaryResult", {})
        size = result.get("PixelSize", {})
        units = (str(result.get("PixelUnitY", "")), str(result.get("PixelUnitX", "")))
        axes = (Axis(float(size["height"]), units[0]), Axis(float(size["width"]), units[1])) if {"height", "width"} <= set(size) else None
        detector = _velox_detector(facts)
        voltage = facts.get("Optics", {}).get("AccelerationVoltage")
        kept = {"detector": detector, "energy_kev": float(voltage) / 1000 if voltage else None}
        kept["date"] = facts.get("Acquisition", {}).get("AcquisitionStartDatetime", {}).get("DateTime")
        shape = (data.shape[2], *data.shape[:2]) if data.ndim == 3 else data.shape
        signal = Signal(detector or name, shape, problem(shape, data.dtype, units))
        order = (2, 0, 1) if data.ndim == 3 else tuple(range(data.ndim))
        images.append(_Image(signal, data.name, order, axes, {key: value for key, value in kept.items() if value}))
    return images


def _velox_metadata(group: h5py.Group) -> dict[str, Any]:
    if "Metadata" not in group:
        return {}
    stored = group["Metadata"]
    check_array(stored)
    first = np.asarray(stored[:, 0] if stored.ndim == 2 else stored[()], dtype=np.uint8)
    try:
        facts = json.loads(first.tobytes().split(b"\0")[0].decode("utf-8"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _velox_detector(facts: Mapping[str, Any]) -> str:
    result = facts.get("BinaryResult", {})
    if result.get("Detector"):
        return str(result["Detector"])
    detectors = facts.get("Detectors", {})
    one = detectors.get(f"Detector-{result.get('DetectorIndex')}") or (next(iter(detectors.values())) if len(detectors) == 1 else {})
    return str(one.get("DetectorName", ""))


def _ncem(file: h5py.File) -> list[_Image]:
    """Images of an NCEM file: groups marked `emd_group_type`, with `data` and its axes `dim1`, `dim2` … (`dim0` … in later versions)."""
    images = []
    groups: list[h5py.Group] = []
    file.visititems(lambda _, item: groups.append(item) if isinstance(item, h5py.Group) and "emd_group_type" in item.attrs else None)
    for group in groups:
        data = group.get("data")
        if not isinstance(data, h5py.Dataset):
            continue
        first = 0 if "dim0" in group else 1
        dims = [_dimension(group.get(f"dim{i + first}")) for i in range(data.ndim)]
        order = _spatial_order([name for name, _ in dims])
        axes = (dims[order[-2]][1], dims[order[-1]][1]) if data.ndim >= 2 else None
        shape = tuple(data.shape[i] for i in order)
        signal = Signal(group.name.rsplit("/", 1)[-1], shape, problem(shape, data.dtype, [dims[i][1].unit for i in order]))
        images.append(_Image(signal, data.name, order, axes, {}))
    return images


def _dimension(dim: h5py.Dataset | None) -> tuple[str, Axis]:
    if dim is None:
        return "", Axis(1.0)
    check_array(dim)
    values = np.asarray(dim[()]).ravel()
    step = float(values[1] - values[0]) if values.size > 1 and values.dtype.kind in "fiu" else 1.0
    return _text(attribute(dim, "name")), Axis(step, _text(attribute(dim, "units")))


def _spatial_order(names: list[str]) -> tuple[int, ...]:
    """Return the order that puts y and x last, where the axes' names say which they are; else as stored."""
    plain = [name.strip().lower().removeprefix("r").lstrip("_") for name in names]
    if plain.count("x") == 1 and plain.count("y") == 1:
        y, x = plain.index("y"), plain.index("x")
        return (*(i for i in range(len(names)) if i not in (y, x)), y, x)
    return tuple(range(len(names)))


def _hyperspy(file: h5py.File) -> list[_Image]:
    """Signals of a HyperSpy file: `/Experiments/<title>` with `data`, and a group `axis-<i>` for each axis."""
    images = []
    group = file.get("Experiments")
    for name in group if isinstance(group, h5py.Group) else ():
        data = group[name].get("data")
        if not isinstance(data, h5py.Dataset):
            continue
        described = [group[name].get(f"axis-{i}") for i in range(data.ndim)]
        axes = [
            Axis(1.0) if axis is None else Axis(float(attribute(axis, "scale", 1.0)), _text(attribute(axis, "units"))) for axis in described
        ]
        metadata = group[name].get("metadata")
        facts: dict[str, Any] = {}
        if metadata is not None:
            general, microscope = metadata.get("General"), metadata.get("Acquisition_instrument/TEM")
            facts = {} if general is None else {key: text for key in ("title", "date") if (text := _text(attribute(general, key)))}
            beam = None if microscope is None else attribute(microscope, "beam_energy")
            if beam is not None:
                facts["energy_kev"] = float(beam)
        signal = Signal(name, data.shape, problem(data.shape, data.dtype, [axis.unit for axis in axes]))
        images.append(_Image(signal, data.name, tuple(range(data.ndim)), (axes[-2], axes[-1]) if len(axes) > 1 else None, facts))
    return images


def _plain(file: h5py.File, wanted: str | None) -> list[_Image]:
    """Datasets that could be frames by their shape; with `wanted`, whatever lies at that path."""
    found: list[h5py.Dataset] = []
    if wanted is not None and wanted.strip("/") in file:
        item = file[wanted]
        found = [item["image"] if isinstance(item, h5py.Group) and "image" in item else item]
        if not isinstance(found[0], h5py.Dataset):
            raise ReadError(f"{file.filename}: {wanted} is a group; it holds {', '.join(item) or 'nothing'}")
    else:
        file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) and _looks_like_frames(item) else None)
    images = []
    for data in found:
        size = attribute(data, "pixel_size", attribute(data.parent, "pixel_size"))
        unit = _text(attribute(data, "pixel_size_units", attribute(data, "pixel_unit", "Å")))
        axes = (Axis(float(np.ravel(size)[0]), unit), Axis(float(np.ravel(size)[-1]), unit)) if size is not None else None
        name = wanted if wanted is not None and len(found) == 1 else data.name
        images.append(_Image(Signal(name, data.shape, problem(data.shape, data.dtype)), data.name, tuple(range(data.ndim)), axes, {}))
    return images


def _looks_like_frames(data: h5py.Dataset) -> bool:
    """Return True for numeric arrays at least as large as a frame: no tables, no axes."""
    sides = [side for side in data.shape or () if side != 1]
    return data.dtype.kind in "biufc" and len(sides) >= 2 and min(sides[-2:]) >= MIN_FRAME_PX


def _text(value: Any) -> str:
    if value is None or isinstance(value, h5py.Empty):
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
