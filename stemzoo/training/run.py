"""One training run: a folder with configuration, log, checkpoints and provenance; the loop is Lightning's.

Called by segmenter_run and encoder_run, which say what is trained.

RUN/config.json  versions.json  summary.json  metrics.csv  checkpoints/last.ckpt  checkpoints/previous.ckpt  checkpoints/best.ckpt
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger

import stemzoo
from stemzoo.errors import ModelError, OutputError, StemzooError
from stemzoo.schema import Strict
from stemzoo.training.config import CONFIG_FILE
from stemzoo.training.guards import HearSlurm, KeepNewest, SeedSteps, StopWhenLost
from stemzoo.training.quiet import quiet
from stemzoo.training.replay import Memory
from stemzoo.training.saving import LAST, AtomicCheckpoints, left_by_slurm, refuse_longer, sound, tidy


@dataclass(frozen=True)
class Run:
    """What a training run left behind.

    Args:
        folder: the run's folder.
        best: checkpoint with the best validation score.
        last: newest checkpoint; `--resume` takes it.
        scores: last validation metrics.
        seconds: wall time.
        interrupted: True after ^C; the run can be resumed from `last`.
        memory: of a fine-tuned network with something to replay, what it still knows.
    """

    folder: Path
    best: Path
    last: Path
    scores: dict[str, float]
    seconds: float
    interrupted: bool = False
    memory: Memory | None = None


class _Progress(TQDMProgressBar):
    """Progress on stderr; stdout belongs to results."""

    def init_train_tqdm(self) -> Any:
        bar = super().init_train_tqdm()
        bar.fp = sys.stderr
        return bar

    def init_validation_tqdm(self) -> Any:
        bar = super().init_validation_tqdm()
        bar.fp = sys.stderr
        return bar


def fit(
    task: L.LightningModule,
    data: L.LightningDataModule,
    config: Strict,
    out: str | Path,
    *,
    epochs: int,
    steps: int = -1,
    monitor: str,
    mode: str = "min",
    resume: str | Path | None = None,
    callbacks: list[Callback] | None = None,
    progress: bool = True,
) -> Run:
    """Run Lightning's Trainer over `task` and `data`, with checkpoints, logs and provenance in the folder `out`.

    ^C ends the run with its last checkpoint kept; so does every error that leaves the weights sound. A job that SLURM has started again
    goes on from its last checkpoint by itself.
    Raises: OutputError if `out` cannot be written or the disk is full, ModelError for an unreadable `resume`, a lost loss or too little
        memory, DatasetError for a dataset that vanished.
    """
    out = Path(out)
    checkpoints = out / "checkpoints"
    if resume is None and (any(checkpoints.glob("*.ckpt")) or left_by_slurm(out)):
        if int(os.environ.get("SLURM_RESTART_COUNT", "0")) == 0:
            raise OutputError(f"{out}: holds a run already; go on with --resume {out}, or name another --out")
        resume = out
    if resume is not None:
        resume, said = sound(resume)
        if said:
            print(f"note: {said}", file=sys.stderr)
        refuse_longer(resume, out, steps if steps >= 0 else int(getattr(task, "total_steps", 0)))
    _begin_folder(out, config)
    best = ModelCheckpoint(checkpoints, filename="best", monitor=monitor, mode=mode, enable_version_counter=False)
    newest = ModelCheckpoint(checkpoints, filename="last", monitor=None, save_on_train_epoch_end=True, enable_version_counter=False)
    options = config.model_dump()
    guards = [SeedSteps(options.get("seed", 0)), HearSlurm(), StopWhenLost(), KeepNewest(checkpoints / LAST)]
    with quiet("exists and is not empty", "your dataloader is not resumable"):  # it is: see saving.batches_done
        trainer = L.Trainer(
            accelerator="auto",
            devices=options.get("devices", "auto"),
            num_nodes=options.get("num_nodes", 1),
            strategy=options.get("strategy", "auto"),
            precision=options.get("precision", "32-true"),
            max_epochs=epochs if steps < 0 else -1,  # a run broken off between epochs has counted one too many: steps decide
            max_steps=steps,
            accumulate_grad_batches=options.get("accumulate", 1),
            logger=_loggers(out),
            plugins=[AtomicCheckpoints()],
            callbacks=[best, newest, *guards, *(callbacks or []), *([_Progress()] if progress else [])],
            enable_progress_bar=progress,
            enable_model_summary=False,
            log_every_n_steps=max(1, min(10, options.get("steps_per_epoch", 10))),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=out,
        )
        began = time.perf_counter()
        interrupted = False
        try:
            with _told_plainly(out, options):
                trainer.fit(task, datamodule=data, ckpt_path=str(resume) if resume is not None else None, weights_only=False)
        except (KeyboardInterrupt, SystemExit):
            interrupted = True
    scores = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val")}
    last = checkpoints / LAST
    chosen = Path(best.best_model_path) if best.best_model_path else last
    run = Run(out, chosen, last, scores, time.perf_counter() - began, interrupted or trainer.interrupted)
    summary = {
        "scores": scores,
        "hours": run.seconds / 3600,
        "hardware": hardware(),
        "steps": trainer.global_step,
        "interrupted": run.interrupted,
    }
    if trainer.is_global_zero:
        (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        if not run.interrupted:
            for path in left_by_slurm(out):
                path.unlink(missing_ok=True)
    return run


def is_first() -> bool:
    """Return whether this process is the one of a distributed run that writes its records."""
    return not (int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("SLURM_PROCID", "0")))


def _begin_folder(out: Path, config: Strict) -> None:
    """Make the run's folder, say in it what is run, and put an earlier log aside. Raises: OutputError."""
    try:
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        if not is_first():
            return
        tidy(out / "checkpoints")
        (out / CONFIG_FILE).write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
        (out / "versions.json").write_text(json.dumps(versions(), indent=2) + "\n")
        if (out / "metrics.csv").exists():  # the logger would begin it anew
            (out / "metrics.csv").rename(out / f"metrics.{len(list(out.glob('metrics.*.csv'))) + 1}.csv")
    except OSError as failure:
        raise OutputError(f"{out}: cannot be written ({failure.strerror}); choose another --out") from None


