"""An encoder fitted to the columns of one file, as a bundle: the stage between locating and encoding, and what later stages take of it.

The one place of the analysis that needs the extra `train`. Called by analyze.batch and analyze.finish.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stemzoo.analyze.choosing import loaded
from stemzoo.analyze.gather import gather
from stemzoo.analyze.models import Models
from stemzoo.analyze.options import AUTO, Progress, parse_window
from stemzoo.analyze.plan import Plan, frames_of, stamp_of
from stemzoo.analyze.window import propose
from stemzoo.errors import needs_extra
from stemzoo.io.outputs import stem_of
from stemzoo.runtime import cutting
from stemzoo.runtime.bundle import MODEL_FILE, Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.types import Analysis

if TYPE_CHECKING:
    from stemzoo.runtime.session import SessionOptions

FIT_COLUMNS = 100_000  # an encoder is fitted to at most so many columns, from frames evenly drawn
MOST_STEPS = 600  # more teach a fitted encoder little: 4,000 columns are learned in 400
STAND_IN = "Its lengths rest on no pixel size but on an estimate ({:.2g} Å/px), by which frames of the same magnification are judged alike."
SAMPLES = (20, 48)  # a fitted encoder sees its window with no fewer and no more samples a side


def fit(plan: Plan, progress: Progress | None) -> None:
    """Fit an encoder to the located columns, into the journal, unless it is there. Raises: ModelError, DatasetError."""
    folder = plan.journal.folder / "encoder"
    if folder.is_dir():
        return
    analysis, _ = gather(plan, "locate", frames_of(plan), FIT_COLUMNS)
    if not any(len(columns) for columns in analysis.columns):
        return
    begun = time.perf_counter()
    temporary = Path(tempfile.mkdtemp(prefix=".encoder.", dir=plan.journal.folder))
    window = _fit_to(analysis, plan, temporary / "bundle", progress)
    facts = {"window_px": window, "seconds": time.perf_counter() - begun}
    (plan.journal.folder / "fit.json").write_text(json.dumps(facts), encoding="utf-8")
    os.rename(temporary / "bundle", folder)
    temporary.rmdir()


def encoder_of(plan: Plan, models: Models) -> Encoder | None:
    """Return the encoder of a plan: the one that stage `fit` left (None where there was no column to fit it to), the one that was chosen
    for the file, or the models' own."""
    if not plan.request.options.fit_encoder:
        return models.encoder if plan.encoder is None else loaded(plan.encoder, models.session)
    folder = plan.journal.folder / "encoder"
    return _fitted(str(folder), stamp_of(str(folder / MODEL_FILE)), models.session) if folder.is_dir() else None


@lru_cache(maxsize=1)
def _fitted(folder: str, stamp: tuple[int, int], session: SessionOptions | None) -> Encoder:
    return Encoder(Bundle.load(folder, session))


def window_of(plan: Plan) -> float | None:
    """Return the window [px] that a plan or, where it is fitted, its encoder says."""
    facts = _facts(plan)
    return plan.window_px if facts is None else facts["window_px"]


def seconds_of(plan: Plan) -> float | None:
    """Return how long an encoder was fitted to the columns of a plan; None where none was."""
    facts = _facts(plan)
    return None if facts is None else facts["seconds"]


def _facts(plan: Plan) -> dict[str, float] | None:
    path = plan.journal.folder / "fit.json"
    return dict(json.loads(path.read_text())) if plan.request.options.fit_encoder and path.is_file() else None


def _fit_to(analysis: Analysis, plan: Plan, folder: Path, progress: Progress | None) -> float:
    """Fit an encoder to the analysis' own sub-images, write it to `folder` as a bundle; return the window [px].

    Where the pixel size is unknown, or cannot be true, the card's lengths rest on the same stand-in by which a later frame's window is cut.
    Raises: ModelError where the extra `train` is not installed; DatasetError for too few columns.
    """
    options, config = plan.request.options, plan.request.training
    with needs_extra("train", "fitting an encoder"):
        from stemzoo.export.bundle import write_bundle
        from stemzoo.training.encoding import task_parts
        from stemzoo.training.encoding_config import EncoderConfig
        from stemzoo.training.fitting import fit_encoder
    if options.window == AUTO:
        window = propose(analysis, latents=options.latents, seed=options.seed, symmetry=options.symmetry, progress=progress).window_px
    else:
        window = parse_window(options.window, analysis.frames.pixel_size) or cutting.window_for(analysis)
    size = min(max(round(window), SAMPLES[0]), SAMPLES[1])
    pieces = cutting.subimages(analysis, window, size)
    known = analysis.frames.pixel_size if plan.scale is None else plan.scale.sampling
    pieces = replace(pieces, pixel_size=None if known is None else known * window / size)
    chosen = {"latents": options.latents, "seed": options.seed, "symmetry": options.symmetry, "max_steps": MOST_STEPS}
    task = fit_encoder(pieces, config or EncoderConfig.model_validate(chosen), progress)
    modules, draft = task_parts(task)
    whole = pieces.data[pieces.inside]
    proof = [{"subimages": whole[first : first + n]} for first, n in ((0, 5), (5, 2), (7, 1), (8, 33))]
    stem = re.sub(r"[^a-z0-9]+", "-", stem_of(analysis.frames.path).lower()).strip("-") or "frame"
    source = Path(analysis.frames.path).name
    write_bundle(
        folder,
        modules,
        {
            "name": f"fitted-{stem}",
            "version": 1,
            "materials": [source],
            "licence": "unstated",
            "citation": f"Fitted to the columns of {source} with stemzoo {analysis.version}",
            **draft,
            "title": f"Encoder fitted to {source}",
            "limits": [
                *draft.get("limits", ()),
                f"Fitted to the columns of {source} alone: its latents and angles compare columns within that file.",
                *([STAND_IN.format(known)] if known is not None and plan.scale is not None and plan.scale.estimated else ()),
            ],
        },
        cases=proof,
    )
    return window
