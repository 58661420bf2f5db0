"""`stemzoo evaluate` on segmenters and encoders, with pictures of where they fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemzoo.errors import CardError
from stemzoo.evaluate.gallery import add_gallery
from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame
from stemzoo.zoo.card import read_card
from stemzoo.zoo.check import check_files


@pytest.fixture
def held_back(frame: Path, truth: np.ndarray, tmp_path: Path) -> Path:
    """Two frames of the lattice with truth, one of them of an unnamed material."""
    import tifffile

    with DatasetWriter(tmp_path / "held_back.h5", recipe="{}", material="x", seed=0) as writer:
        for material in ("x", ""):
            facts: dict[str, float | str] = {"material": material}
            writer.add(LabelledFrame(tifffile.imread(frame), truth, np.zeros(len(truth), dtype=np.int64), ("A",), 0.2, attributes=facts))
    return tmp_path / "held_back.h5"


def test_a_segmenter_and_its_failures(run: Callable[..., Any], held_back: Path, tmp_path: Path) -> None:
    done = run("evaluate", "blob", held_back, "--failures", tmp_path / "failures.jpg", "--figure", tmp_path / "scores.png")
    assert done.code == 0 and "RMSE px" in done.out, done.err
    assert "nan" not in done.out and done.out.splitlines()[1].endswith("–"), "nobody stated how many electrons bound the errors"
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == ["all", "unnamed", "x"]
    assert (tmp_path / "failures.jpg").read_bytes().startswith(b"\xff\xd8\xff") and (tmp_path / "scores.png").is_file()
    assert run("evaluate", "blob", held_back, "--json").json["scores"][0]["f1"] > 0.95


def test_an_encoder_and_its_failures(run: Callable[..., Any], held_back: Path, tmp_path: Path) -> None:
    done = run("evaluate", "dipole", held_back, "--failures", tmp_path / "failures.jpg")
    assert done.code == 0 and "angle error" in done.out and "nan" not in done.out, done.err
    assert (tmp_path / "failures.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    score = run("evaluate", "dipole", held_back, "--json").json["scores"][0]
    assert score["n_frames"] == 2 and score["species"] is None, "a number that is none is null in JSON"
    refused = run("evaluate", "dipole", held_back, "--bound")
    assert refused.code == 2 and "is for segmenters" in refused.err


@pytest.mark.parametrize("name", ["blob", "dipole"])
def test_a_gallery_becomes_one_of_the_versions_files(zoo_root: Path, held_back: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(zoo_root / name / "v1", tmp_path / name / "v1"))
    card = add_gallery(folder, held_back)
    read, prose = read_card(folder)
    assert read == card and card.files[-1].name == "failures.jpg" and card.files[-1].size < 200_000
    assert prose.startswith("Stand-in.") and "## Where it fails" in prose and "](failures.jpg)" in prose
    check_files(card, folder)
    with pytest.raises(CardError, match=r"lists failures\.jpg already; a version's files never change"):
        add_gallery(folder, held_back)
