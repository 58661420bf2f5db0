"""Whole files for those who script: one input to one folder of results, in this process. Called by scripts and `stemzoo train rvae`."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stemzoo.analyze.many import Here, run
from stemzoo.analyze.models import Models
from stemzoo.analyze.options import AnalyzeOptions, Progress, Task
from stemzoo.analyze.outcome import Outcome
from stemzoo.analyze.plan import Request
from stemzoo.errors import ModelError, OutputError
from stemzoo.io.outputs import new_folder

if TYPE_CHECKING:
    from stemzoo.training.encoding_config import EncoderConfig


def analyze_file(
    path: str, out: Path, options: AnalyzeOptions | None = None, *, models: Models | None = None, progress: Progress | None = None
) -> Outcome:
    """Analyse one file into the folder `out`: columns.csv, analysis.h5, report.html, figures, run.json; a fitted encoder in encoder/.

    Args: path: a file, or FILE::NAME for one of several signals. models: loaded before, to serve many files.
    Raises: StemzooError of any kind; then, as after ^C, `out` is as it was before. What was computed of a long stack is kept beside it, and
        the same call goes on from there.
    """
    options = options or AnalyzeOptions()
    return _one(Request(str(path), Path(out), "analyze", options), models or Models.load(options, "analyze"), progress)


def locate_file(
    path: str, out: Path, options: AnalyzeOptions | None = None, *, models: Models | None = None, progress: Progress | None = None
) -> Outcome:
    """Find the columns of one file; write columns.csv, ending at `fit_ok`, and run.json into `out`. Raises: as `analyze_file`."""
    options = options or AnalyzeOptions()
    return _one(Request(str(path), Path(out), "locate", options), models or Models.load(options, "locate"), progress)


def encode_file(path: str, columns: Path, out: Path, options: AnalyzeOptions | None = None, *, progress: Progress | None = None) -> Outcome:
    """Give angle and latents to the columns of a table, ours or anyone's, and write the results as `analyze_file` does.

    Args: columns: a table of stemzoo's or another program's.
    Raises: TableError for a table that does not fit the file; otherwise as `analyze_file`.
    """
    options = options or AnalyzeOptions()
    return _one(Request(str(path), Path(out), "encode", options, Path(columns)), Models.load(options, "encode"), progress)


def fit_file(
    path: str,
    out: Path,
    options: AnalyzeOptions | None = None,
    columns: Path | None = None,
    training: EncoderConfig | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Fit an encoder to the columns of one file and write it to the folder `out` as a bundle; return what the file gave, `out` its folder.

    Args:
        columns: a table of stemzoo's or another program's; None locates them first.
        training: how the encoder is trained; None takes the defaults with the options' latents and seed.
    Raises: StemzooError of any kind; then `out` is as it was before.
    """
    options = replace(options or AnalyzeOptions(fit_encoder=True), report=False)
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"--out {out} is there and not empty; an encoder takes a folder of its own: name another")
    with new_folder(out, options.force) as folder, tempfile.TemporaryDirectory(prefix=".fit.", dir=folder.parent) as beside:
        task: Task = "analyze" if columns is None else "encode"
        request = Request(str(path), Path(beside) / "results", task, options, columns, training)
        outcome = _one(request, Models.load(options, task), progress)
        if not (request.out / "encoder").is_dir():
            raise ModelError(f"{path}: no column was found to fit an encoder to; pass --columns CSV, or another --model")
        for entry in list((request.out / "encoder").iterdir()):
            shutil.move(str(entry), folder / entry.name)
        files = tuple(sorted(entry.name for entry in folder.iterdir()))
    return replace(outcome, folder=Path(out), files=files)


def _one(request: Request, models: Models, progress: Progress | None) -> Outcome:
    """Work through one request in this process."""
    outcomes: list[Outcome] = []
    errors: list[Exception] = []
    run([request], Here(models, progress), outcomes.append, lambda _, error: errors.append(error), retries=0)
    for error in errors:
        raise error
    return outcomes[0]
