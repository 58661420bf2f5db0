"""One input file as batches of frames: the only way in which files are analysed, in this process and on a cluster.

`start` opens a file and plans its batches, `work` computes one batch of one stage, analyze.finish puts the parts together. Each can be done
anywhere, any number of times and after any interruption: what is there already is not computed again. Called by analyze.many.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import stemzoo
from stemzoo.analyze.fitting import fit_to
from stemzoo.analyze.models import Models
from stemzoo.analyze.options import AnalyzeOptions, Progress, parse_window
from stemzoo.analyze.outcome import Outcome, done_before
from stemzoo.analyze.parts import Failure, Journal, Part
from stemzoo.analyze.source import Chosen, read_frames, read_table, table_id
from stemzoo.errors import FrameError, ModelError, ReadError, StemzooError
from stemzoo.geometry.resample import clean
from stemzoo.io.outputs import check_folder
from stemzoo.io.results import ENCODING_FIELDS, no_encoding
from stemzoo.runtime import pipeline
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.scale import Scale, find_scale
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Analysis, Columns, Encoding, Frames, ModelId, Quality

if TYPE_CHECKING:
    from stemzoo.training.encoding_config import EncoderConfig

BATCH_PX = 4 * 2**20  # network pixels in a batch: 16 frames of 512 × 512, some seconds of work beside milliseconds of scheduling
BATCH_FRAMES = 64  # and no more frames than that: small ones cost more a pixel, and what a lost worker had done is done again
FIT_COLUMNS = 100_000  # an encoder is fitted to at most so many columns, from frames evenly drawn

Task = Literal["locate", "analyze", "encode"]


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
        window_px: of the sub-images; None where it follows from a fit. notices: what was decided, one sentence each.
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
    stamp = _stamp(request.path)
    frames, first = read_frames(request.path, options)
    _OPEN.put((request.path, frames.sha256, stamp), frames)
    segmenter = models.segmenter.id if models.segmenter is not None else table_id(_table_of(request))
    key = _key(request, frames.sha256, segmenter, models.encoder.id if models.encoder else None)
    if request.unchanged and (earlier := done_before(request.out, key)):
        return replace(earlier, input=request.path, unchanged=True)
    window = parse_window(options.window, frames.pixel_size)
    scale: Scale | None = None
    notices = [notice for model in (models.segmenter, models.encoder) if model is not None for notice in model.bundle.session.notices]
    if models.segmenter is not None or (window is None and models.encoder is not None):
        scale = _scale(frames)
        notices += scale.notices if models.segmenter is None else pipeline.scale_notices(scale, models.segmenter)
        if window is None and models.encoder is not None:
            window, said = pipeline.window_at(scale.sampling, models.encoder)
            notices += said
    notices += models.notices
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
    )
    plan.journal.begin(key)
    if request.columns is not None:
        tables = read_table(request.columns, frames).columns
        for number, (a, b) in enumerate(batches):
            plan.journal.save("locate", number, Part(tables[a:b]))
    return plan


def work(plan: Plan, stage: str, number: int, models: Models, progress: Progress | None = None) -> int:
    """Compute batch `number` of a stage, unless its part is there already; return its number of frames.

    A frame that gives nothing is kept as a failure; the others go on. Stage `fit` has the single batch 0.
    Raises: StemzooError of any kind.
    """
    if stage == "fit":
        _fit(plan, models, progress)
        return 0
    a, b = plan.batches[number]
    if plan.journal.has(stage, number):
        return b - a
    frames = frames_of(plan)
    encoder = encoder_of(plan, models) if stage != "locate" else None
    before = plan.journal.load("locate", number) if stage == "encode" else None
    lap = _Lap(plan, encoder, models, before, record=number == 0 and plan.request.task != "locate")
    for index in range(a, b):
        lap.frame(frames, index, before.columns[index - a] if before is not None else None)
        for name in ("locate", "encode"):
            if progress is not None and (name == stage or (stage == "analyze" and (name == "locate" or encoder is not None))):
                progress(name, index + 1, plan.n_frames)
    plan.journal.save(stage, number, lap.part())
    return b - a


def give_up(plan: Plan, stage: str, number: int, reason: str) -> None:
    """Keep all frames of a batch as failures, for a batch that could not be computed at all."""
    a, b = plan.batches[number]
    columns = tuple(Columns.empty(plan.classes, None, plan.first + index) for index in range(a, b))
    quality = tuple(Quality() for _ in columns) if plan.request.columns is None else ()
    failures = tuple(Failure(plan.first + index, reason, False) for index in range(a, b))
    plan.journal.save(stage, number, Part(columns, (), failures, quality=quality))


def gather(plan: Plan, stage: str, frames: Frames, limit: int) -> tuple[Analysis, list[int]]:
    """Return the analysis of as many frames, evenly drawn from those that did not fail, as have at most `limit` columns together.

    Returns: the Analysis, its columns with their frames' numbers in the file, and the chosen frames, counted from the first analysed.
    Raises: FrameError with the first frame's reason where all failed.
    """
    facts = [plan.journal.facts(stage, number) for number in range(len(plan.batches))]
    failed = {failure["frame"]: failure["reason"] for fact in facts for failure in fact["failures"]}
    counts = [table["n"] for fact in facts for table in fact["per_frame"]]
    good = [index for index in range(plan.n_frames) if plan.first + index not in failed]
    if not good:
        raise FrameError(next(iter(failed.values())))
    step = max(1, -(-sum(counts) // limit))
    chosen = good[::step]
    wanted = set(chosen)
    columns: list[Columns] = []
    encoding: list[Encoding] = []
    quality: list[Quality] = []
    for number, (a, b) in enumerate(plan.batches):
        if not wanted.isdisjoint(range(a, b)):
            part = plan.journal.load(stage, number)
            columns += [part.columns[index - a] for index in range(a, b) if index in wanted]
            encoding += [part.encoding[index - a] for index in range(a, b) if index in wanted] if part.encoding else []
            quality += [part.quality[index - a] for index in range(a, b) if index in wanted] if part.quality else []
    seconds: dict[str, float] = {}
    for fact in facts:
        for name, value in fact["seconds"].items():
            seconds[name] = seconds.get(name, 0.0) + value
    analysis = Analysis(
        frames=frames if len(chosen) == len(frames) else replace(frames, data=Chosen(frames.data, chosen)),
        columns=tuple(columns),
        segmenter=plan.segmenter,
        encoding=joined(encoding) if encoding and sum(counts) else None,
        sampling_factor=plan.factor,
        notices=frames.notices,
        seconds=seconds,
        version=stemzoo.__version__,
        sampling=None if plan.scale is None else plan.scale.sampling,
        quality=tuple(quality),
    )
    return analysis, chosen


class _Lap:
    """Computes the frames of one batch, one after the other."""

    def __init__(self, plan: Plan, encoder: Encoder | None, models: Models, before: Part | None, record: bool) -> None:
        self.plan, self.segmenter, self.encoder = plan, models.segmenter, encoder
        self.options = pipeline.LocateOptions(threshold=plan.request.options.threshold)
        self.window = pipeline.EncodeOptions(window_px=window_of(plan))
        self.columns: list[Columns] = []
        self.encoding: list[Encoding] = []
        self.failures: list[Failure] = list(before.failures) if before else []
        self.seconds: dict[str, float] = dict(before.seconds) if before else {}
        self.record, self.probability = record, before.probability if before else None
        self.quality: list[Quality] = list(before.quality) if before else []

    def frame(self, frames: Frames, index: int, known: Columns | None) -> None:
        """Compute one frame; `known` columns are encoded, else they are located first."""
        number = self.plan.first + index
        try:
            if any(failure.frame == number for failure in self.failures):
                raise _FailedBefore
            # Read once for both halves. The single frame keeps its number only here.
            one = replace(frames, data=frames.frame(index)[None], notices=())
            analysis = self._locate(one) if known is None else Analysis(one, (replace(known, frame=0),), self.plan.segmenter)
            if self.encoder is not None:
                analysis = pipeline.encode(analysis, self.encoder, self.window)
        except _FailedBefore:
            self._nothing(number, known)
            return
        except (FrameError, ReadError, ModelError) as error:
            if self.plan.n_frames == 1:
                raise
            self.failures.append(Failure(number, str(error), isinstance(error, FrameError)))
            self._nothing(number, known)
            return
        self.columns.append(replace(analysis.columns[0], frame=number))
        self.quality += analysis.quality if known is None else ()
        if analysis.encoding is not None:
            self.encoding.append(replace(analysis.encoding, frame=np.full(len(analysis.encoding), number)))
        for name, value in analysis.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    def part(self) -> Part:
        """Return what the frames gave."""
        return Part(tuple(self.columns), tuple(self.encoding), tuple(self.failures), self.seconds, self.probability, tuple(self.quality))

    def _locate(self, one: Frames) -> Analysis:
        segmenter = self.segmenter
        assert segmenter is not None, "without a segmenter, columns come from a table"
        if not self.record or self.probability is not None:
            return pipeline.locate(one, segmenter, self.options, scale=self.plan.scale)
        recording = Recording(segmenter.bundle, segmenter.max_tile_px)
        analysis = pipeline.locate(one, recording, self.options, scale=self.plan.scale)
        if recording.first is not None:
            self.probability = np.clip(recording.first, 0, 1)
        return analysis

    def _nothing(self, number: int, known: Columns | None) -> None:
        size = known.pixel_size if known is not None else None
        self.columns.append(Columns.empty(known.classes if known is not None else self.plan.classes, size, number))
        self.quality += () if known is not None or self.segmenter is None else (Quality(),)
        if self.encoder is not None:
            self.encoding.append(no_encoding(self.encoder.spec.latents))


class Recording(Segmenter):
    """A segmenter that keeps the probability (h, w) which it gives for the first frame, summed over classes, as `first`."""

    first: np.ndarray | None = None

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """As `Segmenter.probabilities`."""
        result = super().probabilities(image)
        if self.first is None:
            self.first = result.sum(axis=0)
        return result


class _FailedBefore(Exception):
    """A frame failed in an earlier stage."""


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
    if _stamp(request.path) != plan.stamp:
        raise ReadError(f"{request.path}: was changed while it was analysed; run the command again")
    key = (request.path, plan.sha256, plan.stamp)
    frames = _OPEN.get(key)
    if frames is None:
        frames, _ = read_frames(request.path, request.options, plan.sha256)
        _OPEN.put(key, frames)
    return frames


def _stamp(path: str) -> tuple[int, int]:
    """Return size and time of a file; zeros where it is not there, which its reader will say better."""
    try:
        facts = os.stat(path if os.path.exists(path) else path.partition("::")[0])
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


def _table_of(request: Request) -> Path:
    assert request.columns is not None, "without a segmenter, columns come from a table"
    return request.columns


def _key(request: Request, sha256: str, segmenter: ModelId, encoder: ModelId | None) -> str:
    """Return what stands for a file's bytes, its models and the options."""
    options = {name: value for name, value in request.options.as_text().items() if name != "force"}
    table = None if request.columns is None else table_id(request.columns).sha256
    training = None if request.training is None else request.training.model_dump(mode="json")
    models = (segmenter.sha256, encoder.sha256 if encoder else None)
    facts = [request.task, request.path, sha256, *models, options, table, training, stemzoo.__version__]
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


