"""Where a model fails: of each material the frames that a segmenter gets most wrong, the sub-images that an encoder explains least.

`segmenter_failures` and `encoder_failures` find them, evaluate.gallery draws them, and `words_of` says in a card's prose what the picture
shows. Called by `stemzoo evaluate --failures`, stemzoo.release and the scripts that make the zoo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemzoo.evaluate.encoding import EncodedFrame
from stemzoo.evaluate.run import frame_of, judge
from stemzoo.evaluate.scores import FrameScore
from stemzoo.io.datasets import Dataset
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.pipeline import locate
from stemzoo.runtime.segmenter import Segmenter

WINDOW = 18.0
"""Side of the part of a frame that is shown [Å]."""
MOST, EACH = 12, 4
"""Frames of a gallery, and of one material at most; of many materials, those with the lowest F1."""
COLUMNS, KINDS = 6, 4
"""Sub-images of one material, and materials, in an encoder's gallery."""


@dataclass(frozen=True)
class Failure:
    """The part of a frame where a segmenter is wrong most often, and what it makes of the whole frame.

    Args:
        material, where: of the frame; `where` is `file:frame`.
        counts_per_column: mean electrons in a column's peak; NaN for a real frame.
        pixel_size: Å/px.
        f1: of the whole frame at `evaluate.TOLERANCE`; `missed`, `false`: mistakes in it, and `placed` columns.
        image: (h, w) float32, the part shown.
        right_yx, missed_yx, false_yx: (n, 2) float64, px of `image`: columns found, not found, and found where none is.
    """

    material: str
    where: str
    counts_per_column: float
    pixel_size: float
    f1: float
    missed: int
    false: int
    placed: int
    image: np.ndarray
    right_yx: np.ndarray
    missed_yx: np.ndarray
    false_yx: np.ndarray


@dataclass(frozen=True)
class PoorFit:
    """The sub-images of one material that an encoder explains least.

    Args:
        material: of the frames.
        images, patterns: (n, S, S) float32, as measured and as the decoder draws them.
        explained: (n,) share of each one's variance that the drawing explains; `typical` is the median over all of the material.
        sigma_deg: (n,) stated standard error of the angle [degrees].
    """

    material: str
    images: np.ndarray
    patterns: np.ndarray
    explained: np.ndarray
    sigma_deg: np.ndarray
    typical: float


def segmenter_failures(segmenter: Segmenter, dataset: str | Path, frames: Sequence[FrameScore], *, most: int = MOST) -> list[Failure]:
    """Return the worst frames of each material, the lowest F1 first: one at least, and up to `EACH` with mistakes where there is room.

    Args: frames: what each frame of the dataset showed, in its order, as `frame_scores` yields them. most: frames in all.
    Raises: DatasetError, ModelError.
    """
    f1 = [2 * frame.hits / max(frame.found + frame.placed, 1) for frame in frames]
    ranked: dict[str, list[int]] = {}
    for index in sorted(range(len(frames)), key=lambda index: f1[index]):
        if frames[index].placed:
            ranked.setdefault(frames[index].material, []).append(index)
    each = min(max(most // max(len(ranked), 1), 1), EACH)
    worst = [index for held in ranked.values() for rank, index in enumerate(held[:each]) if rank == 0 or f1[index] < 1]
    chosen = sorted(worst, key=lambda index: f1[index])[:most]
    return [_failure(segmenter, Dataset(dataset), index, frames[index], f1[index]) for index in chosen]


def _failure(segmenter: Segmenter, data: Dataset, index: int, score: FrameScore, f1: float) -> Failure:
    frame, truth = frame_of(data, index), data.positions(index)
    located = locate(frame, segmenter).columns[0].yx
    judged = judge(located, truth, frame.shape, score.pixel_size)
    missed, false = truth[judged.missed], located[judged.false]
    side = np.minimum(round(WINDOW / score.pixel_size), frame.shape)
    mistakes = np.concatenate([missed, false])
    centre = (np.array(frame.shape) - 1) / 2
    if len(mistakes):
        near = (np.abs(mistakes[:, None] - mistakes) <= side / 2).all(axis=2).sum(axis=1)
        centre = mistakes[near.argmax()]
    top, left = np.clip(np.round(centre - side / 2), 0, np.array(frame.shape) - side).astype(int)
    height, width = (int(length) for length in side)

    def inside(yx: np.ndarray) -> np.ndarray:
        local = yx - (top, left)
        return np.asarray(local[((local >= 0) & (local <= side - 1)).all(axis=1)])

    image = frame.frame(0)[top : top + height, left : left + width]
    parts = inside(truth[judged.placed]), inside(missed), inside(false)
    facts = score.material, frame.path, score.counts_per_column, score.pixel_size
    return Failure(*facts, f1, len(missed), len(false), score.placed, image, *parts)


def encoder_failures(encoder: Encoder, frames: Sequence[EncodedFrame], *, columns: int = COLUMNS) -> list[PoorFit]:
    """Return of each material the sub-images that the decoder explains least, the material explained least first.

    Args: frames: as `encoded_frames` yields them. Raises: ModelError if the bundle has no decoder.
    """
    materials: dict[str, list[EncodedFrame]] = {}
    for frame in frames:
        if np.isfinite(frame.explained).any():
            materials.setdefault(frame.material, []).append(frame)
    found = []
    for material, held in materials.items():
        share = np.concatenate([frame.explained for frame in held])
        images = np.concatenate([frame.subimages.data for frame in held])
        latents, angle, sigma = (np.concatenate([getattr(f.encoding, name) for f in held]) for name in ("latents", "angle", "angle_sigma"))
        rows = np.argsort(np.where(np.isfinite(share), share, np.inf), kind="stable")[: min(columns, int(np.isfinite(share).sum()))]
        patterns = encoder.decode(latents[rows], angle[rows])
        found.append(PoorFit(material, images[rows], patterns, share[rows], np.degrees(sigma[rows]), float(np.nanmedian(share))))
    return sorted(found, key=lambda fit: fit.typical)[:KINDS]


def words_of(failures: Sequence[Failure] | Sequence[PoorFit], picture: str) -> str:
    """Return the section of a card's prose that shows `picture` and says what is in it."""
    lines = ["## Where it fails", ""]
    if any(isinstance(failure, PoorFit) for failure in failures):
        lines += [f"![The sub-images that the decoder explains least, above what it draws of them]({picture})", ""]
        lines += ["The sub-images of each material that the decoder explains least; held back, chosen by that share alone.", ""]
        lines += ["| material | median share explained | least |", "|---|---|---|"]
        lines += [f"| {fit.material} | {fit.typical:.3f} | {fit.explained[0]:.3f} |" for fit in failures if isinstance(fit, PoorFit)]
        return "\n".join(lines)
    lines += [f"![The worst held-back frames of each material: missed columns circled, false ones in squares]({picture})", ""]
    lines += ["The worst held-back frames of each material by F1, and the part of each with the most mistakes: missed columns are circled"]
    lines += ["in amber, false ones stand in blue squares, dots are right.", ""]
    lines += ["| frame | material | counts a column | Å/px | F1 | missed | false | of |", "|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {f.where} | {f.material} | {f.counts_per_column:.0f} | {f.pixel_size:.3g} | {f.f1:.3f} | {f.missed} | {f.false} | {f.placed} |"
        for f in failures
        if isinstance(f, Failure)
    ]
    return "\n".join(lines)
