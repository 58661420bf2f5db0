"""One input file to one folder of results. Owns the order read → locate → encode → tables, results, report, and what is written where; a
folder is whole or not there."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stemzoo.analyze.fitting import fit_to
from stemzoo.analyze.models import Models, load_encoder, note_of
from stemzoo.analyze.options import NONE, AnalyzeOptions, Progress, parse_window
from stemzoo.analyze.source import Part, numbered, read_frames, read_table
from stemzoo.errors import ModelError
from stemzoo.io.outputs import new_folder
from stemzoo.types import Analysis

if TYPE_CHECKING:
    from stemzoo.report.summary import Summary
    from stemzoo.runtime.encoder import Encoder
    from stemzoo.runtime.segmenter import Segmenter


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one input gave.

    Args: input: as named by the user. folder: where the results are. summary: the numbers. analysis: everything.
    """

    input: str
    folder: Path
    summary: Summary
    analysis: Analysis
    files: tuple[str, ...]


def analyze_file(
    path: str, out: Path, options: AnalyzeOptions | None = None, *, models: Models | None = None, progress: Progress | None = None
) -> Outcome:
    """Analyse one file into the folder `out`: columns.csv, analysis.h5, report.html and figures; with a fitted encoder also encoder/.

    Args: path: a file, or FILE::NAME for one of several signals. models: loaded before, to serve many files.
    Raises: StemzooError of any kind; then, as after ^C, `out` is as it was before.
    """
    from stemzoo.runtime import pipeline
    from stemzoo.runtime.encoder import Encoder

    options = options or AnalyzeOptions()
    with new_folder(out, options.force) as folder:
        frames, first = read_frames(path, options)
        models = models or Models.load(options)
        recording = _recording(models.segmenter)
        analysis = pipeline.locate(frames, recording, pipeline.LocateOptions(threshold=options.threshold), progress)
        encoder = models.encoder
        notices = models.notices
        if any(len(columns) for columns in analysis.columns):
            window = parse_window(options.window, frames.pixel_size)
            if options.fit_encoder:
                start = time.perf_counter()
                bundle, window = fit_to(analysis, options, folder / "encoder", progress)
                encoder = Encoder(bundle)
                analysis = replace(analysis, seconds={**analysis.seconds, "fit_encoder": time.perf_counter() - start})
            if encoder is not None:
                analysis = pipeline.encode(analysis, encoder, pipeline.EncodeOptions(window_px=window), progress)
        analysis = replace(analysis, notices=(*analysis.notices, *notices))
        probability = None if recording.first is None else np.clip(recording.first, 0, 1)
        return _write(path, folder, Path(out), analysis, first, options, probability, models, encoder, progress)


def locate_file(
    path: str, out: Path, options: AnalyzeOptions | None = None, *, models: Models | None = None, progress: Progress | None = None
) -> Outcome:
    """Find the columns of one file and write columns.csv, ending at `fit_ok`, into the folder `out`. Raises: as `analyze_file`."""
    from stemzoo.report.summary import summarise
    from stemzoo.runtime import pipeline
    from stemzoo.runtime.tables import write_columns

    options = options or AnalyzeOptions()
    with new_folder(out, options.force) as folder:
        frames, first = read_frames(path, options)
        models = models or Models.load(options, encode=False)
        analysis = pipeline.locate(frames, models.segmenter, pipeline.LocateOptions(threshold=options.threshold), progress)
        analysis = numbered(analysis, first)
        write_columns(folder / "columns.csv", analysis)
        return Outcome(path, Path(out), summarise(analysis), analysis, ("columns.csv",))


def encode_file(path: str, columns: Path, out: Path, options: AnalyzeOptions | None = None, *, progress: Progress | None = None) -> Outcome:
    """Give angle and latents to the columns of a table, ours or anyone's, and write the results as `analyze_file` does.

    Args: columns: a CSV with at least y_px and x_px.
    Raises: TableError for a table that does not fit the file; otherwise as `analyze_file`.
    """
    from stemzoo.runtime import pipeline
    from stemzoo.runtime.encoder import Encoder

    options = options or AnalyzeOptions()
    if options.encoder == NONE and not options.fit_encoder:
        raise ModelError("encode with --encoder none would do nothing; pass --encoder NAME (stemzoo zoo list shows all) or --fit-encoder")
    with new_folder(out, options.force) as folder:
        frames, first = read_frames(path, options)
        analysis = read_table(columns, frames)
        window = parse_window(options.window, frames.pixel_size)
        encoder: Encoder | None
        notices: tuple[str, ...] = ()
        if options.fit_encoder:
            bundle, window = fit_to(analysis, options, folder / "encoder", progress)
            encoder = Encoder(bundle)
        else:
            encoder, notices = load_encoder(options.encoder)
        if encoder is None:
            raise ModelError("no encoder: no zoo has a default one; pass --encoder NAME (stemzoo zoo list shows all) or --fit-encoder")
        analysis = pipeline.encode(analysis, encoder, pipeline.EncodeOptions(window_px=window), progress)
        analysis = replace(analysis, notices=(*analysis.notices, *notices))
        return _write(path, folder, Path(out), analysis, first, options, None, None, encoder, progress)


