"""One batch of frames of one file: the only way in which frames are analysed, in this process and on a cluster.

`work` computes one batch of one stage of a plan. It can be done anywhere, any number of times and after any interruption: what is there
already is not computed again. Called by analyze.many.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemzoo.analyze.fitting import encoder_of, fit, window_of
from stemzoo.analyze.journal import Failure, Part
from stemzoo.analyze.models import Models
from stemzoo.analyze.options import Progress
from stemzoo.analyze.plan import Plan, frames_of
from stemzoo.errors import FrameError, ModelError, ReadError
from stemzoo.runtime import pipeline
from stemzoo.runtime.cleaned import Cleaned
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Analysis, Columns, Encoding, Frames, Quality


def work(plan: Plan, stage: str, number: int, models: Models, progress: Progress | None = None) -> int:
    """Compute batch `number` of a stage, unless its part is there already; return its number of frames.

    A frame that gives nothing is kept as a failure; the others go on. Stage `fit` has the single batch 0.
    Raises: StemzooError of any kind.
    """
    if stage == "fit":
        fit(plan, progress)
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


class _Lap:
    """Computes the frames of one batch, one after the other."""

    def __init__(self, plan: Plan, encoder: Encoder | None, models: Models, before: Part | None, *, record: bool) -> None:
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
            cleaned = Cleaned(one)
            analysis = self._locate(one, cleaned) if known is None else Analysis(one, (replace(known, frame=0),), self.plan.segmenter)
            if self.encoder is not None:
                analysis = pipeline.encode(analysis, self.encoder, self.window, cleaned=cleaned)
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

    def _locate(self, one: Frames, cleaned: Cleaned) -> Analysis:
        segmenter = self.segmenter
        assert segmenter is not None, "without a segmenter, columns come from a table"
        if not self.record or self.probability is not None:
            return pipeline.locate(one, segmenter, self.options, scale=self.plan.scale, cleaned=cleaned)
        keeping = _KeepsFirstMap(segmenter.bundle, segmenter.max_tile_px)
        analysis = pipeline.locate(one, keeping, self.options, scale=self.plan.scale, cleaned=cleaned)
        if keeping.first is not None:
            self.probability = np.clip(keeping.first, 0, 1)
        return analysis

    def _nothing(self, number: int, known: Columns | None) -> None:
        size = known.pixel_size if known is not None else None
        self.columns.append(Columns.empty(known.classes if known is not None else self.plan.classes, size, number))
        self.quality += () if known is not None or self.segmenter is None else (Quality(),)
        if self.encoder is not None:
            self.encoding.append(Encoding.empty(self.encoder.spec.latents))


class _KeepsFirstMap(Segmenter):
    """A segmenter that keeps the probability (h, w) which it gives for the first frame, summed over classes, as `first`."""

    first: np.ndarray | None = None

    def maps(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Segmenter.maps`."""
        result = super().maps(image)
        if self.first is None:
            self.first = result[0].sum(axis=0)
        return result


class _FailedBefore(Exception):
    """A frame failed in an earlier stage."""
