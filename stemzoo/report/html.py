"""The report: figures as PNG files in a folder and one page, `report.html`, that needs nothing beside itself; returns its path.

Everything is inlined: pictures, drawings, style. No script, no network. Called by `stemzoo.analyze`; by hand from an `analysis.h5`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.errors import OutputError
from stemzoo.io.tracks import FILE as TRACKS_FILE
from stemzoo.report.summary import Summary, summarise, thousands
from stemzoo.types import Analysis, SubImages, Tracks

PAGE = "report.html"
MAX_LATENT_MAPS = 6
MAX_TRAVERSALS = 4
SOURCES = {"file": "from the file", "user": "given by the user", "lattice": "from the lattice", "unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class ModelNote:
    """What the page says of a model, from its card."""

    role: str
    id: str
    sha256: str
    title: str = ""
    materials: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    citation: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """What the page shows beyond the Analysis; each part may be missing.

    Args:
        probability: (h, w) of frame 0, probability that a column is there, at the network's sampling.
        subimages: of frame 0, in the order of its columns; for class averages.
        decode: (M, Z) latents, (M,) angles → (M, S, S) patterns; for the manifold and reconstructions.
        tracks: the columns linked from frame to frame.
        models: from the cards. `options`: as given by the user, shown under provenance.
    """

    probability: np.ndarray | None = None
    subimages: SubImages | None = None
    decode: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    tracks: Tracks | None = None
    models: tuple[ModelNote, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure on the page: a data URI or an <svg> element, and the file that holds it as PNG."""

    file: str
    heading: str
    caption: str
    uri: str = ""
    svg: str = ""


def write_report(analysis: Analysis, folder: Path, inputs: ReportInputs | None = None) -> Path:
    """Write the figures and `report.html` into `folder`, which exists; return the page's path.

    Raises: OutputError if the folder cannot be written to. Stacks show frame 0 and the course over the frames.
    """
    inputs = inputs or ReportInputs()
    try:
        plates, plots = _pictures(analysis, inputs, folder)
        page = folder / PAGE
        page.write_text(_page(analysis, inputs, plates, plots), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"report in {folder} cannot be written: {error.strerror or error}; choose another --out") from error
    return page


