"""A segmenter held against truth: detection, position and stated errors over a dataset, by material and dose. No torch.

Called by `stemzoo evaluate`, by the scripts that write the zoo's cards, and by tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stemzoo.errors import DatasetError
from stemzoo.geometry.matching import match
from stemzoo.io.datasets import Dataset
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.pipeline import LocateOptions, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Frames
from stemzoo.zoo import resolve

TOLERANCE = 0.5
"""A column is found if a position lies within this of it [Å]."""

BORDER = 1.0
"""Columns nearer than this to the frame's edge [Å] count neither for nor against."""


@dataclass(frozen=True)
class FrameScore:
    """What one frame showed.

    Args:
        material: of the frame.
        counts_per_column: mean electrons in a column's peak; NaN for a real frame.
        hits, found, placed: columns matched, located and true, away from the border.
        error_px: (hits, 2) float64, located less true position.
        sigma_px: (hits, 2) float64, stated standard error.
        confidence, right: (found,) stated probability of each located column, and whether it was one.
        pixel_size: Å/px.
    """

    material: str
    counts_per_column: float
    hits: int
    found: int
    placed: int
    error_px: np.ndarray
    sigma_px: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    pixel_size: float


@dataclass(frozen=True)
class Score:
    """Scores over a group of frames; the 95 % intervals are bootstrapped over frames.

    Args:
        group: what the frames have in common.
        n_frames, n_columns: how many they rest on.
        precision, recall, f1: at `TOLERANCE`.
        rmse_px, rmse_pm: root mean square position error per axis.
        bias_pm: length of the mean error vector.
        z_spread: standard deviation of error / stated σ; 1 if σ means what it says.
        coverage: share of errors inside ±1.96 σ.
        calibration: expected calibration error of the confidence.
    """

    group: str
    n_frames: int
    n_columns: int
    precision: float
    recall: float
    f1: float
    f1_interval: tuple[float, float]
    rmse_px: float
    rmse_pm: float
    rmse_pm_interval: tuple[float, float]
    bias_pm: float
    z_spread: float
    coverage: float
    calibration: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def score_frame(
    segmenter: Segmenter, frames: Frames, truth: np.ndarray, material: str, counts: float, options: LocateOptions | None = None
) -> FrameScore:
    """Locate the columns of one frame (T = 1) and hold them against `truth`, (n, 2) yx px."""
    columns = locate(frames, segmenter, options).columns[0]
    pixel_size = frames.pixel_size
    if pixel_size is None:
        raise DatasetError(f"{frames.path}: no pixel size; scores need Å")
    pairs = match(columns.yx, truth, TOLERANCE / pixel_size)
    margin = BORDER / pixel_size
    limit = np.array(frames.shape) - 1 - margin
    counted = np.asarray(((truth > margin) & (truth < limit)).all(axis=1))
    inner = np.asarray(((columns.yx > margin) & (columns.yx < limit)).all(axis=1))
    matched_found = np.zeros(len(columns), dtype=bool)
    matched_found[pairs.found] = True
    good = counted[pairs.truth]
    # A located column paired with a true one across the border's line is no mistake.
    false = inner & ~matched_found
    judged = false.copy()
    judged[pairs.found[good]] = True
    return FrameScore(
        material,
        counts,
        int(good.sum()),
        int(good.sum() + false.sum()),
        int(counted.sum()),
        columns.yx[pairs.found[good]] - truth[pairs.truth[good]],
        columns.sigma[pairs.found[good]],
        columns.confidence[judged],
        matched_found[judged],
        pixel_size,
    )


def evaluate(
    segmenter: Segmenter,
    dataset: str | Path,
    *,
    by: Callable[[FrameScore], str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """Return the scores of a segmenter on a labelled dataset: one for all frames, then one a group.

    Args:
        by: names the group of a frame; by default its material.
    Raises: DatasetError, ModelError.
    """
    data = Dataset(dataset)
    results = []
    for index in range(len(data)):
        facts = data.attributes(index)
        image = data.image(index)
        frames = Frames(image[None], float(facts["pixel_size"]), "file", f"{data.path.name}:{data.ids[index]}")
        truth, _ = data.columns(index)
        results.append(
            score_frame(segmenter, frames, truth, str(facts.get("material", data.material)), float(facts.get("counts_per_column", np.nan)))
        )
        if progress is not None:
            progress(index + 1, len(data))
    return summarise(results, by or (lambda result: result.material))


def evaluate_model(
    model: str,
    dataset: str | Path,
    *,
    by: Callable[[FrameScore], str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """As `evaluate`, for a model by its name in the zoo or its bundle's folder."""
    return evaluate(Segmenter(Bundle.load(resolve(model))), dataset, by=by, progress=progress)


def summarise(results: Iterable[FrameScore], by: Callable[[FrameScore], str]) -> list[Score]:
    """Return the scores of all frames together, then of each group in the order of their names."""
    everything = list(results)
    groups: dict[str, list[FrameScore]] = {}
    for result in everything:
        groups.setdefault(by(result), []).append(result)
    scores = [_score("all", everything)]
    return scores + [_score(name, groups[name]) for name in sorted(groups)] if len(groups) > 1 else scores


def _score(group: str, frames: list[FrameScore]) -> Score:
    hits, found, placed = (np.array([getattr(f, key) for f in frames], dtype=float) for key in ("hits", "found", "placed"))
    error_pm = [f.error_px * f.pixel_size * 100 for f in frames]
    squares = np.array([float((e**2).sum()) for e in error_pm])
    every_px = np.concatenate([f.error_px for f in frames]) if frames else np.zeros((0, 2))
    z = np.concatenate([f.error_px / f.sigma_px for f in frames])
    picks = np.random.default_rng(0).integers(0, len(frames), (400, len(frames)))

    def f1(h: np.ndarray, f: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.asarray(2 * h / np.maximum(f + p, 1))

    def rmse(s: np.ndarray, h: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(s / np.maximum(2 * h, 1)))

    f1_draws = f1(hits[picks].sum(1), found[picks].sum(1), placed[picks].sum(1))
    rmse_draws = rmse(squares[picks].sum(1), hits[picks].sum(1))
    value, width = float(f1(hits.sum(), found.sum(), placed.sum())), float(rmse(squares.sum(), hits.sum()))
    return Score(
        group,
        len(frames),
        int(placed.sum()),
        float(hits.sum() / max(found.sum(), 1)),
        float(hits.sum() / max(placed.sum(), 1)),
        value,
        _interval(f1_draws, value),
        float(np.sqrt((every_px**2).mean())) if len(every_px) else float("nan"),
        width,
        _interval(rmse_draws, width),
        float(np.linalg.norm(np.concatenate(error_pm).mean(axis=0))) if len(every_px) else float("nan"),
        float(z.std()) if len(z) else float("nan"),
        float((np.abs(z) < 1.96).mean()) if len(z) else float("nan"),
        calibration_error(np.concatenate([f.confidence for f in frames]), np.concatenate([f.right for f in frames])),
    )


def _interval(draws: np.ndarray, value: float) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return min(float(low), value), max(float(high), value)


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error: the mean gap between stated and found share of true columns, weighted by bin.

    Source: Guo et al., ICML 2017.
    """
    if not len(confidence):
        return float("nan")
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.maximum(np.bincount(index, minlength=bins), 1)
    gap = np.abs(np.bincount(index, confidence, minlength=bins) - np.bincount(index, right, minlength=bins)) / counts
    return float((gap * np.bincount(index, minlength=bins)).sum() / len(confidence))
