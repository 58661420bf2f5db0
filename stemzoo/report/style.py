"""How every figure looks: palette, cyclic colours, contrast, scale bars, cards. Owns no physics; matplotlib with the Agg canvas only.

A *card* is a dark figure with a title; a *plate* is a card with three places: the whole field on the left, a magnified part on the upper
right, a legend on the lower right. Called by `report.figures`, `report.plots` and `report.patterns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stemzoo.report.pixels import Pixels, coloured

DPI = 130
PAD = 0.28  # between the parts of a card [inch]
PAPER, PANEL, INK, MUTED, EDGE, GRID = "#12161b", "#0a0d10", "#e9edf1", "#93a0ad", "#2a323b", "#1b2229"
ALARM = "#ff5d5d"
CLASS_COLOURS = ("#56b4e9", "#f5a623", "#39c08f", "#e38bc0", "#f0e442", "#b59cff", "#ff8f6b", "#c9d1d9")
PLOT_INK, PLOT_MUTED, PLOT_GRID, PLOT_FILL, PLOT_MARK = "#1b2430", "#5d6977", "#e3e7ec", "#2f7fb8", "#d1495b"
LATENT_MAP, PROBABILITY_MAP = "viridis", "magma"
FONT: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 11,
    "axes.unicode_minus": True,
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "none",
    "svg.hashsalt": "stemzoo",
    "path.simplify": True,
    "agg.path.chunksize": 20000,
}
STEPS = (1.0, 2.0, 5.0)
SHOWN_PX = 1200
CHROMA = 0.112


@cache
def cyclic_map() -> ListedColormap:
    """Return a cyclic colour map: even hue steps in OKLCh, lightness rising once a turn so that it also reads without hue.

    Source: B. Ottosson, "A perceptual color space for image processing" (2020), for OKLab to linear sRGB.
    """
    turn = np.linspace(0, 2 * np.pi, 512, endpoint=False)
    hue = turn + np.deg2rad(30)
    lightness = 0.70 + 0.13 * np.cos(hue - np.deg2rad(105))
    a, b = CHROMA * np.cos(hue), CHROMA * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=1,
    ).clip(0, 1)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return ListedColormap(gamma.tolist(), name="stemzoo_cyclic")


def robust_limits(values: np.ndarray, low: float = 1.0, high: float = 99.0) -> tuple[float, float]:
    """Return the percentiles `low` and `high` of the finite values, never equal: colour limits that a few outliers cannot move."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    bottom, top = (float(v) for v in np.percentile(finite, [low, high]))
    return (bottom, top) if top > bottom else (bottom - 0.5, top + 0.5)


def nice_length(span: float) -> float:
    """Return the largest of 1, 2, 5 × 10ᵏ that is at most `span`.

    >>> nice_length(37.0), nice_length(0.9)
    (20.0, 0.5)
    """
    decade = 10.0 ** np.floor(np.log10(span))
    return float(max(step * decade for step in (0.5, *STEPS) if step * decade <= span * (1 + 1e-9)))


def scale_bar(axes: Axes, width_px: float, pixel_size: float | None) -> None:
    """Draw a bar of a round length at the lower left of an axes `width_px` wide: nm or Å where the pixel size [Å/px] is known, else px."""
    per_px, unit = (1.0, "px") if pixel_size is None else (pixel_size / 10, "nm")
    length = nice_length(0.24 * width_px * per_px)
    label = f"{length:g} {unit}"
    if unit == "nm" and length < 1:
        label = f"{10 * length:g} Å"
    fraction = length / (width_px * per_px)
    x, y, tall = 0.035, 0.04, 0.011
    box = axes.get_window_extent()
    tall *= box.width / box.height
    inside: dict[str, Any] = {"transform": axes.transAxes, "linewidth": 0}
    axes.add_patch(Rectangle((x - 0.015, y - 0.022), fraction + 0.03, 0.092, facecolor="#000000", alpha=0.55, zorder=8, **inside))
    axes.add_patch(Rectangle((x, y), fraction, tall, facecolor="white", zorder=9, **inside))
    said: dict[str, Any] = {"color": "white", "ha": "center", "va": "bottom", "fontsize": 11.5}
    axes.text(x + fraction / 2, y + tall + 0.008, label, transform=axes.transAxes, zorder=9, **said)


