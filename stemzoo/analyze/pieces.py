"""What of a folder of results can be written side by side, each piece by another worker: the tables, and the columns' tracks.

A piece is a folder in the journal that appears whole and stays until `finish` puts it into the results, so it does not matter how often or
by whom it is written. Tables are written part by part: a stack of any length needs the memory of one part, and of the columns that report
and medians rest on, at most a million. Called by analyze.many and analyze.finish.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stemzoo.analyze.fitting import encoder_of, seconds_of, window_of
from stemzoo.analyze.gather import gather
from stemzoo.analyze.journal import Failure
from stemzoo.analyze.models import Models
from stemzoo.analyze.options import Progress
from stemzoo.analyze.outcome import Outcome, write_run
from stemzoo.analyze.plan import Plan, frames_of
from stemzoo.analyze.source import Chosen
from stemzoo.errors import OutputError
from stemzoo.geometry.tracks import link
from stemzoo.io.results import ResultsWriter
from stemzoo.io.tracks import FILE, write_tracks
from stemzoo.report.summary import summarise
from stemzoo.runtime import cutting
from stemzoo.runtime.doubts import doubts_of, with_strangeness
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.notices import frames_lost, in_holes, over_the_edge, several_orders, without_columns
from stemzoo.runtime.tables import ColumnsWriter
from stemzoo.types import Analysis, Columns, Encoding, SubImages, Tracks

REPORT_COLUMNS = 1_000_000
LINKED = "tracks.npz"


def pieces_of(plan: Plan) -> tuple[str, ...]:
    """Return the names of the pieces that the results of a plan are put together from."""
    return ("tables",) if plan.request.task == "locate" or plan.n_frames == 1 else ("tables", "tracks")


def folder_of(plan: Plan, piece: str) -> Path:
    """Where a piece lies once it is written."""
    return plan.journal.folder / piece


def write_piece(plan: Plan, piece: str, models: Models, progress: Progress | None = None) -> int:
    """Write a piece from the parts of the last stage, unless it is there; return 0, for no frame is done by it.

    Raises: FrameError where every frame failed; OutputError.
    """
    folder = folder_of(plan, piece)
    if folder.is_dir():
        return 0
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{piece}.", dir=folder.parent))
        try:
            (_tables if piece == "tables" else _tracks)(plan, temporary, models)
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if not folder.is_dir():  # or another worker wrote it meanwhile
            raise OutputError(f"{folder} cannot be written: {error.strerror or error}; free some space or choose another --out") from error
    return 0


def gathered(plan: Plan, models: Models) -> tuple[Analysis, list[int]]:
    """Return the analysis that report and medians rest on, and the frames in it, as `gather`; with its encoder and window."""
    analysis, chosen = gather(plan, plan.stages[-1], frames_of(plan), REPORT_COLUMNS)
    encoder = encoder_of(plan, models)
    if analysis.encoding is not None and encoder is not None:
        analysis = replace(analysis, encoder=encoder.id, window_px=window_of(plan))
    if (spent := seconds_of(plan)) is not None:
        analysis = replace(analysis, seconds={**analysis.seconds, "fit": spent})
    return analysis, chosen


def first_probability(plan: Plan) -> np.ndarray | None:
    """Return the network's probability (h, w) for the first frame that gave one."""
    found = (plan.journal.load(plan.stages[-1], number).probability for number in range(len(plan.batches)))
    return next((probability for probability in found if probability is not None), None)


def first_subimages(analysis: Analysis, encoder: Encoder | None) -> SubImages | None:
    """Return the sub-images of the first frame, or None without an encoding."""
    if analysis.encoding is None or analysis.window_px is None or encoder is None or not len(analysis.columns[0]):
        return None
    frames = replace(analysis.frames, data=Chosen(analysis.frames.data, [0]))
    alone = replace(analysis, frames=frames, columns=analysis.columns[:1], encoding=None)
    return cutting.subimages(alone, analysis.window_px, encoder.spec.window_px)


def read_linked(folder: Path, analysis: Analysis) -> Tracks | None:
    """Return the tracks that the piece in `folder` holds, one array a frame; None where the columns were not linked."""
    if not (folder / LINKED).is_file():
        return None
    with np.load(folder / LINKED) as stored:
        ends = np.cumsum([len(columns) for columns in analysis.columns])[:-1]
        return Tracks(tuple(np.split(stored["track"], ends)), stored["drift"])


@dataclass
class _Totals:
    """What all parts together hold."""

    columns: int = 0
    unfitted: int = 0
    outside: int = 0
    unmeasured: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    without: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, columns: Columns, encoding: Encoding | None, failed: set[int]) -> None:
        self.columns += len(columns)
        self.unfitted += int((~columns.fit_ok).sum())
        if encoding is not None:
            self.outside += int((~encoding.inside).sum())
            self.unmeasured += int((encoding.inside & np.isnan(encoding.angle)).sum())
        for name, count in zip(columns.classes, np.bincount(columns.species, minlength=len(columns.classes)), strict=True):
            self.by_class[name] = self.by_class.get(name, 0) + int(count)
        if not len(columns) and columns.frame not in failed:
            self.without.append(columns.frame)


