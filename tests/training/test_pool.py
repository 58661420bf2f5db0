"""The pool of frames: classes, and a division into training and validation that no scene straddles."""

from pathlib import Path

import numpy as np
import pytest

from stemzoo.errors import DatasetError
from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame
from stemzoo.simulation import simulate_dataset
from stemzoo.training.patches import PatchData
from stemzoo.training.pool import FramePool, hold_back

RECIPES = Path(__file__).parents[2] / "datasets"


def test_classes_can_be_merged_but_not_forgotten(dataset):
    assert FramePool((str(dataset),), None).classes == ("A", "B")
    assert set(FramePool((str(dataset),), ("column",)).columns(0)[1]) == {0}
    with pytest.raises(DatasetError, match="of which B are not among A, C"):
        FramePool((str(dataset),), ("A", "C"))
    with pytest.raises(DatasetError, match="no dataset given"):
        FramePool((), None)


def test_columns_of_no_species_are_no_species_beside_others(dataset, tmp_path):
    """Labelled frames name none: a network trained to tell "column" from A and B would learn which file a frame came from."""
    labelled = tmp_path / "labelled.h5"
    with DatasetWriter(labelled, recipe="", material="ours", seed=0) as writer:
        image, yx = np.random.default_rng(0).random((64, 64)).astype(np.float32), np.array([[20.0, 30.0]])
        writer.add(LabelledFrame(image, yx, np.zeros(1, int), ("column",), 0.2))
    both = (str(dataset), str(labelled))
    with pytest.raises(DatasetError, match=r'species A, B and some of no species .* by classes = \["column"\] in --config'):
        FramePool(both, None)
    assert FramePool(both, ("column",)).classes == ("column",)
    assert FramePool(both[1:], None).classes == ("column",)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scenes", ["abcdefghij", "aabbccddee", "aaaaaaaaab", "ab", "aabbbbbbbbbbbbbbbbbb"])
def test_a_scene_is_trained_on_or_validated_on_never_both(scenes, seed):
    train, held = hold_back(scenes, 0.2, np.random.default_rng(seed))
    assert sorted([*train, *held]) == list(range(len(scenes)))
    assert len(train)
    assert len(held)
    assert not {scenes[k] for k in train} & {scenes[k] for k in held}
    if len(set(scenes)) == len(scenes):
        assert len(held) == max(1, round(0.2 * len(scenes)))


def test_a_single_stack_is_divided_by_frame():
    train, held = hold_back(["stack"] * 10, 0.2, np.random.default_rng(0))
    assert (len(train), len(held)) == (8, 2)


def test_the_same_scene_at_two_doses_stays_together(dataset, dimmer, config):
    data = PatchData(config.model_copy(update={"datasets": (str(dataset), str(dimmer))}))
    scenes = [facts.scene for facts in data.pool.facts]
    assert len(set(scenes)) == 5
    assert len(scenes) == 10
    assert not {scenes[k] for k in data.training_frames} & {scenes[k] for k in data.validation_frames}


def test_patches_are_recorded_as_their_recipe_says(tmp_path):
    scan = {"frame.size_px": 64, "scan.flicker": 0.03, "scan.row_jitter": 0.05, "detector.readout": 1.5, "detector.smoothing_px": 0.6}
    path = simulate_dataset(RECIPES / "srtio3.toml", 1, tmp_path / "one.h5", 3, settings=scan)
    facts = FramePool((str(path),), None).facts[0]
    assert facts.recording is not None
    assert facts.recording.row_jitter_px * facts.pixel_size == pytest.approx(0.05)
    assert (facts.recording.flicker, facts.recording.readout, facts.recording.smoothing_px) == (0.03, 1.5, 0.6)
