"""The parts of one file to its folder of results: tables, analysis.h5, report, run.json. Owns which file a task writes.

Tables and results are written part by part, so a stack of any length needs the memory of one part; report and medians are drawn from at
most a million columns. Called by analyze.many.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from stemzoo.analyze.fitting import encoder_of, window_of
from stemzoo.analyze.gather import gather
from stemzoo.analyze.models import Models, note_of
from stemzoo.analyze.options import Progress
from stemzoo.analyze.outcome import Outcome, write_run
from stemzoo.analyze.parts import Failure
from stemzoo.analyze.plan import Plan, frames_of
from stemzoo.analyze.source import Chosen
from stemzoo.geometry.tracks import link
from stemzoo.io.outputs import new_folder
from stemzoo.io.results import ResultsWriter
from stemzoo.report.html import ReportInputs, write_report
from stemzoo.report.summary import summarise
from stemzoo.runtime import pipeline
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.tables import ColumnsWriter
from stemzoo.types import Analysis, Columns, Encoding, SubImages

REPORT_COLUMNS = 1_000_000
STRANGE = 0.5  # share of the sub-images' variance that an encoder must explain to be believed


@dataclass
class _Totals:
    """What all parts together hold."""

    columns: int = 0
    unfitted: int = 0
    outside: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    without: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, columns: Columns, encoding: Encoding | None, failed: set[int]) -> None:
        self.columns += len(columns)
        self.unfitted += int((~columns.fit_ok).sum())
        self.outside += int((~encoding.inside).sum()) if encoding is not None else 0
        for name, count in zip(columns.classes, np.bincount(columns.species, minlength=len(columns.classes)), strict=True):
            self.by_class[name] = self.by_class.get(name, 0) + int(count)
        if not len(columns) and columns.frame not in failed:
            self.without.append(columns.frame)


def finish(plan: Plan, models: Models, progress: Progress | None = None) -> Outcome:
    """Write the folder of results from the parts of the last stage, and forget the parts.

    Parts with frames that may yet succeed are dropped and the others kept, so that the next run computes those alone.
    Raises: FrameError where every frame failed; OutputError.
    """
    request, journal, stage = plan.request, plan.journal, plan.stages[-1]
    frames, encoder = frames_of(plan), encoder_of(plan, models)
    tick = progress or (lambda name, done, total: None)
    steps = 1 if request.task == "locate" else 3 if request.options.report else 2
    analysis, chosen = gather(plan, stage, frames, REPORT_COLUMNS)
    if analysis.encoding is not None and encoder is not None:
        analysis = replace(analysis, encoder=encoder.id, window_px=window_of(plan))
    with new_folder(request.out, request.options.force) as folder:
        latents = None if analysis.encoding is None else int(analysis.encoding.latents.shape[1])
        totals, probability = _Totals(), None
        with ExitStack() as stack:
            table = stack.enter_context(ColumnsWriter(folder / "columns.csv", latents))
            results = None
            if request.task != "locate":
                results = stack.enter_context(ResultsWriter(folder / "analysis.h5", plan.count(stage), latents))
            for number in range(len(plan.batches)):
                part = journal.load(stage, number)
                probability = part.probability if probability is None else probability
                totals.failures += part.failures
                failed = {failure.frame for failure in part.failures}
                for k, columns in enumerate(part.columns):
                    encoding = part.encoding[k] if part.encoding and latents is not None else None
                    totals.add(columns, encoding, failed)
                    table.add(columns, *((encoding.angle, encoding.latents) if encoding is not None else ()))
                    if results is not None:
                        results.add(columns, encoding)
            tick("write", 1, steps)
            pieces = _first_subimages(analysis, encoder) if request.task != "locate" else None
            said = [*frames.notices, *_notices(plan, models, analysis, totals, chosen), *_strange(analysis, encoder, pieces)]
            analysis = replace(analysis, notices=tuple(dict.fromkeys(said)))
            if results is not None:
                results.finish(analysis, probability, request.options.as_text(), frames)
                tick("write", 2, steps)
        if (journal.folder / "encoder").is_dir():
            shutil.copytree(journal.folder / "encoder", folder / "encoder")
        tracks = link([columns.yx for columns in analysis.columns]) if results is not None and 1 < plan.n_frames == len(chosen) else None
        if tracks is not None:
            from stemzoo.report.tracks import FILE, write_tracks

            write_tracks(folder / FILE, analysis, tracks)
        if results is not None and request.options.report:
            inputs = replace(_report_inputs(plan, models, analysis, encoder, probability, pieces), tracks=tracks)
            write_report(analysis, folder, inputs)
            tick("write", 3, steps)
        summary = summarise(analysis)
        outcome = Outcome(
            input=request.path,
            sha256=plan.sha256,
            folder=request.out,
            files=tuple(sorted([*(entry.name for entry in folder.iterdir()), "run.json"])),
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
    if len(plan.batches) == 1 or all(failure.lasting for failure in totals.failures):
        journal.remove()
    else:
        again = {failure.frame - plan.first for failure in totals.failures if not failure.lasting}
        batches = [number for number, (a, b) in enumerate(plan.batches) if not again.isdisjoint(range(a, b))]
        for name in plan.stages:
            journal.drop(name, batches)
    return outcome


def _notices(plan: Plan, models: Models, analysis: Analysis, totals: _Totals, chosen: list[int]) -> list[str]:
    """Return what is to be said of the file as a whole."""
    said = list(plan.notices)
    if totals.without and models.segmenter is not None:
        asked = plan.request.options.threshold
        threshold = models.segmenter.spec.threshold if asked is None else asked
        said.append(pipeline.without_columns(totals.without, plan.n_frames, threshold))
    if totals.outside and analysis.window_px is not None:
        said.append(pipeline.over_the_edge(totals.outside, totals.columns, analysis.window_px))
    if totals.failures:
        shown = "; ".join(f"frame {failure.frame}: {failure.reason}" for failure in totals.failures[:3])
        shown += " …" if len(totals.failures) > 3 else ""
        said.append(f"{len(totals.failures)} of {plan.n_frames} frames failed and have no columns ({shown})")
    good = plan.n_frames - len(totals.failures)
    if len(chosen) < good:
        said.append(f"Report and medians rest on {len(chosen)} of {good} frames, evenly drawn; columns.csv and analysis.h5 hold all")
    return said


def _strange(analysis: Analysis, encoder: Encoder | None, pieces: SubImages | None) -> list[str]:
    """Return a warning where the encoder does not know what it sees."""
    if encoder is None or pieces is None or analysis.encoding is None:
        return []
    share = encoder.explained(pieces, analysis.encoding.rows(slice(0, len(pieces))))
    if share is None or share >= STRANGE:
        return []
    return [
        f"{encoder.id.id} explains {share:.0%} of these sub-images' variance: it was trained on other structures, or the frame is mostly "
        "noise. Its angles and latents mean little here; fit an encoder to the frame with --fit-encoder"
    ]


def _report_inputs(
    plan: Plan,
    models: Models,
    analysis: Analysis,
    encoder: Encoder | None,
    probability: np.ndarray | None,
    pieces: SubImages | None,
) -> ReportInputs:
    notes = tuple(
        note_of(role, model.bundle.folder, model.id.id, model.id.sha256)
        for role, model in (("segmenter", models.segmenter), ("encoder", encoder))
        if model is not None
    )
    decodes = encoder is not None and (encoder.bundle.folder / "decoder.onnx").is_file()
    return ReportInputs(
        probability=probability,
        subimages=pieces,
        decode=encoder.decode if encoder is not None and decodes else None,
        models=notes,
        options=plan.request.options.as_text(),
    )


def _first_subimages(analysis: Analysis, encoder: Encoder | None) -> SubImages | None:
    """Return the sub-images of the first frame, or None without an encoding."""
    if analysis.encoding is None or analysis.window_px is None or encoder is None or not len(analysis.columns[0]):
        return None
    frames = replace(analysis.frames, data=Chosen(analysis.frames.data, [0]))
    alone = replace(analysis, frames=frames, columns=analysis.columns[:1], encoding=None)
    return pipeline.subimages(alone, analysis.window_px, encoder.spec.window_px)
