"""Columns' courses through a stack: `tracks.csv`, and the latents that change, as a drawing. Called by `analyze` and `report.html`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from stemzoo.geometry.tracks import Tracks
from stemzoo.report import style
from stemzoo.types import Analysis

FILE = "tracks.csv"
SHOWN = 150  # courses drawn faintly, evenly chosen
MARKED = 5  # courses drawn boldly: those whose latent changes most


def write_tracks(path: Path, analysis: Analysis, tracks: Tracks) -> None:
    """Write a row for each column of each frame, ordered by track and frame; `drift_*_px` is the frame's displacement against the first."""
    encoding = analysis.encoding
    n_latents = 0 if encoding is None else encoding.latents.shape[1]
    header = "track,frame,column,y_px,x_px,drift_y_px,drift_x_px"
    header += "" if encoding is None else ",angle_rad," + ",".join(f"z{k + 1}" for k in range(n_latents))
    lines = []
    row = 0
    for columns, numbers, drift in zip(analysis.columns, tracks.track, tracks.drift, strict=True):
        for k, (number, (y, x)) in enumerate(zip(numbers.tolist(), columns.yx.tolist(), strict=True)):
            text = f"{number},{columns.frame},{k},{y:.6f},{x:.6f},{drift[0]:.4f},{drift[1]:.4f}"
            if encoding is not None:
                values = (encoding.angle[row + k], *encoding.latents[row + k])
                text += "".join("," + (f"{value:.8g}" if np.isfinite(value) else "") for value in values)
            lines.append((number, columns.frame, text))
        row += len(columns)
    lines.sort(key=lambda line: line[:2])
    path.write_text("\n".join([header, *(line[2] for line in lines)]) + "\n", encoding="utf-8")


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
