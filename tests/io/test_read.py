"""io.read: every format gives back the pixels and the pixel size that were written, and every bad file is refused in one sentence."""

from __future__ import annotations

import builtins
import hashlib
import json
import logging
import os
import pickle
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from stemzoo.errors import FrameError, PixelSizeError, ReadError, ShapeError
from stemzoo.io import raw
from stemzoo.io.read import FORMATS, read

Axes = tuple[tuple[float, str], tuple[float, str]]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """(24, 32) uint16 with every pixel different, so that a transposed, flipped or byte-swapped image is caught."""
    return (np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 37 + 5).astype(np.uint16)


@pytest.fixture(scope="module")
def stack(image: np.ndarray) -> np.ndarray:
    """(3, 24, 32) float32."""
    return np.stack([image, image[::-1], image[:, ::-1]]).astype(np.float32)


# --- npy -----------------------------------------------------------------------------------------------------------------------------


def test_npy_keeps_pixels_and_knows_no_pixel_size(tmp_path: Path, image: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", image.astype(">u2"))
    frames = read(tmp_path / "a.npy")
    assert frames.data.shape == (1, 24, 32) and frames.data.dtype == np.dtype("u2") and frames.data.dtype.isnative
    np.testing.assert_array_equal(frames.data[0], image)
    assert (frames.pixel_size, frames.pixel_size_source) == (None, "unknown")
    assert frames.notices == ("the file stores no pixel size",)
    assert frames.sha256 == hashlib.sha256((tmp_path / "a.npy").read_bytes()).hexdigest()
    assert frames.path == str(tmp_path / "a.npy")


def test_user_pixel_size_fills_an_unknown_one(tmp_path: Path, image: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", image)
    frames = read(str(tmp_path / "a.npy"), 0.12)
    assert (frames.pixel_size, frames.pixel_size_source, frames.notices) == (0.12, "user", ())


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "wide"])
def test_bad_user_pixel_size_is_refused(tmp_path: Path, image: np.ndarray, value: Any) -> None:
    np.save(tmp_path / "a.npy", image)
    with pytest.raises(PixelSizeError, match=r"a\.npy: pixel size .* is not a"):
        read(tmp_path / "a.npy", value)


def test_sidecar_is_never_read(tmp_path: Path, image: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", image)
    (tmp_path / "a.json").write_text(
        json.dumps({"experimental_details": {"spatial_info": {"field_of_view_x": 3, "field_of_view_units": "nm"}}})
    )
    assert read(tmp_path / "a.npy").pixel_size is None


@pytest.mark.parametrize("shape", [(1, 24, 32), (24, 32, 1), (1, 1, 24, 32)])
def test_axes_of_length_one_are_dropped(tmp_path: Path, image: np.ndarray, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", image.reshape(shape))
    np.testing.assert_array_equal(read(tmp_path / "a.npy").data, image[None])


def test_large_npy_stays_on_disk(tmp_path: Path, stack: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemzoo.io.npy.EAGER_BYTES", 1)
    np.save(tmp_path / "a.npy", stack)
    frames = read(tmp_path / "a.npy")
    assert not isinstance(frames.data, np.ndarray)
    np.testing.assert_array_equal(frames.frame(1), stack[1])


def test_nan_pixels_are_kept_and_counted(tmp_path: Path, stack: np.ndarray) -> None:
    holed = stack.copy()
    holed[1, 3, 4:6] = np.nan
    holed[2, 0, 0] = np.inf
    np.save(tmp_path / "a.npy", holed)
    frames = read(tmp_path / "a.npy")
    np.testing.assert_array_equal(frames.data, holed)
    assert f"3 of {holed.size} pixels are not finite" in frames.notices


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.arange(50.0), ReadError, "is 1-D"),
        (np.float64(3.0), ReadError, "is 1-D"),
        (np.ones((1, 256)), ReadError, "is 1×256 px; the smallest frame that can hold a column is 16×16 px"),
        (np.ones((4, 4, 20, 20)), ReadError, "is 4-D .*virtual detector"),
        (np.ones((20, 0)), ReadError, "is empty"),
        (np.ones((20, 20), complex), ReadError, "is complex .*modulus"),
        (np.full((20, 20), "a"), ReadError, "frames are numbers"),
        (np.full((20, 20), None), ReadError, "pickled Python objects"),
        (np.full((20, 20), np.nan), FrameError, "no finite pixel"),
        (np.full((20, 20), 7), FrameError, r"is constant \(7\)"),
        (np.random.default_rng(0).random((8, 8)), ShapeError, "8×8 px"),
    ],
)
def test_arrays_that_are_no_frames(tmp_path: Path, array: Any, error: type[Exception], message: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(error, match=message) as caught:
        read(tmp_path / "a.npy")
    assert "a.npy" in str(caught.value) and "\n" not in str(caught.value)


# --- tif -----------------------------------------------------------------------------------------------------------------------------


def test_plain_tif_ignores_dots_per_inch(tmp_path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image, resolution=(72, 72), resolutionunit="INCH", byteorder=">")
    frames = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(frames.data[0], image)
    assert frames.pixel_size is None


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"), [("nm", 50.0, 0.2), ("um", 40000.0, 0.25), ("\\u00B5m", 40000.0, 0.25), ("Angstrom", 5.0, 0.2)]
)
def test_imagej_tif(tmp_path: Path, stack: np.ndarray, unit: str, per_unit: float, expected: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit, "axes": "TYX"})
    frames = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(frames.data, stack)
    assert frames.pixel_size == pytest.approx(expected, rel=1e-5) and frames.pixel_size_source == "file"


