"""Runs that survive: killed, resumed, with damaged checkpoints, full disks, lost losses and several processes."""

from __future__ import annotations

import csv
import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from stemzoo.cli.train_settings import torch_loaded
from stemzoo.errors import DatasetError, ModelError, OutputError
from stemzoo.training import train_segmenter
from stemzoo.training.encoder_run import train_encoder
from stemzoo.training.encoding import EncoderTask
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.saving import AtomicCheckpoints, sound
from stemzoo.training.segmentation import SegmenterTask

ROOT = Path(__file__).resolve().parents[2]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {key: value for key, value in state.items() if key.startswith("net.")}


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def compare_processes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_processes", ROOT / "scripts" / "compare_processes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _command(config, out: Path, *more: str) -> list[str]:
    toml = out.parent / "run.toml"
    facts = {"widths": list(config.widths), "validation_patches": 4, "workers": 0, "patch_px": 64, "steps_per_epoch": 2, "batch": 4}
    toml.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items()))
    words = [sys.executable, "-m", "stemzoo", "train", "segmenter", *config.datasets, "--out", str(out), "--config", str(toml)]
    return [*words, *more]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_a_run_ends_at_the_same_weights(config, tmp_path):
    steps = ("--steps", "12")
    subprocess.run(_command(config, tmp_path / "whole", *steps), check=True, env=_environment(), capture_output=True)
    for number, moment in enumerate((3, 7)):
        out = tmp_path / f"killed{number}"
        process = subprocess.Popen(_command(config, out, *steps), env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            log = out / "metrics.csv"
            if log.exists() and len(log.read_text().splitlines()) > moment:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        process.wait()
        resume = ("--resume", str(out)) if list((out / "checkpoints").glob("*.ckpt")) else ()
        subprocess.run(_command(config, out, *steps, *resume), check=True, env=_environment(), capture_output=True)
        assert _same(_weights(tmp_path / "whole"), _weights(out))


def test_an_encoder_resumed_between_epochs_ends_at_the_same_weights(dataset, tmp_path, monkeypatch):
    config = EncoderConfig(
        datasets=(str(dataset),), window=5.0, window_px=16, width=8, epochs=3, min_steps=1, batch=100, centring=0, validation_fraction=0.2
    )
    train_encoder(config, tmp_path / "whole", progress=False)
    saved = AtomicCheckpoints.save_checkpoint

    def die_after_two(self, checkpoint, path, storage_options=None):
        saved(self, checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt" and checkpoint["epoch"] == 1:
            raise OutputError("the power went")

    monkeypatch.setattr(AtomicCheckpoints, "save_checkpoint", die_after_two)
    with pytest.raises(OutputError, match="the power went"):
        train_encoder(config, tmp_path / "broken", progress=False)
    monkeypatch.setattr(AtomicCheckpoints, "save_checkpoint", saved)
    train_encoder(config, tmp_path / "broken", resume=tmp_path / "broken", progress=False)
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "broken"))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_broken_off_within_an_epoch_and_resumed_a_run_ends_at_the_same_weights(config, tmp_path, monkeypatch, accumulate):
    config = config.model_copy(update={"steps": 6, "steps_per_epoch": 3, "accumulate": accumulate})
    whole = train_segmenter(config, tmp_path / "whole", progress=False)
    step = SegmenterTask.training_step

    def break_off(self, batch, index):
        if self.global_step == 4:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(SegmenterTask, "training_step", break_off)
    assert train_segmenter(config, tmp_path / "broken", progress=False).interrupted
    monkeypatch.setattr(SegmenterTask, "training_step", step)
    again = train_segmenter(config, tmp_path / "broken", resume=tmp_path / "broken", progress=False)
    assert not again.interrupted and _same(_weights(whole.folder), _weights(again.folder))