def fit_file(
    path: str, out: Path, options: AnalyzeOptions | None = None, columns: Path | None = None, progress: Progress | None = None
) -> Path:
    """Fit an encoder to the columns of one file and write it to the folder `out` as a bundle; return `out`.

    Args: columns: a CSV with at least y_px and x_px; None locates them first.
    Raises: StemzooError of any kind; then `out` is as it was before.
    """
    from stemzoo.runtime import pipeline

    options = options or AnalyzeOptions(fit_encoder=True)
    with new_folder(out, options.force) as folder:
        frames, _ = read_frames(path, options)
        if columns is None:
            segmenter = Models.load(options, encode=False).segmenter
            analysis = pipeline.locate(frames, segmenter, pipeline.LocateOptions(threshold=options.threshold), progress)
        else:
            analysis = read_table(columns, frames)
        fit_to(analysis, options, folder / "bundle", progress)
        for entry in list((folder / "bundle").iterdir()):
            entry.rename(folder / entry.name)
        (folder / "bundle").rmdir()
    return Path(out)


def _recording(segmenter: Segmenter) -> Any:
    """Return the segmenter, keeping the probability (h, w) that it gives for the first frame, summed over classes, as `first`."""
    from stemzoo.runtime.segmenter import Segmenter

    class Recording(Segmenter):
        first: np.ndarray | None = None

        def probabilities(self, image: np.ndarray) -> np.ndarray:
            result = super().probabilities(image)
            if self.first is None:
                self.first = result.sum(axis=0)
            return result

    return Recording(segmenter.bundle, segmenter.max_tile_px)


def _write(
    path: str,
    folder: Path,
    out: Path,
    analysis: Analysis,
    first: int,
    options: AnalyzeOptions,
    probability: np.ndarray | None,
    models: Models | None,
    encoder: Encoder | None,
    progress: Progress | None,
) -> Outcome:
    """Write tables, results and report into `folder`."""
    from stemzoo.io.results import write_results
    from stemzoo.report.html import ReportInputs, write_report
    from stemzoo.report.summary import summarise
    from stemzoo.runtime.tables import write_columns

    steps = 3 if options.report else 2
    tick = progress or (lambda stage, done, total: None)
    counted = numbered(analysis, first)
    write_columns(folder / "columns.csv", counted)
    tick("write", 1, steps)
    write_results(folder / "analysis.h5", counted, probability, options.as_text())
    tick("write", 2, steps)
    if options.report:
        notes = tuple(
            note_of(role, model.bundle.folder, model.id.id, model.id.sha256)
            for role, model in (("segmenter", models.segmenter if models else None), ("encoder", encoder))
            if model is not None
        )
        decodes = encoder is not None and (encoder.bundle.folder / "decoder.onnx").is_file()
        inputs = ReportInputs(
            probability=probability,
            subimages=_first_subimages(analysis, encoder),
            decode=encoder.decode if encoder is not None and decodes else None,
            models=notes,
            options=options.as_text(),
        )
        write_report(analysis, folder, inputs)
        tick("write", 3, steps)
    return Outcome(path, out, summarise(analysis), counted, tuple(sorted(entry.name for entry in folder.iterdir())))


def _first_subimages(analysis: Analysis, encoder: Encoder | None) -> Any:
    """Return the sub-images of frame 0, or None without an encoding."""
    from stemzoo.runtime import pipeline

    if analysis.encoding is None or analysis.window_px is None or encoder is None or not len(analysis.columns[0]):
        return None
    frames = replace(analysis.frames, data=Part(analysis.frames.data, 0, 1))
    alone = replace(analysis, frames=frames, columns=analysis.columns[:1], encoding=None)
    return pipeline.subimages(alone, analysis.window_px, encoder.spec.window_px)
