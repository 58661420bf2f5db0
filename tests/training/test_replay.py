"""A network that is fine-tuned keeps what it knew: patches are replayed in every batch, and parent and child are compared."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stemzoo.io.datasets import Dataset
from stemzoo.simulation import simulate_dataset
from stemzoo.training import train_segmenter
from stemzoo.training.patches import PatchData
from stemzoo.training.replay import FORGOTTEN, Memory, simulate_known
from stemzoo.training.segmentation import patch_loss, soft_cross_entropy

RECIPES = Path(__file__).parents[2] / "datasets"


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Frames of a material that the run's own datasets do not show, in one class."""
    path = tmp_path_factory.mktemp("known") / "lattices.h5"
    return simulate_dataset(RECIPES / "random_lattice.toml", 8, path, seed=5, settings={"frame.size_px": 160, "frame.sampling": 0.22})


def test_a_share_of_the_patches_is_replayed_and_the_rest_are_those_of_a_run_without(config, known):
    config = config.model_copy(update={"replay": (str(known),), "replay_share": 0.4, "steps_per_epoch": 100})
    mixed, own = PatchData(config).training_set, PatchData(config.model_copy(update={"replay": ()})).training_set
    patches = [mixed[index] for index in range(60)]
    again = np.array([bool(patch.replayed) for patch in patches])
    assert 0.25 < again.mean() < 0.55
    for index in np.flatnonzero(~again)[:5]:
        assert torch.equal(patches[index].image, own[int(index)].image)
    for index in np.flatnonzero(again)[:5]:
        assert torch.equal(patches[index].image, mixed[int(index)].image)  # the same each time
        assert patches[index].target.shape == own[0].target.shape
        assert float(patches[index].target[1:].max()) == 0 < float(patches[index].target[0].max())


def test_of_a_replayed_patch_only_whether_there_is_a_column_counts(config, known):
    config = config.model_copy(update={"replay": (str(known),), "replay_share": 0.5})
    batch = next(iter(PatchData(config.model_copy(update={"batch": 16})).train_dataloader()))
    assert 0 < int(batch.replayed.sum()) < 16
    logits = torch.randn(16, 3, 64, 64)
    swapped = torch.where(batch.replayed[:, None, None, None], logits[:, [0, 2, 1]], logits)
    assert patch_loss(swapped, batch) == pytest.approx(float(patch_loss(logits, batch)), rel=1e-6)
    assert patch_loss(logits[:, [0, 2, 1]], batch) != pytest.approx(float(patch_loss(logits, batch)), rel=1e-4)
    single = batch._replace(target=batch.target[:, :1])
    assert patch_loss(logits[:, :2], single) == soft_cross_entropy(logits[:, :2], single.target)


def test_a_network_that_forgets_is_told_from_one_that_is_made_to_remember(config, known, tmp_path):
    """A parent that knows lattices is fine-tuned on targets without a column: with replay it still finds them, without it does not."""
    one = config.model_copy(update={"classes": ("column",), "batch": 8, "ema_decay": 0.0, "learning_rate": 1e-2})
    parent = train_segmenter(
        one.model_copy(update={"datasets": (str(known),), "steps": 150, "steps_per_epoch": 150}), tmp_path / "parent", progress=False
    )
    empty = tmp_path / "empty.h5"
    simulate_dataset(
        RECIPES / "atoms_on_carbon.toml", 4, empty, 1, settings={"structure.density": 1e-7, "frame.size_px": 160, "frame.sampling": 0.22}
    )
    found = {}
    for name, share in (("replayed", 0.5), ("not replayed", 0.0)):
        child = one.model_copy(update={"datasets": (str(empty),), "replay": (str(known),), "replay_share": share, "steps": 60})
        run = train_segmenter(child.model_copy(update={"steps_per_epoch": 60}), tmp_path / name, start=parent.best, progress=False)
        found[name] = run.memory
        assert json.loads((run.folder / "summary.json").read_text())["memory"]["child"] == run.memory.child
    assert found["replayed"].parent == found["not replayed"].parent > 0.7
    assert not found["replayed"].forgot and "forgot" not in str(found["replayed"])
    assert found["not replayed"].forgot and "it forgot what it knew" in str(found["not replayed"])


def test_a_loss_within_the_margin_is_no_forgetting():
    assert not Memory(0.9, 0.9 - 0.9 * FORGOTTEN, 10).forgot
    assert Memory(0.9, 0.9 - 1.1 * FORGOTTEN, 10).forgot


def test_what_is_replayed_by_default_is_every_material_at_the_samplings_of_the_run(config, tmp_path):
    path = simulate_known(tmp_path / "replay.h5", config, frames=24)
    dataset = Dataset(path)
    facts = [dataset.attributes(index) for index in range(len(dataset))]
    assert len({fact["material"] for fact in facts}) > 12
    assert all(config.sampling.min <= fact["pixel_size"] <= config.sampling.max for fact in facts)
    assert simulate_known(path, config, frames=3) == path and len(Dataset(path)) == 24
