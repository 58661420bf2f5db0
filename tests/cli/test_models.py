"""`stemzoo zoo …` and `stemzoo export` as a user meets them: what is printed, what is refused, what is left on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import Tensor, nn
from typer.testing import CliRunner

import stemzoo.training
from stemzoo.cli.models import export
from stemzoo.cli.zoo import zoo_app
from stemzoo.errors import CardError, ModelError
from stemzoo.export.bundle import write_bundle

DRAFT: dict[str, Any] = {
    "name": "smooth",
    "version": 2,
    "task": "segmentation",
    "title": "Smooth",
    "summary": "A blur.",
    "materials": ["MoS2"],
    "licence": "MIT",
    "citation": "Nobody, 2024",
    "sampling": {"min": 0.1, "max": 0.3, "nominal": 0.2},
    "classes": ["column"],
    "threshold": 0.5,
    "min_separation": 0.8,
    "receptive_px": 4,
    "stride_px": 1,
    "normalisation": "none",
}


class Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(image) / 300)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("zoo")
    write_bundle(root / "smooth" / "v2", {"model": Smooth()}, DRAFT)
    return root


@pytest.fixture(autouse=True)
def only_this_zoo(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMZOO_ZOO", str(root))
    monkeypatch.setenv("STEMZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("stemzoo.zoo.catalog.own_root", lambda: tmp_path / "none")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(zoo_app, list(arguments))


def test_list(root: Path) -> None:
    done = run("list", "--json")
    assert done.exit_code == 0
    listing = json.loads(done.stdout)
    assert list(listing) == ["models"]
    (model,) = listing["models"]
    assert (model["id"], model["name"], model["version"], model["task"]) == ("smooth@2", "smooth", 2, "segmentation")
    assert model["sampling"] == {"min": 0.1, "max": 0.3, "nominal": 0.2}
    assert model["size_bytes"] == sum(path.stat().st_size for path in (root / "smooth" / "v2").iterdir() if path.name != "README.md")
    table = run("list").stdout.splitlines()
    assert table[0].split()[:3] == ["model", "task", "Å/px"]
    assert table[1].split()[:3] == ["smooth@2", "segmentation", "0.1–0.3"]
    assert json.loads(run("list", "--json", "--task", "encoding").stdout) == {"models": []}
    assert run("list", "--task", "painting").exit_code == 2


def test_show(root: Path) -> None:
    shown = run("show", "smooth").stdout
    assert "0.1–0.3 Å/px, nominal 0.2" in shown and "## Limits and failure cases" in shown
    card = json.loads(run("show", "smooth@2", "--json").stdout)
    assert card["id"] == "smooth@2" and card["folder"] == str(root / "smooth" / "v2") and card["parameters"] == 10
    done = run("show", "smoth")
    assert isinstance(done.exception, ModelError) and "did you mean smooth?" in str(done.exception)


def test_verify_and_one_flipped_bit(root: Path, tmp_path: Path) -> None:
    done = run("verify", "smooth")
    assert done.exit_code == 0 and "golden elements agree on CPUExecutionProvider" in done.stdout
    checked = json.loads(run("verify", "smooth", "--json").stdout)
    assert checked["ok"] and checked["provider"] == "CPUExecutionProvider" and all(check["n_differ"] == 0 for check in checked["checks"])
    copy = tmp_path / "smooth" / "v2"
    copy.mkdir(parents=True)
    for path in (root / "smooth" / "v2").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)
    done = run("verify", str(copy))
    assert isinstance(done.exception, CardError) and "model.onnx" in str(done.exception) and done.stdout == ""


def test_index(root: Path, tmp_path: Path) -> None:
    done = run("index", str(root))
    assert done.exit_code == 0 and "index.json: 1 models" in done.stdout
    assert [model["path"] for model in json.loads((root / "index.json").read_text())["models"]] == ["smooth/v2"]
    assert isinstance(run("index", str(tmp_path / "none")).exception, ModelError)


def test_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def load_for_export(checkpoint: Path) -> tuple[str, dict[str, nn.Module], dict[str, Any]]:
        seen.append(checkpoint)
        return "segmentation", {"model": Smooth()}, DRAFT

    monkeypatch.setattr(stemzoo.training, "load_for_export", load_for_export)
    app = typer.Typer()
    app.command()(export)
    out = tmp_path / "mine"
    done = CliRunner().invoke(app, [str(tmp_path / "last.ckpt"), "--out", str(out), "--name", "mine", "--model-version", "3", "--json"])
    assert done.exit_code == 0, done.exception
    assert seen == [tmp_path / "last.ckpt"]
    card = json.loads(done.stdout)
    assert card["id"] == "mine@3" and card["folder"] == str(out)
    assert run("verify", str(out)).exit_code == 0
    done = CliRunner().invoke(app, [str(tmp_path / "last.ckpt"), "--out", str(tmp_path / "other" / "v4")])
    assert done.exit_code == 0 and "other@4 is in" in done.stdout
