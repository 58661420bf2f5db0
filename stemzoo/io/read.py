"""Any microscope file to Frames: dm3, dm4, emd, ser, emi, hspy, tif, mrc, npy, HDF5, Zarr, png, jpg.

Owns the table of formats, the checks that every file passes, and whose pixel size counts. Returns Frames in Å/px with the source of the
pixel size and a notice for each decision. Each format's own reader is a file beside this one. Called by analyze.source,
label, and by the watched folder and the server.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.errors import PixelSizeError, ReadError, StemzooError, storable
from stemzoo.io.colour import grey
from stemzoo.io.raw import Raw, is_rgb, problem
from stemzoo.io.units import is_reciprocal, pixel_size
from stemzoo.types import Frames, check_pixel_size

FORMATS = {
    ".dm3": ("dm_tia", "read_dm"),
    ".dm4": ("dm_tia", "read_dm"),
    ".ser": ("dm_tia", "read_tia"),
    ".emi": ("dm_tia", "read_tia"),
    ".emd": ("hdf5", "read_hdf5"),
    ".hspy": ("hdf5", "read_hdf5"),
    ".h5": ("hdf5", "read_hdf5"),
    ".hdf5": ("hdf5", "read_hdf5"),
    ".hdf": ("hdf5", "read_hdf5"),
    ".nxs": ("hdf5", "read_hdf5"),
    ".tif": ("tiff", "read_tiff"),
    ".tiff": ("tiff", "read_tiff"),
    ".mrc": ("mrc", "read_mrc"),
    ".mrcs": ("mrc", "read_mrc"),
    ".npy": ("npy", "read_npy"),
    ".png": ("picture", "read_picture"),
    ".jpg": ("picture", "read_picture"),
    ".jpeg": ("picture", "read_picture"),
    ".zarr": ("zarr", "read_zarr"),
}
"""Suffix → (module in this package, its function `(path, wanted) -> Raw`), imported when the first such file is read."""

_NOISY = ("tifffile", "rsciio", "PIL", "h5py")


def read(path: str | os.PathLike[str], pixel_size: float | None = None, sha256: str | None = None) -> Frames:
    """Return the image or stack in a file.

    Args:
        path: a file of one of `FORMATS`. `FILE::NAME` picks one of several signals by name, number or HDF5 path (`scan.h5::/entry/image`).
        pixel_size: Å/px; overrides the file's own, with a notice where they differ by more than 1 %.
        sha256: of the file, where it was computed before; None computes it, which reads the file whole.

    Returns: Frames (T, H, W). Images up to 256 MB are in memory, larger stacks are read frame by frame. Where no pixel size is known it is
        None and a notice says why. No file beside the one named is opened, except those that an .emi or a multi-file OME tif consists of.

    Raises: ReadError, PixelSizeError, ShapeError or FrameError, each one sentence. Does not repair anything: NaN and hot pixels come as
        stored.
    """
    file, wanted = _split(os.fspath(path))
    module, function = _reader(file)
    size = _user_size(pixel_size, file)
    _check_file(file, folder=module == "zarr")
    with _quiet():
        try:
            raw = getattr(importlib.import_module(f"stemzoo.io.{module}"), function)(file, wanted)
            data, notices = _stack(raw, file)
        except StemzooError:
            raise
        except Exception as error:
            kind, detail = Path(file).suffix[1:], " ".join(str(error).split())[:120] or type(error).__name__
            raise ReadError(
                f"{file}: cannot be read as {kind} ({detail}); it is damaged, cut short or of another format: export it again"
            ) from error
        size, source, more = _pixel_size(raw, size, file)
        frames = Frames(data, size, source, storable(file), sha256 or _sha256(file), dict(raw.metadata), (*raw.notices, *notices, *more))
        if len(frames) == 1 and isinstance(data, np.ndarray):
            frames.frame(0)
    return frames


def _split(path: str) -> tuple[str, str | None]:
    if "::" not in path or os.path.exists(path):
        return path, None
    file, _, wanted = path.partition("::")
    if not wanted:
        raise ReadError(f"{path}: names no signal after '::'; pass FILE::NAME, FILE::NUMBER or FILE")
    return file, wanted


def _reader(file: str) -> tuple[str, str]:
    suffix = Path(file).suffix.lower()
    if suffix in FORMATS:
        return FORMATS[suffix]
    if not os.path.exists(file):
        raise ReadError(f"{file}: no such file; check the name")
    if os.path.isdir(file):
        raise ReadError(f"{file}: is a folder; pass the files in it (e.g. {os.path.join(file, '*.tif')})")
    raise ReadError(f"{file}: suffix {suffix or '(none)'} is not one stemzoo reads; wanted one of {' '.join(FORMATS)}")


def _check_file(file: str, folder: bool = False) -> None:
    if not os.path.exists(file):
        raise ReadError(f"{file}: no such file; check the name")
    if os.path.isdir(file):
        if folder:
            return
        raise ReadError(f"{file}: is a folder; wanted a file")
    if os.path.getsize(file) == 0:
        raise ReadError(f"{file}: is empty (0 bytes); copy or export it again")
    try:
        with open(file, "rb"):
            pass
    except OSError as error:
        raise ReadError(f"{file}: cannot be opened ({error.strerror}); check its permissions") from error


def _user_size(value: float | None, file: str) -> float | None:
    try:
        return check_pixel_size(value, file)
    except (TypeError, ValueError):
        raise PixelSizeError(f"{file}: pixel size {value!r} is not a number; pass Å/px, e.g. 0.12") from None


def _stack(raw: Raw, file: str) -> tuple[Any, tuple[str, ...]]:
    """Return (T, H, W) data, and a notice for each thing decided. Axes of length 1 do not count."""
    data, notices = _one_channel(raw.data, file)
    if trouble := problem(data.shape, data.dtype):
        raise ReadError(f"{file}: is {trouble}")
    sides = tuple(side for side in data.shape if side != 1)
    wanted = sides if len(sides) == 3 else (1, *sides)
    if tuple(data.shape) != wanted:
        data = data.reshape(wanted)
    if isinstance(data, np.ma.MaskedArray):
        data = np.ma.filled(data.astype(np.float32), np.nan)
    if isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
        if not data.dtype.isnative:
            data = data.astype(data.dtype.newbyteorder("="))
        bad = int(data.size - np.isfinite(data).sum()) if data.dtype.kind == "f" else 0
        notices += (f"{bad} of {data.size} pixels are not finite",) if bad else ()
    return data, notices


def _one_channel(data: Any, file: str) -> tuple[Any, tuple[str, ...]]:
    """Return grey data of an image whose pixels are RGB records (DigitalMicrograph) or whose last axis is RGB(A) bytes; else as it is."""
    if not isinstance(data, np.ndarray):
        return data, ()
    if is_rgb(data.dtype):
        return grey(np.stack([data[name] for name in "RGB"], axis=-1), file)
    if data.ndim == 3 and data.shape[-1] in (3, 4) and data.dtype == np.uint8:
        return grey(data, file)
    return data, ()


def _pixel_size(raw: Raw, user: float | None, file: str) -> tuple[float | None, str, tuple[str, ...]]:
    """Return the pixel size [Å/px], its source and notices: the user's before the file's."""
    reciprocal = next((axis.unit for axis in raw.axes or () if is_reciprocal(axis.unit)), None)
    if user is None:
        if reciprocal is not None:
            raise ReadError(
                f"{file}: its axes are in {reciprocal}, so it is a diffraction pattern or a Fourier transform; wanted an image; "
                "pass --pixel-size Å if it is one"
            )
        size, notices = pixel_size(raw.axes, file)
        return size, "unknown" if size is None else "file", notices
    try:
        size, notices = pixel_size(raw.axes, file)
    except PixelSizeError:
        return user, "user", (f"--pixel-size {user:g} Å/px replaces the file's, which states scan pixels that are not square",)
    if size is None or abs(size / user - 1) <= 0.01:
        return user, "user", ()
    return user, "user", (f"--pixel-size {user:g} Å/px replaces the file's {size:.4g} Å/px",)


def _sha256(file: str) -> str:
    """Return the hash of a file, or of a folder's files in the order of their names, with their names."""
    if os.path.isdir(file):
        whole = hashlib.sha256()
        for part in sorted(path for path in Path(file).rglob("*") if path.is_file()):
            whole.update(f"{part.relative_to(file).as_posix()}\0{_sha256(str(part))}\n".encode())
        return whole.hexdigest()
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the readers' libraries from printing: what matters to the user is a notice or an error of ours."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
