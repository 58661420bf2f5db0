"""Sub-images that no encoder can make sense of: refused by name, or reported column by column; never dropped in silence."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemzoo.analyze import AnalyzeOptions, encode_file
from stemzoo.analyze.choosing import FITS
from stemzoo.errors import StemzooError
from stemzoo.io.read_results import read_results
from stemzoo.runtime import cutting
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.doubts import STRANGE
from stemzoo.runtime.encoder import Encoder
from stemzoo.simulation import draw_frames

ROOT = Path(__file__).parents[2]
ENCODER = str(ROOT / "model_cards" / "rvae-sr3fe2o7" / "v2")
SIDE = 160
PERIOD = 12.0


def written(folder: Path, image: np.ndarray, n: int | None = None) -> tuple[str, Path]:
    """A frame and a table of columns on a square lattice over it."""
    tifffile.imwrite(folder / "frame.tif", image.astype(np.float32))
    places = np.stack(np.meshgrid(*[np.arange(PERIOD, SIDE - 6, PERIOD)] * 2, indexing="ij"), -1).reshape(-1, 2)[:n]
    (folder / "columns.csv").write_text("\n".join(["y_px,x_px", *(f"{y},{x}" for y, x in places)]) + "\n")
    return str(folder / "frame.tif"), folder / "columns.csv"


def lattice(seed: int = 0) -> np.ndarray:
    axis = np.arange(SIDE)
    wave = np.exp(-((((axis + PERIOD / 2) % PERIOD) - PERIOD / 2) ** 2) / 8)
    return np.random.default_rng(seed).poisson(200 * np.outer(wave, wave) + 20).astype(np.float32)


@pytest.mark.parametrize(
    ("image", "window", "n", "said"),
    [
        (lattice(), "5000px", None, "cannot be cut; wanted 2 to 640 px"),
        (lattice(), "150px", None, "sub-images lie wholly inside their frames; an encoder wants 64 or more"),
        (lattice(), "24px", 30, "30|wants 64 or more"),
        (np.full((SIDE, SIDE), 7.0), "24px", None, "constant|no signal|same value"),
    ],
)
def test_what_cannot_be_fitted_is_refused_and_nothing_is_left(
    tmp_path: Path, image: np.ndarray, window: str, n: int | None, said: str
) -> None:
    path, columns = written(tmp_path, image, n)
    options = AnalyzeOptions(fit_encoder=True, window=window, pixel_size=0.2, report=False)
    with pytest.raises(StemzooError, match=said):
        encode_file(path, columns, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pixel_size", [None, 0.002])
def test_an_encoder_fitted_without_a_pixel_size_sees_the_same_window_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixel_size: float | None
) -> None:
    """Nor with one that cannot be true: the lattice's stand-in decides then, at the fit as afterwards."""
    monkeypatch.setattr("stemzoo.analyze.fitting.MOST_STEPS", 60)
    path, columns = written(tmp_path, lattice())
    fitted = encode_file(path, columns, tmp_path / "fit", AnalyzeOptions(fit_encoder=True, pixel_size=pixel_size, report=False))
    named = AnalyzeOptions(encoder=str(tmp_path / "fit" / "encoder"), pixel_size=pixel_size, report=False)
    again = encode_file(path, columns, tmp_path / "again", named)
    assert again.window_px == pytest.approx(fitted.window_px, rel=1e-9)
    one, two = ((tmp_path / name / "columns.csv").read_text() for name in ("fit", "again"))
    assert one == two
    assert fitted.seconds["fit"] > 0 and "fit" not in again.seconds
    card = (tmp_path / "fit" / "encoder" / "README.md").read_text()
    assert "an estimate (" in card and f"angstrom: {fitted.window_px:.2f}"[:12] not in card, "pixels are not passed off as Å"


def test_pixels_that_are_not_finite_are_mended_and_windows_over_the_edge_are_counted(tmp_path: Path) -> None:
    image = lattice()
    image[40:43, 50], image[100, 100] = np.nan, np.inf
    path, columns = written(tmp_path, image)
    outcome = encode_file(path, columns, tmp_path / "out", AnalyzeOptions(encoder=ENCODER, pixel_size=0.2, report=False))
    encoding = read_results(tmp_path / "out" / "analysis.h5").encoding
    assert encoding is not None and outcome.summary.columns == len(encoding)
    outside = ~encoding.inside
    assert 0 < outside.sum() < len(encoding)
    assert np.isnan(encoding.angle[outside]).all() and np.isfinite(encoding.angle[~outside]).all()
    assert any(f"{outside.sum()} of {len(encoding)} columns lie so near an edge" in notice for notice in outcome.notices)


def test_an_encoder_sees_its_own_window_at_its_own_sampling_whatever_the_frame_has(tmp_path: Path) -> None:
    path, columns = written(tmp_path, lattice())
    for pixel_size in (0.2, 0.4):
        options = AnalyzeOptions(encoder=ENCODER, pixel_size=pixel_size, report=False, force=True)
        outcome = encode_file(path, columns, tmp_path / "out", options)
        assert outcome.window_px == pytest.approx(8.0 / pixel_size)


