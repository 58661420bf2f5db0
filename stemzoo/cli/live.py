"""At the microscope: `stemzoo watch` and `stemzoo serve`; each parses, calls one public function and prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stemzoo.cli.options import EncoderName, Force, PixelSize, Report, SegmenterName, Threshold, Window
from stemzoo.cli.session import Cores, Provider, Threads, session_of
from stemzoo.errors import OutputError, StemzooError, needs_extra

if TYPE_CHECKING:
    from stemzoo.analyze import Models
    from stemzoo.live.engine import Engine


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("watch", epilog="Example: stemzoo watch /data/today --out /data/today_columns")(watch)
    app.command("serve", epilog="Example: stemzoo serve --port 8765")(serve)


def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that the microscope writes to; network shares too.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Results, a folder each by stem, and watch.jsonl.")],
    model: SegmenterName = None,
    encoder: EncoderName = "auto",
    pixel_size: PixelSize = None,
    window: Window = None,
    threshold: Threshold = None,
    report: Report = False,
    force: Force = False,
    recursive: Annotated[bool, typer.Option("--recursive", help="Look into folders below DIR too.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop when all there is has been dealt with.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also take up the files that failed earlier.")] = False,
    settle: Annotated[float, typer.Option("--settle", metavar="S", help="How long a file must stay unchanged.")] = 1.0,
    poll: Annotated[float, typer.Option("--poll", metavar="S", help="Seconds between two looks at DIR.")] = 0.5,
    retries: Annotated[int, typer.Option("--retries", metavar="N", help="How often a file that cannot be read is tried again.")] = 4,
    max_mb: Annotated[float, typer.Option("--max-mb", metavar="MB", help="Larger files are refused.")] = 4096.0,
    on_result: Annotated[
        str | None,
        typer.Option("--on-result", metavar="CMD", help="Run after each result, without a shell; {input} and {out} are replaced."),
    ] = None,
    page: Annotated[
        int | None,
        typer.Option("--page", min=0, max=65535, metavar="PORT", help="Also show results on a live page; 0 takes a free port."),
    ] = None,
    cores: Cores = None,
    threads: Threads = 0,
    provider: Provider = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, those of watch.jsonl.")] = False,
) -> None:
    """Analyse every new or growing file of a folder at rest. Oldest first; what became of each is in watch.jsonl."""
    _leave_cores()
    session = session_of(cores, threads, provider)
    from stemzoo.analyze import AnalyzeOptions, Models, analyze_file
    from stemzoo.live.watch import Watcher, WatchOptions

    options = AnalyzeOptions(model, encoder, pixel_size=pixel_size, window=window, threshold=threshold, report=report, force=force)
    rules = WatchOptions(settle_s=settle, poll_s=poll, recursive=recursive, once=once, retries=retries, max_mb=max_mb, on_result=on_result)
    models = Models.load(options, session=session)
    _say_notices(models)
    engine: Engine | None = None

    def one(source: Path, place: Path) -> Mapping[str, Any]:
        outcome = analyze_file(str(source), place, options, models=models)
        if engine is not None:
            _show(engine, source.name, place)
        summary = outcome.summary
        return {
            "sha256": outcome.sha256,
            "frames": summary.frames,
            "columns": summary.columns,
            "fits_failed": summary.failed,
            "sigma_px": summary.sigma_px,
            "pixel_size": summary.pixel_size,
            "encoder": None if outcome.encoder is None else outcome.encoder.id,
            "failed_frames": [failure.frame for failure in outcome.failures],
            "doubts": list(summary.doubts),
            "notices": list(outcome.notices),
            "seconds": {stage: round(value, 4) for stage, value in outcome.seconds.items()},
        }

    with ExitStack() as stack:
        watcher = Watcher(folder, out, one, rules, _print_json if as_json else _print)
        if page is not None:
            engine, _, serving, serve_options = _server(models)
            stack.enter_context(serving(engine, serve_options(port=page), lambda line: print(f"page: {line}", file=sys.stderr, flush=True)))
        try:
            tally = watcher.run(again)
        except KeyboardInterrupt:
            tally = watcher.tally
    if tally.failed:
        print(f"error: {len(tally.failed)} files failed, the other {tally.done} are done:", file=sys.stderr)
        for file, why in tally.failed.items():
            print(f"  {why if file in why else f'{file}: {why}'}", file=sys.stderr)
        raise typer.Exit(1)


def serve(
    model: SegmenterName = None,
    encoder: EncoderName = "auto",
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; anything but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8765,
    name: Annotated[list[str] | None, typer.Option("--name", metavar="HOST", help="A further host name to answer to; repeatable.")] = None,
    token: Annotated[str | None, typer.Option("--token", envvar="STEMZOO_TOKEN", help="Asked of every client as a bearer token.")] = None,
    waiting: Annotated[int, typer.Option("--waiting", min=1, metavar="N", help="Jobs that may wait; further ones get 429.")] = 8,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="The longest a client waits for its result.")] = 60.0,
    max_mb: Annotated[float, typer.Option("--max-mb", metavar="MB", help="Largest body.")] = 64.0,
    cores: Cores = None,
    threads: Threads = 0,
    provider: Provider = None,
) -> None:
    """Answer over HTTP on this machine, with a live page. The page is for the second monitor; /docs describes the interface."""
    _leave_cores()
    session = session_of(cores, threads, provider)
    from stemzoo.analyze import AnalyzeOptions, Models

    models = Models.load(AnalyzeOptions(model, encoder), session=session)
    engine, run, _, serve_options = _server(models, waiting)
    options = serve_options(host, port, tuple(name or ()), token, waiting, timeout, max_mb=max_mb)
    _say_notices(models)
    with suppress(KeyboardInterrupt):  # the usual end of a server
        run(engine, options, lambda line: print(line, flush=True))


def _server(models: Models, waiting: int = 8) -> tuple[Engine, Callable[..., None], Callable[..., Any], Callable[..., Any]]:
    """Return an engine for the models, and `serve`, `serving` and ServeOptions. Raises: OutputError where the extra is missing."""
    with needs_extra("serve", "serving", OutputError):
        from stemzoo.live.engine import Engine
        from stemzoo.live.listening import serve, serving
        from stemzoo.live.server import ServeOptions
    assert models.segmenter is not None
    return Engine(models.segmenter, models.encoder, models.chooser(), waiting), serve, serving, ServeOptions


def _show(engine: Engine, name: str, place: Path) -> None:
    """Put the results in a folder on the page. What cannot be shown is none the less analysed."""
    from stemzoo.io.read_results import read_results

    with suppress(StemzooError, OSError):
        engine.show(name, read_results(place / "analysis.h5"))


def _say_notices(models: Models) -> None:
    """Say on stderr what of the execution providers asked for could not be had."""
    loaded = [model.bundle.session for model in (models.segmenter, models.encoder) if model is not None]
    for notice in dict.fromkeys(notice for session in loaded for notice in session.notices):
        print(f"note: {notice}", file=sys.stderr, flush=True)


def _leave_cores() -> None:
    """Keep BLAS to one thread, if NumPy is not loaded yet: on a busy machine its threads wait for each other far longer than they work."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _print_json(record: Mapping[str, Any]) -> None:
    print(json.dumps(record), flush=True)


