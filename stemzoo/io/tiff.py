"""TIFF to Raw, with the pixel size from whichever program wrote it.

Owns the private tags of DigitalMicrograph and HyperSpy, Thermo Fisher's, OME's and ImageJ's metadata.
Resolution tags in dots per inch describe a page, not a specimen, and are ignored. Called by io.read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from stemzoo.errors import ReadError
from stemzoo.io.colour import grey
from stemzoo.io.raw import EAGER_BYTES, OnDisk, Raw, Stack, problem
from stemzoo.io.units import Axis, angstrom

Axes = tuple[Axis, Axis]

SHRINKS = 5000
"""How much smaller a compressed picture can be: LZW at most 2,700 times, deflate 1,032. What claims more would fill the memory."""


@dataclass(frozen=True)
class Pages(Stack):
    """Frames (T, H, W) that are the pages `keys` of a TIFF."""

    path: str
    keys: tuple[int, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype

    def read(self, number: int) -> np.ndarray:
        """Return frame `number` (H, W)."""
        return np.asarray(tifffile.imread(self.path, key=self.keys[number])).reshape(self.shape[1:])


def read_tiff(path: str, wanted: str | None) -> Raw:
    """Return the image or stack of a TIFF file.

    Raises: ReadError if it holds several images of different size, several channels, or colours.
    """
    if wanted is not None:
        raise ReadError(f"{path}: a tif is read whole; leave out ::{wanted}")
    with tifffile.TiffFile(path) as tif:
        _check_chain(tif, path)
        series, notices = _series(tif, path)
        axes, calibration_notices = _axes(tif)
        facts = _facts(tif)
        labels = [label for label, side in zip(series.axes, series.shape, strict=True) if side != 1]
        shape = tuple(side for side in series.shape if side != 1)
        data: Any
        colour = "S" in labels
        if "C" in labels and shape[labels.index("C")] > 1:
            raise ReadError(f"{path}: holds {shape[labels.index('C')]} channels ({''.join(labels)} {shape}); split them, pass the ADF one")
        if not colour and (trouble := problem(shape, series.dtype)):
            raise ReadError(f"{path}: is {trouble}")
        if not series.is_multifile and series.nbytes > SHRINKS * tif.filehandle.size:
            raise ReadError(
                f"{path}: claims {series.nbytes} bytes of pixels in a file of {tif.filehandle.size}; it was cut short: copy it again"
            )
        if colour or series.nbytes <= EAGER_BYTES or len(shape) != 3:
            data = np.asarray(series.asarray()).reshape(shape)
            if colour:
                data, more = grey(np.moveaxis(data, labels.index("S"), -1), path)
                notices += more
        elif series.dataoffset is not None:
            data = OnDisk(path, series.dataoffset, shape, np.dtype(tif.byteorder + series.dtype.char))
        else:
            data = Pages(path, tuple(page.index for page in series.pages), (shape[0], shape[1], shape[2]), series.dtype)
    return Raw(data, axes, facts, notices + calibration_notices)


def _check_chain(tif: tifffile.TiffFile, path: str) -> None:
    """Refuse a file whose pages lead back to an earlier one: tifffile would follow them for ever. Raises: ReadError."""
    form, file = tif.tiff, tif.filehandle
    if form.is_ndpi:  # its offsets are written otherwise
        return
    seen: set[int] = set()
    place = form.offsetsize  # of the header's own link, which is as long as what stands before it
    while True:
        file.seek(place)
        link = file.read(form.offsetsize)
        offset = int.from_bytes(link, "little" if form.byteorder == "<" else "big")
        if offset in seen:
            raise ReadError(f"{path}: a page leads back to an earlier one; the file is damaged: export it again")
        file.seek(offset)
        count = file.read(form.tagnosize)
        if not offset or len(link) < form.offsetsize or len(count) < form.tagnosize:  # the end, or tifffile will say what is wrong
            return
        seen.add(offset)
        place = offset + form.tagnosize + form.tagsize * int.from_bytes(count, "little" if form.byteorder == "<" else "big")


def _series(tif: tifffile.TiffFile, path: str) -> tuple[Any, tuple[str, ...]]:
    """Return the one series of images, or the largest beside thumbnails, and a notice."""
    if not tif.series:
        raise ReadError(f"{path}: holds no image; it is cut short or damaged: export it again")
    ordered = sorted(tif.series, key=lambda series: int(np.prod(series.shape)), reverse=True)
    sizes = [int(np.prod(series.shape)) for series in ordered]
    if len(ordered) > 1 and sizes[1] > sizes[0] / 4:
        shapes = ", ".join("×".join(map(str, series.shape)) for series in ordered)
        raise ReadError(f"{path}: holds several images of like size ({shapes}); save the ADF image alone")
    if len(ordered) > 1:
        return ordered[0], (f"read the largest image and left {len(ordered) - 1} smaller, taken for previews",)
    return ordered[0], ()


def _axes(tif: tifffile.TiffFile) -> tuple[Axes | None, tuple[str, ...]]:
    """Return the calibration of the first program that states one in a length, and a notice where another disagrees by more than 1 %."""
    readers: tuple[tuple[str, Callable[[tifffile.TiffFile], Axes | None]], ...] = (
        ("Thermo Fisher metadata", _thermo_xml),
        ("FEI tags", _fei),
        ("DigitalMicrograph tags", _gatan),
        ("OME metadata", _ome),
        ("ImageJ", _imagej),
    )
    stated = [(name, axes) for name, read in readers if (axes := read(tif)) is not None]
    lengths = [(name, axes) for name, axes in stated if all(angstrom(axis.unit) and axis.step for axis in axes)]
    if not lengths:
        return (stated[0][1] if stated else None), ()
    name, axes = lengths[0]
    first = _size(axes)
    odd = [(other, _size(its)) for other, its in lengths[1:] if abs(math.log(_size(its) / first)) > 0.01]
    notices = tuple(f"{name} state {first:.4g} Å/px, {other} {size:.4g} Å/px; the former is used" for other, size in odd)
    return axes, notices


def _size(axes: Axes) -> float:
    return math.sqrt(math.prod(abs(axis.step) * (angstrom(axis.unit) or 1.0) for axis in axes))


def _tag(tif: tifffile.TiffFile, code: int) -> Any:
    tag = tif.pages.first.tags.get(code)
    return None if tag is None else tag.value


def _thermo_xml(tif: tifffile.TiffFile) -> Axes | None:
    """Tag 34683: Velox's XML, BinaryResult/PixelSize."""
    root = _xml(_tag(tif, 34683))
    pixel = None if root is None else root.find("BinaryResult/PixelSize")
    if pixel is None:
        return None
    y, x = pixel.find("Y"), pixel.find("X")
    if y is None or x is None or not y.text or not x.text:
        return None
    return Axis(float(y.text), y.get("unit", "m")), Axis(float(x.text), x.get("unit", "m"))


