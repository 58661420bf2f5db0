"""What a compressed upload may grow to: told from its headers, before anything is unpacked."""

import resource
import struct
import zlib

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from stemzoo.errors import ReadError
from stemzoo.live.claims import PAGES, TooLargeError, check_claims
from stemzoo.live.upload import Limits, from_file

LIMITS = Limits(pixels=1 << 20)


def png(side):
    """Return a PNG of side² black pixels, a thousandth of their size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side)) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_is_too_large_is_refused_unread(tmp_path):
    """12,000² pixels each; all of them together would be over 3 GB, so memory must not move."""
    (tmp_path / "a.png").write_bytes(png(12_000))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", (12_000, 12_000), "f8", chunks=(1000, 1000), compression="gzip")
    with h5py.File(tmp_path / "a.emd", "w") as file:  # the axis, not the image, is the bomb
        group = file.create_group("data/scan")
        group.attrs["emd_group_type"] = 1
        group["data"] = np.ones((32, 32), np.float32)
        group.create_dataset("dim1", (150_000_000,), "f8", chunks=(1_000_000,))
    tiles = (np.zeros((512, 512), np.uint8) for _ in range(24 * 24))
    tifffile.imwrite(tmp_path / "a.tif", tiles, shape=(12_000, 12_000), dtype="u1", tile=(512, 512), compression="zlib")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted(tmp_path.iterdir()):
        body = path.read_bytes()
        assert len(body) < 1 << 20, path
        with pytest.raises(TooLargeError, match=r"the file says that it has 1\d{8} pixels; the most taken is 1048576"):
            from_file(body, path.suffix, 0.2, path.name, LIMITS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 << 10


@pytest.mark.parametrize("kind", ["zlib", "lzma"])
def test_a_small_image_whose_strip_unpacks_to_more_is_refused(tmp_path, kind):
    import lzma

    pack, code = (zlib.compress, 8) if kind == "zlib" else (lzma.compress, 34925)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        bomb, end = pack(bytes(300 << 20)), tif.filehandle.size
        tags = tif.pages.first.tags
        for tag, value in (("Compression", code), ("StripOffsets", end), ("StripByteCounts", len(bomb))):
            tags[tag].overwrite(value)
        tif.filehandle.seek(end)
        tif.filehandle.write(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReadError, match="has 4096 bytes unpacks to more"):
        from_file((tmp_path / "a.tif").read_bytes(), ".tif", 0.2, "a.tif", LIMITS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 << 10


def test_sound_files_pass_and_others_are_refused_in_one_sentence(tmp_path):
    image = np.random.default_rng(0).poisson(40, (64, 80)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, compression="zlib", tile=(16, 16))
    tifffile.imwrite(tmp_path / "b.tif", np.stack([image] * 3), compression="lzma", photometric="minisblack")
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "a.png")
    for name, pixels in (("a.tif", 5120), ("b.tif", 15360), ("a.png", 5120)):
        check_claims(tmp_path / name, name[1:], pixels)
        with pytest.raises(TooLargeError, match=f"{pixels} pixels; the most taken is {pixels - 1}"):
            check_claims(tmp_path / name, name[1:], pixels - 1)
    assert np.array_equal(from_file((tmp_path / "a.tif").read_bytes(), ".tif", 0.2, "a", LIMITS).frame(0), image)
    (tmp_path / "c.tif").write_bytes(b"no tif at all")
    with pytest.raises(ReadError, match="cannot be read as tif") as said:
        check_claims(tmp_path / "c.tif", ".tif", 100)
    assert str(tmp_path) not in str(said.value)


def test_a_tiff_of_endless_pages_is_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for _ in range(PAGES + 1):
            tif.write(np.zeros((1, 16), np.uint8), metadata=None)
    with pytest.raises(TooLargeError, match=f"{PAGES + 1} pages; the most taken are {PAGES}"):
        check_claims(tmp_path / "a.tif", ".tif", 1 << 20)


def test_pages_of_a_tiff_count_together(tmp_path):
    """Each is a series of its own, and all could lie in one strip."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for side in range(64, 96):
            tif.write(np.zeros((side, 64), np.uint8), metadata=None, compression="zlib")
    with pytest.raises(TooLargeError, match="162816 pixels; the most taken is 100000"):
        check_claims(tmp_path / "a.tif", ".tif", 100_000)


def chunked(path, data, filters, **options):
    """Write an HDF5 file whose one chunk, of 64² float32, is `data` as it stands."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("image", (64, 64), "f4", chunks=(64, 64), **filters, **options)
        dataset.id.write_direct_chunk((0, 0), data)


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, {"compression": "gzip", "shuffle": True, "fletcher32": True}])
def test_a_chunk_of_hdf5_that_inflates_to_more_is_refused(tmp_path, filters):
    """300 MB stand behind 16 kB; HDF5 itself would give them out."""
    chunked(tmp_path / "a.h5", zlib.compress(bytes(300 << 20), 9), filters)
    body = (tmp_path / "a.h5").read_bytes()
    assert len(body) < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReadError, match="chunk of '/image' that has 16384 bytes unpacks to more") as said:
        from_file(body, ".h5", 0.2, "a.h5", LIMITS)
    assert not isinstance(said.value, TooLargeError), "it is no large frame, but a false one"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 << 10


def test_a_chunk_larger_than_its_dataset_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", (64, 64), "f8", chunks=(12_000, 12_000), maxshape=(None, None), compression="gzip")
    with pytest.raises(TooLargeError, match="144000000 pixels"):
        check_claims(tmp_path / "a.h5", ".h5", 1 << 20)


def test_packed_datasets_count_together(tmp_path):
    """None is too large by itself, but to look through all of them would take long."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(12):
            file.create_dataset(f"image{number}", data=np.zeros((256, 256)), compression="gzip")
    check_claims(tmp_path / "a.h5", ".h5", 12 << 16)
    with pytest.raises(TooLargeError, match=f"{12 << 16} pixels"):
        check_claims(tmp_path / "a.h5", ".h5", 11 << 16)


def test_packed_hdf5_is_read_as_it_was_and_packing_without_a_bound_is_refused(tmp_path):
    image = np.random.default_rng(0).poisson(40, (64, 80)).astype(np.uint16)
    for number, filters in enumerate(({}, {"shuffle": True}, {"shuffle": True, "fletcher32": True, "chunks": (16, 30)})):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file.create_dataset("image", data=image, compression="gzip", **filters)
        assert np.array_equal(from_file((tmp_path / f"{number}.h5").read_bytes(), ".h5", 0.2, "a", LIMITS).frame(0), image)
    with h5py.File(tmp_path / "raw.h5", "w") as file:  # a writer may leave a chunk as it is
        dataset = file.create_dataset("image", (64, 80), "u2", chunks=(64, 80), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), image.tobytes(), filter_mask=1)
    assert np.array_equal(from_file((tmp_path / "raw.h5").read_bytes(), ".h5", 0.2, "a", LIMITS).frame(0), image)
    for packing in ({"compression": "lzf"}, {"scaleoffset": 0}):
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file.create_dataset("image", data=image, **packing)
        with pytest.raises(ReadError, match=r"'/image' is packed by HDF5's filters \[.+\]; wanted none, or gzip"):
            from_file((tmp_path / "b.h5").read_bytes(), ".h5", 0.2, "b", LIMITS)
