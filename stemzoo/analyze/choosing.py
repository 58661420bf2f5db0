"""Which of the zoo's encoders fits a file: the one whose decoder explains most of what surrounds its first columns, if that is enough.

An encoder that was made for another structure gives angles and latents all the same; what its decoder cannot draw of the structure
(`runtime.structure`) tells it apart. Windows are cut in Å, so the lattice's period and its symmetry both count. Called by analyze.plan.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from stemzoo.errors import StemzooError
from stemzoo.geometry.filters import middle_of
from stemzoo.runtime import cutting, pipeline
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.scale import Scale
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import SessionOptions
from stemzoo.types import Analysis, Frames

FITS = 0.55  # of what can be explained at all, which an encoder must explain to be taken unasked
CROP_PX = 384  # side of the middle of the frame that is looked at
MOST = 300  # columns
FEWEST = 12
FEW = 100  # columns that do to see whether an encoder would fit at another scale
ALIKE = 0.03  # as far as the sampling, and what encoders explain, may differ between frames that look alike
OFF_BY = (0.7, 0.78, 0.87, 1.15, 1.28, 1.43)  # of an estimated sampling, which may be off by a third; a window bears some 7 %


@dataclass(frozen=True, slots=True)
class Candidate:
    """An encoder that may be chosen: where it lies, its id and hash, and what it was trained on."""

    folder: str
    id: str
    sha256: str
    materials: tuple[str, ...]


def candidates() -> tuple[Candidate, ...]:
    """Return the newest version of each encoder that the zoos hold."""
    from stemzoo.runtime.bundle import MODEL_FILE
    from stemzoo.zoo import catalog

    found = []
    for entry in catalog.newest():
        if entry.card.task == "encoding":
            digest = next((file.sha256 for file in entry.card.files if file.name == MODEL_FILE), "")
            found.append(Candidate(str(entry.folder.absolute()), entry.card.id, digest, tuple(entry.card.materials)))
    return tuple(found)


def sample(frames: Frames, segmenter: Segmenter, scale: Scale | None, threshold: float | None) -> Analysis:
    """Return the columns in the middle of the first frame, unrefined: an encoder follows offsets of a pixel."""
    options = pipeline.LocateOptions(threshold=threshold, refine=False)
    return pipeline.locate(replace(frames, data=middle_of(frames.frame(0), CROP_PX)[None]), segmenter, options, scale=scale)


class Hints:
    """What was said last of other samplings, for frames of a series that look alike: nothing is decided by it, and finding it out takes
    longer than the choice itself.

    Two frames look alike where their sampling differs by a few per cent, and what every encoder explains of them by little.
    """

    def __init__(self, most: int = 8) -> None:
        self._said: deque[tuple[float, dict[str, float], str]] = deque(maxlen=most)

    def find(self, sampling: float, shares: Mapping[str, float], ask: Callable[[], str]) -> str:
        """Return what was said of a frame alike, or else what `ask` says. Args: shares: explained by each encoder, by its id."""
        for known, explained, said in self._said:
            near = all(abs(explained[name] - share) < ALIKE for name, share in shares.items() if name in explained)
            if near and explained.keys() == shares.keys() and abs(known / sampling - 1) < ALIKE:
                return said
        said = ask()
        self._said.append((sampling, dict(shares), said))
        return said


@dataclass(frozen=True, slots=True)
class Choice:
    """The encoder that was chosen, if any; why, in a sentence; and what one may pass to `analyze` for another outcome."""

    candidate: Candidate | None
    why: str
    advice: str

    def __str__(self) -> str:
        return f"{self.why}; {self.advice}"


def choose(
    analysis: Analysis,
    scale: Scale,
    offered: tuple[Candidate, ...],
    session: SessionOptions | None = None,
    window_px: float | None = None,
    hints: Hints | None = None,
) -> Choice:
    """Return which encoder fits the columns of the analysis' first frame.

    Args:
        scale: of the frame. window_px: of the sub-images, where it was asked for; None takes each encoder's own.
        hints: what was said of earlier frames of a series, and will be of later ones.
    """
    if not offered:
        return Choice(None, "No zoo has an encoder, so there are no angles or latents", "pass --fit-encoder or --encoder NAME")
    alone = _thinned(analysis)
    shares: list[tuple[float, Candidate]] = []
    for candidate in offered:
        try:
            share = _share(alone, scale.sampling, loaded(candidate.folder, session), window_px)
        except StemzooError:  # a window wider than the frame, or a network that cannot run: it cannot be chosen
            share = None
        if share is not None:
            shares.append((share, candidate))
    shares.sort(key=lambda pair: -pair[0])
    others = ", ".join(f"{other.id} {share:.0%}" for share, other in shares[1:])
    if shares and shares[0][0] >= FITS:
        share, best = shares[0]
        beside = f" ({others})" if others else ""
        return Choice(
            best,
            f"Angles and latents are from {best.id}, chosen from the zoo's encoders because it explains {share:.0%} of the structure "
            f"around the columns{beside}; it was trained on {', '.join(best.materials)}",
            "--encoder NAME takes another, --fit-encoder one of this frame",
        )
    none = "There are no angles or latents"
    if not shares:  # nor would there be enough to fit one to
        return Choice(None, f"No encoder of the zoo fits: too few columns can be compared. {none}", "pass --encoder NAME to insist")
    seen = ", ".join(f"{other.id} {share:.0%}" for share, other in shares)
    through, advice = "", "pass --fit-encoder, or --encoder NAME to insist"
    if window_px is not None:
        through = f" through a window of {window_px:.3g} px, which is not the one that they were made for"
    elif scale.estimated and scale.sampling is not None:
        through = f" in windows cut at an estimated {scale.sampling:.2g} Å/px"
        sampling, by_id = scale.sampling, {candidate.id: share for share, candidate in shares}
        hint = (hints or Hints()).find(sampling, by_id, lambda: _elsewhere(analysis, sampling, offered, session))
        none = f"{hint}{none}"
        advice = "pass --pixel-size Å if you know it, --fit-encoder, or --encoder NAME to insist"
    why = f"they explain too little of the structure around the columns{through} ({seen}; wanted {FITS:.0%})"
    return Choice(None, f"No encoder of the zoo fits: {why}. {none}", advice)


@lru_cache(maxsize=8)
def loaded(folder: str, session: SessionOptions | None) -> Encoder:
    """Return the encoder in a bundle's folder, kept for the next file."""
    return Encoder(Bundle.load(Path(folder), session))


