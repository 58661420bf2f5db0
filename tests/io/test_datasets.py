"""HDF5 datasets: what is written comes back, lazily; older files are read, newer, damaged and foreign ones refused with the way out."""

import os
import pickle

import h5py
import numpy as np
import pytest

from stemzoo.errors import DatasetError, OutputError
from stemzoo.io import outputs
from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame
from stemzoo.io.datasets import SCHEMA, Dataset, digest
from stemzoo.io.inventory import inspect


def labelled(number=0, *, shape=(80, 96), classes=("A", "B"), **attributes):
    """A frame of noise with five columns, for tests that never look at it."""
    rng = np.random.default_rng(number)
    yx = rng.uniform(0, np.array(shape) - 1, (5, 2))
    expected = rng.uniform(1, 9, shape).astype(np.float32)
    image = rng.poisson(expected).astype(np.float32)
    return LabelledFrame(image, yx, np.arange(5) % len(classes), classes, 0.2, expected, np.full(5, 100.0), attributes)


def write(path, *frames):
    with DatasetWriter(path, recipe="{}", material="test", seed=0) as writer:
        for frame in frames:
            writer.add(frame)
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "d.h5", labelled(0, dose=40.0), labelled(1, classes=("B", "C"), dose=90.0))


def test_frames_come_back_as_written_and_species_share_one_list(path):
    data = Dataset(path)
    first, second = labelled(0), labelled(1)
    assert np.array_equal(data.image(1), second.image)
    assert np.array_equal(data.window(0, (3, 5), (40, 50), "expected"), first.expected[3:43, 5:55])
    assert data.classes == ("A", "B", "C")
    assert [data.classes[k] for k in data.columns(1)[1]] == ["B", "C", "B", "C", "B"]
    found = inspect(path)
    assert found.columns_by_class == {"A": 3, "B": 5, "C": 2}
    assert found.dose == (40.0, 90.0)
    assert (found.n_simulated, found.schema_version) == (2, SCHEMA)


def test_a_window_reads_its_own_chunks_and_no_others(tmp_path):
    big = labelled(0, shape=(1024, 1024))
    path = write(tmp_path / "big.h5", big)
    data = Dataset(path)
    with h5py.File(path, "r") as file:
        dataset = file["frames/000000/image"]
        chunks = [dataset.id.get_chunk_info(k) for k in range(dataset.id.get_num_chunks())]
    # Everything but the four chunks under the window is overwritten: the window must not notice.
    with open(path, "r+b") as raw:
        for chunk in chunks:
            if not all(256 <= corner < 512 for corner in chunk.chunk_offset):
                raw.seek(chunk.byte_offset)
                raw.write(os.urandom(chunk.size))
    data.close()
    assert np.array_equal(data.window(0, (256, 256), (256, 256)), big.image[256:512, 256:512])
    assert not np.array_equal(data.image(0), big.image)


def test_a_scene_is_what_two_frames_share(tmp_path):
    data = Dataset(
        write(
            tmp_path / "d.h5",
            labelled(0, recipe="SrTiO3", zone_axis="1,0,0", seed="0:1", dose=10.0),
            labelled(1, recipe="SrTiO3", zone_axis="1,0,0", seed="0:1", dose=99.0),
            labelled(2, recipe="SrTiO3", zone_axis="1,1,0", seed="0:1"),
            labelled(3, source_sha256="abc"),
            labelled(4, source_sha256="abc"),
            labelled(5),
        )
    )
    scenes = [data.scene(k) for k in range(len(data))]
    assert scenes[0] == scenes[1] != scenes[2]
    assert scenes[3] == scenes[4]
    assert scenes[5] == f"image {digest(labelled(5).image)}"


def test_a_handle_is_left_behind_when_pickled(path):
    data = Dataset(path)
    before = data.image(0)
    copy = pickle.loads(pickle.dumps(data))
    assert copy._file is None
    assert np.array_equal(copy.image(0), before)


def test_the_index_of_a_large_file_is_not_kept_in_memory(tmp_path):
    """HDF5 would keep tens of MB of groups that were once looked at, in the trainer and in every worker."""
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file.attrs.update(schema_version=SCHEMA, classes="[]")
        for number in range(1500):
            file.create_group(f"frames/{number:06d}").attrs["pixel_size"] = 0.2
    data = Dataset(tmp_path / "many.h5")
    for index in range(len(data)):
        assert data.attributes(index)["pixel_size"] == 0.2
    with data.reading(0) as group:
        assert group.file.id.get_mdc_config().max_size <= 2**20


def test_version_1_is_read_as_it_stands(path):
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = 1
        for group in file["frames"].values():
            del group.attrs["content"]
    data = Dataset(path)
    assert data.version == 1
    assert data.content(0) == digest(labelled(0).image)
    assert inspect(path).n_columns == 10


@pytest.mark.parametrize(
    ("version", "way_out"), [(99, "upgrade with pip install -U stemzoo"), (0, "make it again with"), ("two", "make it again with")]
)
def test_unknown_versions_are_refused_with_the_way_out(path, version, way_out):
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = version
    with pytest.raises(DatasetError, match=f"schema version {version}; this stemzoo reads 1 to {SCHEMA}: {way_out}"):
        Dataset(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_file_cut_short_is_one_clear_error(path, tmp_path, share):
    whole = path.read_bytes()
    broken = tmp_path / "broken.h5"
    broken.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DatasetError, match=rf"broken\.h5: cut short, {int(share * len(whole))} of {len(whole)} bytes are there; copy it"):
        Dataset(broken)


def test_damage_inside_names_the_frame(path):
    with h5py.File(path, "a") as file:
        del file["frames/000001/columns"]
    with pytest.raises(DatasetError, match=r"d\.h5: frame 000001 cannot be read .*columns.*; the file is damaged"):
        Dataset(path).columns(1)


def test_what_is_no_dataset_says_so(path, tmp_path):
    with pytest.raises(DatasetError, match="no such dataset"):
        Dataset(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("not HDF5 " * 200)
    with pytest.raises(DatasetError, match="not an HDF5 file; wanted a dataset from"):
        Dataset(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(DatasetError, match="no stemzoo dataset"):
        Dataset(tmp_path / "other.h5")
    with pytest.raises(DatasetError, match="holds no frame"):
        Dataset(write(tmp_path / "empty.h5"))
    with h5py.File(path, "a") as file:
        file.attrs["classes"] = "[A"
    with pytest.raises(DatasetError, match="an attribute of the file is damaged"):
        Dataset(path)


def test_a_species_outside_the_list_is_refused(path):
    with h5py.File(path, "a") as file:
        file["frames/000000/species"][0] = 7
    with pytest.raises(DatasetError, match="frame 000000 has species 0 to 7; the file lists 3 classes"):
        inspect(path)


def test_a_disk_without_room_for_a_frame_is_refused_before_hdf5_meets_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "SPARE", 1 << 60)
    with pytest.raises(OutputError, match=r"d\.h5: cannot be written \(no space left on device: .* MB wanted, .* MB free\)"):
        write(tmp_path / "d.h5", labelled())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["stack.tif", "stack", "stack.npy"])
def test_a_name_that_nothing_would_read_as_a_dataset_is_refused(tmp_path, name):
    with pytest.raises(OutputError, match=rf"{name}: a dataset is an HDF5 file and named so; call it stack\.h5"):
        write(tmp_path / name, labelled(0))
    assert list(tmp_path.iterdir()) == []
