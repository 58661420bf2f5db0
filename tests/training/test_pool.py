"""The pool of frames: classes, and a division into training and validation that no scene straddles."""

import numpy as np
import pytest

from stemzoo.errors import DatasetError
from stemzoo.training.patches import PatchData
from stemzoo.training.pool import FramePool, hold_back


def test_classes_can_be_merged_but_not_forgotten(dataset):
    assert FramePool((str(dataset),), None).classes == ("A", "B")
    assert set(FramePool((str(dataset),), ("column",)).columns(0)[1]) == {0}
    with pytest.raises(DatasetError, match="of which B are not among A, C"):
        FramePool((str(dataset),), ("A", "C"))
    with pytest.raises(DatasetError, match="no dataset given"):
        FramePool((), None)


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
