"""Columns' courses through a stack as a drawing: the latents that change. io.tracks owns their table. Called by `report.pictures`."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from stemzoo.report import style
from stemzoo.types import Analysis, Tracks

SHOWN = 150  # courses drawn faintly, evenly chosen
MARKED = 5  # courses drawn boldly: those whose latent changes most


def tracks_figure(analysis: Analysis, tracks: Tracks) -> Figure | None:
    """Return each latent against the frame, a line a track that is there in half the frames or more; None where there is no such track."""
    encoding = analysis.encoding
    if encoding is None:
        return None
    frames = np.array([columns.frame for columns in analysis.columns])
    number, at = np.concatenate(tracks.track), np.repeat(np.arange(len(frames)), [len(numbers) for numbers in tracks.track])
    course = np.full((tracks.n, len(frames), encoding.latents.shape[1]), np.nan)
    course[number, at] = encoding.latents
    there = np.isfinite(course[..., 0]).mean(axis=1) >= 0.5
    if not there.any():
        return None
    course = course[there]
    names = np.flatnonzero(there)
    n = course.shape[2]
    figure, first = style.light_figure(4.6 * n, 3.0)
    figure.delaxes(first)
    change = np.nanpercentile(course, 90, axis=1) - np.nanpercentile(course, 10, axis=1)
    for k, axes in enumerate(figure.subplots(1, n, squeeze=False)[0]):
        style.light_axes(axes)
        for line in course[:: max(len(course) // SHOWN, 1), :, k]:
            axes.plot(frames, line, color=style.PLOT_FILL, linewidth=0.6, alpha=0.25)
        for track in np.argsort(-change[:, k])[:MARKED]:
            axes.plot(frames, course[track, :, k], linewidth=1.5, label=f"track {names[track]}")
        axes.legend(frameon=False, labelcolor=style.PLOT_INK, fontsize=8)
        axes.set(xlabel="frame", ylabel=f"z{k + 1}")
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure
