"""The main job on the command line: `analyze`, and its halves `locate` and `encode`; each makes requests for `stemzoo.analyze.run`."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stemzoo.cli.options import AsJson, Dask, EncoderName, Force, FrameRange, PixelSize, Report, SegmenterName, Threshold, Window
from stemzoo.cli.progress import Progress, bars, print_json, say
from stemzoo.cli.session import Cores, Provider, Threads, session_of
from stemzoo.errors import StemzooError

if TYPE_CHECKING:
    from stemzoo.analyze import AnalyzeOptions, Models, Outcome
    from stemzoo.analyze.many import Pool
    from stemzoo.analyze.options import Task
    from stemzoo.runtime.session import SessionOptions

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE…", help="dm3, dm4, emd, ser, emi, hspy, tif, mrc, npy, HDF5, png or jpg; FILE::NAME for one signal of several."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Folder of the results; several inputs get a folder each in it. [default: <stem>_stemzoo]"),
]
Fit = Annotated[bool, typer.Option("--fit-encoder", help="Fit an encoder to this file's own sub-images (needs stemzoo[train]).")]
Latents = Annotated[int, typer.Option("--latents", metavar="N", help="Latents of a fitted encoder.")]
Symmetry = Annotated[
    int | None,
    typer.Option(
        "--symmetry", metavar="N", help="Order that a fitted encoder takes every column for: 1, 2, 3, 4 or 6. [default: each its own]"
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of a fitted encoder.")]
Again = Annotated[bool, typer.Option("--again", help="Of several inputs, also do those whose results are there and up to date.")]


def register(app: typer.Typer) -> None:
    """Add the three commands to the app."""
    app.command("analyze", epilog="Example: stemzoo analyze frame.dm4 --fit-encoder --out frame_stemzoo")(analyze)
    app.command("locate", epilog="Example: stemzoo locate frame.tif --pixel-size 0.12 --out columns")(locate)
    app.command("encode", epilog="Example: stemzoo encode frame.dm4 --columns columns.csv --encoder rvae-sr3fe2o7")(encode)


def analyze(
    files: Files,
    out: Out = None,
    model: SegmenterName = None,
    encoder: EncoderName = "auto",
    fit_encoder: Fit = False,
    latents: Latents = 2,
    symmetry: Symmetry = None,
    seed: Seed = 0,
    pixel_size: PixelSize = None,
    window: Window = None,
    frames: FrameRange = None,
    threshold: Threshold = None,
    report: Report = True,
    force: Force = False,
    cores: Cores = None,
    threads: Threads = 0,
    provider: Provider = None,
    dask: Dask = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Columns with errors, angles, latents, maps and a report. From any microscope file."""
    session = session_of(cores, threads, provider)
    from stemzoo.analyze import AnalyzeOptions

    options = AnalyzeOptions(
        model, encoder, fit_encoder, latents, seed, pixel_size, window, frames, threshold, report, force, symmetry=symmetry
    )
    _each("analyze", files, out, options, session, dask=dask, again=again, as_json=as_json)


