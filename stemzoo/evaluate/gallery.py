"""Failures as one picture, small enough for a model's folder. Called by `stemzoo evaluate --failures`, stemzoo.release and the zoo's
scripts; what is drawn is evaluate.failures'.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from stemzoo.errors import OutputError
from stemzoo.evaluate.encoding import encoded_frames
from stemzoo.evaluate.failures import MOST, Failure, PoorFit, encoder_failures, segmenter_failures, words_of
from stemzoo.evaluate.run import frame_scores
from stemzoo.report import style
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.zoo.card import Card, read_card
from stemzoo.zoo.illustrate import add_picture

MISSED, FALSE, RIGHT = "#f5a623", "#4ea3ff", "#39c08f"
PICTURE = "failures.jpg"
MAX_BYTES = 190_000
STEPS = ((1.0, 85), (1.0, 72), (0.9, 72), (0.8, 66), (0.7, 60), (0.6, 60), (0.5, 60))
"""Size and quality, tried in turn until the picture is small enough."""
DPI = 110
ACROSS = 4
TILE, TEXT, HEAD, PAD = 2.2, 0.4, 0.72, 0.12
"""Inches: a tile, the words below it, the title, the gap."""
RING = 1.2
"""Across a ring [Å]."""


def add_gallery(folder: Path, *datasets: str | Path) -> Card:
    """Return the card of the bundle in `folder` once it shows where the model fails on `datasets`, which no training saw.

    Draws `failures.jpg` into the folder, lists it with its hash, and adds the section of prose that shows it: for a version that is not
    published yet. Raises: DatasetError, ModelError; CardError if the card lists such a picture already; OutputError.
    """
    bundle = Bundle.load(folder)
    if bundle.spec.task == "encoding":
        encoder = Encoder(bundle)
        encoded = [frame for dataset in datasets for frame in encoded_frames(encoder, dataset, turns=())]
        return show_failures(folder, encoder_failures(encoder, encoded))
    segmenter = Segmenter(bundle)
    found = [segmenter_failures(segmenter, dataset, list(frame_scores(segmenter, dataset))) for dataset in datasets]
    return show_failures(folder, sorted((failure for part in found for failure in part), key=lambda failure: failure.f1)[:MOST])


def show_failures(folder: Path, failures: Sequence[Failure] | Sequence[PoorFit]) -> Card:
    """As `add_gallery`, of failures that were found before."""
    card, _ = read_card(folder)
    draw_gallery(failures, f"Where {card.id} fails", folder / PICTURE)
    return add_picture(folder, PICTURE, words_of(failures, PICTURE))


def draw_gallery(failures: Sequence[Failure] | Sequence[PoorFit], title: str, path: str | Path) -> Path:
    """Write the picture, a JPEG of at most 190 kB, and return its path. Raises: OutputError."""
    path = Path(path)
    if path.suffix.lower() != ".jpg":
        raise OutputError(f"{path}: a gallery is a JPEG, for its size; wanted a name that ends in .jpg")
    with matplotlib.rc_context(style.FONT):
        segmenter = [failure for failure in failures if isinstance(failure, Failure)]
        figure = _frames(segmenter, title) if segmenter else _subimages([fit for fit in failures if isinstance(fit, PoorFit)], title)
        figure.canvas.draw()
        picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])  # type: ignore[attr-defined]
    try:
        path.write_bytes(_small(picture))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another file") from None
    return path


def _small(picture: Image.Image) -> bytes:
    """Return the picture as JPEG, shrunk until it is small enough; its colours are not thinned out, so that rings keep theirs."""
    for shrink, quality in STEPS:
        shown = picture.resize((round(picture.width * shrink), round(picture.height * shrink)), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        shown.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()


def _canvas(width: float, height: float, title: str, note: str) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=style.PAPER)
    FigureCanvasAgg(figure)
    figure.text(PAD / width, 1 - 0.24 / height, title, color=style.INK, fontsize=13, fontweight="bold", va="center")
    figure.text(PAD / width, 1 - 0.50 / height, note, color=style.MUTED, fontsize=9.5, va="center")
    return figure


def _axes(figure: Figure, left: float, top: float, side: float) -> Axes:
    """Return a square axes `side` wide whose upper left corner lies at `left`, `top` below the figure's own [inch]."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))
    style.bare(axes)
    return axes


