"""Small valid files of every kind that stemzoo reads, for the fuzzer to damage. Owns how each is made; called by fuzz.py and its tests."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stemzoo.analyze.journal import Journal

ROOT = Path(__file__).resolve().parents[1]
Entry = bytes | list[tuple[str, "Entry"]]
"""A DigitalMicrograph tag: its bytes, or the tags of a group."""


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Return valid bytes for each target of fuzz.py, made in `folder` or taken from the repository."""
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(0)
    image = rng.poisson(50, (24, 32)).astype(np.uint16)
    found: dict[str, list[bytes]] = {"dm4": [dm4_bytes(image)], "ser": [ser_bytes(image[:, :24])]}

    def keep(name: str, path: Path) -> None:
        found.setdefault(name, []).append(path.read_bytes())

    imagej: dict[str, Any] = {"imagej": True, "resolution": (50, 50), "metadata": {"unit": "nm", "axes": "TYX"}}
    for k, options in enumerate((imagej, {"compression": "zlib"}, {})):
        tifffile.imwrite(folder / f"{k}.tif", image if k else np.stack([image, image]), **options)
        keep("tif", folder / f"{k}.tif")
    np.save(folder / "a.npy", image)
    keep("npy", folder / "a.npy")
    for name in ("png", "jpg"):
        Image.fromarray(image.astype(np.uint8)).save(folder / f"a.{name}")
        keep(name, folder / f"a.{name}")
    header = np.zeros(256, dtype="<i4")
    header[:4], header[7:10] = (32, 24, 1, 6), (32, 24, 1)
    header[10:13] = np.array([3.2, 2.4, 1], dtype="<f4").view("<i4")
    found["mrc"] = [header.tobytes() + image.astype("<u2").tobytes()]
    with h5py.File(folder / "v.emd", "w") as file:
        group = file.create_group("Data/Image/abc")
        group["Data"] = image[:, :, None]
        text = b'{"BinaryResult": {"PixelSize": {"width": "2e-11", "height": "2e-11"}, "PixelUnitX": "m", "PixelUnitY": "m"}}'
        group["Metadata"] = np.frombuffer(text.ljust(400, b"\0"), dtype=np.uint8)[:, None]
    keep("emd", folder / "v.emd")
    with h5py.File(folder / "n.emd", "w") as file:
        group = file.create_group("data/a")
        group.attrs["emd_group_type"], group["data"] = 1, image
        for k in range(2):
            group[f"dim{k + 1}"] = 0.2 * np.arange(image.shape[k])
            group[f"dim{k + 1}"].attrs.update(name="yx"[k], units="[n_m]")
    keep("emd", folder / "n.emd")
    for libver in ("earliest", "latest"):  # of many attributes, the latter puts all into a heap
        with h5py.File(folder / "h.hspy", "w", libver=libver) as file:
            group = file.create_group("Experiments/a")
            group["data"] = image
            group.create_group("metadata/General").attrs.update(title="a", date="2026-01-01")
            for k in range(2):
                group.create_group(f"axis-{k}").attrs.update({"scale": 0.02, "units": "nm", **{f"more{n}": "x" for n in range(9)}})
        keep("hspy", folder / "h.hspy")
    with h5py.File(folder / "d.h5", "w") as file:
        file.attrs.update(schema_version=1, material="x", recipe="{}", seed=0, classes='["A"]')
        group = file.create_group("frames/000000")
        group.attrs.update(pixel_size=0.2, dose=1e4)
        group.create_dataset("image", data=image.astype(np.float32), chunks=(16, 16))
        group["columns"], group["species"] = rng.uniform(0, 24, (5, 2)), np.zeros(5, dtype=np.int64)
    keep("h5", folder / "d.h5")
    keep("dataset", folder / "d.h5")
    _results(folder)
    keep("results", folder / "analysis.h5")
    keep("h5", folder / "analysis.h5")
    keep("table", folder / "columns.csv")
    keep("run", folder / "run.json")
    keep("part", folder / "part.npz")
    for path in sorted((ROOT / "model_cards").rglob("README.md")):
        keep("card", path)
    for path in sorted((ROOT / "datasets").glob("*.toml")):
        keep("recipe", path)
    return found


