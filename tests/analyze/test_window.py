"""How large a sub-image should be: what is tried, what agreement means, and a study of a frame from end to end."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemzoo.analyze import AnalyzeOptions, parse_window, study_window, window
from stemzoo.analyze.window import agreement, best, candidates
from stemzoo.errors import FrameError, ModelError, OutputError
from stemzoo.io.outputs import check_folder
from stemzoo.types import Analysis, Columns, Encoding, Frames, ModelId

PERIOD = 16.0


def layers(side: int = 224, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A frame of bright and faint rows of columns, and where these are."""
    rng = np.random.default_rng(seed)
    n = int(side / PERIOD) - 1
    cells = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).reshape(-1, 2)
    yx = (cells + 1.0) * PERIOD * [1.0, 0.9] + rng.normal(0, 0.2, cells.shape)
    height = np.where(cells[:, 0] % 3 == 0, 60.0, 200.0)
    axis = np.arange(side)
    image = np.exp(-((axis[:, None] - yx[:, 0]) ** 2) / 18) * height @ np.exp(-((axis - yx[:, 1, None]) ** 2) / 18)
    return rng.poisson(image + 10).astype(np.float32), yx


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    image, yx = layers()
    return Analysis(Frames(image[None], 0.2, "user"), (Columns.at(yx),), ModelId("truth@1", "0" * 64))


def encoding(angle: np.ndarray, latents: np.ndarray, symmetry: int = 1) -> Encoding:
    n = len(angle)
    return Encoding(angle, np.full(n, 0.01), np.full(n, symmetry), latents, np.zeros(n, int), np.arange(n), np.ones(n, bool))


def test_candidates_span_the_spacing_and_differ(analysis: Analysis) -> None:
    sizes = candidates(analysis)
    spacing = 0.9 * PERIOD
    assert len(sizes) >= 3 and sizes == tuple(sorted(sizes))
    assert 1.4 * spacing < sizes[0] < 1.8 * spacing and sizes[-1] < 5.5 * spacing
    assert (np.diff(np.log(sizes)) > np.log(1.1)).all()


def test_two_trainings_agree_up_to_gauge_and_a_smooth_map_of_the_latents() -> None:
    rng = np.random.default_rng(0)
    angle, latents = rng.uniform(-np.pi, np.pi, 400), rng.normal(0, 1, (400, 2)).astype(np.float32)
    rows = np.arange(400)
    one = encoding(angle, latents)
    turned = (latents @ np.array([[0.6, -0.8], [0.8, 0.6]])).astype(np.float32)
    assert agreement(one, encoding(angle + 0.7, turned), rows) > 0.99
    assert agreement(one, encoding(rng.uniform(-np.pi, np.pi, 400), turned), rows) < 0.15
    assert agreement(one, encoding(angle, rng.normal(0, 1, (400, 2)).astype(np.float32)), rows) < 0.1
    assert agreement(one, encoding(angle, turned, symmetry=2), rows) == 0
    half = np.where(rng.random(400) < 0.5, angle, angle + np.pi)
    assert agreement(encoding(angle, latents, 2), encoding(half, latents, 2), rows) > 0.99


def test_a_study_scores_every_size_and_writes_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "STEPS", 30)
    image, yx = layers()
    tifffile.imwrite(tmp_path / "frame.tif", image)
    lines = ["y,x", *(f"{y:.3f},{x:.3f}" for y, x in yx)]
    (tmp_path / "columns.csv").write_text("\n".join(lines) + "\n")
    options = AnalyzeOptions(fit_encoder=True, pixel_size=0.2)
    found = study_window(str(tmp_path / "frame.tif"), tmp_path / "out", options, sizes="5Å,40px", columns=tmp_path / "columns.csv")
    assert [row["window_px"] for row in found.rows] == [25.0, 40.0]
    assert found.doubts == () and found.notices == (f"columns.csv: {len(yx)} columns; y is y, x is x; in px, the first pixel at 0",)
    with (tmp_path / "out" / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["window_A"]) for row in rows] == pytest.approx([5.0, 8.0])
    for row in rows:
        shares = [float(row[name]) for name in ("score", "stability", "fidelity", "explained")]
        assert all(0 <= share <= 1 for share in shares) and shares[0] == pytest.approx(shares[1] * shares[2], abs=1e-5)
    assert found.proposed.window_px in (25.0, 40.0)
    assert (tmp_path / "out" / "study.png").stat().st_size > 10_000
    again = study_window(str(tmp_path / "frame.tif"), tmp_path / "out", options, sizes="5Å", columns=tmp_path / "columns.csv")
    assert len(again.rows) == 1 and len((tmp_path / "out" / "study.csv").read_text().splitlines()) == 2, "an earlier study is replaced"
    with pytest.raises(OutputError, match=r"holds more than an earlier result \(study\.csv, study\.png\)"):
        check_folder(tmp_path / "out")
    with pytest.raises(ModelError, match=r"--sizes '5' has no length and unit; wanted for example --sizes 12Å, --sizes 48px$"):
        study_window(str(tmp_path / "frame.tif"), tmp_path / "no", options, sizes="5", columns=tmp_path / "columns.csv")


def test_of_sizes_that_tie_the_smaller_is_proposed() -> None:
    def size(window_px: float, score: float) -> window.Size:
        return window.Size(window_px, 1, score, 1, 1, 1, 1, 1, encoding(np.zeros(1), np.zeros((1, 1), np.float32)), np.zeros((2, 2)))

    assert best([size(20, 0.5), size(30, 0.79), size(40, 0.80), size(50, 0.7)]).window_px == 30


def test_auto_is_a_window_for_fitted_encoders_alone() -> None:
    assert parse_window("auto", 0.2) is None
    with pytest.raises(ModelError, match="pass --fit-encoder too"):
        AnalyzeOptions(window="auto")
    assert AnalyzeOptions(window="auto", fit_encoder=True).window == "auto"


@pytest.mark.parametrize("words", [{"latents": 3}, {"seed": 1}, {"symmetry": 4}])
def test_what_only_a_fit_heeds_is_not_passed_in_vain(words: dict[str, int]) -> None:
    with pytest.raises(ModelError, match=r"is for an encoder that is fitted; pass --fit-encoder too"):
        AnalyzeOptions(**words)
    assert AnalyzeOptions(**words, fit_encoder=True)


def test_a_frame_without_neighbours_is_refused(analysis: Analysis) -> None:
    alone = Analysis(analysis.frames, (Columns.empty(),), analysis.segmenter)
    with pytest.raises(FrameError, match="no frame holds two columns"):
        candidates(alone)
