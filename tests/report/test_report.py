"""The report says what the analysis holds: numbers, colours, scale bars, patterns, and a page that needs nothing beside itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stemzoo.errors import OutputError
from stemzoo.report import figures, patterns, render, style
from stemzoo.report.field import field_of
from stemzoo.report.html import write_report
from stemzoo.report.inputs import ModelNote, ReportInputs
from stemzoo.report.legends import GREYS
from stemzoo.report.pictures import Album
from stemzoo.report.summary import nearest_distances, summarise
from stemzoo.types import Analysis, Columns, Encoding, Frames, ModelId, Quality, SubImages

from .conftest import PIXEL_SIZE, decode, layered


def _encoding(angle: np.ndarray, symmetry: int, sigma: float = 0.01) -> Encoding:
    n = len(angle)
    latents, frame = np.zeros((n, 1), np.float32), np.zeros(n, int)
    return Encoding(angle, np.full(n, sigma), np.full(n, symmetry), latents, frame, np.arange(n), np.ones(n, bool))


def test_summary_converts_the_median_error_to_picometres(analysis: Analysis) -> None:
    summary = summarise(analysis)
    sigma = analysis.columns[0].sigma[analysis.columns[0].fit_ok]
    assert summary.sigma_pm == pytest.approx(np.median(sigma) * PIXEL_SIZE * 100)
    assert summary.failed == int((~analysis.columns[0].fit_ok).sum())
    assert sum(summary.by_class.values()) == summary.columns == len(analysis.columns[0])
    assert summary.doubts == ()


def test_summary_invents_no_length_without_a_pixel_size() -> None:
    summary = summarise(layered(128, pixel_size=None))
    assert summary.sigma_pm is None and summary.spacing_angstrom is None
    assert summary.spacing_px == pytest.approx(2.5 / PIXEL_SIZE, rel=0.1)


def test_summary_passes_on_what_speaks_against_the_frame(analysis: Analysis) -> None:
    frames = len(analysis.frames)
    good, bad = Quality(), Quality(undecided=0.5)
    doubts = summarise(dataclasses.replace(analysis, quality=(good,) * (frames - 1) + (bad,))).doubts
    assert len(doubts) == 1 and "neither clearly columns nor clearly none" in doubts[0]
    if frames > 1:
        assert doubts[0].startswith(f"In 1 of {frames} frames, first in frame {frames - 1}: 50% of")


def test_summary_doubts_failed_fits_and_low_confidence(analysis: Analysis) -> None:
    columns = analysis.columns[0]
    poor = dataclasses.replace(columns, fit_ok=np.zeros(len(columns), bool), confidence=np.full(len(columns), 0.4))
    doubts = summarise(dataclasses.replace(analysis, columns=(poor,))).doubts
    assert len(doubts) == 2 and "100% of the fits failed" in doubts[0]


def test_a_table_without_errors_gets_none_in_the_report(tmp_path: Path) -> None:
    made = layered(128)
    columns = made.columns[0]
    unknown = dataclasses.replace(columns, sigma=np.full((len(columns), 2), np.nan), confidence=np.full(len(columns), np.nan))
    bare = dataclasses.replace(made, columns=(unknown,), encoding=None)
    summary = summarise(bare)
    assert summary.sigma_px is None and summary.confidence is None and summary.doubts == ()
    write_report(bare, tmp_path)
    assert not {"sigma.png", "confidence.png"} & {path.name for path in tmp_path.iterdir()}


def test_nearest_distances_of_a_square_lattice() -> None:
    yx = np.stack(np.meshgrid(np.arange(5.0), np.arange(4.0) * 2), axis=-1).reshape(-1, 2)
    assert np.allclose(nearest_distances(yx), 1.0)
    assert nearest_distances(yx[:1]).size == 0


def test_cyclic_map_closes_and_has_even_steps() -> None:
    colours = style.cyclic_map()(np.linspace(0, 1, 64, endpoint=False))[:, :3]
    steps = np.linalg.norm(np.diff(np.vstack([colours, colours[:1]]), axis=0), axis=1)
    assert steps.max() < 2 * np.median(steps)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 6])
def test_angles_equal_modulo_the_symmetry_get_one_colour(order: int) -> None:
    angle = np.array([0.3, 0.3 + 2 * np.pi / order, 0.3 - 2 * np.pi / order, 0.3 + np.pi / order])
    colours, found, cause = figures.angle_colours(_encoding(angle, order))
    assert found == order and (cause == -1).all()
    assert np.allclose(colours[0], colours[1], atol=0.03) and np.allclose(colours[0], colours[2], atol=0.03)
    assert np.abs(colours[0] - colours[3]).max() > 0.2


def test_each_reason_for_having_no_hue_has_its_own_grey() -> None:
    encoding = _encoding(np.array([0.1, np.nan, 2.0, 0.3, 0.2]), 1)
    encoding.angle_sigma[2], encoding.symmetry[3] = 2.0, 4
    colours, _, cause = figures.angle_colours(encoding)
    assert [GREYS[k][0] if k >= 0 else "" for k in cause] == ["", "window over the edge", "angle unsure", "another symmetry", ""]
    assert (np.ptp(colours[1:4, :3], axis=1) < 0.1).all() and (np.ptp(colours[[0, 4], :3], axis=1) > 0.1).all()
    assert len({tuple(grey) for grey in colours[1:4].round(3)}) == 3
    assert np.array_equal(figures.latent_colours(np.array([0.1, np.nan, 2.0]))[1], colours[1]), "one grey for one reason in every map"


def test_the_wheel_counts_angles_as_the_table_does(analysis: Analysis) -> None:
    figure = figures.angle_figure(field_of(analysis), analysis.encoding)
    texts = {text.get_text() for axes in figure.axes for child in [axes, *axes.child_axes] for text in child.texts}
    assert {"0°", "90°", "±180°", "−90°"} <= texts and "270°" not in texts


@pytest.mark.parametrize(("pixel_size", "unit"), [(0.2, "nm"), (0.02, "Å"), (None, "px")])
def test_scale_bar_is_as_long_as_it_says(pixel_size: float | None, unit: str) -> None:
    plate = style.plate((200, 300), "", "")
    style.scale_bar(plate.field, 300, pixel_size)
    bar = plate.field.patches[-1]
    length, said = plate.field.texts[-1].get_text().split()
    assert said == unit
    px = bar.get_width() * 300  # type: ignore[attr-defined]
    to_unit = {"nm": 0.1, "Å": 1.0, "px": 1.0}[unit] * (pixel_size or 1.0)
    assert float(length) == pytest.approx(px * to_unit)
    assert 0.08 < bar.get_width() <= 0.241  # type: ignore[attr-defined]


def test_map_cells_belong_to_the_nearest_column(analysis: Analysis) -> None:
    field = field_of(analysis)
    rows, cols = field.cells.shape
    rng = np.random.default_rng(1)
    for r, c in zip(rng.integers(0, rows, 200), rng.integers(0, cols, 200), strict=True):
        at = (np.array([r, c]) + 0.5) * np.array(field.image.shape) / [rows, cols] - 0.5
        distance = np.hypot(*(field.columns.yx - at).T)
        assert field.cells[r, c] == -1 or distance[field.cells[r, c]] == pytest.approx(distance.min(), abs=1e-3)


def test_lonely_columns_stay_dots() -> None:
    image = np.random.default_rng(0).random((1, 200, 200)).astype(np.float32)
    yx = np.array([[50.0, 50.0], [150.0, 140.0]])
    columns = Columns(yx, np.full((2, 2), 0.1), np.zeros(2), np.ones(2), np.ones(2), np.ones(2))
    field = field_of(Analysis(Frames(image), (columns,), ModelId("m@1", "0" * 64)))
    assert 0 < (field.cells >= 0).mean() < 0.02


@pytest.mark.parametrize("apart", [10.0, 60.0])
def test_the_magnified_part_is_a_part(apart: float) -> None:
    """Single atoms lie so far apart that eight spacings are the whole frame, which would be drawn smaller beside itself."""
    places = np.arange(30.0, 480.0, apart)
    yx = np.stack(np.meshgrid(places, places, indexing="ij"), -1).reshape(-1, 2)
    n = len(yx)
    columns = Columns(yx, np.full((n, 2), 0.1), np.zeros(n), np.ones(n), np.ones(n), np.ones(n))
    image = np.random.default_rng(0).random((1, 512, 512)).astype(np.float32)
    y0, x0, side = field_of(Analysis(Frames(image), (columns,), ModelId("m@1", "0" * 64))).zoom
    inside = ((yx > [y0, x0]) & (yx < [y0 + side, x0 + side])).all(axis=1).sum()
    assert side < 512 / 2.5 and inside >= 9


def test_turn_is_counter_clockwise_as_displayed_and_undone_by_its_negative() -> None:
    image = decode(np.array([[1.0, 0.0]]), np.array([0.0]))
    turned = patterns.turn(image, np.array([0.7]))
    wanted = decode(np.array([[1.0, 0.0]]), np.array([0.7]))
    y, x = np.mgrid[:24, :24] - 11.5
    disk = np.hypot(y, x) < 11
    assert np.abs(turned - wanted)[0, disk].max() < 0.08
    assert np.abs(patterns.turn(turned, np.array([-0.7])) - image)[0, disk].max() < 0.12


def test_groups_average_after_turning_to_the_gauge(analysis: Analysis) -> None:
    encoding = analysis.encoding
    assert encoding is not None
    data = decode(encoding.latents, encoding.angle)
    data += np.random.default_rng(0).normal(0, 0.3, data.shape).astype(np.float32)
    groups = patterns.groups_of(encoding, SubImages(data, encoding.frame, encoding.column, encoding.inside), decode)
    assert sum(g.count for g in groups) == int(encoding.inside.sum())
    for group in groups:
        assert group.reconstruction is not None
        assert np.corrcoef(group.turned.ravel(), group.reconstruction.ravel())[0, 1] > 0.97


def _inputs(analysis: Analysis) -> ReportInputs:
    encoding = analysis.encoding
    assert encoding is not None
    data = decode(encoding.latents, encoding.angle)
    probability = np.random.default_rng(0).random((200, 200)).astype(np.float32)
    subimages = SubImages(data, encoding.frame, encoding.column, encoding.inside)
    return ReportInputs(probability, subimages, decode, options={"model": "adf-unet"})


def test_page_is_self_contained_and_quotes_the_analysis(analysis: Analysis, tmp_path: Path) -> None:
    page = write_report(analysis, tmp_path, _inputs(analysis)).read_text(encoding="utf-8")
    outside = {url for url in re.findall(r"(?:https?:)?//[^\s\"'<>]+", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)) if "w3.org" not in url}
    assert not outside
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) and "<script" not in page and "url(http" not in page
    for said in (analysis.frames.sha256, "adf-unet@1", "rvae-sr3fe2o7@1", "ef" * 32, analysis.notices[0]):
        assert said in page
    assert f"{PIXEL_SIZE} Å/px, from the file" in page and "200 keV" in page and "energy kev" not in page
    names = {p.name for p in tmp_path.glob("*.png")}
    maps = {"frame.png", "segmentation.png", "angle.png", "latent_1.png", "latent_2.png"}
    assert names == maps | {
        "latents.png",
        "manifold.png",
        "patterns.png",
        "baseline.png",
        "clusters.png",
        "sigma.png",
        "confidence.png",
        "spacing.png",
    }
    widths = []
    for name in names:
        picture = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert min(picture.shape[:2]) > 300 and picture.std() > 5
        if name not in ("sigma.png", "confidence.png", "spacing.png"):
            widths.append(picture.shape[1])
    assert max(widths) < 1.05 * min(widths), "plates of one width, or the page shows their text in several sizes"


def test_what_the_scan_does_to_rows_is_told_where_it_shows(analysis: Analysis, tmp_path: Path) -> None:
    shaken = dataclasses.replace(analysis, quality=(Quality(row_jitter=0.5), Quality()))
    page = write_report(shaken, tmp_path, _inputs(analysis)).read_text(encoding="utf-8")
    assert f"0.5 px, {0.5 * PIXEL_SIZE:.3g} Å rms" in page
    assert "row jitter" not in write_report(analysis, tmp_path, _inputs(analysis)).read_text(encoding="utf-8")


def test_a_work_that_two_models_cite_is_cited_once(analysis: Analysis, tmp_path: Path) -> None:
    notes = tuple(ModelNote(role, f"{role}@1", "ab" * 32, citation=f"Works ({year})") for role, year in (("a", 1), ("b", 2), ("c", 1)))
    page = write_report(analysis, tmp_path, ReportInputs(models=notes)).read_text(encoding="utf-8")
    assert (page.count("Works (1)"), page.count("Works (2)")) == (1, 1)


def test_page_escapes_what_a_file_name_smuggles_in(tmp_path: Path) -> None:
    analysis = layered(64)
    frames = dataclasses.replace(analysis.frames, path="<script>alert(1)</script>.tif")
    evil = dataclasses.replace(analysis, frames=frames, encoding=None, encoder=None)
    assert "<script>" not in write_report(evil, tmp_path).read_text(encoding="utf-8")


def test_page_of_a_frame_without_columns_says_so(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((1, 64, 96)).astype(np.float32)
    analysis = Analysis(Frames(image), (Columns.empty(),), ModelId("adf-unet@1", "0" * 64))
    page = write_report(analysis, tmp_path, ReportInputs(np.zeros((64, 96), np.float32))).read_text(encoding="utf-8")
    assert "No column was found" in page and "lengths are in pixels" in page
    assert {p.name for p in tmp_path.glob("*.png")} == {"frame.png", "segmentation.png"}


def test_page_survives_edge_columns_and_one_latent(tmp_path: Path) -> None:
    analysis = layered(96)
    encoding = analysis.encoding
    assert encoding is not None
    angle = np.where(encoding.inside, encoding.angle, np.nan)
    latents = np.where(encoding.inside[:, None], encoding.latents[:, :1], np.nan).astype(np.float32)
    analysis = dataclasses.replace(analysis, encoding=dataclasses.replace(encoding, angle=angle, latents=latents))

    def decode_one(latents: np.ndarray, angle: np.ndarray) -> np.ndarray:
        return decode(np.hstack([latents, latents]), angle)

    write_report(analysis, tmp_path, ReportInputs(decode=decode_one))
    assert (tmp_path / "latent_1.png").exists() and not (tmp_path / "latent_2.png").exists()


def test_stack_gets_its_course(tmp_path: Path) -> None:
    page = write_report(layered(64, frames=3), tmp_path).read_text(encoding="utf-8")
    assert (tmp_path / "series.png").exists() and "3 frames" in page
    assert '<figure class="plot wide">\n  <h2>Over the frames</h2>' in page


def test_each_picture_of_a_stack_says_which_frames_it_shows(tmp_path: Path) -> None:
    """Maps are of the first frame that was analysed, whatever its number; latent space is that of all."""
    stack = layered(128, frames=2)
    chosen = dataclasses.replace(stack, columns=tuple(dataclasses.replace(table, frame=table.frame + 5) for table in stack.columns))
    page = write_report(chosen, tmp_path, ReportInputs(decode=decode)).read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(.*?) <span class=\"file\">(.*?)</span>", page)
    shown = {file: caption.rsplit(". ", 1)[-1] for caption, file in captions}
    assert {shown[file] for file in ("frame.png", "angle.png", "latent_1.png", "latent_2.png")} == {"Frame 5."}
    assert shown["latents.png"] == shown["manifold.png"] == "All frames."
    (tmp_path / "single").mkdir()
    single = write_report(layered(64), tmp_path / "single").read_text(encoding="utf-8")
    assert "All frames." not in single and "Frame 0." not in single


def test_folder_that_cannot_be_written_is_named(analysis: Analysis, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises(OutputError, match=re.escape(str(missing))):
        write_report(dataclasses.replace(analysis, encoding=None, encoder=None), missing)


def test_a_picture_that_cannot_be_written_is_not_passed_over(analysis: Analysis, tmp_path: Path) -> None:
    """Pictures are written beside the drawing: what happens there must be heard of."""
    (tmp_path / "frame.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written: Is a directory"):
        write_report(dataclasses.replace(analysis, encoding=None, encoder=None), tmp_path)


def test_a_picture_that_is_being_saved_is_left_alone(analysis: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow keeps on a picture how it is being encoded: PNG and JPEG of one at the same time take each other's settings."""
    given: list[Image.Image] = []

    class Writer(Executor):
        def submit(self, write: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
            given.append(args[0])
            return Future()

    encoded = render.as_jpeg
    monkeypatch.setattr(render, "as_jpeg", lambda picture: "given away" if any(picture is one for one in given) else encoded(picture))
    album = Album(tmp_path, Writer())
    album.plate("frame.png", "Columns", "", figures.frame_figure(field_of(analysis)))
    assert len(given) == 1 and album.plates[0].uri.startswith("data:image/jpeg")
