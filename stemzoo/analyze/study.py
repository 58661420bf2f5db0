"""A study of one file to a folder: `study.png` and `study.csv`. Called by `stemzoo study window`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemzoo.analyze.models import Models
from stemzoo.analyze.options import AnalyzeOptions, Progress, parse_window
from stemzoo.analyze.source import read_frames, read_table
from stemzoo.analyze.window import Size, best, candidates, study
from stemzoo.errors import FrameError
from stemzoo.io.outputs import STUDY, new_folder
from stemzoo.runtime import pipeline
from stemzoo.runtime.doubts import doubts_of
from stemzoo.types import Analysis

FIELDS = ("window_px", "window_A", "spacings", "score", "stability", "fidelity", "explained", "sigma_deg", "symmetry")


@dataclass(frozen=True, slots=True)
class WindowStudy:
    """What a study of the window found: a row for each size with `FIELDS` and a title, and the size that is proposed; what speaks against
    the columns that were looked at, and what else was decided of them."""

    rows: tuple[dict[str, Any], ...]
    proposed: Size
    doubts: tuple[str, ...]
    notices: tuple[str, ...]


def study_window(
    path: str,
    out: Path,
    options: AnalyzeOptions,
    *,
    sizes: str | None = None,
    columns: Path | None = None,
    progress: Progress | None = None,
) -> WindowStudy:
    """Try several windows on the columns of one file and write `study.png` and `study.csv` into the folder `out`.

    Args:
        sizes: windows such as `6Å,9Å,12Å`; None takes multiples of the column spacing and the lattice's periods.
        columns: a table of stemzoo's or another program's; None locates them first.
    Raises: StemzooError of any kind; then `out` is as it was before.
    """
    with new_folder(out, options.force, STUDY) as folder:
        frames, _ = read_frames(path, options)
        if columns is None:
            segmenter = Models.load(options, "locate").segmenter
            assert segmenter is not None, "locating loads one"
            analysis = pipeline.locate(frames, segmenter, pipeline.LocateOptions(threshold=options.threshold), progress)
            if not any(len(table) for table in analysis.columns):
                raise FrameError(f"{path}: no column was found whose surroundings could be studied; pass --columns CSV, or another --model")
        else:
            analysis = read_table(columns, frames)
        asked = None if sizes is None else [parse_window(text, frames.pixel_size, "--sizes") for text in sizes.split(",")]
        tried = candidates(analysis) if asked is None else sorted(size for size in asked if size is not None)
        studied = study(analysis, tried, latents=options.latents, seed=options.seed, symmetry=options.symmetry, progress=progress)
        proposed = best(studied)
        rows = tuple(_row(size, frames.pixel_size) for size in studied)
        lines = [",".join(FIELDS), *(",".join(_cell(row[name]) for name in FIELDS) for row in rows)]
        (folder / "study.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        _draw(analysis, studied, proposed, rows, folder / "study.png")
    return WindowStudy(rows, proposed, doubts_of(analysis), analysis.notices)


def _row(size: Size, pixel_size: float | None) -> dict[str, Any]:
    angstrom = None if pixel_size is None else size.window_px * pixel_size
    length = f"{size.window_px:.3g} px" if angstrom is None else f"{angstrom:.3g} Å"
    row = {name: getattr(size, name) for name in FIELDS if name != "window_A"}
    return {**row, "window_A": angstrom, "title": f"{length}, {size.spacings:.2g} spacings"}


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _draw(analysis: Analysis, studied: tuple[Size, ...], proposed: Size, rows: tuple[dict[str, Any], ...], path: Path) -> None:
    import matplotlib

    from stemzoo.report import render, style
    from stemzoo.report.field import field_of
    from stemzoo.report.study import Trial, study_figure

    trials = []
    for size, row in zip(studied, rows, strict=True):
        said = f"stability {size.stability:.2f}, fidelity {size.fidelity:.2f}\nσ {size.sigma_deg:.2g}°, {size.symmetry}-fold"
        first = size.encoding.rows(slice(0, len(analysis.columns[0])))
        trials.append(Trial(row["title"], size.score, said, first, size.pattern, size.window_px, size is proposed))
    with matplotlib.rc_context(style.FONT):
        render.save_png(study_figure(field_of(analysis), trials), path)
