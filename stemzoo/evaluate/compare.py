"""Segmenters side by side on one labelled dataset: each one's scores, and how they differ on the same frames.

Called by `stemzoo zoo compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stemzoo.evaluate.run import frame_scores
from stemzoo.evaluate.scores import GROUPINGS, FrameScore, Score, summarise
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.headline import PM_PER_ANGSTROM
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.zoo import resolve

DRAWS = 1000


@dataclass(frozen=True)
class Difference:
    """A score less the first model's on the same frames, with its 95 % interval bootstrapped over frames: 0 outside means a difference."""

    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Compared:
    """A model's scores over all frames, and how they differ from the first model's; None for the first itself."""

    id: str
    score: Score
    f1: Difference | None
    rmse_pm: Difference | None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def compare(models: Sequence[str], dataset: str | Path, *, progress: Callable[[str, int, int], None] | None = None) -> list[Compared]:
    """Return the scores of several segmenters, by name or bundle's folder, on the frames of one labelled dataset.

    Raises: DatasetError; ModelError for an unknown model, or one that finds no columns.
    """
    segmenters = [Segmenter(Bundle.load(resolve(model))) for model in models]
    found: list[Compared] = []
    first: list[FrameScore] = []
    for segmenter in segmenters:
        name = segmenter.id.id
        tick = None if progress is None else (lambda done, total, name=name: progress(name, done, total))
        frames = list(frame_scores(segmenter, dataset, progress=tick))
        score = summarise(frames, GROUPINGS["material"])[0]
        first = first or frames
        differences = (None, None) if first is frames else (_difference(_f1, first, frames), _difference(_rmse_pm, first, frames))
        found.append(Compared(name, score, *differences))
    return found


def _difference(statistic: Callable[[np.ndarray], np.ndarray], first: list[FrameScore], second: list[FrameScore]) -> Difference:
    """Return the difference of a statistic; both models see the same frames in each draw, so what is hard for both drops out."""
    sums = [np.array([_sums(frame) for frame in frames]) for frames in (first, second)]
    picks = np.random.default_rng(0).integers(0, len(first), (DRAWS, len(first)))
    draws = statistic(sums[1][picks].sum(1)) - statistic(sums[0][picks].sum(1))
    value = float((statistic(sums[1].sum(0)[None]) - statistic(sums[0].sum(0)[None]))[0])
    low, high = np.percentile(draws, [2.5, 97.5])
    return Difference(value, min(float(low), value), max(float(high), value))


def _sums(frame: FrameScore) -> tuple[float, float, float, float]:
    """Return hits, found, placed and the summed squared error [pm²] of a frame."""
    return frame.hits, frame.found, frame.placed, float(((frame.error_px * frame.pixel_size * PM_PER_ANGSTROM) ** 2).sum())


def _f1(sums: np.ndarray) -> np.ndarray:
    return np.asarray(2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1))


def _rmse_pm(sums: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(sums[:, 3] / np.maximum(2 * sums[:, 0], 1)))
