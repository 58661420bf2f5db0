"""What keeps a run honest while it runs: the same random numbers at the same step, an end where the loss is lost, the newest state kept.

Lightning callbacks; called by training.run.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor
from torch.optim import Optimizer

from stemzoo.errors import ModelError, OutputError

LOOK_EVERY = 50  # steps; looking at a loss waits for the device


class SeedSteps(Callback):
    """Seeds torch at every batch from the run's seed and the batch, so that a resumed run draws what it would have drawn.

    All processes are seeded alike: together they draw what one would (training.together).
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed this step."""
        torch.manual_seed(((self.seed * 1_000_003 + trainer.current_epoch) * 1_000_003 + batch_idx) * 1009)


class HearSlurm(Callback):
    """Lets SLURM's signal through between two batches only, where the checkpoint that Lightning then writes counts what was learned.

    `stemzoo train` has the signal wait from its start.
    """

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Hear what was said meanwhile."""
        if hasattr(signal, "SIGUSR1"):  # not on Windows
            waited = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
            signal.pthread_sigmask(signal.SIG_SETMASK, waited)


class StopWhenLost(Callback):
    """Ends the run at a loss that is not finite, before such weights are kept.

    Raises: ModelError.
    """

    def __init__(self) -> None:
        self._lost: Tensor | None = None

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the loss; look at what was noted now and then."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        lost = ~torch.isfinite(loss.detach()).all()
        self._lost = lost if self._lost is None else self._lost | lost
        if batch_idx % LOOK_EVERY == 0:
            self._look(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before anything is scored."""
        self._look(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before the epoch's checkpoint is written."""
        self._look(trainer)

    def _look(self, trainer: L.Trainer) -> None:
        if self._lost is not None and bool(self._lost):
            raise LostLossError(
                f"the loss is NaN or infinite near step {trainer.global_step}; the checkpoints before it are kept. Lower learning_rate in "
                "--config, or use --precision 32-true, and begin anew or with --resume"
            )
        self._lost = None


class LostLossError(ModelError):
    """The loss is not finite, and neither are the weights from here on."""


class KeepNewest(Callback):
    """Writes the newest checkpoint when a run is broken off, by ^C or by an error that leaves its weights sound."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stepping = False

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """From here the weights move, and the batch that moves them is not counted yet."""
        self._stepping = True

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """All before is counted."""
        self._stepping = False

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save, unless there is nothing worth saving."""
        # Broken off while validating, a run is between two epochs, where Lightning cannot go on: the epoch before serves better.
        if trainer.state.stage == RunningStage.VALIDATING and self.path.exists():
            return
        if isinstance(exception, LostLossError | OutputError) or trainer.global_step == 0 or self._stepping:
            return
        if trainer.world_size > 1:  # the others may be gone, and saving waits for them
            return
        try:
            trainer.save_checkpoint(self.path)
        except OutputError:
            return