@pytest.mark.parametrize(("accumulate", "part"), [(1, 0), (2, 0), (2, 1)])
def test_broken_off_after_a_forward_pass_a_run_ends_at_the_same_statistics_too(config, tmp_path, monkeypatch, accumulate, part):
    """Means and variances of batch normalisation have moved by then, and the parts of a step before this one left gradients only."""
    config = config.model_copy(update={"steps": 6, "steps_per_epoch": 3, "accumulate": accumulate})
    whole = train_segmenter(config, tmp_path / "whole", progress=False)
    step = SegmenterTask.training_step

    def break_off(self, batch, index):
        loss = step(self, batch, index)
        if self.global_step == 4 and index % accumulate == part:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(SegmenterTask, "training_step", break_off)
    assert train_segmenter(config, tmp_path / "broken", progress=False).interrupted
    monkeypatch.setattr(SegmenterTask, "training_step", step)
    again = train_segmenter(config, tmp_path / "broken", resume=tmp_path / "broken", progress=False)
    assert not again.interrupted and _same(_weights(whole.folder), _weights(again.folder))


@pytest.mark.parametrize("memory_mb", [2000, 1])
def test_an_encoder_broken_off_within_an_epoch_and_resumed_ends_at_the_same_weights(dataset, tmp_path, monkeypatch, memory_mb):
    """With all sub-images in memory, and read chunk by chunk."""
    options = {"window": 5.0, "window_px": 16, "width": 8, "epochs": 3, "min_steps": 1, "centring": 0, "validation_fraction": 0.2}
    config = EncoderConfig(datasets=(str(dataset),), batch=100, **options).model_copy(update={"memory_mb": memory_mb})
    whole = train_encoder(config, tmp_path / "whole", progress=False)
    step, seen = EncoderTask.training_step, []

    def break_off(self, batch, index):
        loss = step(self, batch, index)  # which has noted the batch's offsets
        if self.current_epoch == 1 and index == 2:
            raise KeyboardInterrupt
        return loss

    def count(self, batch, index):
        seen.append((self.current_epoch, index))
        return step(self, batch, index)

    monkeypatch.setattr(EncoderTask, "training_step", break_off)
    assert train_encoder(config, tmp_path / "broken", progress=False).interrupted
    monkeypatch.setattr(EncoderTask, "training_step", count)
    again = train_encoder(config, tmp_path / "broken", resume=tmp_path / "broken", progress=False)
    assert seen[0] == (1, 2) and not again.interrupted and _same(_weights(whole.folder), _weights(again.folder))


def test_broken_off_in_the_middle_of_a_step_a_run_goes_on_from_before_it(config, tmp_path, monkeypatch):
    """The weights have moved, but their batch is not counted: kept so, it would be learned from twice."""
    config = config.model_copy(update={"steps": 6, "steps_per_epoch": 3})
    whole = train_segmenter(config, tmp_path / "whole", progress=False)
    move = torch.optim.AdamW.step

    def break_off(self, *arguments, **options):
        result = move(self, *arguments, **options)
        if any(state["step"] == 5 for state in self.state.values()):
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", break_off)
    assert train_segmenter(config, tmp_path / "broken", progress=False).interrupted
    monkeypatch.setattr(torch.optim.AdamW, "step", move)
    again = train_segmenter(config, tmp_path / "broken", resume=tmp_path / "broken", progress=False)
    assert not again.interrupted and _same(_weights(whole.folder), _weights(again.folder))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(config, tmp_path, capsys):
    config = config.model_copy(update={"steps": 6, "steps_per_epoch": 2})
    run = train_segmenter(config, tmp_path / "run", progress=False)
    whole = _weights(run.folder)
    assert run.last.with_name("previous.ckpt").is_file()
    run.last.write_bytes(run.last.read_bytes()[:2000])
    again = train_segmenter(config, run.folder, resume=run.folder, progress=False)
    assert "went on from previous.ckpt, step 4" in capsys.readouterr().err
    assert _same(whole, _weights(again.folder))
    assert len(list(run.folder.glob("metrics*.csv"))) == 2
    for name in ("last.ckpt", "previous.ckpt"):
        (run.folder / "checkpoints" / name).write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"last\.ckpt cannot be read .*previous\.ckpt cannot be read"):
        sound(run.folder)


