"""What a packed file may grow to: believed from its headers, then held to it, before any reader unpacks it.

A few kilobytes of PNG, deflated TIFF or HDF5 can stand for more numbers than the machine has memory: by saying so in a header, or by a
chunk or strip that unpacks to more than the header says, which the libraries would follow to the end. Owns both bounds. Called by
live.upload.
"""

from __future__ import annotations

import lzma
import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stemzoo.errors import ReadError
from stemzoo.io.read import FORMATS

PICTURES = (".png", ".jpg", ".jpeg")
TIFF = (".tif", ".tiff")
HDF5 = tuple(suffix for suffix, (module, _) in FORMATS.items() if module == "hdf5")
PAGES = 4096  # of a TIFF
UNCOMPRESSED, DEFLATE, LZMA = (1,), (8, 32946), (34925,)
# HDF5's numbers of the filters whose output has a bound that can be looked at beforehand; an unpacked byte is at most one of the chunk.
DEFLATED, SHUFFLED, SUMMED = 1, 2, 3
SUM_BYTES = 4  # that fletcher32 adds to a chunk


class TooLargeError(ReadError):
    """What was sent holds, or would unpack to, more than is taken."""


def check_claims(path: Path, suffix: str, most_pixels: int) -> None:
    """Return if the file at `path` holds at most so many pixels and unpacks to no more than it says; other formats store each as it is.

    Raises: TooLargeError for more pixels; ReadError where a header cannot be read, or where something unpacks to more than its header says.
    """
    with _readable(path, suffix):
        if suffix in PICTURES:
            _check(_picture(path), most_pixels)
        elif suffix in TIFF:
            _check_tiff(path, most_pixels)
        elif suffix in HDF5:
            _check_hdf5(path, most_pixels)


def _check(claimed: int, most_pixels: int) -> None:
    if claimed > most_pixels:
        raise TooLargeError(f"the file says that it has {claimed} pixels; the most taken is {most_pixels}")


@contextmanager
def _readable(path: Path, suffix: str) -> Iterator[None]:
    try:
        yield
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).replace(str(path), "it").split())[:120] or type(error).__name__
        raise ReadError(f"the body cannot be read as {suffix[1:]} ({said}); it is damaged, cut short or of another format") from None


def _picture(path: Path) -> int:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is our own
        with Image.open(path) as picture:
            return math.prod(picture.size)


def _check_tiff(path: Path, most_pixels: int) -> None:
    """All pages together count: many small ones may share one strip."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        if len(tif.pages) > PAGES:
            raise TooLargeError(f"the file has {len(tif.pages)} pages; the most taken are {PAGES}")
        pages = [page.aspage() for page in tif.pages]
        _check(max(sum(math.prod(page.shape) for page in pages), *(math.prod(series.shape) for series in tif.series), 0), most_pixels)
        for page in pages:
            _check_segments(tif.filehandle, page)


def _check_segments(file: Any, page: Any) -> None:
    """Raise ReadError where a strip or tile of a TIFF's page unpacks to more bytes than its part of the page has."""
    if page.compression in UNCOMPRESSED:
        return
    unpack: Callable[[], Any] | None = None
    if page.compression in DEFLATE:
        unpack = zlib.decompressobj
    elif page.compression in LZMA:
        unpack = lzma.LZMADecompressor
    if unpack is None:
        return  # of the others, readers take no more than what the page needs
    most = math.prod(page.chunks) * page.dtype.itemsize if page.dtype is not None else 0
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        if len(unpack().decompress(file.read(count), most + 1)) > most:
            raise ReadError(f"a part of the image that has {most} bytes unpacks to more; the file is damaged")


def _check_hdf5(path: Path, most_pixels: int) -> None:
    """Each dataset, and each chunk, counts by its shape; what is packed counts together, in pixels of eight bytes."""
    import h5py

    packed: list[Any] = []

    def measure(_: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return
        _check(max(math.prod(item.shape), math.prod(item.chunks or ())) * max(1, item.dtype.itemsize // 8), most_pixels)
        if item.chunks is not None and item.id.get_create_plist().get_nfilters():
            packed.append(item)

    with h5py.File(path, "r") as file:
        file.visititems(measure)
        _check(sum(item.id.get_num_chunks() * math.prod(item.chunks) * item.dtype.itemsize for item in packed) // 8, most_pixels)
        for item in packed:
            _check_chunks(item)


def _check_chunks(dataset: Any) -> None:
    """Raise ReadError where a chunk inflates to more bytes than it has: HDF5 would follow it to its end. Other packing is not taken."""
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    if set(filters) - {DEFLATED, SHUFFLED, SUMMED} or len(set(filters)) != len(filters):
        raise ReadError(
            f"dataset {dataset.name!r} is packed by HDF5's filters {filters}; wanted none, or gzip with or without shuffle: save it so"
        )
    if DEFLATED not in filters:
        return
    most, skips = math.prod(dataset.chunks) * dataset.dtype.itemsize + SUM_BYTES, 1 << filters.index(DEFLATED)
    for number in range(dataset.id.get_num_chunks()):
        where = dataset.id.get_chunk_info(number).chunk_offset
        mask, data = dataset.id.read_direct_chunk(where)
        if not mask & skips and len(zlib.decompressobj().decompress(data, most + 1)) > most:
            raise ReadError(f"a chunk of {dataset.name!r} that has {most - SUM_BYTES} bytes unpacks to more; the file is damaged")