def _fei(tif: tifffile.TiffFile) -> Axes | None:
    """Tags 34680 and 34682: FEI's ini-like text; PixelWidth and PixelHeight in m."""
    scan = (tif.fei_metadata or {}).get("Scan", {})
    if "PixelWidth" not in scan:
        return None
    return Axis(float(scan.get("PixelHeight", scan["PixelWidth"])), "m"), Axis(float(scan["PixelWidth"]), "m")


def _gatan(tif: tifffile.TiffFile) -> Axes | None:
    """Tags 65003 and 65004 (units of x and y), 65009 and 65010 (scales), which DigitalMicrograph and HyperSpy write."""
    scales = _tag(tif, 65010), _tag(tif, 65009)
    if scales[0] is None or scales[1] is None:
        return None
    units = (str(_tag(tif, 65004) or ""), str(_tag(tif, 65003) or ""))
    return Axis(_number(scales[0]), units[0].strip("\0")), Axis(_number(scales[1]), units[1].strip("\0"))


def _ome(tif: tifffile.TiffFile) -> Axes | None:
    """OME-XML: PhysicalSizeX and Y, in µm unless said otherwise."""
    root = _xml(tif.ome_metadata) if tif.is_ome else None
    if root is None:
        return None
    pixels = next((item for item in root.iter() if item.tag.rsplit("}", 1)[-1] == "Pixels"), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    size = {key: pixels.get(f"PhysicalSize{key}", pixels.get("PhysicalSizeX", "")) for key in "YX"}
    return Axis(float(size["Y"]), pixels.get("PhysicalSizeYUnit", "µm")), Axis(float(size["X"]), pixels.get("PhysicalSizeXUnit", "µm"))


def _imagej(tif: tifffile.TiffFile) -> Axes | None:
    """ImageJ's description names the unit, the resolution tags count pixels per unit."""
    unit = str((tif.imagej_metadata or {}).get("unit") or "")
    resolution = _tag(tif, 283), _tag(tif, 282)
    if not unit or resolution[0] is None or resolution[1] is None:
        return None
    unit = unit.replace("\\u00B5", "µ").replace("\\u00C5", "Å").replace("\\u212B", "Å")
    steps = [_number(denominator) / _number(numerator) if _number(numerator) else math.nan for numerator, denominator in resolution]
    return Axis(steps[0], unit), Axis(steps[1], unit)


def _facts(tif: tifffile.TiffFile) -> dict[str, Any]:
    """Return what Thermo Fisher's metadata say of the microscope, and when the file was written."""
    facts: dict[str, Any] = {}
    root = _xml(_tag(tif, 34683))
    if root is not None:
        voltage, detector = root.findtext("Optics/AccelerationVoltage"), root.findtext("BinaryResult/Detector")
        if voltage:
            facts["energy_kev"] = float(voltage) / 1000
        if detector:
            facts["detector"] = detector
        if date := root.findtext("Acquisition/AcquisitionStartDatetime"):
            facts["date"] = date
    if "date" not in facts and _tag(tif, 306):
        facts["date"] = str(_tag(tif, 306))
    return facts


def _xml(text: Any) -> ElementTree.Element | None:
    """Return the root of an XML text; None where it is none. Entity declarations are refused, as they can grow without bound."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str) or "<" not in text or "<!ENTITY" in text:
        return None
    try:
        return ElementTree.fromstring(text.strip("\0 \n"))
    except (ElementTree.ParseError, ValueError):
        return None


def _number(value: Any) -> float:
    if isinstance(value, Mapping) or value is None:
        return math.nan
    return float(np.ravel(value)[0])