def test_a_full_disk_ends_the_run_and_keeps_what_was_there(config, tmp_path, monkeypatch):
    config = config.model_copy(update={"steps": 6, "steps_per_epoch": 2})
    save, count = torch.save, []

    def full(checkpoint, file):
        count.append(1)
        if len(count) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(checkpoint, file)

    monkeypatch.setattr("stemzoo.training.saving.torch.save", full)
    with pytest.raises(OutputError, match=r"ckpt: cannot be written \(No space left on device\).*--resume"):
        train_segmenter(config, tmp_path / "run", progress=False)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert not list(checkpoints.glob(".*")) and sound(tmp_path / "run")[0] == checkpoints / "last.ckpt"


def test_a_lost_loss_ends_the_run_before_its_weights_are_kept(config, tmp_path, monkeypatch):
    config = config.model_copy(update={"steps": 6, "steps_per_epoch": 2})
    step = SegmenterTask.training_step

    def lose(self, batch, index):
        return step(self, batch, index) * (float("nan") if self.global_step == 3 else 1.0)

    monkeypatch.setattr(SegmenterTask, "training_step", lose)
    with pytest.raises(ModelError, match="the loss is NaN or infinite near step 4"):
        train_segmenter(config, tmp_path / "run", progress=False)
    assert all(torch.isfinite(value).all() for value in _weights(tmp_path / "run").values())


def test_memory_and_datasets_that_go_away_are_one_sentence(config, tmp_path, monkeypatch):
    def fail(error):
        def step(self, batch, index):
            raise error

        return step

    for number, (error, kind, said) in enumerate(
        [
            (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), ModelError, "out of memory .* --batch"),
            (torch.OutOfMemoryError("CUDA"), ModelError, "out of memory; pass a smaller --batch"),
            (OSError(errno.ESTALE, "Stale file handle", "a.h5"), OutputError, "a.h5: Stale file handle"),
            (DatasetError("Caught\nOriginal Traceback:\n x\nstemzoo.errors.DatasetError: a.h5: gone"), DatasetError, "^a.h5: gone$"),
        ]
    ):
        monkeypatch.setattr(SegmenterTask, "training_step", fail(error))
        with pytest.raises(kind, match=said):
            train_segmenter(config, tmp_path / str(number), progress=False)


def test_a_job_that_slurm_started_again_goes_on_by_itself(config, tmp_path, monkeypatch):
    short = config.model_copy(update={"steps": 4, "steps_per_epoch": 2, "stop_after": 2})
    train_segmenter(short, tmp_path / "run", progress=False)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    whole = config.model_copy(update={"steps": 4, "steps_per_epoch": 2})
    train_segmenter(whole, tmp_path / "run", progress=False)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 4


