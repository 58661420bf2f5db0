"""The order of symmetry that is sought: two grains whose columns have different orders of their own, compared by one angle."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from stemzoo.analyze import AnalyzeOptions, encode_file
from stemzoo.errors import ModelError, RecipeError
from stemzoo.geometry.angles import difference, mean, spread
from stemzoo.runtime.notices import several_orders
from stemzoo.schema import validate
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.types import Encoding

SIDE, PERIOD, SIGMA = 260, 15.0, 2.6
TURNS = 10.0, 37.0  # degrees, of the lattices above and below the boundary


def bicrystal(path: Path) -> np.ndarray:
    """Write a frame of two grains of a square lattice; the columns above, of a grain that is tilted, have a tail to one side. Return where
    columns are."""
    rng = np.random.default_rng(0)
    cells = np.stack(np.meshgrid(*[np.arange(-20, 21)] * 2), -1).reshape(-1, 2) * PERIOD
    image, grains = np.zeros((SIDE, SIDE)), []
    axis = np.arange(SIDE)
    for turn, half in zip(TURNS, (-1, 1), strict=True):
        cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        yx = cells @ np.array([[cosine, sine], [-sine, cosine]]) + SIDE / 2  # counter-clockwise as displayed, rows downwards
        yx = yx[(half * (yx[:, 0] - SIDE / 2) > 4) & (yx > 4).all(1) & (yx < SIDE - 4).all(1)] + 0.0
        grains.append(yx)
        for shift, height in ((np.zeros(2), 200.0), (np.array([-2.0, 3.5]), 70.0 if half < 0 else 0.0)):
            y, x = (yx + shift).T
            image += height * np.exp(-((axis[:, None] - y) ** 2) / (2 * SIGMA**2)) @ np.exp(-((axis - x[:, None]) ** 2) / (2 * SIGMA**2))
    tifffile.imwrite(path, rng.poisson(image + 10).astype(np.float32))
    return np.concatenate(grains)


def test_the_order_sought_makes_two_grains_comparable(tmp_path: Path) -> None:
    yx = bicrystal(tmp_path / "frame.tif")
    (tmp_path / "columns.csv").write_text("\n".join(["y_px,x_px", *(f"{y:.3f},{x:.3f}" for y, x in yx)]) + "\n")

    def encoded(symmetry: int | None) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
        options = AnalyzeOptions(fit_encoder=True, pixel_size=0.15, report=False, symmetry=symmetry)
        out = tmp_path / f"of_{symmetry}"
        outcome = encode_file(str(tmp_path / "frame.tif"), tmp_path / "columns.csv", out, options)
        with h5py.File(out / "analysis.h5") as file:
            found = file["entry/encoding"]
            return outcome.notices, found["angle"][:], found["symmetry"][:], file["entry/columns/y_px"][:]

    notices, angle, symmetry, y = encoded(None)
    known = np.isfinite(angle)
    assert len(np.unique(symmetry[known])) > 1
    assert any("modulo 90°, fit an encoder with --fit-encoder --symmetry 4" in notice for notice in notices)

    notices, angle, symmetry, _ = encoded(4)
    assert (symmetry[known] == 4).all() and not any("orders of symmetry" in notice for notice in notices)
    for turn, far in zip(TURNS, (y < SIDE / 2 - 1.5 * PERIOD, y > SIDE / 2 + 1.5 * PERIOD), strict=True):
        grain = angle[known & far]
        assert len(grain) > 60
        assert np.degrees(difference(np.array(mean(grain, 4)), np.radians(turn), 4)) == pytest.approx(0, abs=0.5)
        assert np.degrees(spread(grain, 4)) < 0.5
    with (tmp_path / "of_4" / "columns.csv").open() as file:
        listed = np.array([float(row["angle_rad"] or "nan") for row in csv.DictReader(file)])
    assert np.abs(listed[known]).max() <= np.pi / 4 + 1e-6
    assert np.degrees(difference(listed[known], angle[known], 4)) == pytest.approx(0, abs=1e-3)
    assert (np.abs(angle[known]) > np.pi / 4 + 0.01).any()  # whole angles, of which one alone lays the pattern on a lopsided sub-image
    card = (tmp_path / "of_4" / "encoder" / "README.md").read_text()
    assert "every pattern counts as 4-fold" in card


@pytest.mark.parametrize(
    ("counts", "common"),
    [
        ({1: 40, 2: 30, 4: 30}, 4),
        ({1: 50, 3: 50}, 3),
        ({2: 55, 3: 45}, None),
        ({1: 58, 3: 41, 2: 1}, 3),
        ({1: 72, 2: 28}, "nothing"),
        ({}, "nothing"),
    ],
)
def test_several_orders_are_told_with_what_compares_them(counts: dict[int, int], common: object) -> None:
    said = several_orders(np.repeat(np.array(list(counts), int), list(counts.values())))
    if common == "nothing":
        assert said is None
        return
    assert said is not None and all(f"{many} are {order}-fold" in said for order, many in counts.items() if many > 1)
    assert ("--symmetry" in said) == (common is not None) and (common is None or f"modulo {360 // common}°" in said)


@pytest.mark.parametrize("words", [{"symmetry": 5}, {"symmetry": 0}, {"symmetry": -4}])
def test_an_order_that_no_pattern_in_a_plane_has_is_refused(words: dict[str, int]) -> None:
    with pytest.raises(ModelError, match=r"--symmetry is .*; wanted 1, 2, 3, 4 or 6"):
        AnalyzeOptions(fit_encoder=True, **words)


def test_the_published_form_is_not_asked_in_vain() -> None:
    with pytest.raises(RecipeError, match=r"^run\.toml: symmetry is 4, which the published form does not seek; wanted form = 'polar'"):
        validate(EncoderConfig, {"form": "published", "symmetry": 4}, "run.toml", RecipeError)
    assert EncoderConfig(form="published").symmetry is None


def test_whole_angles_are_folded_by_each_columns_own_order() -> None:
    angle, symmetry = np.radians([170.0, 170.0, -45.0, 45.0, np.nan]), np.array([1, 4, 4, 4, 2])
    none = np.zeros(5)
    folded = Encoding(angle, none, symmetry, np.zeros((5, 1), np.float32), none, none, none).folded
    assert np.degrees(folded) == pytest.approx([170.0, -10.0, 45.0, 45.0, np.nan], nan_ok=True)
