"""Patches: truth moves with the image, every epoch differs, every run repeats, no frame is in both halves."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from stemzoo.errors import DatasetError
from stemzoo.geometry.peaks import find_peaks
from stemzoo.training.augment import RecordAnew, views
from stemzoo.training.config import Augmentation
from stemzoo.training.patches import EpochSampler, FramePool, PatchData, heat


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


def test_image_and_target_turn_together():
    yx = np.array([[12.0, 40.0], [50.0, 9.0]])
    blob = torch.from_numpy(heat(yx, np.array([0, 0]), 1, (64, 64), 2.0))
    calm = Augmentation(blur_probability=0.0, gamma=(1.0, 1.0))
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        image, target = views(calm, 0.2, simulated=False)(tv_tensors.Image(blob * 3), tv_tensors.Mask(blob))
        assert torch.allclose(image / image.max(), target / target.max(), atol=1e-6)
        seen.add(tuple(np.unravel_index(int(target.argmax()), (64, 64))))
    assert len(seen) == 8  # the brightest column lands at each of the square's eight images


def test_recording_anew_keeps_the_mean_of_the_expectation():
    expected = tv_tensors.Image(torch.full((1, 200, 200), 9.0))
    still = Augmentation(dose_factor=(1, 1), readout=(0, 0), hot_fraction=(0, 0), row_jitter=(0, 0))
    image = RecordAnew(still, 0.2)(expected)
    assert float(image.mean()) == pytest.approx(9, rel=0.01)
    assert float(image.var()) == pytest.approx(9, rel=0.03)


def test_patches_hang_on_seed_epoch_and_number_alone(config):
    first, second = PatchData(config), PatchData(config)
    length = len(first.training_set)
    assert torch.equal(first.training_set[3].image, second.training_set[3].image)
    assert not torch.equal(first.training_set[3].image, first.training_set[3 + length].image)
    other = PatchData(config.model_copy(update={"seed": 8}))
    assert not torch.equal(first.training_set[3].image, other.training_set[3].image)


def test_workers_change_nothing(config):
    alone = list(PatchData(config).train_dataloader())
    shared = list(PatchData(config.model_copy(update={"workers": 2})).train_dataloader())
    assert all(torch.equal(a.image, b.image) and torch.equal(a.target, b.target) for a, b in zip(alone, shared, strict=True))


def test_two_processes_share_an_epoch_without_overlap():
    halves = [EpochSampler(10, rank, 2) for rank in (0, 1)]
    for sampler in halves:
        sampler.set_epoch(3)
    assert sorted(i for sampler in halves for i in sampler) == list(range(30, 40))


def test_no_frame_is_in_both_halves(config):
    data = PatchData(config)
    assert not set(data.training_frames) & set(data.validation_frames)
    assert len(data.training_frames) + len(data.validation_frames) == 5


def test_targets_mark_bright_pixels(config):
    held_back = PatchData(config.model_copy(update={"validation_patches": 12})).validation_set
    patches = [held_back[i] for i in range(12)]
    bright = [patch for patch in patches if (patch.target.amax(0) > 0.6).any()]
    assert bright
    for patch in bright:
        inside = patch.target.amax(0) > 0.6
        assert patch.image[0][inside].mean() > 1.15 * patch.image[0][~inside].mean()


def test_classes_can_be_merged_but_not_forgotten(dataset):
    assert FramePool((str(dataset),), None).classes == ("A", "B")
    assert set(FramePool((str(dataset),), ("column",)).columns(0)[1]) == {0}
    with pytest.raises(DatasetError, match="of which B are not among A, C"):
        FramePool((str(dataset),), ("A", "C"))


def test_frames_smaller_than_a_patch_are_refused(config):
    with pytest.raises(DatasetError, match="patches of 512 px want frames of at least 520 px"):
        PatchData(config.model_copy(update={"patch_px": 512}))
