"""What frames showed, and what it amounts to: FrameScore, Score and the step between. Called by evaluate.run, evaluate.figure and tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

import numpy as np

from stemzoo.evaluate.calibration import calibration_error
from stemzoo.runtime.headline import PM_PER_ANGSTROM

DOSES = (0.0, 75.0, 150.0, 300.0, 600.0, 1200.0, 2500.0, np.inf)
SCALES = (0.0, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, np.inf)


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
        bound_px: (hits, 2) float64, the Cramér–Rao bound of each matched column [px]; empty where the dataset does not tell.
        fitted: (hits,) whether the column's fit held; empty stands for all of them.
        resolvable: hits, found and placed once more, without the columns that their own electrons cannot place within the tolerance;
            None where the bound is not known.
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
    bound_px: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    fitted: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    resolvable: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Score:
    """Scores over a group of frames; the 95 % intervals are bootstrapped over frames.

    Args:
        group: what the frames have in common.
        n_frames, n_columns: how many they rest on.
        precision, recall, f1: at `evaluate.TOLERANCE`.
        rmse_px, rmse_pm: root mean square position error per axis.
        bias_pm: length of the mean error vector.
        z_spread: standard deviation of error / stated σ; 1 if σ means what it says.
        coverage: share of errors inside ±1.96 σ.
        calibration: expected calibration error of the confidence.
        over_bound: median over frames of the root mean square error of fitted columns over that of their Cramér–Rao bounds; NaN where no
            frame tells its bound.
        f1_resolvable, n_resolvable: F1 and number of the columns that their own electrons can place within the tolerance (see
            `evaluate.RESOLVABLE`); NaN and 0 where no frame tells its bound.
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
    over_bound: float = float("nan")
    f1_resolvable: float = float("nan")
    n_resolvable: int = 0

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def _binned(value: float, edges: tuple[float, ...], unit: str) -> str:
    if not np.isfinite(value):
        return f"? {unit}"
    low = max(edge for edge in edges if edge <= value)
    high = min(edge for edge in edges if edge > value)
    if low == 0:
        return f"below {high:g} {unit}"
    return f"{low:g} {unit} and more" if np.isinf(high) else f"{low:g}–{high:g} {unit}"


GROUPINGS: dict[str, Callable[[FrameScore], str]] = {
    "material": lambda frame: frame.material,
    "dose": lambda frame: _binned(frame.counts_per_column, DOSES, "e⁻ a column"),
    "scale": lambda frame: _binned(frame.pixel_size, SCALES, "Å/px"),
}
"""What frames may be grouped by; dose is the mean number of electrons in a column's peak."""


def summarise(results: Iterable[FrameScore], by: Callable[[FrameScore], str]) -> list[Score]:
    """Return the scores of all frames together, then of each group, sorted by the numbers in their names and then the names."""
    everything = list(results)
    groups: dict[str, list[FrameScore]] = {}
    for result in everything:
        groups.setdefault(by(result), []).append(result)
    scores = [_score("all", everything)]
    return scores + [_score(name, groups[name]) for name in sorted(groups, key=_order)] if len(groups) > 1 else scores


def _order(name: str) -> tuple[float, str]:
    number = re.search(r"[0-9.]+", name)
    below = name.startswith("below")
    return (-1.0 if below else float(number[0]) if number and not name[0].isalpha() else 0.0), name


def _score(group: str, frames: list[FrameScore]) -> Score:
    hits, found, placed = (np.array([getattr(f, key) for f in frames], dtype=float) for key in ("hits", "found", "placed"))
    error_pm = [f.error_px * f.pixel_size * PM_PER_ANGSTROM for f in frames]
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
        _over_bound(frames),
        *_resolvable(frames),
    )


def over_bound(frame: FrameScore) -> float:
    """Return the root mean square error of a frame's fitted columns over that of their Cramér–Rao bounds; NaN where unknown."""
    if not len(frame.bound_px):
        return float("nan")
    fitted = frame.fitted if len(frame.fitted) else np.ones(len(frame.bound_px), dtype=bool)
    known = fitted & np.isfinite(frame.bound_px).all(axis=1)
    if not known.any():
        return float("nan")
    return float(np.sqrt((frame.error_px[known] ** 2).mean() / (frame.bound_px[known] ** 2).mean()))


def _over_bound(frames: list[FrameScore]) -> float:
    ratios = np.array([over_bound(frame) for frame in frames])
    return float(np.median(ratios[np.isfinite(ratios)])) if np.isfinite(ratios).any() else float("nan")


def _resolvable(frames: list[FrameScore]) -> tuple[float, int]:
    known = [frame.resolvable for frame in frames if frame.resolvable is not None]
    hits, found, placed = (sum(counts) for counts in zip(*known, strict=True)) if known else (0, 0, 0)
    return (2 * hits / (found + placed) if found + placed else float("nan")), placed


def _interval(draws: np.ndarray, value: float) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return min(float(low), value), max(float(high), value)