def _pictures(analysis: Analysis, inputs: ReportInputs, folder: Path) -> tuple[list[Picture], list[Picture]]:
    """Draw and save every figure that the analysis supports."""
    import matplotlib

    from stemzoo.report import baseline, clusters, figures, patterns, plots, render, style, tracks
    from stemzoo.report.field import field_of

    plates: list[Picture] = []
    drawings: list[Picture] = []

    def plate(file: str, heading: str, caption: str, figure: Any) -> None:
        plates.append(Picture(file, heading, caption, uri=render.as_jpeg(render.save_png(figure, folder / file))))

    def drawing(file: str, heading: str, caption: str, figure: Any) -> None:
        render.save_png(figure, folder / file)
        drawings.append(Picture(file, heading, caption, svg=render.as_drawing(figure)))

    encoding = analysis.encoding
    with matplotlib.rc_context(style.FONT):
        view = field_of(analysis)
        first = slice(0, len(view.columns))
        plate("frame.png", "Columns", "A ring marks each column, a cross a fit that failed.", figures.frame_figure(view))
        if inputs.probability is not None:
            caption = "The network's probability of a column; contours at 0.25, 0.5 and 0.75 on the right."
            plate("segmentation.png", "Segmentation", caption, figures.segmentation_figure(view, inputs.probability))
        if encoding is not None and len(view.columns) and np.isfinite(encoding.angle).any():
            shown = encoding.rows(first)
            plate("angle.png", "Angle", _angle_caption(figures.angle_colours(shown)[1]), figures.angle_figure(view, shown))
            for k in range(min(encoding.latents.shape[1], MAX_LATENT_MAPS)):
                caption = "Each column's neighbourhood takes the colour of its latent; the histogram is the key."
                plate(f"latent_{k + 1}.png", f"Latent {k + 1}", caption, figures.latent_figure(view, encoding.latents[first, k], k + 1))
            known = encoding.rows(np.isfinite(encoding.angle) & np.isfinite(encoding.latents).all(axis=1))
            plate("latents.png", "Latent space", "Every column by its first two latents.", patterns.scatter_figure(known))
            if inputs.decode is not None:
                caption = "Read along an axis to see what that latent means."
                plate("manifold.png", "Latent manifold", caption, patterns.manifold_figure(known, inputs.decode))
            pieces = inputs.subimages
            if pieces is not None:
                of_pieces = encoding.rows(slice(0, len(pieces)))
                latents = range(min(encoding.latents.shape[1], MAX_TRAVERSALS))
                groups = [patterns.groups_of(of_pieces, pieces, inputs.decode, k) for k in latents]
                if groups and groups[0]:
                    caption = "Averages of measured sub-images along each latent: what it stands for in the data."
                    plate("patterns.png", "Measured patterns", caption, patterns.groups_figure(groups))
                against = None if inputs.decode is None else baseline.compare(of_pieces, pieces, inputs.decode)
                if against is not None:
                    caption = f"{against.n} sub-images inside the inscribed disc; PCA was fitted to these very ones."
                    plate("baseline.png", "rVAE and PCA", caption, baseline.baseline_figure(against))
            kinds = clusters.find_clusters(encoding)
            if kinds is not None:
                clusters.write_clusters(folder / clusters.FILE, encoding, kinds)
                caption = f"A proposal to look at: clusters of columns in latent space; every column's is in {clusters.FILE}."
                plate("clusters.png", "Kinds of local structure", caption, clusters.cluster_figure(view, kinds, first))
        if any(np.isfinite(columns.sigma).any() for columns in analysis.columns):
            drawing("sigma.png", "Precision", "Standard error of each position, from the fit.", plots.sigma_figure(analysis))
        if any(np.isfinite(columns.confidence).any() for columns in analysis.columns):
            drawing("confidence.png", "Confidence", "Probability that a column is there.", plots.confidence_figure(analysis))
        if len(view.columns) > 1:
            drawing("spacing.png", "Spacing", "Distance to the nearest neighbour.", plots.spacing_figure(analysis))
        if len(analysis.frames) > 1:
            drawing("series.png", "Over the frames", "How the stack develops.", plots.series_figure(analysis))
            courses = None if inputs.tracks is None else tracks.tracks_figure(analysis, inputs.tracks)
            if courses is not None:
                caption = f"Each column's latents through the stack; those that change most are named as in {TRACKS_FILE}."
                drawing("tracks.png", "Columns through the stack", caption, courses)
    return plates, drawings


def _angle_caption(order: int) -> str:
    arms = "An arm shows" if order == 1 else f"{order} arms show"
    return f"{arms} each column's direction on the right; the wheel turns as the image is displayed."


def _page(analysis: Analysis, inputs: ReportInputs, plates: list[Picture], plots: list[Picture]) -> str:
    from jinja2 import Environment

    folder = resources.files("stemzoo.report") / "templates"
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    summary = summarise(analysis)
    frames = analysis.frames
    return template.render(
        css=(folder / "page.css").read_text(encoding="utf-8"),
        name=Path(frames.path).name or frames.path,
        made=datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
        version=analysis.version,
        summary=summary,
        tiles=_tiles(summary, analysis),
        notices=list(dict.fromkeys((*frames.notices, *analysis.notices))),
        plates=plates,
        plots=plots,
        provenance=_provenance(analysis, inputs, summary),
        models=inputs.models or _bare_models(analysis),
        seconds=[(stage.replace("_", " "), f"{value:.2f} s") for stage, value in analysis.seconds.items()],
    )


