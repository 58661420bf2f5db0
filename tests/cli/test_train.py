"""train from the command line: a tiny run leaves a checkpoint, refusals name what is wrong, ^C keeps what was reached."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stemzoo.errors import ModelError

REPOSITORY = Path(__file__).resolve().parents[2]
NANO, ENCODER = (str(REPOSITORY / "model_cards" / name / "v1") for name in ("adf-unet-nano", "rvae-perovskite"))
TINY = """
widths = [4, 8]
patch_px = 32
batch = 2
steps_per_epoch = 2
validation_patches = 2
workers = 0
devices = 1
ema_decay = 0.0
validation_fraction = 0.5
"""


@pytest.fixture
def dataset(run: Callable[..., Any], tmp_path: Path) -> Path:
    path = tmp_path / "tiny.h5"
    assert run("data", "simulate", REPOSITORY / "datasets" / "srtio3.toml", "--frames", 2, "--out", path).code == 0
    (tmp_path / "tiny.toml").write_text(TINY)
    return path


def test_a_tiny_run_leaves_a_checkpoint(run: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    ran = run(
        "train", "segmenter", dataset, "--config", tmp_path / "tiny.toml", "--steps", 2, "--seed", 1, "--out", tmp_path / "run", "--json"
    )
    assert ran.code == 0, ran.err
    assert Path(ran.json["last"]).is_file() and ran.json["interrupted"] is False
    assert (tmp_path / "run" / "metrics.csv").is_file()


def test_fine_tuning_keeps_the_parents_sampling_and_shape_unless_told_otherwise(
    run: Callable[..., Any], dataset: Path, tmp_path: Path
) -> None:
    def resolved(out: str, *words: str | Path) -> dict[str, Any]:
        ran = run("train", "segmenter", dataset, "--steps", 1, "--replay", "none", "--out", tmp_path / out, *words)
        assert ran.code == 0, ran.err
        return dict(json.loads((tmp_path / out / "config.json").read_text()))

    short = "".join(line + "\n" for line in TINY.splitlines() if not line.startswith("widths"))
    (tmp_path / "short.toml").write_text(short)
    (tmp_path / "told.toml").write_text(short + "\n[sampling]\nmin = 0.1\nnominal = 0.18\nmax = 0.26\n")
    published = REPOSITORY / "model_cards" / "adf-unet-nano" / "v1"
    child = resolved("child", "--from", published, "--config", tmp_path / "short.toml")
    assert child["sampling"] == {"min": 0.12, "nominal": 0.2, "max": 0.3}, "as its card says"
    assert (child["fold"], child["widths"]) == (4, [32, 64, 96, 128])
    told = resolved("told", "--from", published, "--config", tmp_path / "told.toml")
    assert told["sampling"]["nominal"] == 0.18
    grandchild = resolved("grandchild", "--from", tmp_path / "told" / "checkpoints" / "last.ckpt", "--config", tmp_path / "short.toml")
    assert grandchild["sampling"] == told["sampling"] and grandchild["fold"] == 4


@pytest.mark.parametrize("kind", ["segmenter", "rvae"])
def test_a_run_is_resumed_as_it_was_told(run: Callable[..., Any], dataset: Path, tmp_path: Path, kind: str) -> None:
    """`--resume RUN` alone is enough, and neither batch, seed nor network fall back to what a new run would take."""
    import torch

    (tmp_path / "rvae.toml").write_text("width = 16\nepochs = 2\nmin_steps = 2\nwindow_px = 16\ndevices = 1\nwindow = 6.0\n")
    toml, length = ("tiny.toml", ["--steps", 4]) if kind == "segmenter" else ("rvae.toml", [])
    folder = tmp_path / "run"
    begun = run("train", kind, dataset, "--config", tmp_path / toml, *length, "--batch", 9, "--seed", 5, "--out", folder)
    assert begun.code == 0, begun.err
    told, checkpoints = (folder / "config.json").read_text(), folder / "checkpoints"
    whole = torch.load(checkpoints / "last.ckpt", weights_only=True)
    (checkpoints / "previous.ckpt").rename(checkpoints / "last.ckpt")  # as if it had been broken off an epoch before its end
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] < whole["global_step"]
    again = run("train", kind, "--resume", folder)
    assert again.code == 0, again.err
    assert (folder / "config.json").read_text() == told
    resumed = torch.load(checkpoints / "last.ckpt", weights_only=True)
    assert resumed["global_step"] == whole["global_step"]
    assert all(torch.equal(value, whole["state_dict"][name]) for name, value in resumed["state_dict"].items())
    longer = run("train", kind, "--resume", checkpoints / "last.ckpt", *(["--steps", 8] if kind == "segmenter" else ["--epochs", 4]))
    assert longer.code == 1 and f"was planned for {whole['global_step']} steps" in longer.err, longer.err
    assert (folder / "config.json").read_text() == told


def test_a_new_run_wants_datasets_and_a_folder(run: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    for words, said in (([], "wanted datasets"), ([dataset], "wanted a folder"), (["--resume", tmp_path], "holds no run that says which")):
        refused = run("train", "segmenter", *words)
        assert refused.code == 2 and said in " ".join(refused.err.replace("│", " ").split()), refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.h5"], ["none.h5", "no such dataset"]),
        (["DATASET", "--steps", "0"], ["steps"]),
        (["DATASET", "--precision", "7bit"], ["precision", "7bit"]),
        (["DATASET", "--config", "none.toml"], ["none.toml"]),
        (["DATASET", "--from", "blobb"], ["blobb", "blob"]),
        (["none.h5", "--from", NANO], ["none.h5", "no such dataset"]),
        (["DATASET", "--from", ENCODER], ["the weights are of another architecture"]),
        (["DATASET", "--resume", "none.ckpt"], ["none.ckpt", "checkpoint"]),
    ],
)
def test_refusals(run: Callable[..., Any], dataset: Path, tmp_path: Path, words: list[str], said: list[str]) -> None:
    ran = run("train", "segmenter", *[str(dataset) if word == "DATASET" else word for word in words], "--out", tmp_path / "run")
    assert ran.code == 1 and ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran.err
    for part in said:
        assert part in ran.err
    assert not (tmp_path / "run").exists()


def test_a_run_is_resumed_and_published_from_another_folder(
    run: Callable[..., Any], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rvae.toml").write_text("width = 16\nepochs = 1\nmin_steps = 2\nwindow_px = 16\ndevices = 1\n")
    words = ["train", "segmenter", dataset.name, "--config", "tiny.toml", "--out", "run"]
    ran = run(*words, "--steps", 2)
    assert ran.code == 0 and "Publish it: stemzoo zoo publish run --to ZOO" in ran.err
    tried = next(line for line in ran.err.splitlines() if line.startswith("Try it: ")).removeprefix("Try it: ").split("; ")
    assert run(*tried[0].split()[1:]).code == 0 and Path(tried[1].split()[-1], "model.onnx").is_file(), "the hint is one that works"
    unsized = run("train", "rvae", dataset.name, "--out", "none")
    assert unsized.code == 1 and "an encoder's training wants the extent of its sub-images: pass --window 8Å" in unsized.err
    assert run("train", "rvae", dataset.name, "--window", "6Å", "--config", "rvae.toml", "--out", "rvae").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    went_on = run("train", "segmenter", "--resume", "../run")
    assert went_on.code == 0, went_on.err
    dataset.rename(tmp_path / "elsewhere" / "archived.h5")
    for name in ("run", "rvae"):
        assert run("export", f"../{name}", "--out", f"zoo/{name}/v1").code == 0
        assert run("zoo", "show", f"zoo/{name}/v1", "--json").json["materials"] == ["SrTiO3"], "known to the checkpoint"


def test_the_order_sought_counts_where_the_window_is_chosen_too(
    run: Callable[..., Any], frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def propose(analysis: Any, *, symmetry: int | None, **_: Any) -> Any:
        asked.append(symmetry)
        raise ModelError("asked")

    monkeypatch.setattr("stemzoo.analyze.fitting.propose", propose)
    words = [frame, "--pixel-size", 0.2, "--window", "auto", "--symmetry", 4]
    assert run("train", "rvae", *words, "--out", tmp_path / "encoder").code == 1
    assert run("analyze", *words, "--fit-encoder", "--out", tmp_path / "fitted").code == 1
    assert asked == [4, 4]


def test_an_rvae_trains_on_datasets_and_on_a_frame(
    run: Callable[..., Any], dataset: Path, frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rvae.toml").write_text("width = 16\nepochs = 1\nmin_steps = 2\nwindow_px = 16\ndevices = 1\n")
    ran = run("train", "rvae", dataset, "--window", "6Å", "--config", tmp_path / "rvae.toml", "--out", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    assert Path(ran.json["last"]).is_file()
    from stemzoo.training import encoding_config

    class Small(encoding_config.EncoderConfig):
        width: int = 16
        epochs: int = 1
        min_steps: int = 4

    monkeypatch.setattr(encoding_config, "EncoderConfig", Small)
    monkeypatch.setattr("stemzoo.training.subimages.MIN_SUBIMAGES", 16)
    options = ["--pixel-size", 0.2, "--window", "18px"]
    fitted = run("train", "rvae", frame, *options, "--out", tmp_path / "encoder")
    assert fitted.code == 0 and "warning: fitted-lattice@1 explains 0% of the structure around the columns" in fitted.err
    ran = run("analyze", frame, *options, "--encoder", tmp_path / "encoder", "--out", tmp_path / "named", "--no-report", "--json")
    assert ran.code == 0, ran.err
    ran = run("analyze", frame, *options, "--fit-encoder", "--out", tmp_path / "fitted", "--json")
    assert ran.code == 0, ran.err
    result = ran.json["results"][0]
    assert result["encoder"]["id"] == "fitted-lattice@1" and result["window_px"] == 18
    assert {"manifold.png", "patterns.png", "encoder"} <= set(result["files"])
    angles = [(tmp_path / name / "columns.csv").read_text() for name in ("named", "fitted")]
    assert angles[0] == angles[1]
    again = run("export", tmp_path / "encoder", "--out", tmp_path / "bundle")
    assert again.code == 1 and "encoder: a bundle already; analyse with it as it is" in again.err
    words = ["zoo", "publish", tmp_path / "encoder", "--to", tmp_path / "my-zoo", "--name", "mine"]
    asked = run(*words)
    assert asked.code == 1 and "its card says nothing of licence; pass --licence SPDX" in asked.err
    ran = run(*words, "--licence", "MIT", "--material", "lattice")
    assert ran.code == 0, ran.err
    monkeypatch.setenv("STEMZOO_ZOO", f"{tmp_path / 'my-zoo'},{os.environ['STEMZOO_ZOO']}")
    ran = run("analyze", frame, *options, "--encoder", "mine", "--out", tmp_path / "published", "--no-report", "--json")
    assert ran.json["results"][0]["encoder"]["id"] == "mine@1"
    assert (tmp_path / "published" / "columns.csv").read_text() == angles[0]
    told = []
    fit = "stemzoo.training.fitting.fit_encoder"
    real = importlib.import_module("stemzoo.training.fitting").fit_encoder
    monkeypatch.setattr(fit, lambda pieces, config, progress: told.append(config) or real(pieces, config, progress))
    settings = ["--epochs", 3, "--batch", 8, "--latents", 3, "--seed", 5]
    assert run("train", "rvae", frame, *options, *settings, "--out", tmp_path / "told").code == 0
    assert [(c.epochs, c.min_steps, c.batch, c.latents, c.seed) for c in told] == [(3, 1, 8, 3, 5)]
    refused = run("train", "rvae", frame, *options, "--devices", 2, "--out", tmp_path / "refused")
    assert refused.code == 1 and "--devices: for training on datasets" in refused.err
    refused = run("train", "rvae", dataset, "--window", "6Å", "--columns", "c.csv", "--pixel-size", 0.2, "--out", tmp_path / "refused")
    assert refused.code == 1 and "--columns, --pixel-size: for an encoder of a frame's own columns" in refused.err
    refused = run("train", "rvae", frame, *options, "--out", tmp_path / "encoder")
    assert refused.code == 1 and "encoder is there and not empty; an encoder takes a folder of its own" in refused.err


def test_training_without_a_gpu_loads_no_triton() -> None:
    code = (
        "import sys\nfrom stemzoo.cli.train_settings import torch_loaded\n"
        "with torch_loaded():\n    from stemzoo.training import train_segmenter\n"
        "import torch\nassert torch.cuda.is_available() or not any(name.startswith('triton.') for name in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_interrupt_keeps_a_checkpoint_to_go_on_from(dataset: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    config = ["--config", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "stemzoo", "train", "segmenter", str(dataset), "--steps", "100000", *config]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        deadline = time.monotonic() + 600  # the limits are for a machine that others use too
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and process.poll() is None:
            assert time.monotonic() < deadline, "no checkpoint within ten minutes"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 1 and "half-written" not in err and "--resume" in err and "Traceback" not in err
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    import torch

    reached = torch.load(last, weights_only=True)["global_step"]
    target = (reached // 2 + 1) * 2  # the end of the epoch after the break
    again = [*command[:6], "--steps", str(target), *config, "--resume", str(last)]
    done = subprocess.run(again, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert torch.load(last, weights_only=True)["global_step"] == target


@pytest.mark.parametrize(("kept", "said"), [(True, "the checkpoint is kept: go on with --resume"), (False, "nothing was learned that")])
def test_an_interrupted_run_promises_no_checkpoint_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: bool, said: str
) -> None:
    """As after ^C before the first epoch's end, within a step."""
    import typer

    from stemzoo.cli.train import _finish
    from stemzoo.training.run import Run

    last = tmp_path / "last.ckpt"
    if kept:
        last.touch()
    with pytest.raises(typer.Exit) as ended:
        _finish(Run(tmp_path, last, last, {}, 1.0, interrupted=True), as_json=False)
    assert ended.value.exit_code == 1 and f"interrupted; {said}" in capsys.readouterr().err
