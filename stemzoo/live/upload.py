"""Bytes from outside to Frames: npy, raw numbers, JSON, or a microscope's file. Owns what is accepted and what is refused unread.

Nothing named from outside is ever opened: a microscope's file is written under a name of ours into a folder of its own, and formats that
can point to other files are searched for such pointers first; nor is anything unpacked before its headers were believed (live.claims).
Called by live.server, in the worker's thread.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.errors import ReadError, StemzooError
from stemzoo.io.read import FORMATS, read
from stemzoo.live.claims import HDF5, TIFF, TooLargeError, check_claims
from stemzoo.types import Frames

SEVERAL = (".ser", ".emi", ".zarr")  # are, or may be, more than one file
FILES = tuple(suffix for suffix in FORMATS if suffix not in SEVERAL)
SHAPE = r"^[0-9]{1,9}(,[0-9]{1,9}){1,2}$"
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is taken: bytes of a body, pixels of all its frames."""

    body_bytes: int = 64 << 20
    pixels: int = 64 << 20


def from_npy(body: bytes, pixel_size: float | None, name: str, limits: Limits) -> Frames:
    """Return the frame or stack in a .npy file's bytes. Raises: ReadError for anything else, pickles included."""
    try:
        file = io.BytesIO(body)
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(file, max_header_size=4096)
    except Exception:
        raise ReadError("the body is no .npy file; write it with numpy.save") from None
    data = _numbers(body[file.tell() :], shape, dtype, limits)
    return _frames(data.reshape(shape, order="F" if fortran else "C"), body, pixel_size, name)


def from_raw(body: bytes, shape: str, dtype: str, pixel_size: float | None, name: str, limits: Limits) -> Frames:
    """Return frames from bare little-endian numbers. `shape` is `H,W` or `T,H,W`. Raises: ReadError where the three disagree."""
    if not re.fullmatch(SHAPE, shape):
        raise ReadError(f"X-Frame-Shape is {shape[:40]!r}; wanted H,W or T,H,W")
    if dtype not in DTYPES:
        raise ReadError(f"X-Frame-Dtype is {dtype[:40]!r}; wanted one of {', '.join(DTYPES)}")
    sides = tuple(int(side) for side in shape.split(","))
    return _frames(_numbers(body, sides, np.dtype(dtype).newbyteorder("<"), limits).reshape(sides), body, pixel_size, name)


def from_lists(image: list[list[float]], body: bytes, pixel_size: float | None, name: str, limits: Limits) -> Frames:
    """Return one frame from rows of numbers. Raises: ReadError where the rows differ in length."""
    widths = {len(row) for row in image}
    if len(widths) != 1:
        raise ReadError(f"image has rows of {min(widths, default=0)} to {max(widths, default=0)} numbers; wanted all of one length")
    if len(image) * widths.pop() > limits.pixels:
        raise TooLargeError(f"image has more than {limits.pixels} pixels, the most taken")
    with np.errstate(over="ignore"):  # beyond float32 is not finite, which is said of the frame
        return _frames(np.array(image, dtype=np.float64).astype(np.float32), body, pixel_size, name)


def from_file(body: bytes, suffix: str, pixel_size: float | None, name: str, limits: Limits) -> Frames:
    """Return the frames of a microscope's file. Raises: ReadError for an unknown suffix or a file that points to others."""
    suffix = suffix.lower()
    if suffix not in FILES:
        raise ReadError(f"files with suffix {suffix[:20] or '(none)'} are not taken; wanted one of {' '.join(FILES)}")
    if suffix == ".npy":
        return from_npy(body, pixel_size, name, limits)
    with _own_file(body, suffix) as path:
        if pointer := _points_outside(path, body, suffix):
            raise ReadError(f"the file refers to another ({pointer}); send one that holds its own pixels")
        check_claims(path, suffix, limits.pixels)
        try:
            frames = read(path, pixel_size)
        except StemzooError as error:
            raise type(error)(str(error).replace(str(path), name)) from None
        if math.prod(frames.data.shape) > limits.pixels:
            raise TooLargeError(f"the file has {math.prod(frames.data.shape)} pixels; the most taken is {limits.pixels}")
        data = np.stack([np.asarray(frames.data[index]) for index in range(len(frames))])
    said = tuple(notice.replace(str(path), name) for notice in frames.notices)
    return Frames(data, frames.pixel_size, frames.pixel_size_source, name, frames.sha256, frames.metadata, said)


def _numbers(data: bytes, shape: tuple[int, ...], dtype: np.dtype, limits: Limits) -> np.ndarray:
    """Return the numbers (n,) in `data`, once they are as many as `shape` says."""
    if len(shape) not in (2, 3) or dtype.kind not in "uif" or dtype.itemsize > 8 or 0 in shape:
        raise ReadError(f"the array is {dtype} of shape {shape}; wanted real numbers (H, W) or (T, H, W)")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ReadError(f"{dtype} of shape {shape} takes {math.prod(shape) * dtype.itemsize} bytes; the body has {len(data)}")
    if math.prod(shape) > limits.pixels:
        raise TooLargeError(f"shape {shape} has {math.prod(shape)} pixels; the most taken is {limits.pixels}")
    return np.frombuffer(data, dtype)


def _frames(data: np.ndarray, body: bytes, pixel_size: float | None, name: str) -> Frames:
    stack = data[None] if data.ndim == 2 else data
    if not stack.dtype.isnative:
        stack = stack.astype(stack.dtype.newbyteorder("="))
    return Frames(stack, pixel_size, "unknown" if pixel_size is None else "user", name, hashlib.sha256(body).hexdigest())


@contextmanager
def _own_file(body: bytes, suffix: str) -> Iterator[Path]:
    """Give a file of ours with these bytes, alone in its folder."""
    with tempfile.TemporaryDirectory(prefix="stemzoo-") as folder:
        path = Path(folder) / f"frame{suffix}"
        path.write_bytes(body)
        os.chmod(path, 0o600)
        yield path


def _points_outside(path: Path, body: bytes, suffix: str) -> str:
    """Return what in the file names another one, or an empty text."""
    if suffix in TIFF and re.search(rb"<UUID[^>]{0,400}FileName\s*=", body):
        return "OME-XML, UUID FileName"
    if suffix in HDF5:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                return _hdf5_pointer(file)
        except (OSError, RuntimeError, KeyError):
            raise ReadError(f"the body is no {suffix[1:]} file, or is damaged; export it again") from None
    return ""


def _hdf5_pointer(file: Any) -> str:
    """Return the first external link, external storage or virtual dataset in an open HDF5 file."""
    import h5py

    stack: list[Any] = [file]
    seen: set[int] = set()
    while stack:
        group = stack.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                return f"external link {name!r}"
            if not isinstance(link, h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                return f"dataset {name!r} stored elsewhere"
            if isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address not in seen:
                    seen.add(address)
                    stack.append(item)
    return ""