def _share(analysis: Analysis, sampling: float | None, encoder: Encoder, window_px: float | None) -> float | None:
    window = cutting.window_at(sampling, encoder)[0] if window_px is None else window_px
    pieces = cutting.subimages(analysis, window, encoder.spec.window_px)
    if pieces.inside.sum() < FEWEST:
        return None
    return encoder.knows(pieces, encoder.encode(pieces), most=MOST)


def _elsewhere(analysis: Analysis, sampling: float, offered: tuple[Candidate, ...], session: SessionOptions | None) -> str:
    """Return the sentence that says at which other sampling [Å/px] an encoder would fit, or nothing.

    Nothing is decided by it: several encoders draw a square lattice well enough at one scale or another.
    """
    few = _thinned(analysis, FEW)
    shares: list[tuple[float, float, Candidate]] = []
    for candidate in offered:
        for factor in OFF_BY:
            try:
                share = _share(few, sampling * factor, loaded(candidate.folder, session), None)
            except StemzooError:
                share = None
            if share is not None:
                shares.append((share, sampling * factor, candidate))
    share, there, best = max(shares, key=lambda found: found[0], default=(0.0, 0.0, offered[0]))
    if share < FITS:
        return ""
    return f"At about {there:.2g} Å/px {best.id}, of {', '.join(best.materials)}, would explain {share:.0%}. "


def _thinned(analysis: Analysis, most: int = MOST) -> Analysis:
    """Return the middle of the first frame with columns alone, with some of them, evenly drawn."""
    shown = cutting.first_shown(analysis)
    image, columns = analysis.frames.frame(shown), analysis.columns[shown]
    part = middle_of(image, CROP_PX)
    corner = (np.array(image.shape) - part.shape) // 2
    yx = columns.yx - corner
    rows = np.flatnonzero(((yx >= 0) & (yx <= np.array(part.shape) - 1)).all(axis=1))
    rows = rows[:: max(1, len(rows) // most)]
    few = replace(columns.rows(rows), yx=yx[rows])
    return replace(analysis, frames=replace(analysis.frames, data=part[None]), columns=(few,))
