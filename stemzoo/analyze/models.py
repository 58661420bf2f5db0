"""Which networks an analysis runs: those that the options name, or the zoo's defaults, loaded once for all inputs of a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stemzoo.analyze.choosing import Candidate, candidates
from stemzoo.analyze.options import AUTO, NONE, AnalyzeOptions

if TYPE_CHECKING:
    from stemzoo.report.html import ModelNote
    from stemzoo.runtime.encoder import Encoder
    from stemzoo.runtime.segmenter import Segmenter
    from stemzoo.runtime.session import SessionOptions


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models, shared by all inputs of a command; `notices` say how they were chosen, `session` how they are run.

    No segmenter: columns come from a table. `offered` are the encoders of which each file takes the one that fits, where none is named.
    """

    segmenter: Segmenter | None
    encoder: Encoder | None = None
    notices: tuple[str, ...] = ()
    session: SessionOptions | None = None
    offered: tuple[Candidate, ...] | None = None

    @classmethod
    def load(cls, options: AnalyzeOptions, *, encode: bool = True, session: SessionOptions | None = None, by_file: bool = True) -> Models:
        """Load what the options name, to be run as `session` says.

        Args: by_file: where no encoder is named, each file takes the one that fits; else all take the zoo's default.
        Raises: ModelError with the near names.
        """
        from stemzoo.runtime.bundle import Bundle
        from stemzoo.runtime.segmenter import Segmenter
        from stemzoo.zoo import catalog

        folder = catalog.default("segmentation") if options.model is None else catalog.resolve(options.model)
        segmenter = Segmenter(Bundle.load(folder, session))
        if not encode or options.fit_encoder or options.encoder == NONE:
            return cls(segmenter, session=session)
        if options.encoder == AUTO and by_file:
            return cls(segmenter, session=session, offered=candidates())
        encoder, notices = load_encoder(options.encoder, session)
        return cls(segmenter, encoder, notices, session)


def load_encoder(name: str, session: SessionOptions | None = None) -> tuple[Encoder | None, tuple[str, ...]]:
    """Return the encoder called `name`, or the zoo's default for `auto` with a notice that says what it was trained on."""
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.encoder import Encoder
    from stemzoo.zoo import catalog
    from stemzoo.zoo.card import read_card

    if name != AUTO:
        return Encoder(Bundle.load(catalog.resolve(name), session)), ()
    if not any(entry.card.task == "encoding" and entry.card.default for entry in catalog.entries()):
        return None, ("No zoo has a default encoder, so there are no angles or latents; pass --fit-encoder or --encoder NAME",)
    folder = catalog.default("encoding")
    card = read_card(folder)[0]
    said = (
        f"Angles and latents are from the zoo's default encoder {card.id}, trained on {', '.join(card.materials)}; "
        "for another material pass --fit-encoder, --encoder NAME or --encoder none"
    )
    return Encoder(Bundle.load(folder, session)), (said,)


def note_of(role: str, folder: Path, name: str, sha256: str) -> ModelNote:
    """Return what the report says of a model, from the card beside it."""
    from stemzoo.report.html import ModelNote
    from stemzoo.zoo.card import read_card

    card = read_card(folder)[0]
    return ModelNote(role, name, sha256, card.title, card.materials, card.limits, card.citation, card.licence)
