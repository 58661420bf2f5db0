"""The segmenter learns, is scored by what a microscopist counts, and a run can be broken off and continued."""

import hashlib
import json

import numpy as np
import pytest
import torch

from stemzoo.errors import ModelError, OutputError, RecipeError
from stemzoo.training import SegmenterConfig, load_config, load_for_export, train_segmenter
from stemzoo.training.patches import PatchData, heat
from stemzoo.training.segmentation import ColumnF1, SegmenterTask, soft_cross_entropy


def test_loss_is_least_where_the_network_says_the_target():
    target = torch.rand(2, 2, 8, 8) * 0.4
    full = torch.cat([1 - target.sum(1, keepdim=True), target], 1)
    best = soft_cross_entropy(full.log(), target)
    assert best < soft_cross_entropy((full + 0.05).log() * 1.1, target)
    assert best == pytest.approx(float(-(full * full.log()).sum(1).mean()), rel=1e-5)


def test_f1_counts_columns_found_missed_and_invented():
    placed = np.array([[10.0, 10.0], [10.0, 40.0], [40.0, 10.0], [40.0, 40.0]])
    found = np.array([[10.4, 10.0], [10.0, 40.0], [40.0, 18.0]])
    maps = [torch.from_numpy(heat(yx, np.zeros(len(yx), int), 1, (56, 56), 1.75))[None] for yx in (found, placed)]
    metric = ColumnF1()
    metric.update(maps[0], maps[1], torch.tensor([0.2]))
    assert float(metric.compute()) == pytest.approx(2 * 2 / (3 + 4))


def test_the_loss_falls_on_one_batch(config):
    torch.manual_seed(0)
    data = PatchData(config)
    batch = next(iter(data.train_dataloader()))
    task = SegmenterTask(config, data.classes)
    optimiser = torch.optim.AdamW(task.net.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = soft_cross_entropy(task.net(batch.image), batch.target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("separable", [False, True])
def test_a_run_leaves_config_log_and_checkpoints_and_goes_into_a_graph(config, tmp_path, separable):
    config = config.model_copy(update={"separable": separable})
    run = train_segmenter(config, tmp_path / "run", progress=False)
    assert run.best.is_file()
    assert run.last.is_file()
    assert json.loads((run.folder / "config.json").read_text())["steps"] == 4
    assert "val_f1" in (run.folder / "metrics.csv").read_text()
    assert {"val_loss", "val_iou", "val_f1"} <= set(run.scores)
    with pytest.raises(OutputError, match="holds a run already"):
        train_segmenter(config, tmp_path / "run", progress=False)
    task, modules, draft = load_for_export(run.last)
    assert task == "segmentation"
    assert draft["classes"] == ["A", "B"]
    assert draft["training"]["steps"] == 4
    assert modules["weights"].config["separable"] is separable
    probability = modules["model"](torch.rand(1, 1, 64, 96))
    assert probability.shape == (1, 2, 64, 96)
    assert float(probability.detach().sum(1).max()) <= 1


def test_a_broken_run_keeps_its_checkpoint_and_goes_on_with_the_same_patches(config, tmp_path, monkeypatch):
    config = config.model_copy(update={"steps": 6, "steps_per_epoch": 2, "ema_decay": 0.0})
    whole = train_segmenter(config, tmp_path / "whole", progress=False)
    step = SegmenterTask.training_step
    seen = []

    def stop_at_four(self, batch, index):
        seen.append(float(batch.image.sum()))
        if len(seen) == 5:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(SegmenterTask, "training_step", stop_at_four)
    broken = train_segmenter(config, tmp_path / "broken", progress=False)
    assert broken.interrupted
    assert broken.last.is_file()
    monkeypatch.setattr(SegmenterTask, "training_step", step)
    resumed = train_segmenter(config, tmp_path / "broken", resume=broken.last, progress=False)
    a, b = (torch.load(run.last, weights_only=True)["state_dict"] for run in (whole, resumed))
    assert all(torch.equal(a[key], b[key]) for key in a if key.startswith("net."))


def test_fine_tuning_starts_from_weights_and_refuses_others(config, tmp_path):
    first = train_segmenter(config, tmp_path / "a", progress=False)
    gentle = config.model_copy(update={"learning_rate": 1e-9, "ema_decay": 0.0, "weight_decay": 0.0})
    second = train_segmenter(gentle, tmp_path / "b", start=first.best, progress=False)
    a, b = (load_for_export(run.best)[1]["weights"].state_dict() for run in (first, second))
    assert all(torch.allclose(a[key], b[key], atol=1e-4) for key in a if "weight" in key)
    parent = hashlib.sha256(first.best.read_bytes()).hexdigest()
    assert load_for_export(second.best)[2]["parent"] == parent, "the card names what it was trained on from"
    assert "parent" not in load_for_export(first.best)[2]
    resumed = train_segmenter(gentle, tmp_path / "b", resume=second.last, progress=False)
    assert load_for_export(resumed.best)[2]["parent"] == parent
    with pytest.raises(ModelError, match="the weights are of another architecture"):
        train_segmenter(config.model_copy(update={"widths": (12, 20, 28)}), tmp_path / "c", start=first.best, progress=False)


def test_a_run_shorter_than_an_epoch_is_validated_all_the_same(config, tmp_path):
    run = train_segmenter(config.model_copy(update={"steps": 3, "steps_per_epoch": 250}), tmp_path / "run", progress=False)
    assert "val_f1" in run.scores
    assert run.best.is_file()


def test_wrong_places_and_files_are_refused(config, tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        train_segmenter(config, "/proc/none", progress=False)
    with pytest.raises(ModelError, match="no such checkpoint"):
        train_segmenter(config, tmp_path / "r", resume=tmp_path / "none.ckpt", progress=False)
    (tmp_path / "fake.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="no checkpoint of stemzoo"):
        load_for_export(tmp_path / "fake.ckpt")


def test_configuration_is_typed(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('datasets = ["a.h5"]\nlearning_rte = 0.1\n')
    with pytest.raises(RecipeError, match="unknown key 'learning_rte'; did you mean 'learning_rate'"):
        load_config(path, SegmenterConfig)
    path.write_text('datasets = ["a.h5"]\nsteps = 9\n')
    assert load_config(path, SegmenterConfig, steps=12, seed=None).steps == 12
