"""The report: figures as PNG files in a folder and one page, `report.html`, that needs nothing beside itself; returns its path.

Everything is inlined: pictures, drawings, style. No script, no network. Called by `stemzoo.analyze`; by hand from an `analysis.h5`.
"""

from __future__ import annotations

import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stemzoo.errors import OutputError
from stemzoo.report.inputs import ModelNote, ReportInputs
from stemzoo.report.summary import Summary, summarise, thousands
from stemzoo.types import Analysis

if TYPE_CHECKING:
    from stemzoo.report.pictures import Album

PAGE = "report.html"
SOURCES = {"file": "from the file", "user": "given by the user", "lattice": "from the lattice", "unknown": "unknown"}


def write_report(analysis: Analysis, folder: Path, inputs: ReportInputs | None = None) -> Path:
    """Write the figures and `report.html` into `folder`, which exists; return the page's path.

    Raises: OutputError if the folder cannot be written to. Stacks show their first frame and the course over the frames.
    """
    from stemzoo.report.pictures import draw

    inputs = inputs or ReportInputs()
    try:
        page, album = folder / PAGE, draw(analysis, inputs, folder)
        page.write_text(_page(analysis, inputs, album), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"report in {folder} cannot be written: {error.strerror or error}; choose another --out") from error
    return page


def _page(analysis: Analysis, inputs: ReportInputs, album: Album) -> str:
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
        plates=album.plates,
        plots=album.drawings,
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