def _tables(plan: Plan, folder: Path, models: Models) -> None:
    """Write columns.csv, analysis.h5 and run.json, which names no files yet."""
    request, journal, stage = plan.request, plan.journal, plan.stages[-1]
    encoder = encoder_of(plan, models)
    analysis, chosen = gathered(plan, models)
    latents = None if analysis.encoding is None else int(analysis.encoding.latents.shape[1])
    totals = _Totals()
    with ExitStack() as stack:
        table = stack.enter_context(ColumnsWriter(folder / "columns.csv", latents))
        results = None
        if request.task != "locate":
            results = stack.enter_context(ResultsWriter(folder / "analysis.h5", plan.count(stage), latents))
        for number in range(len(plan.batches)):
            part = journal.load(stage, number)
            totals.failures += part.failures
            failed = {failure.frame for failure in part.failures}
            for k, columns in enumerate(part.columns):
                encoding = part.encoding[k] if part.encoding and latents is not None else None
                totals.add(columns, encoding, failed)
                table.add(columns, encoding)
                if results is not None:
                    results.add(columns, encoding)
        frames = frames_of(plan)
        pieces = first_subimages(analysis, encoder) if results is not None else None
        said = [*frames.notices, *_notices(plan, models, analysis, totals, chosen)]
        analysis = replace(analysis, notices=tuple(dict.fromkeys(said)), doubts=plan.doubts)
        if encoder is not None and pieces is not None:
            fitted = plan.request.options.fit_encoder
            told = "try more --epochs, or another --window" if plan.request.training is not None else "try another --window"
            advice = told if fitted else "fit an encoder to the frame with --fit-encoder"
            analysis = with_strangeness(analysis, encoder, advice, pieces, fitted)
        analysis = replace(analysis, doubts=doubts_of(analysis))  # whoever reads analysis.h5 has nothing to judge frames by
        if results is not None:
            results.finish(analysis, first_probability(plan), request.options.as_text(), frames)
    summary = summarise(analysis)
    outcome = Outcome(
        input=request.path,
        sha256=plan.sha256,
        folder=request.out,
        files=(),
        key=plan.key,
        summary=replace(summary, frames=plan.n_frames, columns=totals.columns, by_class=totals.by_class, failed=totals.unfitted),
        segmenter=analysis.segmenter,
        encoder=analysis.encoder,
        window_px=analysis.window_px,
        sampling_factor=analysis.sampling_factor,
        notices=analysis.notices,
        seconds=analysis.seconds,
        version=analysis.version,
        failures=tuple(totals.failures),
        options=request.options.as_text(),
    )
    write_run(folder, outcome)


def _tracks(plan: Plan, folder: Path, models: Models) -> None:
    """Link the columns, unless a frame is missing or there are too many of them to hold; write tracks.csv and, for the report, `LINKED`."""
    if plan.count(plan.stages[-1]) > REPORT_COLUMNS:
        return
    analysis, chosen = gathered(plan, models)
    if len(chosen) < plan.n_frames:
        return
    tracks = link([columns.yx for columns in analysis.columns])
    write_tracks(folder / FILE, analysis, tracks)
    np.savez(folder / LINKED, track=np.concatenate(tracks.track), drift=tracks.drift)


def _notices(plan: Plan, models: Models, analysis: Analysis, totals: _Totals, chosen: list[int]) -> list[str]:
    """Return what is to be said of the file as a whole."""
    said = list(plan.notices)
    if totals.without and models.segmenter is not None:
        asked = plan.request.options.threshold
        threshold = models.segmenter.spec.threshold if asked is None else asked
        said.append(without_columns(totals.without, plan.n_frames, threshold))
    if totals.outside and analysis.window_px is not None:
        said.append(over_the_edge(totals.outside, totals.columns, analysis.window_px))
    if totals.unmeasured and analysis.window_px is not None:
        said.append(in_holes(totals.unmeasured, totals.columns, analysis.window_px))
    if analysis.encoding is not None:
        said += filter(None, [several_orders(analysis.encoding.symmetry[np.isfinite(analysis.encoding.angle)])])
    if totals.failures:
        said.append(frames_lost({failure.frame: failure.reason for failure in totals.failures}, plan.n_frames))
    good = plan.n_frames - len(totals.failures)
    if len(chosen) < good:
        said.append(f"Report and medians rest on {len(chosen)} of {good} frames, evenly drawn; columns.csv and analysis.h5 hold all")
    return said