def _tiles(summary: Summary, analysis: Analysis) -> list[tuple[str, str, str]]:
    """Return (number, unit, what it is) for the head of the page."""
    classes = ", ".join(f"{thousands(n)} {name}" for name, n in summary.by_class.items()) if len(summary.by_class) > 1 else ""
    tiles = [(thousands(summary.columns), "", f"columns: {classes}" if classes else "columns")]
    if summary.sigma_pm is not None:
        tiles.append((f"{summary.sigma_pm:.3g}", "pm", f"median standard error, {summary.sigma_px:.3g} px"))
    elif summary.sigma_px is not None:
        tiles.append((f"{summary.sigma_px:.3g}", "px", "median standard error"))
    if summary.pixel_size is not None:
        tiles.append((f"{summary.pixel_size:.4g}", "Å/px", "pixel size, " + SOURCES[summary.pixel_size_source]))
    else:
        tiles.append(("unknown", "", "pixel size: lengths are in pixels"))
    if summary.spacing_angstrom is not None:
        tiles.append((f"{summary.spacing_angstrom:.3g}", "Å", "median nearest neighbour"))
    elif summary.spacing_px is not None:
        tiles.append((f"{summary.spacing_px:.3g}", "px", "median nearest neighbour"))
    if summary.confidence is not None:
        tiles.append((f"{summary.confidence:.2f}", "", "median confidence"))
    if summary.columns:
        tiles.append((f"{1 - summary.failed / summary.columns:.1%}", "", f"of the fits held, {thousands(summary.failed)} failed"))
    total = sum(analysis.seconds.values())
    if total:
        tiles.append((f"{total:.2g}" if total < 10 else f"{total:.0f}", "s", "computing time"))
    return tiles


def _provenance(analysis: Analysis, inputs: ReportInputs, summary: Summary) -> list[tuple[str, str]]:
    frames = analysis.frames
    size = "unknown" if summary.pixel_size is None else f"{summary.pixel_size:.6g} Å/px, {SOURCES[summary.pixel_size_source]}"
    rows = [
        ("input", frames.path),
        ("sha256 of the input", frames.sha256 or "made in memory"),
        ("frames", f"{summary.frames} × {summary.height_px} × {summary.width_px} px"),
        ("pixel size", size),
        ("network sampling", f"{analysis.sampling_factor:.4g} network pixels per frame pixel"),
    ]
    jitter = [quality.row_jitter for quality in analysis.quality if quality.row_jitter]
    if jitter:
        rows.append(("row jitter of the scan", f"{_length(float(np.median(jitter)), summary)} rms; the error of x allows for it"))
    if analysis.window_px is not None:
        rows.append(("window of the sub-images", _length(analysis.window_px, summary)))
    rows.extend(_fact(key, value) for key, value in frames.metadata.items() if np.isscalar(value))
    rows.extend(("option " + key, value) for key, value in inputs.options.items())
    rows.append(("stemzoo", analysis.version))
    return rows


def _length(px: float, summary: Summary) -> str:
    """Return a length in px, and in Å where the pixel size is known."""
    return f"{px:.4g} px" if summary.pixel_size is None else f"{px:.4g} px, {px * summary.pixel_size:.3g} Å"


def _fact(key: str, value: object) -> tuple[str, str]:
    """Return a fact from the file as it is read: `energy_kev` 200.0 is `energy` `200 keV`."""
    said = f"{value:.6g}" if isinstance(value, float) else str(value)
    return ("energy", f"{said} keV") if key == "energy_kev" else (key.replace("_", " "), said)


def _bare_models(analysis: Analysis) -> tuple[ModelNote, ...]:
    notes = [ModelNote("segmenter", analysis.segmenter.id, analysis.segmenter.sha256)]
    if analysis.encoder is not None:
        notes.append(ModelNote("encoder", analysis.encoder.id, analysis.encoder.sha256))
    return tuple(notes)
