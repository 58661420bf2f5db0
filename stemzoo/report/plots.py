"""Distributions on white paper: σ, confidence, nearest-neighbour distance, and a stack's course. Each returns a matplotlib Figure.

In the page they become drawings that follow its light or dark colours (`report.html`); on disk they are PNG files.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemzoo.report import style
from stemzoo.report.summary import nearest_distances, pixel_size_of
from stemzoo.runtime.headline import PM_PER_ANGSTROM
from stemzoo.types import Analysis

SIZE = (4.6, 3.0)
LINES = (style.PLOT_FILL, style.PLOT_MARK, "#3a9d6e", "#8a63b8")


def sigma_figure(analysis: Analysis) -> Figure:
    """Return the histogram of standard errors over columns whose fit held, y and x apart; in pm where the pixel size is known, else px."""
    size = pixel_size_of(analysis)
    unit, factor = ("px", 1.0) if size is None else ("pm", size * PM_PER_ANGSTROM)
    sigma = np.concatenate([c.sigma[c.fit_ok & np.isfinite(c.sigma).all(axis=1)] for c in analysis.columns]) * factor
    figure, axes = style.light_figure(*SIZE)
    top = float(np.percentile(sigma, 99)) * 1.15 if len(sigma) else 1.0
    for values, colour, name in ((sigma[:, 0], style.PLOT_FILL, "y"), (sigma[:, 1], style.PLOT_MARK, "x")):
        axes.hist(values, bins=60, range=(0, top), histtype="stepfilled", color=colour, alpha=0.28)
        axes.hist(values, bins=60, range=(0, top), histtype="step", color=colour, linewidth=1.4, label=name)
    _median(sigma.ravel(), axes, unit)
    axes.set(xlabel=f"standard error σ [{unit}]", ylabel="columns", xlim=(0, top))
    axes.legend(frameon=False, labelcolor=style.PLOT_INK, handlelength=1.0, loc="center right")
    return figure


def confidence_figure(analysis: Analysis) -> Figure:
    """Return the histogram of the probability that a column is there."""
    confidence = np.concatenate([c.confidence[np.isfinite(c.confidence)] for c in analysis.columns])
    figure, axes = style.light_figure(*SIZE)
    axes.hist(confidence, bins=50, range=(0, 1), histtype="stepfilled", color=style.PLOT_FILL, alpha=0.85)
    axes.set(xlabel="confidence", ylabel="columns", xlim=(0, 1))
    return figure


def spacing_figure(analysis: Analysis) -> Figure:
    """Return the histogram of distances to the nearest neighbour; in Å where the pixel size is known, else px."""
    size = pixel_size_of(analysis)
    unit, factor = ("px", 1.0) if size is None else ("Å", size)
    distances = np.concatenate([nearest_distances(c.yx) for c in analysis.columns]) * factor
    figure, axes = style.light_figure(*SIZE)
    low, high = style.robust_limits(distances, 0.5, 99)
    low, high = max(low - 0.2 * (high - low), 0.0), high + 0.2 * (high - low)
    axes.hist(distances, bins=70, range=(low, high), histtype="stepfilled", color=style.PLOT_FILL, alpha=0.85)
    _median(distances, axes, unit)
    axes.set(xlabel=f"nearest neighbour [{unit}]", ylabel="columns", xlim=(low, high))
    return figure


def series_figure(analysis: Analysis) -> Figure:
    """Return number of columns, median σ and median of each latent against the frame's number."""
    frames = np.array([columns.frame for columns in analysis.columns])
    size = pixel_size_of(analysis)
    unit, factor = ("px", 1.0) if size is None else ("pm", size * PM_PER_ANGSTROM)
    courses: list[tuple[str, list[np.ndarray]]] = [
        ("columns", [np.array([len(c) for c in analysis.columns], dtype=float)]),
        (f"median σ [{unit}]", [np.array([factor * np.median(c.sigma[c.fit_ok]) if c.fit_ok.any() else np.nan for c in analysis.columns])]),
    ]
    encoding = analysis.encoding
    if encoding is not None:
        known = np.isfinite(encoding.latents).all(axis=1)
        ends = np.cumsum([len(columns) for columns in analysis.columns])[:-1]
        members = [rows[shown] for rows, shown in zip(np.split(encoding.latents, ends), np.split(known, ends), strict=True)]
        none = np.full(encoding.latents.shape[1], np.nan)
        medians = np.array([np.median(rows, axis=0) if len(rows) else none for rows in members])
        courses.append(("median latents", list(medians.T)))
    figure, first = style.light_figure(4.6 * len(courses), 3.0)
    figure.delaxes(first)
    for axes, (name, lines) in zip(figure.subplots(1, len(courses), squeeze=False)[0], courses, strict=True):
        style.light_axes(axes)
        for k, line in enumerate(lines):
            axes.plot(frames, line, color=LINES[k % len(LINES)], linewidth=1.5, marker="o", markersize=3, label=f"z{k + 1}")
        if len(lines) > 1:
            axes.legend(frameon=False, labelcolor=style.PLOT_INK, ncols=2)
        axes.set(xlabel="frame", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _median(values: np.ndarray, axes: Axes, unit: str) -> None:
    if len(values) == 0:
        return
    median = float(np.median(values))
    axes.axvline(median, color=style.PLOT_INK, linewidth=1.1, linestyle=(0, (3, 2)))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.16)
    said, top = f"median {median:.3g} {unit}", axes.get_ylim()[1]
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.annotate(
        said, (median, top), (6, -2), textcoords="offset points", color=style.PLOT_INK, fontsize=10, va="top", ha="left", bbox=behind
    )