def _results(folder: Path) -> None:
    """Write an analysis.h5, a columns.csv, a part and a run.json of the same few columns."""
    from stemzoo.analyze.journal import Part
    from stemzoo.io.results import write_results
    from stemzoo.runtime.tables import write_columns
    from stemzoo.types import Analysis, Columns, Encoding, Frames, ModelId

    rng = np.random.default_rng(1)
    n, none = 6, np.full(6, np.nan)
    columns = Columns(rng.uniform(0, 24, (n, 2)), rng.random((n, 2)), np.zeros(n), rng.random(n), rng.random(n), np.ones(n), ("A",), 0.2)
    zeros = np.zeros(n, dtype=np.int64)
    encoding = Encoding(none, none, zeros + 1, rng.random((n, 2)).astype(np.float32), zeros, np.arange(n), np.ones(n, dtype=bool))
    frames = Frames(rng.random((1, 24, 32)).astype(np.float32), 0.2, "user", "a.tif", "0" * 64)
    analysis = Analysis(frames, (columns,), ModelId("m@1", "1" * 64), encoding, ModelId("e@1", "2" * 64), window_px=12.0, version="0")
    write_results(folder / "analysis.h5", analysis)
    write_columns(folder / "columns.csv", analysis)
    journal = Journal(folder / "out")
    journal.begin("key")
    journal.save("analyze", 0, Part((columns,), (encoding,)))
    journal.path("analyze", 0).rename(folder / "part.npz")
    (folder / "run.json").write_text('{"key": "key", "files": [], "summary": {"doubts": []}, "failed_frames": [], "input": "a"}')


def ser_bytes(image: np.ndarray, metres: float = 2e-11) -> bytes:
    """Return a TIA series of one image (H, W) of unsigned 16-bit pixels."""
    height, width = image.shape
    dimension = struct.pack("<IddII", 1, 0.0, 1.0, 0, 6) + b"Number" + struct.pack("<I", 0)
    offsets_at = 30 + len(dimension)
    at = offsets_at + 8
    header = struct.pack("<HHHIIIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 1, 1, offsets_at, 1)
    element = struct.pack("<ddIddIHII", 0.0, metres, 0, 0.0, metres, 0, 2, width, height) + image.astype("<u2").tobytes()
    return header + dimension + struct.pack("<II", at, at + len(element)) + element + struct.pack("<HHI", 0x4152, 0, 1_600_000_000)


def dm4_bytes(image: np.ndarray, nm: float = 0.02) -> bytes:
    """Return a DigitalMicrograph 4 file of one image (H, W) of unsigned 16-bit pixels."""

    def number(kind: int, code: str, value: float) -> bytes:
        return b"%%%%" + struct.pack(">qq", 1, kind) + struct.pack("<" + code, value)

    def array(values: np.ndarray) -> bytes:
        return b"%%%%" + struct.pack(">qqqq", 3, 20, 4, values.size) + values.astype("<u2").tobytes()

    def text(words: str) -> bytes:
        return array(np.array([ord(letter) for letter in words]))

    def group(entries: list[tuple[str, Entry]]) -> bytes:
        return struct.pack(">bbqq", 1, 0, 0, len(entries)) + b"".join(tag(*entry) for entry in entries)

    def tag(name: str, entry: Entry) -> bytes:
        if isinstance(entry, list):
            return struct.pack(">bH", 20, len(name)) + name.encode() + group(entry)
        return struct.pack(">bH", 21, len(name)) + name.encode() + struct.pack(">q", len(entry)) + entry

    def scale(value: float, unit: str) -> list[tuple[str, Entry]]:
        return [("Origin", number(6, "f", 0.0)), ("Scale", number(6, "f", value)), ("Units", text(unit))]

    data: list[tuple[str, Entry]] = [
        ("Calibrations", [("Brightness", scale(1.0, "")), ("Dimension", [("", scale(nm, "nm")), ("", scale(nm, "nm"))])]),
        ("Data", array(image.ravel())),
        ("DataType", number(5, "I", 10)),
        ("Dimensions", [("", number(5, "I", side)) for side in reversed(image.shape)]),
        ("PixelDepth", number(5, "I", 2)),
    ]
    images: list[tuple[str, Entry]] = [("", [("ImageData", data), ("ImageTags", [("a", number(3, "i", 1))]), ("Name", text("scan"))])]
    root = struct.pack(">bbq", 1, 0, 1) + tag("ImageList", images)
    return struct.pack(">iqi", 4, len(root), 1) + root
