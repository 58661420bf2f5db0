"""The zoo from end to end on the command line: served, searched, pulled, verified, used, without a network; compared and published."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame
from stemzoo.zoo.index import write_index

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """Two published models behind `python -m http.server` on loopback; nothing else is named, and the cache is empty."""
    tree = tmp_path / "tree"
    for name in ("adf-unet", "rvae-sr3fe2o7"):
        shutil.copytree(REPOSITORY / "model_cards" / name / "v1", tree / name / "v1")
    write_index(tree)
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tree)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        monkeypatch.setenv("STEMZOO_ZOO", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("STEMZOO_CONFIG", str(tmp_path / "config.toml"))
        monkeypatch.delenv("STEMZOO_OFFLINE", raising=False)
        yield server
        server.terminate()


def test_from_a_web_server_to_columns_and_then_offline(
    served: Any, run: Callable[..., Any], frame: Path, truth: np.ndarray, monkeypatch: Any
) -> None:
    listed = run("zoo", "list", "--json").json["models"]
    assert [(model["id"], model["held"], model["root"]) for model in listed] == [
        ("adf-unet@1", "web", os.environ["STEMZOO_ZOO"]),
        ("rvae-sr3fe2o7@1", "web", os.environ["STEMZOO_ZOO"]),
    ]
    found = run("zoo", "search", "--material", "SR3FE2O7", "--json").json["models"]
    assert [model["id"] for model in found] == ["rvae-sr3fe2o7@1", "adf-unet@1"], "the specialist first"
    assert run("zoo", "search", "--sampling", "5", "--json").json == {"models": []}
    failed = run("locate", frame, "--pixel-size", "0.2", "--model", "adf-unet")
    assert failed.code == 1 and "stemzoo zoo pull adf-unet" in failed.err
    assert "not fetched; it is in http://127.0.0.1" in run("zoo", "show", "adf-unet").out
    pulled = run("zoo", "pull", "adf-unet", "rvae-sr3fe2o7@1")
    assert pulled.code == 0 and pulled.out.startswith("adf-unet@1: from http://127.0.0.1"), pulled.err
    assert run("zoo", "verify", "adf-unet").code == run("zoo", "verify", "rvae-sr3fe2o7").code == 0
    served.terminate()
    served.wait()
    monkeypatch.setenv("STEMZOO_OFFLINE", "1")
    assert run("zoo", "pull", "adf-unet", "--json").json["models"][0]["fetched"] is False
    assert {model["held"] for model in run("zoo", "list", "--json").json["models"]} == {"cache"}
    options = ["--pixel-size", "0.2", "--model", "adf-unet", "--encoder", "rvae-sr3fe2o7", "--no-report"]
    analysed = run("analyze", frame, *options, "--out", "results", "--json")
    assert analysed.code == 0, analysed.err
    (result,) = analysed.json["results"]
    assert (result["segmenter"]["id"], result["encoder"]["id"]) == ("adf-unet@1", "rvae-sr3fe2o7@1")
    assert abs(result["summary"]["columns"] - len(truth)) < 8


def test_a_zoo_that_is_down_is_a_note(run: Callable[..., Any], zoo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMZOO_ZOO", f"{zoo_root},http://127.0.0.1:1")
    done = run("zoo", "list")
    assert done.code == 0 and "blob@1" in done.out and "note: http://127.0.0.1:1: cannot be reached" in done.err
    assert run("zoo", "list", "--local").err.count("note") == 0


def test_listing_the_packages_zoo_loads_little_and_no_torch(tmp_path: Path) -> None:
    """What it takes is what it imports: some 330 modules, which is a third of a second."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "STEMZOO_CACHE": str(tmp_path), "STEMZOO_CONFIG": str(tmp_path / "none")}
    environment.pop("STEMZOO_ZOO")
    code = (
        "import sys; from stemzoo.cli import main; code = main(['zoo', 'list', '--json']); "
        "print(sorted({'torch', 'onnxruntime', 'numpy', 'requests', 'pooch'} & set(sys.modules)), file=sys.stderr); "
        "print(len(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    heavy, many = done.stderr.splitlines()[-2:]
    assert done.returncode == 0 and heavy == "[]", done.stderr
    assert {"adf-unet@1", "rvae-sr3fe2o7@1"} <= {model["id"] for model in json.loads(done.stdout)["models"]}
    assert int(many) < 450


@pytest.fixture
def truth_file(tmp_path: Path, frame: Path, truth: np.ndarray) -> Path:
    """A dataset of two frames whose columns are known."""
    import tifffile

    path = tmp_path / "truth.h5"
    image = tifffile.imread(frame)
    with DatasetWriter(path, recipe="{}", material="Sr3Fe2O7", seed=0) as writer:
        for number in range(2):
            facts = {"recipe": "one", "seed": f"0:{number}"}
            writer.add(LabelledFrame(image, truth, np.zeros(len(truth), int), ("A",), 0.2, attributes=facts))
    return path


def test_compare(run: Callable[..., Any], zoo_root: Path, truth_file: Path) -> None:
    done = run("zoo", "compare", "blob", zoo_root / "blob" / "v1", truth_file, "--json")
    assert done.code == 0, done.err
    first, second = done.json["models"]
    assert first["score"]["f1"] > 0.9 and first["f1"] is None
    assert second["f1"] == {"value": 0.0, "low": 0.0, "high": 0.0} and second["rmse_pm"]["value"] == 0.0
    table = run("zoo", "compare", "blob", "blob@1", truth_file).out.splitlines()
    assert len(table) == 3 and table[2].startswith("blob@1") and "+0.0000" in table[2] and "*" not in table[2]
    assert run("zoo", "compare", "blob", truth_file).code == 2
    assert "is a model for encoding; wanted one for segmentation" in run("zoo", "compare", "blob", "dipole", truth_file).err


def test_import_and_export(run: Callable[..., Any], tmp_path: Path) -> None:
    state = {"c1.block.0.weight": torch.zeros(1)}
    torch.save({"model_type": "seg", "model": "Unet", "weights": state}, tmp_path / "net.tar")
    done = run("zoo", "import", "atomai", tmp_path / "net.tar", "--sampling", "0.1", "--out", tmp_path / "theirs" / "v1")
    assert done.code == 1 and done.err.startswith(f"error: {tmp_path / 'net.tar'}: the weights hold no") and done.err.count("\n") == 1
    assert run("zoo", "import", "atomai", "x", "--sampling", "0.1", "--out", "y", "--intensity", "5").code == 2
    done = run("zoo", "export", "bioimageio", "blob", "--out", tmp_path / "blob.zip")
    assert done.code == 0 and (tmp_path / "blob.zip").is_file()


def test_retraining_from_a_crystal_to_a_published_version_and_back(
    run: Callable[..., Any], tmp_path: Path, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIF, recipe, frames, fine-tuning, publishing, serving, pulling, analysing: docs/retrain.md on a budget of seconds."""
    shutil.copy(REPOSITORY / "tests" / "data" / "rutile.cif", "rutile.cif")
    Path("tiny.toml").write_text("patch_px = 64\nbatch = 2\nvalidation_patches = 2\nworkers = 0\nema_decay = 0.5\n")

    def did(*words: object) -> Any:
        done = run(*words)
        assert done.code == 0, (words, done.err)
        return done

    did("data", "recipe", "rutile.cif", "--zone", "0,0,1", "--out", "rutile.toml")
    for seed, name in enumerate(("rutile.h5", "held_back.h5")):
        did("data", "simulate", "rutile.toml", "--frames", "2", "--seed", seed, "--out", name)
    start = REPOSITORY / "model_cards" / "adf-unet" / "v1"
    did("train", "segmenter", "rutile.h5", "--from", start, "--steps", "2", "--config", "tiny.toml", "--out", "run")
    words = ["zoo", "publish", "run", "--to", "my-zoo", "--name", "rutile-unet", "--scores", "held_back.h5"]
    asked = run(*words)
    assert asked.code == 1 and "says nothing of licence, citation, limits; fill it in in run/card.toml and publish again" in asked.err
    assert not Path("my-zoo").exists()
    card = Path("run/card.toml").read_text()
    card = card.replace('licence = ""', 'licence = "CC-BY-4.0"').replace('citation = ""', 'citation = "Nobody, 2026"')
    Path("run/card.toml").write_text(card)
    unscored = run(*words[:-2], "--limit", "Two steps of training.")
    assert unscored.code == 1 and "its card would state no scores" in unscored.err
    published = did(*words, "--limit", "Two steps of training.", "--deposit", "deposit", "--json").json
    assert published["id"] == "rutile-unet@1" and len(published["deposit"]) == 2
    shown = did("zoo", "show", "my-zoo/rutile-unet/v1", "--json").json
    assert shown["licence"] == "CC-BY-4.0" and shown["limits"] == ["Two steps of training."]
    assert (shown["evaluation"][0]["metric"], shown["evaluation"][0]["dataset"]) == ("F1 at 0.5 Å", "held_back.h5")
    assert shown["parent"] == hashlib.sha256((start / "weights.safetensors").read_bytes()).hexdigest()
    assert {"stemzoo", "torch", "numpy", "onnxruntime"} <= shown["training"]["versions"].keys()
    assert [Path(path).name for path in shown["pictures"]] == ["failures.jpg"] and Path(shown["pictures"][0]).stat().st_size < 200_000
    assert "failures.jpg" in [file["name"] for file in shown["files"]]
    again = run(*words, "--limit", "Two steps of training.")
    assert again.code == 1 and "rutile-unet@1 has these very weights already; there is nothing new to publish as rutile-unet@2" in again.err
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", "my-zoo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        monkeypatch.setenv("STEMZOO_ZOO", f"http://127.0.0.1:{port}")
        did("zoo", "pull", "rutile-unet")
        server.terminate()
    options = ["--pixel-size", "0.2", "--model", "rutile-unet", "--encoder", "none", "--no-report"]
    result = did("analyze", frame, *options, "--out", "results", "--json").json["results"][0]
    assert result["segmenter"]["id"] == "rutile-unet@1"


def test_an_encoder_is_published_with_its_scores(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = REPOSITORY / "datasets" / "srtio3.toml"
    Path("tiny.toml").write_text("width = 16\nwindow_px = 16\nmin_steps = 6\nbatch = 64\n")
    for seed, name in enumerate(("srtio3.h5", "held_back.h5")):
        assert run("data", "simulate", recipe, "--frames", "1", "--seed", seed, "--out", name).code == 0
    assert run("train", "rvae", "srtio3.h5", "--window", "7.2Å", "--epochs", "1", "--config", "tiny.toml", "--out", "run").code == 0
    words = [
        "zoo",
        "publish",
        "run",
        "--to",
        "my-zoo",
        "--name",
        "sto",
        "--licence",
        "MIT",
        "--citation",
        "Nobody, 2026",
        "--limit",
        "Few.",
    ]
    unscored = run(*words)
    assert unscored.code == 1 and "its card would state no scores; name a dataset that no training saw in --scores H5" in unscored.err
    done = run(*words, "--scores", "held_back.h5")
    assert done.code == 0, done.err
    card = run("zoo", "show", "my-zoo/sto/v1", "--json").json
    metrics = {row["metric"]: row for row in card["evaluation"]}
    angle = metrics["median angle error of a difference [degrees], modulo symmetry"]
    assert angle["interval"][0] <= angle["value"] <= angle["interval"][1] and angle["n"] > 100
    assert angle["dataset"] == "held_back.h5, turned by 17, 40, 100 degrees"
    assert metrics["share of the sub-images' variance explained, median"]["dataset"] == "held_back.h5"
    assert card["materials"] == ["SrTiO3"] and card["training"]["recipes"] == ["SrTiO3"]
    assert [Path(path).name for path in card["pictures"]] == ["failures.jpg"]
    assert "stemzoo analyze FRAME --encoder sto\n" in done.err, "the hint is one that works"
    score = metrics["share of the sub-images' variance explained, median"]["value"]
    monkeypatch.setenv("STEMZOO_ZOO", "my-zoo")
    listed = next(line for line in run("zoo", "list").out.splitlines() if line.startswith("sto@1"))
    assert f"{score:.0%} explained" in listed, "a score says what it is of"


def test_the_listing_marks_what_is_taken_and_no_older_version(
    run: Callable[..., Any], zoo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(zoo_root, tmp_path / "zoo")
    older = tmp_path / "zoo" / "blob" / "v1"
    newer = shutil.copytree(older, older.with_name("v2"))
    card = (newer / "README.md").read_text()
    assert "default: true" in card
    (newer / "README.md").write_text(card.replace("blob@1", "blob@2").replace("version: 1", "version: 2"))
    monkeypatch.setenv("STEMZOO_ZOO", str(tmp_path / "zoo"))
    done = run("zoo", "list", "--task", "segmentation")
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == ["blob@2*", "blob@1"]
    encoders = run("zoo", "list", "--task", "encoding")
    assert "*" not in encoders.out, "an encoder is chosen by the frame"