def locate(
    files: Files,
    out: Out = None,
    model: SegmenterName = None,
    pixel_size: PixelSize = None,
    frames: FrameRange = None,
    threshold: Threshold = None,
    force: Force = False,
    cores: Cores = None,
    threads: Threads = 0,
    provider: Provider = None,
    dask: Dask = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Columns with errors only. Writes columns.csv, without angles, maps or report."""
    session = session_of(cores, threads, provider)
    from stemzoo.analyze import NONE, AnalyzeOptions

    options = AnalyzeOptions(model, NONE, pixel_size=pixel_size, frames=frames, threshold=threshold, force=force)
    _each("locate", files, out, options, session, dask=dask, again=again, as_json=as_json)


def encode(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The frame or stack that the columns were found in.")],
    columns: Annotated[
        Path, typer.Option("--columns", metavar="CSV", help="The columns: from stemzoo locate, atomap, StatSTEM, ImageJ or by hand.")
    ],
    out: Out = None,
    encoder: EncoderName = "auto",
    fit_encoder: Fit = False,
    latents: Latents = 2,
    symmetry: Symmetry = None,
    seed: Seed = 0,
    pixel_size: PixelSize = None,
    window: Window = None,
    report: Report = True,
    force: Force = False,
    cores: Cores = None,
    threads: Threads = 0,
    provider: Provider = None,
    dask: Dask = None,
    as_json: AsJson = False,
) -> None:
    """Angles and latents for columns that are already known."""
    session = session_of(cores, threads, provider)
    from stemzoo.analyze import AnalyzeOptions

    options = AnalyzeOptions(None, encoder, fit_encoder, latents, seed, pixel_size, window, report=report, force=force, symmetry=symmetry)
    _each("encode", [file], out, options, session, columns=columns, dask=dask, as_json=as_json)


def _each(
    task: Task,
    files: list[str],
    out: Path | None,
    options: AnalyzeOptions,
    session: SessionOptions,
    *,
    columns: Path | None = None,
    dask: str | None = None,
    again: bool = False,
    as_json: bool = False,
) -> None:
    """Work through every file; with several, a failure does not stop the others and is listed at the end."""
    from stemzoo.analyze import Models, Request, joint, run
    from stemzoo.io.outputs import check_folder, folders_for, stem_of

    files = _expanded(files)
    if dask is not None:  # workers may have been started elsewhere
        files, out, columns = [os.path.abspath(path) for path in files], out and out.absolute(), columns and columns.absolute()
    several = len(files) > 1
    if out is None:
        folders = [
            Path(folder.name + "_stemzoo").absolute() if dask else Path(folder.name + "_stemzoo") for folder in folders_for(files, Path())
        ]
    else:
        folders = folders_for(files, out) if several else [out]
    for folder in folders:
        check_folder(folder, options.force)
    skips = (several or dask is not None) and not again
    requests = [Request(path, folder, task, options, columns, unchanged=skips) for path, folder in zip(files, folders, strict=True)]
    models = Models.load(options, task, session)
    outcomes: list[dict[str, Any]] = []
    failures: list[tuple[str, Exception]] = []
    ended: dict[Path, joint.Input] = {}

    def done(outcome: Outcome) -> None:
        ended[outcome.folder] = joint.Input(outcome.input, outcome.folder, outcome.sha256)
        if as_json:
            outcomes.append(outcome.as_dict())
        else:
            _print(outcome)

    def failed(request: Request, error: Exception) -> None:
        ended[request.out] = joint.Input(request.path, request.out, error=" ".join(str(error).split()))
        if isinstance(error, StemzooError):
            failures.append((request.path, error))
        elif several or dask is not None:
            failures.append(
                (request.path, StemzooError(f"{request.path}: unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"))
            )
        else:
            raise error

    with bars(f"{len(files)} inputs" if several else stem_of(files[0])) as progress, _pool(dask, models, progress) as pool:
        run(requests, pool, done, failed, retries=1 if dask or several else 0, progress=progress if dask else None)
    if failures and not several:
        raise failures[0][1]
    table = out / joint.FILE if several and out is not None and len(failures) < len(files) else None
    if table is not None:
        joint.write_joint(table, (ended[folder] for folder in folders))
    if as_json:
        told = [{"input": path, "error": str(error)} for path, error in failures]
        print_json({"results": outcomes, "failures": told, "table": None if table is None else str(table)})
    elif table is not None:
        print(f"all columns: {table}")
    if failures:
        print(f"error: {len(failures)} of {len(files)} inputs failed, the others are done:", file=sys.stderr)
        for path, error in failures:
            print(f"  {error if path in str(error) else f'{path}: {error}'}", file=sys.stderr)
        raise typer.Exit(1)


@contextmanager
def _pool(dask: str | None, models: Models, progress: Progress | None) -> Iterator[Pool]:
    """Give the pool that does the work: this process, or a cluster."""
    from stemzoo.analyze import Here

    if dask is None:
        yield Here(models, progress)
        return
    from stemzoo.analyze.cluster import cluster

    with cluster(dask, models) as pool:
        yield pool


def _expanded(files: list[str]) -> list[str]:
    """Return the inputs with patterns such as 'day1/*.dm4' replaced by the files they match; shells cannot pass a million names."""
    found: list[str] = []
    for name in files:
        matches = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) and not Path(name).exists() else []
        found += matches or [name]
    return found


def _print(outcome: Outcome) -> None:
    """Print what a person wants to know at once; notices go to stderr."""
    from stemzoo.report.html import PAGE

    summary = outcome.summary
    parts = summary.headline()
    if outcome.failures:
        parts.append(f"{len(outcome.failures)} frames failed")
    parts.append("unchanged" if outcome.unchanged else f"{sum(outcome.seconds.values()):.1f} s")
    if not outcome.unchanged:
        say(summary.doubts, outcome.notices)
    print(f"{outcome.input}: {', '.join(parts)}")
    print(f"  {outcome.folder / PAGE if PAGE in outcome.files else outcome.folder}")
