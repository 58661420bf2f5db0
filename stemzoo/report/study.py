"""One figure for a choice of window: angle and latent maps side by side by size, a pattern and a score for each. Called by `stemzoo study`.

Latents of different trainings have no common axes, so each map shows the columns' first principal components in latent space, signed so
that they rise with intensity.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stemzoo.report import style
from stemzoo.report.field import Field
from stemzoo.report.figures import angle_colours, latent_colours, paint
from stemzoo.types import Encoding

LETTERS = 14  # of a caption, an inch


@dataclass(frozen=True, slots=True)
class Trial:
    """One size: its encoding of frame 0's columns, what is written above and below it, and the decoder's pattern (S, S)."""

    title: str
    score: float
    said: str
    encoding: Encoding
    pattern: np.ndarray
    window_px: float
    chosen: bool


def study_figure(field: Field, trials: Sequence[Trial]) -> Figure:
    """Return angle, two latents and the typical pattern (rows) for each size (columns)."""
    latents = trials[0].encoding.latents.shape[1]
    names = ["angle", *(f"latent {k + 1}" for k in range(min(latents, 2))), "pattern"]
    side, gap, left, head, foot = 2.5, 0.12, 0.95, 1.25, 0.75
    width, height = left + len(trials) * (side + gap) + 0.15, head + len(names) * (side + gap) + foot
    note = "Score: agreement of two trainings × share of the structure explained"
    figure = style.card(width, height, "How large a sub-image", textwrap.fill(note, int(LETTERS * (width - 2 * style.PAD))))
    for row, name in enumerate(names):
        bottom = height - head - (row + 1) * (side + gap) + gap
        figure.text(style.PAD / width, (bottom + side / 2) / height, name, color=style.INK, fontsize=11, va="center", rotation=90)
        for k, trial in enumerate(trials):
            axes = figure.add_axes(((left + k * (side + gap)) / width, bottom / height, side / width, side / height))
            _panel(axes, field, trial, row, len(names))
            if row == 0:
                colour = style.CLASS_COLOURS[2] if trial.chosen else style.INK
                title = f"{trial.title}\nscore {trial.score:.2f}" + (" ← proposed" if trial.chosen else "")
                axes.set_title(title, color=colour, fontsize=11)
            if row == len(names) - 1:
                axes.set_xlabel(trial.said, color=style.MUTED, fontsize=9.5)
    return figure


def _panel(axes: Axes, field: Field, trial: Trial, row: int, rows: int) -> None:
    if row == rows - 1:
        style.show_image(axes, trial.pattern, cmap="inferno", limits=(float(trial.pattern.min()), float(trial.pattern.max())))
        style.bare(axes)
        return
    if row == 0:
        colours = angle_colours(trial.encoding)[0]
    else:
        colours = latent_colours(_principal(trial.encoding.latents, field.columns.intensity)[:, row - 1])
    paint(axes, field, colours)
    style.bare(axes)
    if row == 0:
        height = field.image.shape[0]
        style.scale_bar(axes, field.image.shape[1], field.pixel_size)
        square = Rectangle((4, 4), trial.window_px, trial.window_px, fill=False, edgecolor="white", linewidth=1.4, zorder=9)
        axes.add_patch(square)
        axes.set(xlim=(-0.5, field.image.shape[1] - 0.5), ylim=(height - 0.5, -0.5))


def _principal(latents: np.ndarray, intensity: np.ndarray) -> np.ndarray:
    """Return latents (n, Z) along their principal axes, the widest first, each rising with intensity."""
    known = np.isfinite(latents).all(axis=1)
    out = np.full(latents.shape, np.nan)
    if not known.any():
        return out
    centred = latents[known] - latents[known].mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    scores = centred @ axes.T
    lean = (scores * (intensity[known] - np.mean(intensity[known]))[:, None]).sum(axis=0)
    out[known] = scores * np.where(lean < 0, -1.0, 1.0)
    return out
