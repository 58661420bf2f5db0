"""Which networks an analysis runs: those that the options name, or the zoo's defaults, loaded once for all inputs of a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stemzoo.analyze.choosing import Candidate, Hints, candidates, choose, loaded
from stemzoo.analyze.options import AUTO, NONE, AnalyzeOptions, Task
from stemzoo.errors import ModelError
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.scale import Scale
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import SessionOptions
from stemzoo.types import Analysis


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models, shared by all inputs of a command; `session` says how they are run.

    No segmenter: columns come from a table. `offered` are the encoders of which each file takes the one that fits, where none is named.
    """

    segmenter: Segmenter | None
    encoder: Encoder | None = None
    session: SessionOptions | None = None
    offered: tuple[Candidate, ...] | None = None

    @classmethod
    def load(cls, options: AnalyzeOptions, task: Task = "analyze", session: SessionOptions | None = None) -> Models:
        """Load what a task needs of what the options name, to be run as `session` says. Raises: ModelError with the near names."""
        from stemzoo.zoo import catalog

        segmenter = None
        if task != "encode":
            folder = catalog.default("segmentation") if options.model is None else catalog.resolve(options.model)
            segmenter = Segmenter(Bundle.load(folder, session))
        elif options.encoder == NONE:
            raise ModelError(
                "encode with --encoder none would do nothing; pass --encoder NAME (stemzoo zoo list shows all) or --fit-encoder"
            )
        if task == "locate" or options.fit_encoder or options.encoder == NONE:
            return cls(segmenter, session=session)
        if options.encoder == AUTO:
            return cls(segmenter, session=session, offered=candidates())
        return cls(segmenter, Encoder(Bundle.load(catalog.resolve(options.encoder), session)), session)

    def chooser(self) -> Callable[[Analysis], tuple[Encoder | None, str]] | None:
        """Return what gives the encoder that fits located columns, or None, and why; None where the encoder, or none, was named."""
        offered = self.offered
        if offered is None:
            return None
        hints = Hints()

        def fitting(analysis: Analysis) -> tuple[Encoder | None, str]:
            scale = Scale(analysis.sampling, analysis.frames.pixel_size_source, estimated=analysis.sampling != analysis.frames.pixel_size)
            choice = choose(analysis, scale, offered, self.session, hints=hints)
            return None if choice.candidate is None else loaded(choice.candidate.folder, self.session), choice.why

        return fitting
