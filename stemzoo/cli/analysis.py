"""The main job on the command line: `analyze`, and its halves `locate` and `encode`; each calls one function of `stemzoo.analyze`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stemzoo.cli.progress import Progress, bars, print_json
from stemzoo.errors import StemzooError

if TYPE_CHECKING:
    from stemzoo.analyze import AnalyzeOptions, Outcome

FILES = typer.Argument(
    ..., metavar="FILE…", help="dm3, dm4, emd, ser, emi, hspy, tif, mrc, npy, HDF5, png or jpg; FILE::NAME for one signal of several."
)
OUT = typer.Option(
    None, "--out", metavar="DIR", help="Folder of the results; several inputs get a folder each in it. [default: <stem>_stemzoo]"
)
MODEL = typer.Option(None, "--model", metavar="NAME", help="Segmenter: name, name@version or a bundle's folder. [default: the zoo's]")
ENCODER = typer.Option("auto", "--encoder", metavar="NAME", help="Encoder: name, name@version, a folder, auto (the zoo's default) or none.")
FIT = typer.Option(False, "--fit-encoder", help="Fit an encoder to this file's own sub-images (needs stemzoo[train]).")
LATENTS = typer.Option(2, "--latents", metavar="N", help="Latents of a fitted encoder.")
SEED = typer.Option(0, "--seed", metavar="N", help="Seed of a fitted encoder.")
PIXEL_SIZE = typer.Option(None, "--pixel-size", metavar="Å", help="Å per pixel; overrides the file's.")
WINDOW = typer.Option(None, "--window", metavar="LENGTH", help="Extent of the sub-images, e.g. 12Å or 48px.")
FRAMES = typer.Option(None, "--frames", metavar="A:B", help="Frames of a stack, counted from 0, B left out.")
THRESHOLD = typer.Option(None, "--threshold", metavar="P", help="Lowest accepted probability. [default: the model's own]")
REPORT = typer.Option(True, "--report/--no-report", help="Draw figures and report.html.")
FORCE = typer.Option(False, "--force", help="Replace --out even if it holds files that are not stemzoo's.")
JSON = typer.Option(False, "--json", help="Print one JSON object on stdout.")


def register(app: typer.Typer) -> None:
    """Add the three commands to the app."""
    app.command("analyze", epilog="Example: stemzoo analyze frame.dm4 --fit-encoder --out frame_stemzoo")(analyze)
    app.command("locate", epilog="Example: stemzoo locate frame.tif --pixel-size 0.12 --out columns")(locate)
    app.command("encode", epilog="Example: stemzoo encode frame.dm4 --columns columns.csv --encoder rvae-sr3fe2o7")(encode)


def analyze(
    files: list[str] = FILES,
    out: Path | None = OUT,
    model: str | None = MODEL,
    encoder: str = ENCODER,
    fit_encoder: bool = FIT,
    latents: int = LATENTS,
    seed: int = SEED,
    pixel_size: float | None = PIXEL_SIZE,
    window: str | None = WINDOW,
    frames: str | None = FRAMES,
    threshold: float | None = THRESHOLD,
    report: bool = REPORT,
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """Columns with errors, angles, latents, maps and a report from any microscope file."""
    from stemzoo.analyze import AnalyzeOptions, Models, analyze_file

    options = AnalyzeOptions(model, encoder, fit_encoder, latents, seed, pixel_size, window, frames, threshold, report, force)
    models = Models.load(options)

    def one(path: str, folder: Path, progress: Progress | None) -> Outcome:
        return analyze_file(path, folder, options, models=models, progress=progress)

    _each(files, out, options, one, as_json)


def locate(
    files: list[str] = FILES,
    out: Path | None = OUT,
    model: str | None = MODEL,
    pixel_size: float | None = PIXEL_SIZE,
    frames: str | None = FRAMES,
    threshold: float | None = THRESHOLD,
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """Columns with errors only: columns.csv, without angles, maps or report."""
    from stemzoo.analyze import NONE, AnalyzeOptions, Models, locate_file

    options = AnalyzeOptions(model, NONE, pixel_size=pixel_size, frames=frames, threshold=threshold, force=force)
    models = Models.load(options, encode=False)

    def one(path: str, folder: Path, progress: Progress | None) -> Outcome:
        return locate_file(path, folder, options, models=models, progress=progress)

    _each(files, out, options, one, as_json)


def encode(
    file: str = typer.Argument(..., metavar="FILE", help="The frame or stack that the columns were found in."),
    columns: Path = typer.Option(..., "--columns", metavar="CSV", help="Table with y_px and x_px, from stemzoo locate or anywhere else."),
    out: Path | None = OUT,
    encoder: str = ENCODER,
    fit_encoder: bool = FIT,
    latents: int = LATENTS,
    seed: int = SEED,
    pixel_size: float | None = PIXEL_SIZE,
    window: str | None = WINDOW,
    report: bool = REPORT,
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """Angles and latents for columns that are already known."""
    from stemzoo.analyze import AnalyzeOptions, encode_file

    options = AnalyzeOptions(None, encoder, fit_encoder, latents, seed, pixel_size, window, report=report, force=force)

    def one(path: str, folder: Path, progress: Progress | None) -> Outcome:
        return encode_file(path, columns, folder, options, progress=progress)

    _each([file], out, options, one, as_json)


def _each(
    files: list[str], out: Path | None, options: AnalyzeOptions, one: Callable[[str, Path, Progress | None], Outcome], as_json: bool
) -> None:
    """Run `one` on every file; with several, a failure does not stop the others and is listed at the end."""
    from stemzoo.io.outputs import check_folder, folders_for, stem_of

    if out is None:
        folders = [Path(folder.name + "_stemzoo") for folder in folders_for(files, Path())]
    elif len(files) == 1:
        folders = [out]
    else:
        folders = folders_for(files, out)
    for folder in folders:
        check_folder(folder, options.force)
    outcomes, failures = [], []
    for number, (path, folder) in enumerate(zip(files, folders, strict=True), start=1):
        title = stem_of(path) if len(files) == 1 else f"{stem_of(path)} ({number} of {len(files)})"
        try:
            with bars(title) as progress:
                outcomes.append(one(path, folder, progress))
        except StemzooError as error:
            if len(files) == 1:
                raise
            failures.append((path, str(error)))
            continue
        if not as_json:
            _print(outcomes[-1])
    if as_json:
        listed = [{"input": path, "error": message} for path, message in failures]
        print_json({"results": [_as_dict(outcome) for outcome in outcomes], "failures": listed})
    if failures:
        print(f"error: {len(failures)} of {len(files)} inputs failed, the others are done:", file=sys.stderr)
        for path, message in failures:
            print(f"  {message if path in message else f'{path}: {message}'}", file=sys.stderr)
        raise typer.Exit(1)


def _print(outcome: Outcome) -> None:
    """Print what a person wants to know at once; notices go to stderr."""
    from stemzoo.report.html import PAGE

    summary = outcome.summary
    parts = [f"{summary.columns} columns" + (f" in {summary.frames} frames" if summary.frames > 1 else "")]
    if len(summary.by_class) > 1:
        parts[0] += " (" + ", ".join(f"{count} {name}" for name, count in summary.by_class.items()) + ")"
    if summary.sigma_pm is not None:
        parts.append(f"median error {summary.sigma_pm:.3g} pm")
    elif summary.sigma_px is not None:
        parts.append(f"median error {summary.sigma_px:.3g} px")
    if summary.failed:
        parts.append(f"{summary.failed} fits failed")
    if summary.pixel_size is None:
        parts.append("pixel size unknown")
    parts.append(f"{sum(outcome.analysis.seconds.values()):.1f} s")
    for notice in (*summary.doubts, *dict.fromkeys((*outcome.analysis.frames.notices, *outcome.analysis.notices))):
        print(f"note: {notice}", file=sys.stderr)
    print(f"{outcome.input}: {', '.join(parts)}")
    print(f"  {outcome.folder / PAGE if PAGE in outcome.files else outcome.folder}")


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    analysis = outcome.analysis
    return {
        "input": outcome.input,
        "sha256": analysis.frames.sha256,
        "out": str(outcome.folder),
        "files": list(outcome.files),
        "summary": outcome.summary.as_dict(),
        "segmenter": {"id": analysis.segmenter.id, "sha256": analysis.segmenter.sha256},
        "encoder": None if analysis.encoder is None else {"id": analysis.encoder.id, "sha256": analysis.encoder.sha256},
        "window_px": analysis.window_px,
        "sampling_factor": analysis.sampling_factor,
        "notices": list(dict.fromkeys((*analysis.frames.notices, *analysis.notices))),
        "seconds": dict(analysis.seconds),
        "version": analysis.version,
    }
