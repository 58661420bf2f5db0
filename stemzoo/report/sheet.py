"""A contact sheet of labelled frames: each frame with its true columns over the lower half. Called by `stemzoo data inspect --sheet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemzoo.errors import OutputError

COLUMNS = 4


@dataclass(frozen=True, slots=True)
class SheetFrame:
    """A frame (H, W), its columns (n, 2) yx px with (n,) species, and what to write above it."""

    image: np.ndarray
    yx: np.ndarray
    species: np.ndarray
    title: str


def write_sheet(frames: Sequence[SheetFrame], path: Path) -> Path:
    """Write the frames as one PNG, four to a row, and return its path. Raises: OutputError if `path` cannot be written."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from stemzoo.report import render, style

    rows = -(-len(frames) // COLUMNS)
    with matplotlib.rc_context(style.FONT):
        figure = Figure(figsize=(2.9 * COLUMNS, 3.2 * rows), dpi=style.DPI, facecolor=style.PAPER, layout="constrained")
        FigureCanvasAgg(figure)
        places = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes in places:
            axes.set_axis_off()
        for axes, frame in zip(places, frames, strict=False):
            height, width = frame.image.shape
            axes.set_axis_on()
            style.bare(axes)
            style.show_image(axes, frame.image)
            low = frame.yx[:, 0] > height / 2
            palette = np.array(style.CLASS_COLOURS)[frame.species[low] % len(style.CLASS_COLOURS)]
            axes.scatter(frame.yx[low, 1], frame.yx[low, 0], s=5, c=palette, linewidths=0)
            axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            axes.set_title(frame.title, color=style.INK, fontsize=9.5)
        try:
            render.save_png(figure, path)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise OutputError(f"{path}: cannot be written ({why}); name another PNG with --sheet") from error
    return path
