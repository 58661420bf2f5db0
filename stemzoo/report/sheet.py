"""A contact sheet of a dataset: frames spread over it, their true columns on the lower half. Called by `stemzoo data inspect --sheet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemzoo.errors import OutputError
from stemzoo.io.datasets import Dataset

COLUMNS = 4
MAX_FRAMES = 12


@dataclass(frozen=True, slots=True)
class SheetFrame:
    """A frame (H, W), its columns (n, 2) yx px with (n,) species, and what to write above it."""

    image: np.ndarray
    yx: np.ndarray
    species: np.ndarray
    title: str


def draw_sheet(dataset: str | Path, path: Path) -> Path:
    """Write up to twelve frames spread over a dataset as one PNG, and return its path.

    Raises: DatasetError if the dataset is unreadable, OutputError if `path` cannot be written.
    """
    data = Dataset(dataset)
    chosen = sorted({round(k * (len(data) - 1) / (MAX_FRAMES - 1)) for k in range(MAX_FRAMES)})
    frames = []
    for index in chosen:
        facts, (yx, species) = data.attributes(index), data.columns(index)
        counts = f", {float(facts['counts_per_column']):.0f} counts" if "counts_per_column" in facts else ""
        title = f"{facts.get('material', '')}  {float(facts['pixel_size']):.3f} Å{counts}"
        frames.append(SheetFrame(data.image(index), yx, species, title))
    return write_sheet(frames, path, data.classes)


def write_sheet(frames: Sequence[SheetFrame], path: Path, classes: Sequence[str] = ()) -> Path:
    """Write the frames as one PNG, four to a row, and return its path; `classes` names the colours. Raises: OutputError."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from stemzoo.report import render, style

    rows = -(-len(frames) // COLUMNS)
    across = min(len(frames), COLUMNS)
    with matplotlib.rc_context(style.FONT):
        figure = Figure(figsize=(2.9 * across, 3.2 * rows + 0.3), dpi=style.DPI, facecolor=style.PAPER, layout="constrained")
        FigureCanvasAgg(figure)
        places = figure.subplots(rows, across, squeeze=False).ravel()
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
        if classes:
            colours = [style.CLASS_COLOURS[k % len(style.CLASS_COLOURS)] for k in range(len(classes))]
            named = zip(classes, colours, strict=True)
            dots = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in named]
            figure.legend(handles=dots, loc="outside lower center", ncols=min(len(dots), 2 * across), frameon=False, labelcolor=style.INK)
        try:
            render.save_png(figure, path)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise OutputError(f"{path}: cannot be written ({why}); name another PNG with --sheet") from error
    return path