def test_imagej_pixels_are_no_length(tmp_path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, resolution=(72, 72), metadata={"unit": "pixel"})
    assert read(tmp_path / "a.tif").pixel_size is None


def _gatan_tags(y: tuple[float, str], x: tuple[float, str]) -> list[tuple[int, int, int, Any, bool]]:
    return [(65003, 2, 0, x[1], True), (65004, 2, 0, y[1], True), (65009, 12, 1, x[0], True), (65010, 12, 1, y[0], True)]


def test_digitalmicrograph_tags_in_tif(tmp_path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image, extratags=_gatan_tags((20.0, "pm"), (0.02, "nm")))
    assert read(tmp_path / "a.tif").pixel_size == pytest.approx(0.2)


def test_user_overrides_and_is_told(tmp_path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image, extratags=_gatan_tags((0.02, "nm"), (0.02, "nm")))
    frames = read(tmp_path / "a.tif", 0.21)
    assert (frames.pixel_size, frames.pixel_size_source) == (0.21, "user")
    assert frames.notices == ("--pixel-size 0.21 Å/px replaces the file's 0.2 Å/px",)
    assert read(tmp_path / "a.tif", 0.2005).notices == ()


def test_pixels_that_are_not_square(tmp_path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image, extratags=_gatan_tags((0.021, "nm"), (0.02, "nm")))
    with pytest.raises(PixelSizeError, match=r"0\.21 Å high and 0\.2 Å wide, 4\.9 % apart"):
        read(tmp_path / "a.tif")
    frames = read(tmp_path / "a.tif", 0.2)
    assert frames.pixel_size == 0.2 and "not square" in frames.notices[0]
    tifffile.imwrite(tmp_path / "b.tif", image, extratags=_gatan_tags((0.0201, "nm"), (0.02, "nm")))
    nearly = read(tmp_path / "b.tif")
    assert nearly.pixel_size == pytest.approx(0.2005, abs=1e-5) and "their mean, 0.2005 Å/px, is used" in nearly.notices[0]


def test_programs_that_disagree_in_one_tif(tmp_path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        image,
        imagej=True,
        resolution=(40.0, 40.0),
        metadata={"unit": "nm"},
        extratags=_gatan_tags((0.02, "nm"), (0.02, "nm")),
    )
    frames = read(tmp_path / "a.tif")
    assert frames.pixel_size == pytest.approx(0.2)
    assert any("DigitalMicrograph tags state 0.2 Å/px, ImageJ 0.25 Å/px" in notice for notice in frames.notices)


def test_thermo_fisher_xml_in_tif(tmp_path: Path, image: np.ndarray) -> None:
    xml = (
        '<?xml version="1.0" encoding="utf-8"?><Metadata><Optics><AccelerationVoltage>200000</AccelerationVoltage></Optics><BinaryResult>'
        '<Detector>HAADF</Detector><PixelSize><X unit="m">1.5e-11</X><Y unit="m">1.5e-11</Y></PixelSize></BinaryResult></Metadata>'
    )
    tifffile.imwrite(tmp_path / "a.tif", image, extratags=[(34683, 2, 0, xml, True)])
    frames = read(tmp_path / "a.tif")
    assert frames.pixel_size == pytest.approx(0.15)
    assert frames.metadata["energy_kev"] == 200.0 and frames.metadata["detector"] == "HAADF"


