"""Patches: truth moves with the image, at every sampling; a patch hangs on seed, epoch and number alone."""

import numpy as np
import pytest
import torch

from stemzoo.errors import DatasetError
from stemzoo.geometry.peaks import find_peaks
from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame
from stemzoo.training.config import Augmentation, Sampling
from stemzoo.training.patches import EpochSampler, PatchData, heat

STILL = {"zoom_probability": 0.0, "blur_probability": 0.0, "gamma": (1, 1), "row_jitter": (0, 0), "readout": (0, 0), "hot_fraction": (0, 0)}


def test_heat_peaks_at_the_column_to_a_hundredth_of_a_pixel():
    yx = np.array([[10.3, 20.7], [30.5, 12.25], [41.0, 44.9]])
    target = heat(yx, np.array([0, 1, 0]), 2, (48, 56), 1.75)
    peaks = find_peaks(target, 0.5, 3.0)
    order = np.lexsort((peaks.yx[:, 1], peaks.yx[:, 0]))
    assert peaks.yx[order] == pytest.approx(yx, abs=0.01)
    assert peaks.species[order].tolist() == [0, 1, 0]


def test_a_column_just_outside_still_reaches_in():
    target = heat(np.array([[-1.0, 20.0]]), np.array([0]), 1, (32, 40), 2.0)
    assert target[0, 0, 20] == pytest.approx(np.exp(-1 / 8), rel=1e-5)


def test_patches_hang_on_seed_epoch_and_number_alone(config):
    first, second = PatchData(config), PatchData(config)
    length = len(first.training_set)
    assert torch.equal(first.training_set[3].image, second.training_set[3].image)
    assert not torch.equal(first.training_set[3].image, first.training_set[3 + length].image)
    other = PatchData(config.model_copy(update={"seed": 8}))
    assert not torch.equal(first.training_set[3].image, other.training_set[3].image)


def test_two_processes_share_an_epoch_without_overlap():
    halves = [EpochSampler(10, rank, 2) for rank in (0, 1)]
    for sampler in halves:
        sampler.set_epoch(3)
    assert sorted(i for sampler in halves for i in sampler) == list(range(30, 40))


def test_targets_mark_bright_pixels(config):
    held_back = PatchData(config.model_copy(update={"validation_patches": 12})).validation_set
    patches = [held_back[i] for i in range(12)]
    bright = [patch for patch in patches if (patch.target.amax(0) > 0.6).any()]
    assert bright
    for patch in bright:
        inside = patch.target.amax(0) > 0.6
        assert patch.image[0][inside].mean() > 1.15 * patch.image[0][~inside].mean()


@pytest.fixture
def one_column(tmp_path):
    """Writes frames of 96 px that hold one Gaussian column of 9000 electrons, 0.5 Å wide, at (47.25, 50.5) px; returns the file."""

    def write(pixel_size, *, simulated=True):
        path = tmp_path / f"{pixel_size}.h5"
        y, x = np.mgrid[:96, :96]
        sigma = 0.5 / pixel_size
        blob = np.exp(-((y - 47.25) ** 2 + (x - 50.5) ** 2) / (2 * sigma**2)) * 9000 / (2 * np.pi * sigma**2)
        with DatasetWriter(path, recipe="{}", material="one", seed=0) as writer:
            for number in range(2):
                expected = blob.astype(np.float32) if simulated else None
                facts = {"recipe": "one", "seed": f"0:{number}"}
                frame = LabelledFrame(blob, np.array([[47.25, 50.5]]), np.zeros(1, int), ("A",), pixel_size, expected, None, facts)
                writer.add(frame)
        return path

    return write


def _own(config, path, **augmentation):
    own = {**STILL, **augmentation}
    return config.model_copy(update={"datasets": (str(path),), "patch_px": 48, "augmentation": Augmentation(dose_factor=(1, 1), **own)})


@pytest.mark.parametrize("simulated", [True, False])
def test_zoom_keeps_the_truth_on_the_column_and_its_electrons(config, one_column, simulated):
    data = PatchData(_own(config, one_column(0.2, simulated=simulated), zoom_probability=1.0)).training_set
    sizes, electrons = [], []
    for number in range(60):
        patch = data[number]
        image, size = patch.image[0].numpy(), float(patch.pixel_size)
        sizes.append(size)
        peak = find_peaks(patch.target.numpy(), 0.5, 3.0).yx
        margin = 1.6 / size
        if len(peak) != 1 or (peak[0] < margin).any() or (peak[0] > 47 - margin).any():
            continue
        y, x = np.mgrid[:48, :48]
        near = image * (np.hypot(y - peak[0, 0], x - peak[0, 1]) < margin)
        centre = np.array([(near * y).sum(), (near * x).sum()]) / near.sum()
        assert np.abs(centre - peak[0]).max() * size < 0.03
        electrons.append(near.sum())
    assert min(sizes) < 0.16
    assert 0.26 < max(sizes) <= 0.2 * 1.4 + 1e-6
    assert len(electrons) > 15
    if simulated:  # whatever the pixel, a column sends the same electrons
        assert np.mean(electrons) == pytest.approx(9000, rel=0.03)


@pytest.mark.parametrize(("frame", "brought_to"), [(0.2, 0.2), (0.1, 0.14), (0.4, 0.28)])
def test_frames_outside_the_trained_sampling_are_brought_to_its_edge(config, one_column, frame, brought_to):
    config = _own(config, one_column(frame)).model_copy(update={"sampling": Sampling(min=0.14, max=0.28)})
    data = PatchData(config)
    for part in (data.training_set, data.validation_set):
        assert float(part[0].pixel_size) == pytest.approx(brought_to, rel=0.02)


def test_zoom_stays_within_the_trained_sampling_and_the_frame(config, one_column):
    narrow = _own(config, one_column(0.2), zoom_probability=1.0).model_copy(update={"sampling": Sampling(min=0.19, max=0.21)})
    sizes = [float(PatchData(narrow).training_set[k].pixel_size) for k in range(20)]
    assert 0.185 < min(sizes) < max(sizes) < 0.215
    tight = _own(config, one_column(0.2), zoom_probability=1.0).model_copy(update={"patch_px": 80})
    sizes = [float(PatchData(tight).training_set[k].pixel_size) for k in range(20)]
    assert max(sizes) <= 0.2 * (96 - 8) / 80 + 1e-6


def test_frames_smaller_than_a_patch_are_refused(config):
    with pytest.raises(DatasetError, match=r"patches of 512 px at 0\.14 to 0\.28 Å/px want frames of at least 520 px: lower"):
        PatchData(config.model_copy(update={"patch_px": 512}))


def test_validation_is_recorded_as_the_recipe_says(config, tmp_path):
    expected = np.full((96, 96), 400.0, np.float32)
    path = tmp_path / "d.h5"
    with DatasetWriter(path, recipe="{}", material="flat", seed=0) as writer:
        for number in range(2):
            facts = {"seed": f"0:{number}", "gain": 3.0, "offset": 50.0, "readout": 15.0}
            writer.add(LabelledFrame(expected, np.zeros((0, 2)), np.zeros(0, int), ("A",), 0.2, expected, None, facts))
    image = PatchData(_own(config, path)).validation_set[0].image
    assert float(image.mean()) == pytest.approx(3 * 400 + 50, rel=0.01)
    assert float(image.std()) == pytest.approx(3 * np.sqrt(400 + 15**2), rel=0.05)
