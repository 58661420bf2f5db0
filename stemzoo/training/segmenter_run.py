"""A training run of a segmenter: the folder that `run.fit` leaves behind, and what a fine-tuned network began from and still knows.

Called by `stemzoo train segmenter`, training.ensemble and `scripts/`.

RUN/start.json   of a run that did not start from nothing: the weights it began from, and their sha256
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging

from stemzoo.errors import OutputError
from stemzoo.nets.unet import UNet
from stemzoo.training.config import SegmenterConfig
from stemzoo.training.patches import PatchData
from stemzoo.training.replay import compare
from stemzoo.training.run import Run, fit, is_first
from stemzoo.training.segmentation import SegmenterTask, unet
from stemzoo.training.weights import load_weights, read_weights, weights_file


def train_segmenter(
    config: SegmenterConfig, out: str | Path, *, resume: str | Path | None = None, start: str | Path | None = None, progress: bool = True
) -> Run:
    """Train a segmenter and return the run.

    Args:
        config: datasets and settings.
        out: the run's folder; made if missing.
        resume: a checkpoint of an interrupted run, or its folder; continued with its data order, optimiser and schedule.
        start: weights to fine-tune from: a bundle's `weights.safetensors` or a checkpoint; the head starts anew where the classes differ.
    Raises: DatasetError, ModelError, OutputError.
    """
    config = _whole_epochs(config)
    L.seed_everything(config.seed, workers=True, verbose=False)
    data, task = prepared(config, start)
    if resume is None:
        _note_start(Path(out), start)
    steps = min(config.steps, config.stop_after or config.steps)
    callbacks: list[Callback] = [EMAWeightAveraging(decay=config.ema_decay)] if config.ema_decay else []
    run = fit(
        task,
        data,
        config,
        out,
        epochs=-(-steps // config.steps_per_epoch),
        steps=steps,
        monitor="val_f1",
        mode="max",
        resume=resume,
        callbacks=callbacks,
        progress=progress,
    )
    return run if run.interrupted or not config.replay or not is_first() else _remembered(run, config)


def prepared(config: SegmenterConfig, start: str | Path | None) -> tuple[PatchData, SegmenterTask]:
    """Return data and network of a run; the network begins from the weights `start`, if any. Raises: DatasetError, ModelError."""
    data = PatchData(config)
    task = SegmenterTask(config, data.classes)
    if start is not None:
        load_weights(task.net, start)
    return data, task


def _remembered(run: Run, config: SegmenterConfig) -> Run:
    """The run with what its best network still knows of what it was fine-tuned from, which its summary says too."""
    started = run.folder / "start.json"
    if not started.is_file():
        return run
    parent, child = (read_weights(path) for path in (json.loads(started.read_text())["weights"], run.best))
    memory = compare(_as_trained(parent, config), _as_trained(child, config), config)
    path = run.folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "memory": asdict(memory)}, indent=2) + "\n")
    return replace(run, memory=memory)


def _as_trained(state: dict[str, torch.Tensor], config: SegmenterConfig) -> UNet:
    """Return the network of the run's shape with these weights, for as many classes as they are for."""
    net = unet(config, len(state["head.bias"]) // config.fold**2 - 1)
    net.load_state_dict(state)
    return net


def _whole_epochs(config: SegmenterConfig) -> SegmenterConfig:
    """The configuration with its steps dealt out to epochs of equal length, since only the end of an epoch is validated."""
    epochs = max(1, round(config.steps / config.steps_per_epoch))
    length = -(-config.steps // epochs)
    return config.model_copy(update={"steps": epochs * length, "steps_per_epoch": length})


def _note_start(out: Path, start: str | Path | None) -> None:
    """Say in the run's folder which weights it began from: the card of what it makes names them as its parent. Raises: OutputError."""
    if not is_first():
        return
    path = out / "start.json"
    try:
        if start is None:
            path.unlink(missing_ok=True)
            return
        with weights_file(start).open("rb") as file:
            facts = {"weights": str(start), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts, indent=2) + "\n")
    except OSError as failure:
        raise OutputError(f"{out}: cannot be written ({failure.strerror}); choose another --out") from None