def _loggers(out: Path) -> list[Logger]:
    """Return the logs of a run: CSV always, TensorBoard where it is installed."""
    found: list[Logger] = [CSVLogger(out, name="", version="")]
    if importlib.util.find_spec("tensorboard") is not None:
        from lightning.pytorch.loggers import TensorBoardLogger

        found.append(TensorBoardLogger(out, name="", version="tensorboard"))
    return found


@contextmanager
def _told_plainly(out: Path, options: Mapping[str, Any]) -> Iterator[None]:
    """Turn what may befall a run into one sentence each; what was there before still is."""
    smaller = f"pass a smaller --batch (now {options.get('batch')}), or --accumulate 2 for the same steps in half the memory"
    try:
        yield
    except StemzooError as error:
        # A loader's process hands its error on with a traceback around it.
        lines = [line for line in str(error).splitlines() if line.strip()]
        if "Original Traceback" not in str(error):
            raise
        raise type(error)(lines[-1].partition(": ")[2] or lines[-1]) from None
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelError(f"{out}: out of memory; {smaller}, and go on with --resume {out}") from error
    except OSError as error:
        why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise OutputError(f"{out}: the run cannot go on ({why}); the checkpoints are kept: mend that and pass --resume {out}") from error
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if "DataLoader worker" in text and "Terminated" in text:  # as SLURM ends a job: its loader first
            raise KeyboardInterrupt from error
        if "can't allocate memory" in text or ("DataLoader worker" in text and "killed" in text):
            raise ModelError(f"{out}: out of memory ({text[:120]}); {smaller}, and go on with --resume {out}") from error
        raise


def hardware() -> str:
    """What a run was computed on, in a few words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def versions() -> dict[str, str]:
    """Versions of what a run rests on."""
    names = ("torch", "torchvision", "lightning", "numpy", "h5py", "onnx", "onnxruntime")
    found = {"stemzoo": stemzoo.__version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
