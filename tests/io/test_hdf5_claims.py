"""A damaged length in an HDF5 file is refused before memory is taken for it, wherever HDF5 keeps what it belongs to."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import stemzoo.io.hdf5
import stemzoo.io.hdf5_claims
from stemzoo.errors import DatasetError, ReadError
from stemzoo.io.datasets import Dataset
from stemzoo.io.hdf5_claims import attribute, attributes, check_array, check_file
from stemzoo.io.read import read
from stemzoo.io.read_results import read_results
from stemzoo.io.units import Axis, pixel_size

HUGE = 0xF0000000


def damage(path: Path, text: str) -> None:
    """Let every text of this length that the file refers to say that it is 4 GB long."""
    data = bytearray(path.read_bytes())
    heaps = [at for at in range(len(data)) if data[at : at + 4] == b"GCOL"]
    base = next(at for at in (0, 512) if data[at : at + 4] == b"\x89HDF")
    hits = 0
    for heap in heaps:
        reference = struct.pack("<IQ", len(text.encode()), heap - base)
        at = data.find(reference)
        while at >= 0:
            data[at : at + 4] = struct.pack("<I", HUGE)
            hits, at = hits + 1, data.find(reference, at + 1)
    assert hits
    path.write_bytes(data)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("more", [0, 5, 300], ids=lambda n: f"beside {n}")
@pytest.mark.parametrize("userblock", [0, 512])
def test_a_texts_length_is_found_in_headers_old_and_new_and_in_heaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libver: Any, more: int, userblock: int
) -> None:
    texts = {f"more{k}": "x" * (20 + k % 3) for k in range(more)}
    with h5py.File(tmp_path / "a.h5", "w", libver=libver, userblock_size=userblock) as file:
        file.create_group("a/b").attrs.update({"scale": 0.02, **texts, "units": "nanometre" * 4})
    with h5py.File(tmp_path / "a.h5") as file:
        assert attributes(file["a/b"]) == {"scale": 0.02, **texts, "units": "nanometre" * 4}
        monkeypatch.setattr(stemzoo.io.hdf5_claims, "MOST_BYTES", 30)
        assert attributes(file["a/b"], ["scale", *texts]) == {"scale": 0.02, **texts}
        with pytest.raises(ValueError, match="attribute 'units' of /a/b claims 36 bytes"):
            attribute(file["a/b"], "units")


@pytest.mark.parametrize("more", [0, 5, 300], ids=lambda n: f"beside {n}")
def test_a_damaged_text_is_refused(tmp_path: Path, more: int) -> None:
    """In the headers that HDF5 writes unless told otherwise; the later ones have checksums."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a/b").attrs.update({"scale": 0.02, **{f"more{k}": "x" for k in range(more)}, "units": "nm"})
    damage(path, "nm")
    with h5py.File(path) as file:
        assert attribute(file["a/b"], "scale") == 0.02
        with pytest.raises(ValueError, match=f"attribute 'units' of /a/b claims {HUGE} bytes in a file of"):
            attribute(file["a/b"], "units")