def _play_slurm(folder, monkeypatch):
    """Play SLURM's part: its environment, and `scontrol`, which notes what it is asked; return where."""
    bin_folder, asked = folder / "bin", folder / "asked"
    bin_folder.mkdir()
    (bin_folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\n')
    (bin_folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    job = {"JOB_ID": "7", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NODELIST": "localhost"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return asked


def test_slurm_is_heard_though_it_spoke_while_the_command_still_started(config, tmp_path, monkeypatch):
    asked = _play_slurm(tmp_path, monkeypatch)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        with torch_loaded():
            signal.raise_signal(signal.SIGUSR1)  # to this thread: those of the test runner were there before the signal was held back
            assert not asked.exists()
            train_segmenter(config.model_copy(update={"steps": 2, "steps_per_epoch": 2}), tmp_path / "run", progress=False)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert asked.read_text().split() == ["requeue", "7"]


def test_a_job_that_slurm_is_about_to_end_is_asked_for_again_and_loses_no_step(config, tmp_path, monkeypatch):
    config = config.model_copy(update={"steps": 6, "steps_per_epoch": 3})
    whole = train_segmenter(config, tmp_path / "whole", progress=False)
    asked = _play_slurm(tmp_path, monkeypatch)
    step, steps = SegmenterTask.training_step, []

    def until_the_time_is_up(self, batch, index):
        steps.append(self.global_step)
        if self.global_step == 4:
            os.kill(os.getpid(), signal.SIGUSR1)
            raise OutputError("SLURM ended the job")  # nothing else is saved, as after kill -9
        return step(self, batch, index)

    monkeypatch.setattr(SegmenterTask, "training_step", until_the_time_is_up)
    with pytest.raises(OutputError, match="SLURM ended the job"):
        train_segmenter(config, tmp_path / "run", progress=False)
    assert asked.read_text().split() == ["requeue", "7"] and list((tmp_path / "run").glob("hpc_ckpt_*.ckpt"))
    assert sound(tmp_path / "run")[0].name == "hpc_ckpt_1.ckpt"

    def count(self, batch, index):
        steps.append(self.global_step)
        return step(self, batch, index)

    steps.clear()
    monkeypatch.setattr(SegmenterTask, "training_step", count)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    again = train_segmenter(config, tmp_path / "run", progress=False)
    assert steps == [4, 5] and not list((tmp_path / "run").glob("hpc_ckpt_*"))
    assert _same(_weights(whole.folder), _weights(again.folder))


def test_a_batch_in_parts_covers_the_same_patches(config, tmp_path, monkeypatch):
    seen: dict[str, list[float]] = {}
    step = SegmenterTask.training_step
    for name, accumulate in (("whole", 1), ("parts", 2)):
        sums: list[float] = []

        def watch(self, batch, index, sums=sums):
            sums.extend(batch.image.flatten(1).sum(1).tolist())
            return step(self, batch, index)

        monkeypatch.setattr(SegmenterTask, "training_step", watch)
        train_segmenter(config.model_copy(update={"accumulate": accumulate}), tmp_path / name, progress=False)
        seen[name] = sums
        assert json.loads((tmp_path / name / "summary.json").read_text())["steps"] == config.steps
    assert seen["whole"] == seen["parts"]
    with pytest.raises(DatasetError, match="a batch of 4 patches cannot be shared by 1 processes in 3 parts"):
        train_segmenter(config.model_copy(update={"accumulate": 3}), tmp_path / "odd", progress=False)


@pytest.mark.slow
def test_two_processes_train_as_one(config, tmp_path):
    curves = {}
    for name, more in (("one", ("--devices", "1")), ("two", ("--devices", "2", "--strategy", "ddp"))):
        command = _command(config, tmp_path / name, "--steps", "8", *more)
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr
        rows = [row for row in csv.DictReader((tmp_path / name / "metrics.csv").read_text().splitlines()) if row["val_loss"]]
        curves[name] = [[float(row[key]) for key in ("val_loss", "val_iou", "val_f1")] for row in rows]
    assert len(curves["one"]) == 4
    assert torch.allclose(torch.tensor(curves["one"]), torch.tensor(curves["two"]), atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_two_processes_train_an_encoder_as_one(dataset):
    """Loss curves, final scores, and what the training keeps of each sub-image and of their latents."""
    found = compare_processes().compare("rvae", str(dataset), steps=48, processes=2)
    assert set(found) > {"train_loss", "train_divergence", "train_evidence", "train_off_centre_px", "val_loss"}
    state = found.pop("largest weight, and change of any")
    assert state[2] < 1e-4 * state[0]
    assert all(apart <= 1e-5 * max(1.0, abs(one)) for one, _, apart in found.values())
