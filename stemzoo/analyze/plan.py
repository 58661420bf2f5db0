"""What is asked of one input, and how it is worked through: requests, plans, and the frames that a plan's batches read.

`start` opens a file and plans its batches; a plan is small, for it travels with every batch. Each process keeps the files that it opened
last. Called by analyze.many, and by whatever works on a plan.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import stemzoo
from stemzoo.analyze.choosing import choose, loaded, sample
from stemzoo.analyze.journal import Journal, Part
from stemzoo.analyze.models import Models
from stemzoo.analyze.options import AnalyzeOptions, Task, parse_window
from stemzoo.analyze.outcome import Outcome, done_before
from stemzoo.analyze.source import read_frames, read_table, table_id
from stemzoo.errors import FrameError, ModelError, ReadError, StemzooError
from stemzoo.geometry.cleaning import clean
from stemzoo.io.outputs import check_folder
from stemzoo.runtime import cutting
from stemzoo.runtime.notices import scale_notices
from stemzoo.runtime.scale import Scale, find_scale
from stemzoo.types import Analysis, Frames, ModelId

if TYPE_CHECKING:
    from stemzoo.training.encoding_config import EncoderConfig

BATCH_PX = 4 * 2**20  # network pixels in a batch: 16 frames of 512 × 512, some seconds of work beside milliseconds of scheduling
BATCH_FRAMES = 64  # and no more frames than that: small ones cost more a pixel, and what a lost worker had done is done again


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be done with one input.

    Args:
        path: a file, or FILE::NAME. out: the folder of its results. task: which files are written and what is computed.
        columns: for `encode`, the table. training: of a fitted encoder; None takes the defaults with the options' latents and seed.
        unchanged: skip the file if `out` holds its results already, from the same bytes, models and options.
    """

    path: str
    out: Path
    task: Task
    options: AnalyzeOptions
    columns: Path | None = None
    training: EncoderConfig | None = None
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How one file is worked through; small, for it travels with every batch.

    Args:
        key: stands for the file's bytes, models and options. stamp: size and time of the file, which must not change while it is read.
        n_frames: how many are analysed; `first` is the number of the first. batches: (a, b), frames from a up to b, counted from `first`.
        stages: in this order, each a batch at a time, except `fit`.
        classes: of the columns. scale: of every frame; None where nothing needs it. factor: network pixels per frame pixel.
        encoder: folder of the encoder that was chosen for this file; None where the command's own is taken, or none.
        window_px: of the sub-images; None where it follows from a fit. notices: what was decided, one sentence each.
        doubts: what speaks against a table of columns.
    """

    request: Request
    key: str
    sha256: str
    stamp: tuple[int, int]
    n_frames: int
    first: int
    batches: tuple[tuple[int, int], ...]
    stages: tuple[str, ...]
    segmenter: ModelId
    classes: tuple[str, ...]
    scale: Scale | None
    factor: float
    window_px: float | None
    notices: tuple[str, ...]
    encoder: str | None = None
    doubts: tuple[str, ...] = ()

    @property
    def journal(self) -> Journal:
        """Where its parts lie."""
        return Journal(self.request.out)

    def count(self, stage: str) -> int:
        """Return how many columns the parts of a stage hold."""
        return sum(table["n"] for number in range(len(self.batches)) for table in self.journal.facts(stage, number)["per_frame"])


def start(request: Request, models: Models) -> Plan | Outcome:
    """Open the file and plan its batches; return the outcome of an earlier run where nothing is left to do.

    Raises: StemzooError of any kind.
    """
    options = request.options
    check_folder(request.out, options.force)
    stamp = stamp_of(request.path)
    frames, first = read_frames(request.path, options)
    _OPEN.put((request.path, frames.sha256, stamp), frames)
    segmenter = models.segmenter.id if models.segmenter is not None else table_id(_table_of(request))
    key = _key(request, frames.sha256, segmenter, models)
    if request.unchanged and (earlier := done_before(request.out, key)):
        return replace(earlier, input=request.path, unchanged=True)
    window = parse_window(options.window, frames.pixel_size)
    scale: Scale | None = None
    table = None if request.columns is None else read_table(request.columns, frames)
    notices = [] if table is None else list(table.notices[len(frames.notices) :])
    notices += [notice for model in (models.segmenter, models.encoder) if model is not None for notice in model.bundle.session.notices]
    fitted = options.fit_encoder and request.task != "locate"
    if models.segmenter is not None or fitted or (window is None and models.encoder is not None):
        scale = _scale(frames)
        notices += scale.notices if models.segmenter is None else scale_notices(scale, models.segmenter)
    encoder, chosen = models.encoder, None
    if models.offered is not None:
        scale = scale or _scale(frames)
        choice = choose(_sampled(request, frames, table, models, scale), scale, models.offered, models.session, window)
        chosen = choice.candidate
        if chosen is None and request.task == "encode":
            raise ModelError(f"{request.path}: {choice.why[0].lower()}{choice.why[1:]}; {choice.advice}")
        encoder = None if chosen is None else loaded(chosen.folder, models.session)
        notices += [str(choice), *(encoder.bundle.session.notices if encoder is not None else ())]
    if window is None and encoder is not None and scale is not None:
        window, said = cutting.window_at(scale.sampling, encoder)
        notices += said
    factor = 1.0 if scale is None or models.segmenter is None else scale.factor(models.segmenter.spec)
    size = min(max(1, int(BATCH_PX / (np.prod(frames.shape) * factor**2))), BATCH_FRAMES)
    batches = tuple((a, min(a + size, len(frames))) for a in range(0, len(frames), size))
    plan = Plan(
        request=request,
        key=key,
        sha256=frames.sha256,
        stamp=stamp,
        n_frames=len(frames),
        first=first,
        batches=batches,
        stages=_stages(request),
        segmenter=segmenter,
        classes=models.segmenter.spec.classes if models.segmenter is not None else ("column",),
        scale=scale,
        factor=factor,
        window_px=window,
        notices=tuple(notices),
        encoder=None if chosen is None else chosen.folder,
        doubts=() if table is None else table.doubts,
    )
    plan.journal.begin(key)
    if table is not None:
        for number, (a, b) in enumerate(batches):
            plan.journal.save("locate", number, Part(table.columns[a:b]))
    return plan


class _Open:
    """The files that this process opened last, so that the batches of one file do not open it anew."""

    def __init__(self, room: int = 2) -> None:
        self._room, self._held = room, OrderedDict[tuple[Any, ...], Frames]()

    def put(self, key: tuple[Any, ...], frames: Frames) -> None:
        """Keep a file's frames, and forget the file used least lately."""
        self._held[key] = frames
        self._held.move_to_end(key)
        while len(self._held) > self._room:
            self._held.popitem(last=False)

    def get(self, key: tuple[Any, ...]) -> Frames | None:
        """Return a file's frames, if they are held."""
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)


