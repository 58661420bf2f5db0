"""Checkpoints that are whole or not there. Owns how they are written, the one kept before the newest, and which one a run goes on from.

Called by training.run and by the data modules.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from stemzoo.errors import ModelError, OutputError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes beside the file, flushes to the disk and renames; the last one is kept as the previous one. A full disk changes nothing."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write one checkpoint. Raises: OutputError if the disk refuses."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST and path.exists():
                kept = path.with_name(f".{PREVIOUS}.{os.urandom(6).hex()}.part")
                os.link(path, kept)
                os.replace(kept, path.with_name(PREVIOUS))
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:  # torch tells of a full disk as RuntimeError
            why = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
            raise OutputError(
                f"{path}: cannot be written ({why}); the checkpoint before it is kept: free some space and --resume"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Read one checkpoint; one from the end of an epoch is the beginning of the next."""
        loaded: dict[str, Any] = super().load_checkpoint(path, *arguments, **options)
        loops = loaded.get("loops", {}).get("fit_loop")
        if loops is not None and loops["epoch_loop.batch_progress"]["is_last_batch"]:
            _begin_next(loops)
        return loaded


def _begin_next(loops: dict[str, Any]) -> None:
    """Let the state of Lightning's loops be that between two epochs.

    It is saved while an epoch is being ended. Restored so, Lightning would order the first batches of the next epoch before it has counted
    the one that ended: they would be those of the epoch before.
    """
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    for scope in ("total", "current"):
        epochs[scope] = dict.fromkeys(epochs[scope], epochs[scope]["ready"])
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False


def batches_done(trainer: L.Trainer | None) -> int:
    """Return how many batches of its epoch a run had done when it was broken off: from there its data must go on."""
    return 0 if trainer is None else int(trainer.fit_loop.epoch_loop.batch_progress.current.completed)


def sound(resume: str | Path) -> tuple[Path, str]:
    """Return the checkpoint to go on from and, where it is not the one named, why.

    Args: resume: a checkpoint, or a run's folder, which means its last one, or a later one that Lightning left when SLURM was about to end
        the job.
    Raises: ModelError if there is none, or none that can be read.
    """
    path = Path(resume)
    left = left_by_slurm(path)
    if path.is_dir():
        path = path / "checkpoints" / LAST
    named = [path] if path.name != LAST else [path, path.with_name(PREVIOUS)]
    if not any(candidate.is_file() for candidate in (*named, *left)):
        raise ModelError(f"{path}: no such checkpoint; a run keeps its newest as <run>/checkpoints/{LAST}")
    steps: dict[Path, int] = {}
    reasons = []
    for candidate in (*named, *left):
        if candidate == path.with_name(PREVIOUS) and path in steps:
            continue
        try:
            steps[candidate] = int(torch.load(candidate, map_location="cpu", weights_only=True)["global_step"])
        except Exception as error:  # zipfile, pickle and torch each have their own for a damaged file
            reasons.append(f"{candidate} cannot be read ({type(error).__name__})")
    if not steps:
        raise ModelError(f"{'; '.join(reasons)}; wanted a checkpoint of stemzoo train; begin the run anew in another --out")
    chosen = max(steps, key=lambda candidate: steps[candidate])
    if reasons and chosen != path:
        return chosen, f"{'; '.join(reasons)}: went on from {chosen.name}, step {steps[chosen]}"
    return chosen, ""


def refuse_longer(checkpoint: Path, out: Path, steps: int) -> None:
    """Raise ModelError where a run is to be resumed for more `steps` than its learning rate was planned for, which ends at zero."""
    schedules = torch.load(checkpoint, map_location="cpu", weights_only=True).get("lr_schedulers") or [{}]
    planned = schedules[0].get("total_steps")
    if planned is not None and steps > planned:
        raise ModelError(
            f"{out}: was planned for {planned} steps, at whose end its learning rate is zero, so it cannot go on to {steps}; begin another "
            f"run from its network: --from {out / 'checkpoints' / 'best.ckpt'} (an encoder: anew)"
        )


def left_by_slurm(run: Path) -> list[Path]:
    """Return the checkpoints that Lightning wrote into a run's folder before it asked SLURM for another turn."""
    return sorted(run.glob("hpc_ckpt_*.ckpt"))


def tidy(folder: Path) -> None:
    """Remove what a killed run was writing."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)