def test_ome_tif(tmp_path: Path, stack: np.ndarray) -> None:
    metadata = {"axes": "TYX", "PhysicalSizeX": 13.0, "PhysicalSizeXUnit": "pm", "PhysicalSizeY": 0.013, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=metadata)
    frames = read(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(frames.data, stack)
    assert frames.pixel_size == pytest.approx(0.13)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_large_tif_is_read_frame_by_frame(
    tmp_path: Path, stack: np.ndarray, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    monkeypatch.setattr("stemzoo.io.tiff.EAGER_BYTES", 1)
    tifffile.imwrite(tmp_path / "a.tif", stack, compression=compression, photometric="minisblack", byteorder=">")
    frames = read(tmp_path / "a.tif")
    assert type(frames.data) is not np.ndarray and len(frames) == 3
    again = pickle.loads(pickle.dumps(frames))
    for i in (0, 2, -1):
        np.testing.assert_array_equal(again.frame(i), stack[i])
    np.testing.assert_array_equal(frames.data[1:3], stack[1:3])


def test_rgb_tif_with_equal_channels_is_grey_and_a_coloured_one_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    byte = (image % 251).astype(np.uint8)
    rgba = np.dstack([byte, byte, byte, np.full_like(byte, 255)])
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    frames = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(frames.data[0], byte)
    assert "the RGBA picture has equal channels and was read as grey" in frames.notices
    rgba[5:8, 5:20, 0] = 255
    tifffile.imwrite(tmp_path / "b.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(ReadError, match=r"b\.tif: [\d.]+ % of its pixels are coloured; wanted grey intensities"):
        read(tmp_path / "b.tif")


def test_channels_and_unlike_images_in_a_tif_are_refused(tmp_path: Path, stack: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack[:2], imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(ReadError, match="holds 2 channels"):
        read(tmp_path / "a.tif")
    with tifffile.TiffWriter(tmp_path / "b.tif") as tif:
        tif.write(stack[0])
        tif.write(stack[0, :, :24])
    with pytest.raises(ReadError, match="several images of like size"):
        read(tmp_path / "b.tif")
    with tifffile.TiffWriter(tmp_path / "c.tif") as tif:
        tif.write(stack[0, ::4, ::4])
        tif.write(stack[0])
    frames = read(tmp_path / "c.tif")
    np.testing.assert_array_equal(frames.data[0], stack[0])
    assert any("taken for previews" in notice for notice in frames.notices)


# --- mrc -----------------------------------------------------------------------------------------------------------------------------


def _mrc(path: Path, data: np.ndarray, mode: int, voxel: float, order: str = "<", extended: int = 0) -> None:
    """Write a stack by hand, so that the reader is held against the layout and not against itself."""
    nz, ny, nx = data.shape
    header = bytearray(1024)
    struct.pack_into(order + "4i", header, 0, nx, ny, nz, mode)
    struct.pack_into(order + "3i", header, 28, nx, ny, nz)
    struct.pack_into(order + "3f", header, 40, nx * voxel, ny * voxel, nz * voxel)
    struct.pack_into(order + "2f", header, 76, float(data.min()), float(data.max()))
    struct.pack_into(order + "i", header, 92, extended)
    header[208:212] = b"MAP "
    path.write_bytes(bytes(header) + bytes(extended) + data.astype(data.dtype.newbyteorder(order)).tobytes())


@pytest.mark.parametrize(("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
@pytest.mark.parametrize("order", ["<", ">"])
def test_mrc(tmp_path: Path, stack: np.ndarray, mode: int, dtype: str, order: str) -> None:
    data = (stack % 100).astype(dtype)
    _mrc(tmp_path / "a.mrc", data, mode, 0.25, order, extended=256)
    frames = read(tmp_path / "a.mrc")
    np.testing.assert_array_equal(frames.data, data)
    assert frames.pixel_size == pytest.approx(0.25)


def test_mrc_unsigned_bytes_are_seen_by_their_maximum(tmp_path: Path, stack: np.ndarray) -> None:
    data = (stack % 256).astype(np.uint8)
    _mrc(tmp_path / "a.mrc", data, 0, 0.25)
    np.testing.assert_array_equal(read(tmp_path / "a.mrc").data, data)


@pytest.mark.parametrize("voxel", [25.0, 0.0025])
def test_mrc_scale_off_by_a_hundred_is_not_believed(tmp_path: Path, stack: np.ndarray, voxel: float) -> None:
    _mrc(tmp_path / "a.mrc", stack, 2, voxel)
    frames = read(tmp_path / "a.mrc")
    assert frames.pixel_size is None and "outside 0.005–2 Å/px" in frames.notices[0] and "--pixel-size" in frames.notices[0]


def test_mrc_cut_short_and_complex(tmp_path: Path, stack: np.ndarray) -> None:
    _mrc(tmp_path / "a.mrc", stack, 2, 0.2)
    whole = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(whole[:-100])
    with pytest.raises(ReadError, match=f"cut short: {len(whole) - 100} bytes of the {len(whole)}"):
        read(tmp_path / "a.mrc")
    _mrc(tmp_path / "b.mrc", stack, 4, 0.2)
    with pytest.raises(ReadError, match="mode 4 is complex or packed"):
        read(tmp_path / "b.mrc")
    (tmp_path / "c.mrc").write_text("words " * 300)
    with pytest.raises(ReadError, match="no MRC header"):
        read(tmp_path / "c.mrc")


# --- HDF5 in its dialects --------------------------------------------------------------------------------------------------------------


def _velox(path: Path, images: Mapping[str, np.ndarray], metres: tuple[float, float] = (2e-11, 2e-11), unit: str = "m") -> None:
    """Write a Velox file: /Data/Image/<id>/Data (H, W, T) and Metadata (bytes, T)."""
    with h5py.File(path, "w") as file:
        for i, (detector, data) in enumerate(images.items()):
            group = file.create_group(f"Data/Image/{i:032x}")
            group["Data"] = np.moveaxis(data, 0, -1)
            facts = {
                "BinaryResult": {
                    "PixelSize": {"width": str(metres[1]), "height": str(metres[0])},
                    "PixelUnitX": unit,
                    "PixelUnitY": unit,
                    "DetectorIndex": str(i),
                },
                "Detectors": {f"Detector-{i}": {"DetectorName": detector}},
                "Optics": {"AccelerationVoltage": "300000"},
            }
            column = np.frombuffer(json.dumps(facts).encode().ljust(2000, b"\0"), dtype=np.uint8)
            group["Metadata"] = np.tile(column[:, None], (1, len(data)))


@pytest.mark.parametrize("eager", [True, False])
def test_velox_emd_picks_haadf(tmp_path: Path, stack: np.ndarray, monkeypatch: pytest.MonkeyPatch, eager: bool) -> None:
    if not eager:
        monkeypatch.setattr("stemzoo.io.hdf5.EAGER_BYTES", 1)
    _velox(tmp_path / "a.emd", {"BF": stack + 1, "HAADF": stack, "DF4": stack + 2})
    frames = read(tmp_path / "a.emd")
    np.testing.assert_array_equal(np.asarray(frames.data), stack)
    assert frames.pixel_size == pytest.approx(0.2)
    assert frames.metadata["energy_kev"] == 300.0 and frames.metadata["detector"] == "HAADF"
    assert frames.notices == ("read signal 'HAADF' 3×24×32 and left 'BF' 3×24×32, 'DF4' 3×24×32",)
    np.testing.assert_array_equal(read(f"{tmp_path / 'a.emd'}::BF").frame(1), stack[1] + 1)
    np.testing.assert_array_equal(read(f"{tmp_path / 'a.emd'}::2").frame(0), stack[0] + 2)
    os.rename(tmp_path / "a.emd", tmp_path / "b.emd")  # no handle is held


def test_velox_emd_with_two_equals_is_refused(tmp_path: Path, stack: np.ndarray) -> None:
    _velox(tmp_path / "a.emd", {"DF2": stack, "DF4": stack, "BF": stack})
    with pytest.raises(ReadError, match=r"holds several images .*'DF2' 3×24×32.*name one: '.*a\.emd::DF2'"):
        read(tmp_path / "a.emd")
    with pytest.raises(ReadError, match=r"no single signal is called 'HAADF'; it holds 'DF2'"):
        read(f"{tmp_path / 'a.emd'}::HAADF")
    with pytest.raises(ReadError, match="names no signal after '::'"):
        read(f"{tmp_path / 'a.emd'}::")


def test_velox_fourier_transform_is_no_frame(tmp_path: Path, stack: np.ndarray) -> None:
    _velox(tmp_path / "a.emd", {"HAADF": stack}, (1e8, 1e8), "1/m")
    with pytest.raises(ReadError, match=r"its axes are in 1/m, so it is a diffraction pattern"):
        read(tmp_path / "a.emd")
    assert read(tmp_path / "a.emd", 0.1).pixel_size == 0.1


def _ncem(path: Path, data: np.ndarray, names: str, unit: str, step: float) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("data/ADF image")
        group.attrs["emd_group_type"] = 1
        group["data"] = data
        for i, name in enumerate(names):
            group[f"dim{i + 1}"] = np.arange(data.shape[i]) * (step if name in "xy" else 1.0)
            group[f"dim{i + 1}"].attrs["name"] = np.bytes_(name)
            group[f"dim{i + 1}"].attrs["units"] = np.bytes_(unit if name in "xy" else "[]")


@pytest.mark.parametrize("unit", ["[n_m]", "n_m", "nm"])
def test_ncem_emd(tmp_path: Path, stack: np.ndarray, unit: str) -> None:
    _ncem(tmp_path / "a.emd", stack, "zyx", unit, 0.015)
    frames = read(tmp_path / "a.emd")
    np.testing.assert_array_equal(frames.data, stack)
    assert frames.pixel_size == pytest.approx(0.15) and frames.metadata["signal"] == "ADF image"


def test_ncem_emd_with_x_first_is_turned(tmp_path: Path, stack: np.ndarray) -> None:
    _ncem(tmp_path / "a.emd", stack.transpose(2, 1, 0), "xyz", "n_m", 0.015)
    np.testing.assert_array_equal(read(tmp_path / "a.emd").data, stack)


def test_ncem_scale_in_nm_without_a_unit(tmp_path: Path, image: np.ndarray) -> None:
    _ncem(tmp_path / "a.emd", image, "yx", "", 0.025)
    frames = read(tmp_path / "a.emd")
    assert frames.pixel_size is None
    assert frames.notices == (
        "the file's scale of 0.025 has no unit, so the pixel size is unknown; if it is in nm, pass --pixel-size 0.25",
    )


def _signal(data: np.ndarray, axes: Axes, title: str = "ADF") -> dict[str, Any]:
    """Return a signal as RosettaSciIO writes it."""
    described = [
        {"name": f"n{i}", "size": n, "scale": 1.0, "offset": 0.0, "units": "", "navigate": True} for i, n in enumerate(data.shape[:-2])
    ]
    described += [
        {"name": name, "size": n, "scale": step, "offset": 0.0, "units": unit, "navigate": False}
        for name, n, (step, unit) in zip("yx", data.shape[-2:], axes, strict=True)
    ]
    for axis in described:
        axis |= {"_type": "UniformDataAxis", "is_binned": False}
    return {
        "data": data,
        "axes": described,
        "metadata": {"General": {"title": title}, "Signal": {"signal_type": ""}, "Acquisition_instrument": {"TEM": {"beam_energy": 80.0}}},
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "package_info": {"package": "hyperspy", "package_version": "2.0"},
        "tmp_parameters": {},
        "models": {},
    }


def test_hspy_as_rosettasciio_writes_it(tmp_path: Path, stack: np.ndarray) -> None:
    hspy = pytest.importorskip("rsciio.hspy")
    hspy.file_writer(str(tmp_path / "a.hspy"), _signal(stack, ((0.3, "Å"), (0.3, "Å"))))
    frames = read(tmp_path / "a.hspy")
    np.testing.assert_array_equal(frames.data, stack)
    assert frames.pixel_size == pytest.approx(0.3) and frames.metadata["energy_kev"] == 80.0


def test_tif_as_rosettasciio_writes_it(tmp_path: Path, image: np.ndarray) -> None:
    writer = pytest.importorskip("rsciio.tiff")
    writer.file_writer(str(tmp_path / "a.tif"), _signal(image, ((0.03, "nm"), (0.03, "nm"))))
    frames = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(frames.data[0], image)
    assert frames.pixel_size == pytest.approx(0.3)


@pytest.mark.parametrize("eager", [True, False])
def test_own_dataset_is_a_stack(tmp_path: Path, stack: np.ndarray, monkeypatch: pytest.MonkeyPatch, eager: bool) -> None:
    if not eager:
        monkeypatch.setattr("stemzoo.io.hdf5.EAGER_BYTES", 1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i, frame in enumerate(stack):
            group = file.create_group(f"frames/{i:05d}")
            group["image"], group["columns"] = frame, np.zeros((40, 2))
            group.attrs["pixel_size"], group.attrs["material"] = 0.2, "Sr3Fe2O7"
    frames = read(tmp_path / "a.h5")
    np.testing.assert_array_equal(np.asarray(frames.data), stack)
    assert frames.pixel_size == 0.2 and frames.metadata["material"] == "Sr3Fe2O7"
    one = read(f"{tmp_path / 'a.h5'}::/frames/00001")
    np.testing.assert_array_equal(one.data[0], stack[1])
    assert one.pixel_size == 0.2
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames)).frame(2), stack[2])
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["frames/00001"].attrs["pixel_size"] = 0.3
    with pytest.raises(ReadError, match=r"frames \(00000, 00001, 00002\) differ in size or pixel size; name one: '.*::/frames/00000'"):
        read(tmp_path / "a.h5")


def test_plain_hdf5_with_one_clear_image(tmp_path: Path, stack: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scan/detector/adf"] = stack
        file["scan/positions"] = np.zeros((100, 2))
        file["scan/time"] = np.arange(50.0)
    np.testing.assert_array_equal(read(tmp_path / "a.h5").data, stack)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["scan/detector/bright"] = stack[0]
        file["scan/detector/bright"].attrs["pixel_size"] = 0.17
        file["scan/cube"] = np.zeros((4, 4, 20, 20), np.uint8)
    frames = read(tmp_path / "a.h5")
    assert frames.metadata["signal"] == "/scan/detector/adf" and "left '/scan/cube' 4×4×20×20" in frames.notices[0]
    named = read(f"{tmp_path / 'a.h5'}::/scan/detector/bright")
    np.testing.assert_array_equal(named.data[0], stack[0])
    assert named.pixel_size == 0.17
    with pytest.raises(ReadError, match=r"/scan/cube is 4-D \(4×4×20×20\), as 4D-STEM is"):
        read(f"{tmp_path / 'a.h5'}::/scan/cube")
    with pytest.raises(ReadError, match="/scan/detector is a group; it holds adf, bright"):
        read(f"{tmp_path / 'a.h5'}::/scan/detector")


def test_plain_hdf5_without_or_with_too_many_images(tmp_path: Path, image: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t"] = np.arange(9)
    with pytest.raises(ReadError, match="holds no image"):
        read(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["one"], file["two"] = image, image
    with pytest.raises(ReadError, match=r"several images \('/one' 24×32, '/two' 24×32\); name one: '.*b\.h5::/one'"):
        read(tmp_path / "b.h5")


# --- pictures ----------------------------------------------------------------------------------------------------------------------------


def test_png_in_sixteen_bits(tmp_path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(tmp_path / "a.png")
    frames = read(tmp_path / "a.png")
    np.testing.assert_array_equal(frames.data[0], image)
    assert frames.pixel_size is None


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_png_of_every_mode(tmp_path: Path, image: np.ndarray, mode: str) -> None:
    byte = (image % 251).astype(np.uint8)
    Image.fromarray(byte).convert(mode).save(tmp_path / "a.png")
    frames = read(tmp_path / "a.png")
    assert frames.data.shape == (1, 24, 32)
    np.testing.assert_array_equal(frames.data[0], byte)


def test_coloured_png_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    byte = (image % 251).astype(np.uint8)
    Image.fromarray(np.dstack([byte, byte // 2, 255 - byte])).save(tmp_path / "a.png")
    with pytest.raises(ReadError, match="coloured; wanted grey intensities: a colour map or a drawn scale bar"):
        read(tmp_path / "a.png")


def test_jpg_says_that_it_is_lossy(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :50]
    smooth = (120 + 80 * np.sin(x / 6.0) * np.cos(y / 7.0)).astype(np.uint8)
    Image.fromarray(smooth).convert("RGB").save(tmp_path / "a.jpg", quality=95)
    frames = read(tmp_path / "a.jpg")
    assert np.abs(frames.frame(0) - smooth).max() < 6
    assert any("jpg compression changes intensities" in notice for notice in frames.notices)


# --- ser ---------------------------------------------------------------------------------------------------------------------------------


def _ser(path: Path, stack: np.ndarray, metres: float) -> None:
    """Write a TIA series by hand: header, one dimension, offsets, then images of unsigned 16-bit pixels with a time tag each."""
    n, height, width = stack.shape
    dimension = struct.pack("<IddII", n, 0.0, 1.0, 0, 6) + b"Number" + struct.pack("<I", 0)
    offsets_at = 30 + len(dimension)
    element_bytes = 50 + 2 * height * width
    first = offsets_at + 8 * n
    data_at = [first + i * (element_bytes + 8) for i in range(n)]
    header = struct.pack("<HHHIIIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, n, n, offsets_at, 1)
    body = b"".join(struct.pack("<I", at) for at in data_at) + b"".join(struct.pack("<I", at + element_bytes) for at in data_at)
    for frame in stack:
        body += struct.pack("<ddIddIHII", 0.0, metres, 0, 0.0, metres, 0, 2, width, height) + frame.astype("<u2").tobytes()
        body += struct.pack("<HHI", 0x4152, 0, 1_600_000_000)
    path.write_bytes(header + dimension + body)


@pytest.mark.parametrize("n", [1, 3])
def test_ser(tmp_path: Path, stack: np.ndarray, n: int) -> None:
    pytest.importorskip("rsciio.tia")
    square = np.ascontiguousarray(stack[:n, :, :24])
    _ser(tmp_path / "a_1.ser", square, 1.7e-11)
    frames = read(tmp_path / "a_1.ser")
    assert frames.data.shape == square.shape
    np.testing.assert_array_equal(frames.data, square[:, ::-1])  # TIA stores the bottom row first
    assert frames.pixel_size == pytest.approx(0.17)


def test_emi_reads_the_ser_beside_it_and_its_high_tension(tmp_path: Path, stack: np.ndarray) -> None:
    pytest.importorskip("rsciio.tia")
    entries = (("Mode", "STEM nP SA Zoom Image", ""), ("High tension", "300", "kV"))
    data = "".join(f"<Data><Label>{label}</Label><Value>{value}</Value><Unit>{unit}</Unit></Data>" for label, value, unit in entries)
    description = f"<ExperimentalDescription><Root>{data}</Root></ExperimentalDescription>"
    xml = f"<ObjectInfo><Uuid>1</Uuid><AcquireDate>Mon Nov 22 10:00:00 2021</AcquireDate>{description}</ObjectInfo>"
    (tmp_path / "a.emi").write_bytes(b"\x4a\x49\x00" + xml.encode() + b"\x00")
    with pytest.raises(ReadError, match=r"a\.emi: holds no image; an \.emi needs its \.ser files beside it"):
        read(tmp_path / "a.emi")
    _ser(tmp_path / "a_1.ser", stack[:, :, :24], 1.7e-11)
    frames = read(tmp_path / "a.emi")
    np.testing.assert_array_equal(frames.data, stack[:, ::-1, :24])
    assert frames.pixel_size == pytest.approx(0.17)
    assert frames.metadata["energy_kev"] == 300.0 and frames.metadata["date"] == "2021-11-22"


# --- files that cannot be read -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_text_under_another_name_is_one_sentence(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("no microscope wrote this\n" * 100)
    with pytest.raises(ReadError, match=rf"a\{suffix}: ") as caught:
        read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(ReadError, match=r"is empty \(0 bytes\)"):
        read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy", ".h5"])
def test_file_cut_in_half(tmp_path: Path, image: np.ndarray, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, image)
    elif suffix == ".png":
        Image.fromarray(image).save(path)
    elif suffix == ".npy":
        np.save(path, image)
    else:
        with h5py.File(path, "w") as file:
            file["image"] = image
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ReadError, match=rf"a\{suffix}: ") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_libraries_that_log_are_kept_quiet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 5000) + bytes(100))  # the directory would lie behind the end
    with pytest.raises(ReadError, match="holds no image; it is cut short or damaged"):
        read(tmp_path / "a.tif")
    assert caplog.records == []
    logging.getLogger("tifffile").warning("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]


def test_missing_folder_and_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no such file"):
        read(tmp_path / "a.tif")
    with pytest.raises(ReadError, match="no such file"):
        read(tmp_path / "a.xyz")
    (tmp_path / "b.tif").mkdir()
    with pytest.raises(ReadError, match="is a folder"):
        read(tmp_path / "b.tif")
    with pytest.raises(ReadError, match="is a folder; pass the files in it"):
        read(tmp_path)
    (tmp_path / "c.docx").write_text("a")
    with pytest.raises(ReadError, match=r"suffix \.docx is not one stemzoo reads; wanted one of \.dm3 \.dm4 .*\.jpeg"):
        read(tmp_path / "c.docx")


def test_no_read_permission(tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", image)
    if os.geteuid() == 0:  # root reads everything
        opened = builtins.open

        def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
            if str(file).endswith("a.npy"):
                raise PermissionError(13, "Permission denied")
            return opened(file, *args, **kwargs)

        monkeypatch.setattr(builtins, "open", refuse)
    else:
        (tmp_path / "a.npy").chmod(0)
    with pytest.raises(ReadError, match=r"cannot be opened \(Permission denied\); check its permissions"):
        read(tmp_path / "a.npy")


def test_missing_extra_names_the_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.dm3").write_bytes(b"0" * 100)
    monkeypatch.setitem(sys.modules, "rsciio.digitalmicrograph", None)
    with pytest.raises(ReadError, match=r"\.dm3 files are read through RosettaSciIO, which is not installed; pip install 'stemzoo\[io\]'"):
        read(tmp_path / "a.dm3")
    (tmp_path / "a.zarr").mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ReadError, match=r"a\.zarr: reading Zarr needs zarr, which is not installed; pip install 'stemzoo\[dask\]'"):
        read(tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.mrc", "a.png"])
def test_formats_of_one_image_take_no_signal(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x" * 2000)
    with pytest.raises(ReadError, match=r"leave out ::HAADF"):
        read(f"{tmp_path / name}::HAADF")


# --- DigitalMicrograph's dictionaries, without a file ------------------------------------------------------------------------------------


def _fake_dm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *signals: dict[str, Any]) -> Path:
    module = pytest.importorskip("rsciio.digitalmicrograph")
    monkeypatch.setattr(module, "file_reader", lambda path, lazy: list(signals))
    (tmp_path / "a.dm4").write_bytes(b"0")
    return tmp_path / "a.dm4"


def test_dm4_with_a_survey_and_a_spectrum_image(tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    spectrum = _signal(np.ones((20, 30, 64), np.float32), ((0.03, "nm"), (0.5, "eV")), "EELS")
    path = _fake_dm(monkeypatch, tmp_path, spectrum, _signal(image, ((0.03, "nm"), (0.03, "nm")), "ADF survey"))
    frames = read(path)
    np.testing.assert_array_equal(frames.data[0], image)
    assert frames.pixel_size == pytest.approx(0.3) and "left 'EELS' 20×30×64" in frames.notices[0]
    with pytest.raises(ReadError, match=r"EELS is a spectrum image \(20×30×64, an axis in eV\)"):
        read(f"{path}::EELS")


def test_dm4_colour_records(tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    byte = (image % 251).astype(np.uint8)
    records = np.zeros(byte.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name in "RGB":
        records[name] = byte
    path = _fake_dm(monkeypatch, tmp_path, _signal(records, ((0.03, "nm"), (0.03, "nm"))))
    np.testing.assert_array_equal(read(path).data[0], byte)
    records["R"] = 255
    with pytest.raises(ReadError, match="coloured"):
        read(path)


# --- signals -------------------------------------------------------------------------------------------------------------------------


def test_the_best_named_signal_is_chosen() -> None:
    signals = [raw.Signal("BF", (20, 20)), raw.Signal("LAADF", (20, 20)), raw.Signal("HAADF", (9, 9, 9, 9), "4-D")]
    assert raw.choose("a", signals, None)[0] == 1
    assert raw.choose("a", signals[:1], None) == (0, ())
    assert raw.choose("a", [raw.Signal("ABF", (20, 20)), raw.Signal("ADF1_MAG", (20, 20))], None)[0] == 1


# --- experimental frames -----------------------------------------------------------------------------------------------------------------

EXPECTED = {
    "layered_oxide_survey.dm3": ((512, 512), None),
    "BTO_crystal_1.dm4": ((413, 469), 0.2966),
    "YBCO_tem.tif": ((512, 512), 0.3525),
    "MoS2_stem_Exp-000-2.npy": ((512, 512), None),
    "GB_mono_MoSe2.tif": ((500, 500), None),
    "Fe_bcc_100.npy": ((512, 512), None),
    "bpy_crop20.tif": ((512, 512), None),
    "045_HAADF_15nm_Sample_PtNC_20Oct20.tif": ((512, 512), 0.293),
    "072_HAADF_15nm_Sample_PtNC_21Oct20.tif": ((512, 512), 0.293),
}


@pytest.mark.real
@pytest.mark.parametrize("name", list(EXPECTED))
def test_real_frames(real_dir: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    shape, size = EXPECTED[name]
    frames = read(real_dir / name)
    assert len(frames) == 1 and frames.shape == shape
    assert frames.pixel_size == (None if size is None else pytest.approx(size, abs=1e-4))
    assert frames.pixel_size_source == ("unknown" if size is None else "file")
    assert (size is None) == bool(frames.notices)
    assert frames.frame(0).std() > 0
    json.dumps(dict(frames.metadata))
    assert capfd.readouterr() == ("", "")


@pytest.mark.real
def test_facts_from_digitalmicrograph_tags(real_dir: Path) -> None:
    metadata = read(real_dir / "layered_oxide_survey.dm3").metadata
    assert metadata["energy_kev"] == 200.0 and metadata["date"] == "2019-12-14"


@pytest.mark.real
def test_large_dm4_is_read_when_asked_for(real_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = read(real_dir / "BTO_crystal_1.dm4")
    monkeypatch.setattr("stemzoo.io.dm_tia.EAGER_BYTES", 1)
    lazy = read(real_dir / "BTO_crystal_1.dm4")
    assert isinstance(eager.data, np.ndarray) and not isinstance(lazy.data, np.ndarray)
    np.testing.assert_array_equal(lazy.frame(0), eager.frame(0))


@pytest.mark.real
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.01])
def test_truncated_dm3(real_dir: Path, tmp_path: Path, kept: float, capfd: pytest.CaptureFixture[str]) -> None:
    whole = (real_dir / "layered_oxide_survey.dm3").read_bytes()
    (tmp_path / "a.dm3").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ReadError, match=r"a\.dm3: cannot be read as dm3 \(.*cut short") as caught:
        read(tmp_path / "a.dm3")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