_OPEN = _Open()


def frames_of(plan: Plan) -> Frames:
    """Return the frames of a plan's file, opened anew where this process does not hold them. Raises: ReadError if the file changed."""
    request = plan.request
    if stamp_of(request.path) != plan.stamp:
        raise ReadError(f"{request.path}: was changed while it was analysed; run the command again")
    key = (request.path, plan.sha256, plan.stamp)
    frames = _OPEN.get(key)
    if frames is None:
        frames, _ = read_frames(request.path, request.options, plan.sha256)
        _OPEN.put(key, frames)
    return frames


def stamp_of(path: str) -> tuple[int, int]:
    """Return size and time of a file; zeros where it is not there, which its reader will say better."""
    try:
        facts = os.stat(path if os.path.exists(path) else path.partition("::")[0])
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


def _table_of(request: Request) -> Path:
    assert request.columns is not None, "without a segmenter, columns come from a table"
    return request.columns


def _sampled(request: Request, frames: Frames, table: Analysis | None, models: Models, scale: Scale) -> Analysis:
    """Return columns of the first frame, for an encoder to be chosen by."""
    if models.segmenter is None:
        assert table is not None, "without a segmenter, columns come from a table"
        return table
    return sample(frames, models.segmenter, scale, request.options.threshold)


def _key(request: Request, sha256: str, segmenter: ModelId, models: Models) -> str:
    """Return what stands for a file's bytes, its models and the options."""
    encoders = [candidate.sha256 for candidate in models.offered or ()] or (models.encoder.id.sha256 if models.encoder else None)
    options = {name: value for name, value in request.options.as_text().items() if name != "force"}
    table = None if request.columns is None else table_id(request.columns).sha256
    training = None if request.training is None else request.training.model_dump(mode="json")
    facts = [request.task, request.path, sha256, segmenter.sha256, encoders, options, table, training, stemzoo.__version__]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _stages(request: Request) -> tuple[str, ...]:
    if request.options.fit_encoder and request.task != "locate":
        return ("locate", "fit", "encode")
    return ("locate", "encode") if request.task == "encode" else ("analyze",)


def _scale(frames: Frames) -> Scale:
    """Return the scale of a stack, by its first frame that has a signal. Raises: StemzooError of the first frame where none has."""
    first: StemzooError | None = None
    for index in range(len(frames)):
        try:
            return find_scale(frames, clean(frames.frame(index))[0])
        except (FrameError, ReadError) as error:
            first = first or error
    raise first or FrameError(f"{frames.path}: holds no frame")
