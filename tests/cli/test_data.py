"""data simulate and inspect: from a recipe to a dataset and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = REPOSITORY / "datasets" / "srtio3.toml"


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


def test_refusals(run: Callable[..., Any], tmp_path: Path) -> None:
    for words in (
        ["simulate", tmp_path / "none.toml", "--frames", 1, "--out", tmp_path / "a.h5"],
        ["simulate", RECIPE, "--frames", 0, "--out", tmp_path / "a.h5"],
        ["inspect", tmp_path / "none.h5"],
    ):
        ran = run("data", *words)
        assert ran.code == 1 and ran.err.startswith("error: ") and ran.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["work"]
