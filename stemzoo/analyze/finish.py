"""The pieces of one file's results to its folder, with the report and the list of files. Called by analyze.many."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from stemzoo.analyze.fitting import encoder_of
from stemzoo.analyze.models import Models
from stemzoo.analyze.options import Progress
from stemzoo.analyze.outcome import Outcome, read_run, write_run
from stemzoo.analyze.pieces import LINKED, first_probability, first_subimages, folder_of, gathered, pieces_of, read_linked, write_piece
from stemzoo.analyze.plan import Plan
from stemzoo.io.outputs import new_folder
from stemzoo.report.html import write_report
from stemzoo.report.inputs import ModelNote, ReportInputs
from stemzoo.runtime.bundle import Bundle
from stemzoo.zoo.card import read_card


def finish(plan: Plan, models: Models, progress: Progress | None = None) -> Outcome:
    """Write the folder of results, after those of its pieces that no one has written yet, and forget pieces and parts.

    Parts with frames that may yet succeed are dropped and the others kept, so that the next run computes those alone.
    Raises: FrameError where every frame failed; OutputError.
    """
    request, journal = plan.request, plan.journal
    tick = progress or (lambda name, done, total: None)
    names, report = pieces_of(plan), request.task != "locate" and request.options.report
    for number, name in enumerate(names, 1):
        write_piece(plan, name, models)
        tick("write", number, len(names) + report)
    with new_folder(request.out, request.options.force) as folder:
        taken = [_take(folder_of(plan, name), folder) for name in names]
        outcome = replace(read_run(folder), folder=request.out)
        if (journal.folder / "encoder").is_dir():
            shutil.copytree(journal.folder / "encoder", folder / "encoder")
        if report:
            begun = time.perf_counter()
            _report(plan, models, folder, outcome)
            outcome = replace(outcome, seconds={**outcome.seconds, "report": time.perf_counter() - begun})
            tick("write", len(names) + report, len(names) + report)
        for hidden in taken:
            shutil.rmtree(hidden)
        outcome = replace(outcome, files=tuple(sorted(entry.name for entry in folder.iterdir())))
        write_run(folder, outcome)
    if len(plan.batches) == 1 or all(failure.lasting for failure in outcome.failures):
        journal.remove()
    else:
        again = {failure.frame - plan.first for failure in outcome.failures if not failure.lasting}
        batches = [number for number, (a, b) in enumerate(plan.batches) if not again.isdisjoint(range(a, b))]
        for name in plan.stages:
            journal.drop(name, batches)
    return outcome


def _take(piece: Path, folder: Path) -> Path:
    """Move a piece's files into the results; return the hidden folder there that holds what is only for the report."""
    hidden = folder / f".{piece.name}"
    os.rename(piece, hidden)  # at once: what is left of it after a fault is no piece
    for entry in hidden.iterdir():
        if entry.name != LINKED:
            os.rename(entry, folder / entry.name)
    return hidden


def _report(plan: Plan, models: Models, folder: Path, outcome: Outcome) -> None:
    """Write the report and its figures."""
    analysis = replace(gathered(plan, models)[0], notices=outcome.notices, doubts=outcome.summary.doubts)
    encoder = encoder_of(plan, models)
    used = (("segmenter", models.segmenter), ("encoder", encoder))
    notes = tuple(_note(role, model.bundle) for role, model in used if model is not None)
    inputs = ReportInputs(
        probability=first_probability(plan),
        subimages=first_subimages(analysis, encoder),
        decode=encoder.decode if encoder is not None and encoder.decodes else None,
        models=notes,
        options=plan.request.options.as_text(),
        tracks=read_linked(folder / ".tracks", analysis),
    )
    write_report(analysis, folder, inputs)


def _note(role: str, bundle: Bundle) -> ModelNote:
    """Return what the report says of a model, from the card beside it."""
    card, _ = read_card(bundle.folder)
    return ModelNote(role, bundle.id.id, bundle.sha256, card.title, card.materials, card.limits, card.citation, card.licence)