def _print(record: Mapping[str, Any]) -> None:
    """Print results on stdout, everything else that a person at the microscope should know on stderr."""
    from stemzoo.runtime.headline import headline

    event = record["event"]
    if event == "done":
        parts = headline(record["columns"], record["sigma_px"], record["pixel_size"], record["fits_failed"], record["frames"])
        parts.append("no angles" if record["encoder"] is None else f"angles from {record['encoder']}")
        print(f"{record['file']}: {', '.join(parts)}, {record['took_s']:.2f} s", flush=True)
        for doubt in record["doubts"]:
            print(f"  warning: {doubt}", flush=True)
        if ended := record.get("on_result"):
            said = f"ended with exit code {ended}" if isinstance(ended, int) else ended
            print(f"on-result: {record['file']}: {said}", file=sys.stderr, flush=True)
    elif event == "start":
        print(f"watching {record['folder']}; {record['known']} files known; ^C stops", file=sys.stderr, flush=True)
    elif event == "stop":
        print(f"{record['done']} done, {record['failed']} failed, {record['gone']} went away", file=sys.stderr, flush=True)
    elif event != "begin":
        why = record.get("why", "")
        subject = f"{record['file']}: " if "file" in record and record["file"] not in why else ""
        print(f"{event}: {subject}{why}", file=sys.stderr, flush=True)