def _frames(failures: Sequence[Failure], title: str) -> Figure:
    across = min(ACROSS, len(failures))
    down = -(-len(failures) // across)
    width, height = max(across * (TILE + PAD) + PAD, 3 * TILE), HEAD + down * (TILE + TEXT + PAD)
    figure = _canvas(width, height, title, "the worst held-back frames of each material, where most is wrong")
    _legend(figure, (("○ missed", MISSED), ("□ false", FALSE), ("• right", RIGHT)))
    for number, failure in enumerate(failures):
        left, top = PAD + number % across * (TILE + PAD), HEAD + number // across * (TILE + TEXT + PAD)
        axes = _axes(figure, left, top, TILE)
        style.show_image(axes, failure.image)
        ring: dict[str, Any] = {"facecolors": "none", "linewidths": 1.2, "zorder": 4}
        points = 72 * TILE / max(failure.image.shape)
        area = (RING / failure.pixel_size * points) ** 2
        for yx, colour, marker in ((failure.missed_yx, MISSED, "o"), (failure.false_yx, FALSE, "s")):
            axes.scatter(yx[:, 1], yx[:, 0], s=area, edgecolors=colour, marker=marker, **ring)
        axes.scatter(failure.right_yx[:, 1], failure.right_yx[:, 0], s=3.5, color=RIGHT, linewidths=0, zorder=3)
        axes.set_xlim(-0.5, failure.image.shape[1] - 0.5)
        axes.set_ylim(failure.image.shape[0] - 0.5, -0.5)
        style.scale_bar(axes, failure.image.shape[1], failure.pixel_size)
        dose = f", {failure.counts_per_column:.0f} counts" if np.isfinite(failure.counts_per_column) else ""
        _caption(figure, left, top + TILE, f"{failure.material}{dose}", style.INK)
        words = f"F1 {failure.f1:.3f}: {failure.missed} missed, {failure.false} false of {failure.placed}"
        _caption(figure, left, top + TILE + 0.17, words, style.MUTED)
    return figure


def _subimages(fits: Sequence[PoorFit], title: str) -> Figure:
    side, head = 1.45, HEAD + 0.05
    block = 2 * side + 0.62
    across = max((len(fit.images) for fit in fits), default=1)
    width, height = max(across * (side + PAD) + PAD, 4.5), head + max(len(fits), 1) * block
    figure = _canvas(width, height, title, "the sub-images that the decoder explains least, above what it draws of them; held back")
    for row, fit in enumerate(fits):
        top = head + row * block
        _caption(figure, PAD, top - 0.12, f"{fit.material}: median share explained {fit.typical:.2f}", style.INK)
        for number, (image, pattern) in enumerate(zip(fit.images, fit.patterns, strict=True)):
            left = PAD + number * (side + PAD)
            for shown, y in ((image, top + 0.12), (pattern, top + 0.14 + side)):
                style.show_image(_axes(figure, left, y, side), shown, cmap="inferno")
            _caption(figure, left, top + 0.14 + 2 * side, f"{fit.explained[number]:.2f}, σ {fit.sigma_deg[number]:.1f}°", style.MUTED)
    return figure


def _legend(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    """Write words in their colours on the title's line, up to the figure's right edge."""
    width, height = figure.get_size_inches()
    right = width - PAD
    for words, colour in reversed(entries):
        place = {"x": right / width, "y": 1 - 0.24 / height, "ha": "right", "va": "center"}
        text = figure.text(**place, s=words, color=colour, fontsize=9.5, fontweight="bold")
        right -= text.get_window_extent().width / figure.dpi + 1.5 * PAD


def _caption(figure: Figure, left: float, top: float, words: str, colour: str) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - (top + 0.13) / height, words, color=colour, fontsize=8.5, va="center")
