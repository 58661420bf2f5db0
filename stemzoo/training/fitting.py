"""Sub-images in memory to a trained encoder in one call, and what it says of sub-images and draws, without an export.

Called by `analyze --fit-encoder`, by the study of windows and by `scripts/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from stemzoo.nets.graphs import DecoderGraph, EncoderGraph
from stemzoo.training.encoding import EncoderTask, epochs_for
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.quiet import quiet
from stemzoo.training.subimages import SubImageData
from stemzoo.types import Encoding, SubImages

Progress = Callable[[str, int, int], None]


class _Report(Callback):
    """Passes on how far the training is, epoch by epoch."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.progress("fit encoder", trainer.current_epoch + 1, trainer.max_epochs or 0)


def fit_encoder(subimages: SubImages, config: EncoderConfig | None = None, progress: Progress | None = None) -> EncoderTask:
    """Return an encoder trained on sub-images in memory; nothing is written to disk.

    Args:
        subimages: windows around columns; those with `inside=False` are not learned from.
        config: `validation_fraction` is not used: every sub-image is learned from.
        progress: told ("fit encoder", epochs done, epochs in all).

    The result depends on the seed alone (on one machine), and the global random state is left as it was. It works on one thread.
    Raises: DatasetError for fewer than 64 sub-images; FrameError for constant ones or such with NaN.
    """
    config = (config or EncoderConfig()).model_copy(update={"validation_fraction": 0.0})
    data = SubImageData.from_subimages(subimages, config)
    with _one_thread(), torch.random.fork_rng(devices=[]), quiet("`val_dataloader`", "`IterableDataset` has `__len__`"):
        torch.manual_seed(config.seed)
        task = EncoderTask.for_data(config, data)
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=epochs_for(config, data),
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Report(progress)] if progress else [],
        )
        trainer.fit(task, data)
    return task.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch work on one thread meanwhile, and then on as many as before.

    The networks are so small that a second thread hardly gains anything on a quiet machine; on one that has other things to do it waits at
    every barrier, spinning, and a fit takes three to eight times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def encode_with(task: EncoderTask, subimages: SubImages, batch: int = 1000) -> Encoding:
    """Return what a trained encoder says of sub-images, as `runtime.encoder` would once it is exported."""
    graph, rows = EncoderGraph(task.net).eval(), np.flatnonzero(subimages.inside)
    n = len(subimages)
    angle, sigma, symmetry = np.full(n, np.nan), np.full(n, np.nan), np.ones(n, np.int64)
    latents = np.full((n, task.config.latents), np.nan, np.float32)
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        found = graph(torch.from_numpy(np.ascontiguousarray(subimages.data[part])))
        angle[part], sigma[part], symmetry[part], latents[part] = (output.numpy() for output in found)
    return Encoding(angle, sigma, symmetry, latents, subimages.frame, subimages.column, subimages.inside)


@torch.no_grad()
def draw_with(task: EncoderTask, latents: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return the patterns (M, S, S) that a trained decoder draws of latents (M, Z) and angles (M,) [rad]."""
    graph = DecoderGraph(task.net).eval()
    drawn: np.ndarray = graph(torch.from_numpy(latents.astype(np.float32)), torch.from_numpy(angle.astype(np.float32))).numpy()
    return drawn
