"""An evaluation as one picture: F1, error against bound, coverage of the stated σ, calibration. Called by `stemzoo evaluate --figure`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stemzoo.evaluate.calibration import calibration_curve, calibration_error
from stemzoo.evaluate.scores import FrameScore, Score, over_bound
from stemzoo.runtime.headline import PM_PER_ANGSTROM

INK, MODEL, IDEAL = "#1b1f24", "#1f6fb2", "#9aa4ae"


def draw_evaluation(frames: Sequence[FrameScore], scores: Sequence[Score], title: str, path: str | Path) -> Path:
    """Write the picture as PNG and return its path.

    Args: frames: what each frame showed; scores: all frames, then a group each, as `summarise` returns them.
    """
    figure = Figure(figsize=(11, 7.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    figure.suptitle(title, color=INK)
    _detection(axes[0, 0], scores)
    _position(axes[0, 1], frames)
    _coverage(axes[1, 0], frames)
    _calibration(axes[1, 1], frames)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    return Path(path)


def _detection(axes: Axes, scores: Sequence[Score]) -> None:
    groups = list(scores[1:] or scores)[::-1]
    place = np.arange(len(groups))
    f1 = np.array([score.f1 for score in groups])
    spread = np.abs(np.array([score.f1_interval for score in groups]).T - f1)
    axes.errorbar(f1, place, xerr=spread, fmt="o", color=MODEL, capsize=3)
    axes.set_yticks(place, [score.group for score in groups], fontsize=8)
    axes.set_xlim(min(0.9, float(np.nanmin(f1)) - 0.02), 1.002)
    axes.set_xlabel("F1 at 0.5 Å, 95 % interval over frames")


def _position(axes: Axes, frames: Sequence[FrameScore]) -> None:
    dose = np.array([frame.counts_per_column for frame in frames])
    ratio = np.array([over_bound(frame) for frame in frames])
    if np.isfinite(ratio).any():
        axes.scatter(dose, ratio, s=14, color=MODEL)
        axes.axhline(1, color=IDEAL)
        axes.set_ylabel("RMSE / Cramér–Rao bound, a dot a frame")
    else:
        rmse = [PM_PER_ANGSTROM * frame.pixel_size * np.sqrt((frame.error_px**2).mean()) if frame.hits else np.nan for frame in frames]
        axes.scatter(dose, rmse, s=14, color=MODEL)
        axes.set_ylabel("RMSE [pm], a dot a frame")
    if np.isfinite(dose).any():
        axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("electrons in a column's peak")


def _coverage(axes: Axes, frames: Sequence[FrameScore]) -> None:
    z = np.abs(np.concatenate([(frame.error_px / frame.sigma_px).ravel() for frame in frames]))
    stated = np.linspace(0.02, 0.99, 60)
    # the half-width that holds a share p of a normal law, by its tabulated distribution
    grid = np.linspace(0, 4, 4001)
    share = np.concatenate([[0], np.cumsum(np.exp(-(grid[1:] ** 2) / 2))]) * (grid[1] * np.sqrt(2 / np.pi))
    width = np.interp(stated, share, grid)
    axes.plot(stated, [(z < limit).mean() if len(z) else np.nan for limit in width], color=MODEL)
    axes.plot([0, 1], [0, 1], color=IDEAL, zorder=0)
    axes.set_xlabel("interval that the stated σ promises")
    axes.set_ylabel("share of errors inside")


def _calibration(axes: Axes, frames: Sequence[FrameScore]) -> None:
    confidence, right = (np.concatenate([getattr(frame, name) for frame in frames]) for name in ("confidence", "right"))
    curve = calibration_curve(confidence, right)
    axes.plot([0, 1], [0, 1], color=IDEAL, zorder=0)
    axes.plot(curve.stated, curve.found, color=MODEL)
    axes.scatter(curve.stated, curve.found, s=10 + 120 * np.sqrt(curve.located / max(curve.located.sum(), 1)), color=MODEL)
    axes.set_xlabel("stated confidence")
    axes.set_ylabel(f"share of true columns; ECE {calibration_error(confidence, right):.3f}")