def test_a_text_whose_name_has_lost_its_end_is_looked_at_all_the_same(tmp_path: Path) -> None:
    """HDF5 takes the last byte of a name for its end, whatever it is."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["units"] = "nm"
    data = path.read_bytes()
    assert data.count(b"units\0") == 1
    path.write_bytes(data.replace(b"units\0", b"units\x7f"))
    with h5py.File(path) as file:
        assert attribute(file, "units") == "nm"
    damage(path, "nm")
    with h5py.File(path) as file, pytest.raises(ValueError, match=f"attribute 'units' of / claims {HUGE} bytes"):
        attribute(file, "units")


def test_each_of_several_texts_counts_and_lists_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["names"] = ["a", "bc", "def"]
        lists = np.empty(1, dtype=object)
        lists[0] = np.arange(3)
        file.attrs.create("numbers", lists, dtype=h5py.vlen_dtype(np.int64))
        file["lists"] = h5py.Empty("f4")
        file["names"] = file["lists"].ref
    with h5py.File(path) as file, pytest.raises(ValueError, match="/names holds lists or references"):
        check_array(file["names"])
    damage(path, "def")
    with h5py.File(path) as file:
        with pytest.raises(ValueError, match=f"attribute 'names' of / claims {HUGE} bytes"):
            attribute(file, "names")
        with pytest.raises(ValueError, match="attribute 'numbers' of / holds neither numbers nor texts"):
            attribute(file, "numbers")
        assert attribute(file, "nothing", "here") == "here"


def test_a_heap_that_leads_nowhere_is_refused_before_hdf5_loses_itself_in_it(tmp_path: Path) -> None:
    """Its free space, object 0, says that it has no bytes: HDF5 would look for the next object behind it for ever."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["units"] = "nm"
        file["text"] = "metre"
    data = bytearray((tmp_path / "a.h5").read_bytes())
    heap = data.find(b"GCOL")
    whole = bytes(data)
    at, end = heap + 16, heap + struct.unpack_from("<Q", data, heap + 8)[0]
    while struct.unpack_from("<H", data, at)[0]:
        at += 16 + -(-struct.unpack_from("<Q", data, at + 8)[0] // 8) * 8
    assert struct.unpack_from("<Q", data, at + 8)[0] == end - at
    struct.pack_into("<Q", data, at + 8, 0)
    (tmp_path / "free.h5").write_bytes(data)
    (tmp_path / "size.h5").write_bytes(whole[: heap + 8] + struct.pack("<Q", HUGE) + whole[heap + 16 :])
    for name, said in (("free.h5", "has a free space of 0 bytes"), ("size.h5", f"claims {HUGE} bytes in a file of")):
        with h5py.File(tmp_path / name) as file:
            with pytest.raises(ValueError, match=f"the heap at byte {heap} {said}"):
                attribute(file, "units")
            with pytest.raises(ValueError, match=f"the heap at byte {heap} {said}"):
                check_array(file["text"])


def test_names_whose_free_space_is_listed_in_a_circle_are_refused(tmp_path: Path) -> None:
    """HDF5 would follow the list for ever and take memory at each step."""
    path = labelled(tmp_path / "a.h5", userblock_size=512)
    data = bytearray(path.read_bytes())
    hits, at = 0, data.find(b"HEAP")
    while at >= 0:
        _, first, where = struct.unpack_from("<QQQ", data, at + 8)
        if first != 1:
            struct.pack_into("<Q", data, 512 + where + first, first)
            hits += 1
        at = data.find(b"HEAP", at + 1)
    assert hits
    check_file(path)
    path.write_bytes(data)
    for reader, kind in ((Dataset, DatasetError), (read, ReadError), (read_results, ReadError)):
        with pytest.raises(kind, match=r"the list of free space in the heap of names at byte .* comes back to itself"):
            reader(path)


@pytest.mark.parametrize("userblock", [0, 512])
def test_a_file_whose_driver_keeps_a_block_in_it_is_refused(tmp_path: Path, userblock: int) -> None:
    """HDF5 would take as much memory as that block claims, before it looks."""
    path = labelled(tmp_path / "a.h5", userblock_size=userblock)
    check_file(path)
    data = bytearray(path.read_bytes())
    assert data[userblock + 48 : userblock + 56] == b"\xff" * 8
    data[userblock + 48 : userblock + 56] = bytes(8)
    path.write_bytes(data)
    for reader, kind in ((Dataset, DatasetError), (read, ReadError), (read_results, ReadError)):
        with pytest.raises(kind, match="its driver keeps a block in it"):
            reader(path)


def test_a_scale_that_vanishes_is_none(tmp_path: Path) -> None:
    for step in (5e-324, 1e-200):
        size, said = pixel_size((Axis(step, "nm"), Axis(step, "nm")), "a")
        assert size is None and "is no pixel size" in said[0]


def test_hspy_units_of_4_gb_are_refused_by_what_they_claim(tmp_path: Path) -> None:
    path = tmp_path / "a.hspy"
    with h5py.File(path, "w") as file:
        group = file.create_group("Experiments/a")
        group["data"] = np.ones((24, 32))
        for k in range(2):
            group.create_group(f"axis-{k}").attrs.update(scale=0.02, units="nm")
    damage(path, "nm")
    with pytest.raises(ReadError, match=f"'units' of /Experiments/a/axis-0 claims {HUGE} bytes"):
        read(path)


def labelled(path: Path, side: int = 24, userblock_size: int = 0, **more: Any) -> Path:
    """Write a dataset of one frame by hand."""
    with h5py.File(path, "w", userblock_size=userblock_size) as file:
        file.attrs.update(schema_version=1, material="rutile", recipe="{}", seed=0, classes='["A"]')
        group = file.create_group("frames/000000")
        group.attrs.update(pixel_size=0.2, zone_axis="[0, 0, 1]")
        group.create_dataset("image", shape=(side, side), dtype=np.float32, chunks=(16, 16), **more)
        group["columns"], group["species"] = np.zeros((3, 2)), np.zeros(3, dtype=np.int64)
    return path


def test_a_datasets_damaged_texts_are_refused(tmp_path: Path) -> None:
    of_root, of_frame = labelled(tmp_path / "root.h5"), labelled(tmp_path / "frame.h5")
    damage(of_root, "rutile")
    with pytest.raises(DatasetError, match=f"'material' of / claims {HUGE} bytes"):
        Dataset(of_root)
    damage(of_frame, "[0, 0, 1]")
    with pytest.raises(DatasetError, match=f"'zone_axis' of /frames/000000 claims {HUGE} bytes"):
        Dataset(of_frame).attributes(0)


def test_an_image_larger_than_its_file_can_unpack_to_is_refused(tmp_path: Path) -> None:
    """Of both, nothing was written; HDF5 would fill 10 GB with zeros."""
    with pytest.raises(DatasetError, match="/frames/000000/image claims 10000000000 bytes in a file of"):
        Dataset(labelled(tmp_path / "a.h5", 50_000)).image(0)
    with pytest.raises(ReadError, match="claims 10000000000 bytes in a file of"):
        read(labelled(tmp_path / "b.h5", 50_000)).frame(0)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("image", shape=(50_000, 50_000), dtype=np.float32)
    with pytest.raises(ReadError, match="claims 10000000000 bytes in a file of"):
        read(tmp_path / "c.h5")


def test_packed_and_sparse_arrays_are_not_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        packed = file.create_dataset("packed", data=np.zeros((2000, 2000)), compression="gzip", compression_opts=9)
        check_array(packed)
        sparse = file.create_dataset("sparse", shape=(3000, 3000), dtype=np.float32, chunks=(64, 64))
        with pytest.raises(ValueError, match="/sparse claims 36000000 bytes"):
            check_array(sparse)
        check_array(sparse, spare=10**8)
        check_array(sparse, n_bytes=64)


def test_a_single_large_frame_of_a_dataset_is_read_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for a stack of its rows."""
    monkeypatch.setattr(stemzoo.io.hdf5, "EAGER_BYTES", 1000)
    path = labelled(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["frames/000000/image"][...] = np.arange(24 * 24).reshape(24, 24)
    frames = read(path)
    assert len(frames) == 1 and not isinstance(frames.data, np.ndarray)
    assert np.array_equal(frames.frame(0), np.arange(24 * 24).reshape(24, 24))
