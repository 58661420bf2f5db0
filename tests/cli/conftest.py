"""A zoo of two stand-in models with real graphs and cards, frames to analyse, and the command line run in this process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import standins
import tifffile

from stemzoo.cli import main
from stemzoo.zoo.card import dump_card, make_card

COMMON: dict[str, Any] = {
    "version": 1,
    "title": "A stand-in",
    "summary": "For tests.",
    "licence": "MIT",
    "citation": "Nobody, 2024",
    "created": "2024-02-29",
    "normalisation": "inside",
    "parameters": 1,
    "default": True,
}


def _card(folder: Path, data: dict[str, Any]) -> None:
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    files = [{"name": name, "sha256": hashlib.sha256(text).hexdigest(), "size": len(text)} for name, text in contents.items()]
    known = {key: value for key, value in data.items() if key != "unknown_to_this_version"}
    card = make_card({**COMMON, **known, "name": data["id"].split("@")[0], "files": files}, "test")
    (folder / "README.md").write_text(dump_card(card, "Stand-in.\n"), encoding="utf-8")


@pytest.fixture(scope="session")
def zoo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo with the segmenter blob@1 and the encoder dipole@1, each the default of its task."""
    root = tmp_path_factory.mktemp("zoo")
    for name, save, card in (
        ("blob", standins.save_segmenter, standins.SEGMENTER_CARD),
        ("dipole", standins.save_encoder, standins.ENCODER_CARD),
    ):
        folder = root / name / "v1"
        folder.mkdir(parents=True)
        save(folder / "model.onnx")
        if name == "dipole":
            standins.save_decoder(folder / "decoder.onnx")
        standins.save_golden(folder)
        header = b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
        (folder / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        _card(folder, {**card, "materials": ["Sr3Fe2O7"]})
    return root


@pytest.fixture(autouse=True)
def only_this_zoo(zoo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMZOO_ZOO", str(zoo_root))
    monkeypatch.setenv("STEMZOO_CACHE", str(tmp_path / "no_cache"))
    monkeypatch.setattr("stemzoo.zoo.catalog.own_root", lambda: tmp_path / "none")
    monkeypatch.delenv("STEMZOO_DEBUG", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def truth() -> np.ndarray:
    """Positions of the columns in `frame`, (n, 2) yx px."""
    return np.asarray(standins.square_lattice((96, 112), 15.0))


@pytest.fixture
def frame(tmp_path: Path, truth: np.ndarray) -> Path:
    """A 96 × 112 px tif at 0.2 Å/px (stated by the user in tests) with columns 3 Å apart."""
    path = tmp_path / "lattice.tif"
    tifffile.imwrite(path, standins.draw((96, 112), truth, 2.0, seed=1).astype(np.float32))
    return path


@dataclass(frozen=True)
class Ran:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command line on words in this process."""

    def call(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return call
