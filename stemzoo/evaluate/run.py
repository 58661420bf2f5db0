"""A segmenter over the frames of a labelled dataset: what is found, matched and held against truth and bound.

Called by `stemzoo evaluate`, by the scripts that write the zoo's cards, and by tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.errors import DatasetError
from stemzoo.evaluate.scores import GROUPINGS, FrameScore, Score, summarise
from stemzoo.geometry.matching import match
from stemzoo.io.datasets import Dataset
from stemzoo.runtime.pipeline import LocateOptions, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Frames

if TYPE_CHECKING:
    from stemzoo.simulation.bound import Limits

TOLERANCE = 0.5
"""A column is found if a position lies within this of it [Å]."""

RESOLVABLE = TOLERANCE / 1.96
"""A column is resolvable if the Cramér–Rao bound of its position, each way, is below this [Å], so that an ideal fit would place it within
the tolerance nineteen times in twenty, and if an ideal detector would find it as often (`simulation.bound.Limits.detectable`): a bound
takes for granted that there is a column. Of the others no method can be asked to tell where, or whether, they are."""

BORDER = 1.0
"""Columns nearer than this to the frame's edge [Å] count neither for nor against."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judged:
    """What of a frame's located and true columns is right and wrong, away from the border; each is (n,) int64.

    Args:
        found, placed: located and true columns that belong together, as numbers in their tables.
        missed: true columns that nothing was located at. false: located columns where none is.
    """

    found: np.ndarray
    placed: np.ndarray
    missed: np.ndarray
    false: np.ndarray


def judge(located: np.ndarray, truth: np.ndarray, shape: tuple[int, int], pixel_size: float) -> Judged:
    """Return what of `located`, (m, 2), is right of `truth`, (n, 2), both yx px in a frame of `shape` (H, W) with `pixel_size` Å/px."""
    pairs = match(located, truth, TOLERANCE / pixel_size)
    margin = BORDER / pixel_size
    limit = np.array(shape) - 1 - margin
    counted, inner = (np.asarray(((yx > margin) & (yx < limit)).all(axis=1)) for yx in (truth, located))
    good = counted[pairs.truth]
    # A located column paired with a true one across the border's line is no mistake.
    inner[pairs.found] = False
    false = np.flatnonzero(inner)
    counted[pairs.truth] = False
    return Judged(pairs.found[good], pairs.truth[good], np.flatnonzero(counted), false)


def score_frame(
    segmenter: Segmenter,
    frames: Frames,
    truth: np.ndarray,
    material: str,
    counts: float,
    options: LocateOptions | None = None,
    limits: Limits | None = None,
) -> FrameScore:
    """Locate the columns of one frame (T = 1) and hold them against `truth`, (n, 2) yx px, and the limits of what can be known of it."""
    columns = locate(frames, segmenter, options).columns[0]
    pixel_size = frames.pixel_size
    if pixel_size is None:
        raise DatasetError(f"{frames.path}: no pixel size; scores need Å")
    judged = judge(columns.yx, truth, frames.shape, pixel_size)
    found, placed = judged.found, judged.placed
    right = np.zeros(len(columns), dtype=bool)
    right[found] = True
    stated = right.copy()
    stated[judged.false] = True
    return FrameScore(
        material,
        counts,
        len(found),
        len(found) + len(judged.false),
        len(found) + len(judged.missed),
        columns.yx[found] - truth[placed],
        columns.sigma[found],
        columns.confidence[stated],
        right[stated],
        pixel_size,
        np.zeros((0, 2)) if limits is None else limits.position[placed],
        columns.fit_ok[found],
        None if limits is None else _among_resolvable(judged, columns.yx, truth, resolvable(limits, pixel_size), pixel_size),
    )


def resolvable(limits: Limits, pixel_size: float) -> np.ndarray:
    """Return which columns their own electrons show and place within the tolerance: (n,) bool."""
    placed = limits.position.max(axis=1) <= RESOLVABLE / pixel_size if len(limits.position) else np.zeros(0, dtype=bool)
    return np.asarray(placed & (limits.significance >= limits.detectable))


def _among_resolvable(judged: Judged, located: np.ndarray, truth: np.ndarray, clear: np.ndarray, pixel_size: float) -> tuple[int, int, int]:
    """Hits, found and placed of the `clear`: of the others the truth, what was located there and beside them, left out."""
    hits, missed = int(clear[judged.placed].sum()), int(clear[judged.missed].sum())
    false = len(judged.false)
    if false and not clear.all():
        distance, _ = cKDTree(truth[~clear]).query(located[judged.false])
        false = int((distance > 2 * TOLERANCE / pixel_size).sum())
    return hits, hits + false, hits + missed


def frame_scores(
    segmenter: Segmenter,
    dataset: str | Path,
    *,
    options: LocateOptions | None = None,
    bound: bool = False,
    progress: Progress | None = None,
    only: range | None = None,
) -> Iterator[FrameScore]:
    """Yield what each frame of a labelled dataset shows; `only` some of them, by number.

    Args: bound: work out the Cramér–Rao bound of every column where the dataset holds what it needs; takes about a second a frame.
    Raises: DatasetError, ModelError.
    """
    data = Dataset(dataset)
    for index in range(len(data)) if only is None else only:
        facts, frames, truth = data.attributes(index), frame_of(data, index), data.positions(index)
        limit = _limits(data, index, truth) if bound else None
        counts = float(facts.get("counts_per_column", np.nan))
        yield score_frame(segmenter, frames, truth, str(facts.get("material", data.material)), counts, options, limit)
        if progress is not None:
            progress(index + 1, len(data))


def frame_of(data: Dataset, index: int) -> Frames:
    """Return frame `index` of a dataset as a microscope's file would come."""
    facts = data.attributes(index)
    return Frames(data.image(index)[None], float(facts["pixel_size"]), "file", f"{data.path.name}:{data.ids[index]}")


def _limits(data: Dataset, index: int, truth: np.ndarray) -> Limits | None:
    """Return the limits of a frame's columns, or None for a real frame and one of a dataset that does not keep its optics."""
    from stemzoo.simulation.bound import limits_of

    counts = data.counts(index)
    if counts is None or not data.has_expected(index):
        return None
    expected = data.window(index, (0, 0), data.shape(index), "expected")
    try:
        return limits_of(data.attributes(index), expected, truth, counts)
    except KeyError:
        return None


def evaluate(segmenter: Segmenter, dataset: str | Path, *, bound: bool = False) -> list[Score]:
    """Return the scores of a segmenter on a labelled dataset: one for all frames, then one a material; as `frame_scores`."""
    return summarise(frame_scores(segmenter, dataset, bound=bound), GROUPINGS["material"])