def show_image(
    axes: Axes,
    image: np.ndarray,
    *,
    limits: tuple[float, float] | None = None,
    cmap: str = "gray",
    dim: float = 1.0,
    shape: tuple[int, ...] | None = None,
) -> None:
    """Show an image in the pixel coordinates of a frame of `shape` (the image's own if None).

    Large images are averaged down first; colours end at the 0.3rd and 99.7th percentile unless `limits` are given; `dim` < 1 darkens.
    """
    height, width = image.shape if shape is None else shape
    step = int(np.ceil(max(image.shape) / SHOWN_PX))
    shown = image
    if step > 1:
        rows, cols = image.shape[0] // step * step, image.shape[1] // step * step
        shown = image[:rows, :cols].reshape(rows // step, step, cols // step, step).mean(axis=(1, 3))
        height, width = height * rows / image.shape[0], width * cols / image.shape[1]
    bottom, top = robust_limits(shown, 0.3, 99.7) if limits is None else limits
    top = bottom + (top - bottom) / dim
    axes.add_artist(Pixels(coloured(shown, cmap, (bottom, top)), (-0.5, width - 0.5, height - 0.5, -0.5), smooth=True))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")


def panels(figure: Figure) -> Axes:
    """Return an axes over all of a figure in inches from its lower left corner, which takes any number of panels: an axes a panel would
    take longer than what is in it."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, figure.get_figwidth()), ylim=(0, figure.get_figheight()))
    return axes


def panel(axes: Axes, left: float, bottom: float, side: float, image: np.ndarray, cmap: str, limits: tuple[float, float]) -> None:
    """Show an image as a framed square of `side` inches on the axes of `panels`."""
    axes.add_artist(Pixels(coloured(image, cmap, limits), (left, left + side, bottom, bottom + side)))
    axes.add_artist(Rectangle((left, bottom), side, side, fill=False, edgecolor=EDGE, linewidth=0.8))


def bare(axes: Axes, edge: str = EDGE) -> None:
    """Take ticks away and draw a fine frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(PANEL)
    for spine in axes.spines.values():
        spine.set_color(edge)
        spine.set_linewidth(0.8)


@dataclass(frozen=True, slots=True)
class Plate:
    """A dark card and its three places; `points_per_px` is the size of a frame pixel on `field` in typographic points."""

    figure: Figure
    field: Axes
    zoom: Axes
    legend: Axes
    points_per_px: float


def card(width: float, height: float, title: str, caption: str) -> Figure:
    """Return a dark figure [inch] with a title and a caption at its upper left, down to 0.7 inch below its upper edge."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.text(PAD / width, 1 - 0.30 / height, title, color=INK, fontsize=15, fontweight="bold", va="center")
    figure.text(PAD / width, 1 - 0.57 / height, caption, color=MUTED, fontsize=10.5, va="center")
    return figure


def dark_axes(axes: Axes, names: tuple[str, str]) -> None:
    """Style an axes for a card: a panel with a quiet grid behind the data, named along x and y."""
    axes.set_facecolor(PANEL)
    for spine in axes.spines.values():
        spine.set_color(EDGE)
    axes.tick_params(colors=MUTED, labelsize=10, length=3)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(names[0], color=INK)
    axes.set_ylabel(names[1], color=INK)


def plate(shape: tuple[int, int], title: str, caption: str) -> Plate:
    """Return an empty plate whose field has the aspect of a frame of `shape` (H, W)."""
    height, width = shape
    aspect = width / height
    field_w, field_h = (7.4, 7.4 / aspect) if aspect >= 1 else (max(7.4 * aspect, 3.0), 7.4)
    field_h = max(field_h, 4.6)
    side, pad, head = 3.25, PAD, 0.78
    total_w, total_h = field_w + side + 3 * pad, field_h + head + pad
    figure = card(total_w, total_h, title, caption)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / total_w, y / total_h, w / total_w, h / total_h))

    field = place(pad, pad, field_w, field_h)
    zoom = place(2 * pad + field_w, pad + field_h - side, side, side)
    legend = place(2 * pad + field_w, pad, side, max(field_h - side - pad, 0.9))
    bare(field)
    bare(zoom)
    legend.set_axis_off()
    shown_px = max(width / field_w, height / field_h)
    return Plate(figure, field, zoom, legend, 72 / shown_px)


def light_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a white figure [inch] with one axes in the plots' style."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    light_axes(axes)
    return figure, axes


def light_axes(axes: Axes) -> None:
    """Style an axes for white paper: two fine spines, a quiet grid."""
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PLOT_MUTED)
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(colors=PLOT_MUTED, labelsize=10, length=3, width=0.8)
    axes.yaxis.grid(True, color=PLOT_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(PLOT_INK)
    axes.yaxis.label.set_color(PLOT_INK)
