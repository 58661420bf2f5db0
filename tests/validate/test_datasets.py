"""Validation finds what breaks a training: wrong schema, truth beside the intensity, frames that stand on both sides."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from stemzoo.errors import DatasetError
from stemzoo.io.merge import merge
from stemzoo.simulation import simulate_dataset
from stemzoo.validate import validate_datasets

RECIPES = Path(__file__).parents[2] / "datasets"
SMALL = {"frame.size_px": 160, "frame.sampling": 0.2, "specimen.vacuum": 0.0}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return simulate_dataset(RECIPES / "srtio3.toml", 3, tmp_path_factory.mktemp("v") / "train.h5", 0, settings=SMALL)


@pytest.fixture
def path(clean, tmp_path):
    """A copy to be damaged."""
    copy = tmp_path / "train.h5"
    copy.write_bytes(clean.read_bytes())
    return copy


def _texts(*paths):
    return [f"{finding.kind}: {finding.text}" for finding in validate_datasets(paths).findings]


def test_a_sound_dataset_has_no_findings(clean):
    verdict = validate_datasets([clean])
    assert verdict.findings == ()
    assert (verdict.n_frames, verdict.n_columns > 100) == (3, True)
    assert verdict.on > 0.98
    assert verdict.offset_px < 0.3


def _nan(frame):
    frame["image"][3, 4] = np.nan


def _constant(frame):
    frame["image"][...] = 7.0


def _bit_rot(frame):
    frame["image"][0, 0] += 1


def _outside(frame):
    frame["columns"][0] = [10.0, 900.0]


def _twice(frame):
    frame["columns"][1] = frame["columns"][0]


def _species(frame):
    frame["species"][0] = 9


def _nanometres(frame):
    frame.attrs["pixel_size"] = 0.002


def _no_pixel_size(frame):
    frame.attrs["pixel_size"] = 0.0


def _lost(frame):
    del frame["columns"]


def _too_few_species(frame):
    species = frame["species"][:-2]
    del frame["species"]
    frame["species"] = species


def _stack(frame):
    del frame["image"]
    frame["image"] = np.zeros((2, 8, 8), np.float32)


def _nowhere(frame):
    frame["columns"][0] = [np.nan, 3.0]


def _negative(frame):
    frame["expected"][0, 0] = -1.0


def _exchanged(frame):
    frame["columns"][...] = frame["columns"][...][:, ::-1]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_nan, "schema: .*frame 000001 has 1 pixels that are NaN or infinite"),
        (_constant, "schema: .*frame 000001 is constant"),
        (_bit_rot, "schema: .*frame 000001 is not what was written"),
        (_outside, r"schema: .*frame 000001 has 1 columns outside its 160×160 px, the first at y 10\.0, x 900\.0"),
        (_twice, r"schema: .*frame 000001 has 1 pairs of columns nearer than 0\.2 Å"),
        (_species, "schema: .*frame 000001 has species 0 to 9; the file lists 2 classes"),
        (_nanometres, r"schema: .*frame 000001 has a pixel size of 0\.002 Å; .*is it in nm"),
        (_no_pixel_size, "schema: .*frame 000001 has pixel_size 0.0; wanted Å/px above 0"),
        (_lost, "schema: .*frame 000001 lacks columns"),
        (_too_few_species, "schema: .*frame 000001 has species of shape"),
        (_stack, r"schema: .*frame 000001 has an image of shape \(2, 8, 8\); wanted \(H, W\)"),
        (_nowhere, "schema: .*frame 000001 has columns at NaN"),
        (_negative, "schema: .*frame 000001 has expected electrons that are negative"),
        (_exchanged, "truth: .*frame 000001: .*exchange them"),
    ],
)
def test_damage_is_found_and_named(path, damage, said):
    with h5py.File(path, "a") as file:
        damage(file["frames/000001"])
    findings = _texts(path)
    assert any(np.char.count([text], "frame 000001")[0] for text in findings)
    assert not any("frame 000000" in text or "frame 000002" in text for text in findings)
    import re

    assert any(re.search(said, text) for text in findings), findings


def test_the_same_image_twice_is_found_within_a_file_and_between_files(path, clean):
    with h5py.File(path, "a") as file:
        file.copy("frames/000000", "frames/000009")
    assert any("leak: " in text and "frame 000009 is the same image as train.h5:000000; rewrite the file" in text for text in _texts(path))
    copied = [text for text in _texts(clean, path) if text.startswith("leak: ")]
    assert len(copied) == 4
    assert "merge the files, which keeps one" in copied[0]


def test_the_same_crystals_at_another_dose_are_a_leak_and_other_seeds_are_none(clean, tmp_path):
    dim = simulate_dataset(RECIPES / "srtio3.toml", 2, tmp_path / "dim.h5", 0, settings={**SMALL, "dose.counts_per_column": 90.0})
    leaks = _texts(clean, dim)
    assert len(leaks) == 2
    assert "frame 000000 was simulated from the recipe and seed of train.h5:000000; simulate one of them with another --seed" in leaks[0]
    other = simulate_dataset(RECIPES / "srtio3.toml", 2, tmp_path / "other.h5", 1, settings=SMALL)
    assert _texts(clean, other) == []


def test_merging_keeps_every_frame_once_with_all_that_is_known_of_it(clean, tmp_path):
    other = simulate_dataset(RECIPES / "graphene.toml", 2, tmp_path / "other.h5", 1, settings=SMALL)
    with h5py.File(other, "a") as file:  # as an older stemzoo wrote it
        file.attrs["schema_version"] = 1
        for group in file["frames"].values():
            del group.attrs["content"]
    merged = merge([clean, other, clean], tmp_path / "all.h5")
    assert (merged.n_frames, merged.n_repeated) == (5, 3)
    from stemzoo.io.datasets import SCHEMA, Dataset

    data, first, second = Dataset(merged.path), Dataset(clean), Dataset(other)
    assert data.version == SCHEMA
    for index, (source, number) in enumerate([(first, 0), (first, 1), (first, 2), (second, 0), (second, 1)]):
        assert np.array_equal(data.image(index), source.image(number))
        assert data.scene(index) == source.scene(number)
        names = [[d.classes[k] for k in d.columns(i)[1]] for d, i in ((data, index), (source, number))]
        assert names[0] == names[1]
    assert validate_datasets([merged.path]).findings == ()
    with pytest.raises(DatasetError, match="is one of the datasets to merge"):
        merge([clean, other], other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.h5", "other.h5"]


def test_a_file_named_twice_is_refused(clean):
    with pytest.raises(DatasetError, match="a file is named twice"):
        validate_datasets([clean, clean])
    with pytest.raises(DatasetError, match="nothing to validate"):
        validate_datasets([])
