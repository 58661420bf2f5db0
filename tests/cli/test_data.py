"""stemzoo data: from a recipe or a labelled frame to a dataset, what is said of it, and one message for what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = REPOSITORY / "datasets" / "srtio3.toml"
SMALL = ("--set", "frame.size_px=160", "--set", "frame.sampling=0.2")


@pytest.fixture
def dataset(run: Callable[..., Any], tmp_path: Path) -> Path:
    out = tmp_path / "srtio3.h5"
    assert run("data", "simulate", RECIPE, "--frames", 2, "--out", out, "--seed", 3, *SMALL).code == 0
    return out


def test_a_recipe_becomes_a_dataset_that_inspect_describes(run: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "srtio3.h5"
    ran = run("data", "simulate", RECIPE, "--frames", 2, "--out", out, "--seed", 3, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["frames"] == 2 and ran.json["columns"] > 50
    said = run("data", "inspect", out, "--sheet", tmp_path / "sheet.png", "--json").json
    assert said["n_frames"] == 2 and sum(said["columns_by_class"].values()) == ran.json["columns"]
    low, high = said["pixel_size"]
    assert 0.02 < low <= high < 0.6
    assert np.asarray(Image.open(tmp_path / "sheet.png")).std() > 10
    text = run("data", "inspect", out).out
    assert "Å/px" in text and str(said["n_columns"]) in text


def test_a_labelled_frame_is_merged_inspected_and_validated(
    run: Callable[..., Any], tmp_path: Path, frame: Path, truth: np.ndarray, dataset: Path
) -> None:
    table = tmp_path / "clicks.csv"
    table.write_text("X,Y,type\n" + "".join(f"{x},{y},A\n" for y, x in truth))
    ran = run("data", "label", frame, table, "--pixel-size", 0.2, "--material", "mine", "--out", tmp_path / "own.h5", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["columns"] == len(truth)
    assert ran.json["notices"] == [f"clicks.csv: {len(truth)} columns; x is X, y is Y, species is type; in px, the first pixel at 0"]
    table.write_text("X,Y,type\n" + "".join(f"{x},{y + 3},A\n" for y, x in truth))
    ran = run("data", "label", frame, table, "--pixel-size", 0.2, "--out", tmp_path / "off.h5")
    assert ran.code == 0 and ran.err.startswith("warning: lattice.tif, frame 0: the intensity lies -3.0 px in y")
    merged = run("data", "merge", dataset, tmp_path / "own.h5", dataset, "--out", tmp_path / "all.h5", "--json").json
    assert (merged["frames"], merged["repeated"]) == (3, 2)
    said = run("data", "inspect", tmp_path / "all.h5", "--json").json
    assert said["frames_by_material"] == {"SrTiO3": 2, "mine": 1}
    assert said["n_simulated"] == 2
    verdict = run("data", "validate", tmp_path / "all.h5", "--json")
    assert verdict.code == 0 and verdict.json["findings"] == []
    assert verdict.json["n_columns"] == said["n_columns"]
    assert "schema, truth and leaks are in order" in run("data", "validate", tmp_path / "all.h5").out


def test_a_leak_is_listed_and_exits_with_1(run: Callable[..., Any], tmp_path: Path, dataset: Path) -> None:
    dim = tmp_path / "dim.h5"
    words = ["data", "simulate", RECIPE, "--frames", 1, "--out", dim, "--seed", 3, *SMALL, "--set", "dose.counts_per_column=99"]
    assert run(*words).code == 0
    ran = run("data", "validate", dataset, dim)
    assert ran.code == 1
    assert ran.out.startswith("leak ") and "another --seed" in ran.out
    assert ran.err.startswith("error: 1 findings in 3 frames; the first (leak)") and ran.err.count("\n") == 1
    assert run("data", "validate", dataset, dim, "--json").json["findings"][0]["kind"] == "leak"


def test_refusals(run: Callable[..., Any], tmp_path: Path, dataset: Path) -> None:
    cut = tmp_path / "cut.h5"
    cut.write_bytes(dataset.read_bytes()[:9000])
    before = sorted(path.name for path in tmp_path.iterdir())
    for words, said in (
        (["simulate", tmp_path / "none.toml", "--frames", 1, "--out", tmp_path / "a.h5"], "none.toml"),
        (["simulate", RECIPE, "--frames", 0, "--out", tmp_path / "a.h5"], "at least 1"),
        (["inspect", tmp_path / "none.h5"], "no such dataset"),
        (["inspect", cut], "cut short, 9000 of"),
        (["inspect", dataset, "--sheet", "/proc/none/sheet.png"], "--sheet"),
        (["validate", cut], "cut short, 9000 of"),
        (["merge", dataset, cut, "--out", tmp_path / "a.h5"], "cut short, 9000 of"),
        (["merge", dataset, "--out", dataset], "is one of the datasets to merge"),
        (["label", tmp_path / "none.tif", tmp_path / "none.csv", "--out", tmp_path / "a.h5"], "none.tif"),
    ):
        ran = run("data", *words)
        assert ran.code == 1 and ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran.err
        assert said in ran.err
    assert run("data", "label", RECIPE, RECIPE, "--program", "matlab", "--out", tmp_path / "a.h5").code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == before