def test_what_an_encoder_does_not_know_speaks_against_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemzoo.analyze.fitting.MOST_STEPS", 20)
    path, columns = written(tmp_path, np.random.default_rng(0).poisson(50, (SIDE, SIDE)))
    named = AnalyzeOptions(encoder=ENCODER, pixel_size=0.2)
    fitted = AnalyzeOptions(fit_encoder=True, window="12px", pixel_size=0.2)
    for folder, options, why in (("named", named, "trained on other structures"), ("fitted", fitted, "a window of this size")):
        outcome = encode_file(path, columns, tmp_path / folder, options)
        misplaced, strange = outcome.summary.doubts
        assert misplaced.startswith("columns.csv: ") and "does the table belong to this frame" in misplaced
        assert why in strange and ("--fit-encoder" in strange) == (folder == "named") and strange not in outcome.notices
        page = (tmp_path / folder / "report.html").read_text(encoding="utf-8")
        assert page.count("mean little here") == 1 and page.index("mean little here") < page.index("<table"), "at the head"
        assert read_results(tmp_path / folder / "analysis.h5").doubts == (misplaced, strange)


def test_a_frame_in_other_units_of_intensity_is_not_called_another_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that scales all sub-images alike, so that latents know thickness, is lost where the gain of the detector is another."""
    monkeypatch.setattr("stemzoo.analyze.fitting.MOST_STEPS", 200)
    settings = {"frame.size_px": 256, "frame.sampling": 0.2, "defects": [], "specimen.vacuum": 0.0, "dose.counts_per_column": 600}
    frame = next(draw_frames(ROOT / "datasets" / "sr3fe2o7.toml", 1, 5, settings))
    table = tmp_path / "truth.csv"
    table.write_text("\n".join(["y_px,x_px", *(f"{y},{x}" for y, x in frame.yx)]) + "\n")
    path, _ = written(tmp_path, frame.image)
    encode_file(path, table, tmp_path / "fit", AnalyzeOptions(fit_encoder=True, pixel_size=0.2, report=False))
    named = AnalyzeOptions(encoder=str(tmp_path / "fit" / "encoder"), pixel_size=0.2, report=False)
    assert encode_file(path, table, tmp_path / "same", named).summary.doubts == ()
    path, _ = written(tmp_path, 37 * frame.image + 1500)
    (said,) = encode_file(path, table, tmp_path / "gain", named).summary.doubts
    would = re.search(r"intensities are in other units than it was trained on .*, in which it would explain (\d+)%", said)
    assert would and int(would[1]) > 85 and "other structures" not in said


@pytest.mark.parametrize("golden", [b"cut sh", None], ids=["damaged", "missing"])
def test_examples_that_cannot_be_read_cost_no_result(tmp_path: Path, golden: bytes | None) -> None:
    """They only word a warning."""
    shutil.copytree(ENCODER, tmp_path / "encoder")
    (tmp_path / "encoder" / "golden.npz").unlink()
    if golden is not None:
        (tmp_path / "encoder" / "golden.npz").write_bytes(golden)
    path, columns = written(tmp_path, np.random.default_rng(0).poisson(50, (SIDE, SIDE)))
    outcome = encode_file(path, columns, tmp_path / "out", AnalyzeOptions(encoder=str(tmp_path / "encoder"), pixel_size=0.2, report=False))
    assert any("trained on other structures" in doubt for doubt in outcome.summary.doubts)


def test_a_faint_frame_of_known_structure_is_not_called_strange(tmp_path: Path) -> None:
    """Most of it is noise, which no encoder draws; of the structure it explains three quarters, and choosing and warning agree on that."""
    settings = {"frame.size_px": 256, "defects": [], "specimen.vacuum": 0.0, "dose.counts_per_column": 40}
    frame = next(draw_frames(ROOT / "datasets" / "mos2.toml", 1, 31, settings))
    tifffile.imwrite(tmp_path / "frame.tif", np.asarray(frame.image, dtype=np.float32))
    (tmp_path / "columns.csv").write_text("\n".join(["y_px,x_px", *(f"{y},{x}" for y, x in frame.yx)]) + "\n")
    folder = ROOT / "model_cards" / "rvae-hexagonal" / "v2"
    options = AnalyzeOptions(encoder=str(folder), pixel_size=float(frame.pixel_size), report=False)
    outcome = encode_file(str(tmp_path / "frame.tif"), tmp_path / "columns.csv", tmp_path / "out", options)
    assert not any("trained on other structures" in doubt for doubt in outcome.summary.doubts), outcome.summary.doubts
    found, encoder = read_results(tmp_path / "out" / "analysis.h5"), Encoder(Bundle.load(folder))
    pieces = cutting.subimages(found, found.window_px, encoder.spec.window_px)
    share, known = (measure(pieces, encoder.encode(pieces)) for measure in (encoder.explained, encoder.knows))
    assert share is not None and known is not None and share < STRANGE < FITS < known