def _fit(plan: Plan, models: Models, progress: Progress | None) -> None:
    """Fit an encoder to the located columns, into the journal, unless it is there."""
    folder = plan.journal.folder / "encoder"
    if folder.is_dir():
        return
    analysis, _ = gather(plan, "locate", frames_of(plan), FIT_COLUMNS)
    if not any(len(columns) for columns in analysis.columns):
        return
    begun = time.perf_counter()
    temporary = Path(tempfile.mkdtemp(prefix=".encoder.", dir=plan.journal.folder))
    _, window = fit_to(analysis, plan.request.options, temporary / "bundle", progress, plan.request.training)
    facts = {"window_px": window, "seconds": time.perf_counter() - begun}
    (plan.journal.folder / "fit.json").write_text(json.dumps(facts), encoding="utf-8")
    os.rename(temporary / "bundle", folder)
    temporary.rmdir()


def encoder_of(plan: Plan, models: Models) -> Encoder | None:
    """Return the encoder of a plan: the one that stage `fit` left (None where there was no column to fit it to), or the models' own."""
    if not plan.request.options.fit_encoder:
        return models.encoder
    folder = plan.journal.folder / "encoder"
    return _fitted(str(folder), _stamp(str(folder / "model.onnx"))) if folder.is_dir() else None


@lru_cache(maxsize=1)
def _fitted(folder: str, stamp: tuple[int, int]) -> Encoder:
    return Encoder(Bundle.load(folder))


def window_of(plan: Plan) -> float | None:
    """Return the window [px] that a plan or, where it is fitted, its encoder says."""
    if plan.request.options.fit_encoder and (plan.journal.folder / "fit.json").is_file():
        return float(json.loads((plan.journal.folder / "fit.json").read_text())["window_px"])
    return plan.window_px


def joined(parts: list[Encoding]) -> Encoding:
    """Return the encodings of several frames as one."""
    return Encoding(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in ENCODING_FIELDS})
