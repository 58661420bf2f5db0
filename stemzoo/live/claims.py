"""How many pixels a file says it holds, told from its headers before any of them is unpacked. Owns what a compressed upload may grow to.

A few kilobytes of PNG, deflated TIFF or HDF5 can stand for more numbers than the machine has memory. Called by live.upload.
"""

from __future__ import annotations

import lzma
import math
import warnings
import zlib
from pathlib import Path
from typing import Any

from stemzoo.errors import ReadError

PICTURES = (".png", ".jpg", ".jpeg")
TIFF = (".tif", ".tiff")
HDF5 = (".emd", ".h5", ".hspy")
PAGES = 4096  # of a TIFF
UNCOMPRESSED, DEFLATE, LZMA = (1,), (8, 32946), (34925,)


def pixels_claimed(path: Path, suffix: str) -> int:
    """Return how many pixels the largest image or array in the file at `path` has; 0 for formats that store each pixel as it is.

    Raises: ReadError where a header cannot be read, or where packed pixels are more than the header says.
    """
    try:
        if suffix in PICTURES:
            return _picture(path)
        if suffix in TIFF:
            return _tiff(path)
        return _hdf5(path) if suffix in HDF5 else 0
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        raise ReadError(
            f"the body cannot be read as {suffix[1:]} ({_said(error, path)}); it is damaged, cut short or of another format"
        ) from None


def _said(error: Exception, path: Path) -> str:
    return " ".join(str(error).replace(str(path), "it").split())[:120] or type(error).__name__


def _picture(path: Path) -> int:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is our own
        with Image.open(path) as picture:
            return math.prod(picture.size)


def _tiff(path: Path) -> int:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        if len(tif.pages) > PAGES:
            raise ReadError(f"the file has {len(tif.pages)} pages; the most taken are {PAGES}")
        for page in tif.pages:
            _segments_hold_what_they_say(tif.filehandle, page.aspage())
        return max((math.prod(series.shape) for series in tif.series), default=0)


def _segments_hold_what_they_say(file: Any, page: Any) -> None:
    """Raise ReadError where a strip or tile of a TIFF's page unpacks to more bytes than its part of the page has."""
    if page.compression in UNCOMPRESSED:
        return
    tile = page.chunks
    most = math.prod(tile) * page.dtype.itemsize if page.dtype is not None else 0
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        packed = file.read(count)
        if page.compression in DEFLATE:
            grown = len(zlib.decompressobj().decompress(packed, most + 1))
        elif page.compression in LZMA:
            grown = len(lzma.LZMADecompressor().decompress(packed, most + 1))
        else:
            continue  # of the others, readers take no more than what the page needs
        if grown > most:
            raise ReadError(f"a part of the image that has {most} bytes unpacks to more; the file is damaged")


def _hdf5(path: Path) -> int:
    import h5py

    largest = 0

    def measure(_: str, item: Any) -> None:
        nonlocal largest
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            largest = max(largest, math.prod(item.shape) * max(1, item.dtype.itemsize // 8))

    with h5py.File(path, "r") as file:
        file.visititems(measure)
    return largest
