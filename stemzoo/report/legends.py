"""What a plate's colours mean: classes with their counts, a histogram in the map's colours, the wheel of angles, the greys.

Called by report.figures, each on the place that a plate keeps for its legend.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from PIL import Image

from stemzoo.report import style
from stemzoo.report.pixels import Pixels
from stemzoo.report.summary import thousands

UNSURE_GREY, OUTSIDE_GREY = "#6b7580", "#343c44"
GREYS = (("window over the edge", OUTSIDE_GREY), ("angle unsure", UNSURE_GREY), ("another symmetry", "#b9c2ca"))  # why an angle has no hue
GREY_ROW = 0.062  # height of a line that explains a grey, as a share of the legend


def class_legend(axes: Axes, rows: list[tuple[str, str, int]]) -> None:
    """List the classes with colour and count from the top."""
    axes.set(xlim=(0, 1), ylim=(0, 1))
    box = axes.get_window_extent()
    step = 0.27 * style.DPI / box.height
    for k, (name, colour, count) in enumerate(rows[: max(int(1 / step), 1)]):
        y = 1 - (k + 0.6) * step
        marker = "x" if colour == style.ALARM else "o"
        if marker == "x":
            axes.scatter([0.03], [y], s=52, marker=marker, c=colour, linewidths=1.8)
        else:
            axes.scatter([0.03], [y], s=52, facecolors="none", edgecolors=colour, linewidths=1.8)
        axes.text(0.10, y, name, color=style.INK, va="center", fontsize=11.5)
        axes.text(1.0, y, thousands(count), color=style.MUTED, va="center", ha="right", fontsize=11.5)


def histogram_legend(axes: Axes, values: np.ndarray, cmap: str, limits: tuple[float, float], label: str, log: bool = False) -> None:
    """Draw a histogram whose bars carry the map's colours: legend and distribution in one."""
    from matplotlib import colormaps

    bottom, top = limits
    pad = 0.06 * (top - bottom)
    counts, edges = np.histogram(values[np.isfinite(values)], bins=56, range=(bottom - pad, top + pad))
    inner = axes.inset_axes((0.0, 0.19, 1.0, 0.79))
    colours = colormaps[cmap](np.clip((0.5 * (edges[:-1] + edges[1:]) - bottom) / (top - bottom), 0, 1))
    foot, heights = np.zeros(len(counts)), counts.astype(float)
    corners = [(edges[:-1], foot), (edges[1:], foot), (edges[1:], heights), (edges[:-1], heights)]
    bars = np.stack([np.stack(xy, axis=1) for xy in corners], axis=1)
    inner.add_collection(PolyCollection(list(bars), facecolors=[tuple(c) for c in colours], linewidths=0))
    inner.stairs(counts, edges, color=style.MUTED, linewidth=0.8)
    inner.set_xlim(edges[0], edges[-1])
    if log:
        inner.set_yscale("log")
        inner.minorticks_off()
    inner.set_facecolor("none")
    inner.set_yticks([])
    for name, spine in inner.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(style.MUTED)
    inner.tick_params(colors=style.MUTED, labelsize=10, length=3)
    inner.set_xlabel(label, color=style.INK, fontsize=11)


def wheel(axes: Axes, angles: np.ndarray, order: int, foot: float) -> None:
    """Draw the colour wheel (n repeats for n-fold symmetry) with the distribution of angles inside it, above a share `foot` of the axes."""
    box = axes.get_window_extent()
    side = min((1 - foot) * box.height, box.width) * 0.94
    middle = foot + (1 - foot) / 2
    wheel = axes.inset_axes((0.5 - side / 2 / box.width, middle - side / 2 / box.height, side / box.width, side / box.height))
    wheel.set(xlim=(-1.32, 1.32), ylim=(-1.32, 1.32), aspect="equal")
    wheel.set_axis_off()
    y, x = np.mgrid[1.1:-1.1:320j, -1.1:1.1:320j]
    radius, turn = np.hypot(y, x), np.arctan2(y, x)
    rgba = style.cyclic_map()((turn * order / (2 * np.pi)) % 1.0, bytes=True)
    rgba[..., 3] = 255 * np.clip((1.0 - radius) * 80, 0, 1) * np.clip((radius - 0.84) * 80, 0, 1)
    wheel.add_artist(Pixels(Image.fromarray(rgba), (-1.1, 1.1, -1.1, 1.1), smooth=True, zorder=2))
    bins = 72
    edges = np.linspace(0, 2 * np.pi, bins + 1)
    period = 2 * np.pi / order
    folded = (np.asarray(angles) % period)[:, None] + period * np.arange(order)
    counts, _ = np.histogram(folded % (2 * np.pi), bins=edges)
    reach = 0.80 * np.sqrt(counts / max(counts.max(), 1))
    rim = np.stack([np.cos(edges), np.sin(edges)], axis=1)
    corners = np.stack([rim[:-1], rim[1:]], axis=1)
    wedges = np.concatenate([np.zeros((bins, 1, 2)), corners * reach[:, None, None]], axis=1)
    shades = style.cyclic_map()((0.5 * (edges[:-1] + edges[1:]) / period) % 1.0)
    wheel.add_collection(PolyCollection(list(wedges), facecolors=[tuple(c) for c in shades], edgecolors="none", zorder=3))
    for degrees, said in ((0, "0°"), (90, "90°"), (180, "±180°"), (270, "−90°")):
        at = np.deg2rad(degrees)
        wheel.text(1.17 * np.cos(at), 1.17 * np.sin(at), said, color=style.MUTED, fontsize=10, ha="center", va="center")


def grey_legend(axes: Axes, counts: np.ndarray) -> None:
    """Say, below the wheel, what each grey means and how many columns have it."""
    rows = [(said, grey, int(count)) for (said, grey), count in zip(GREYS, counts, strict=True) if count]
    for k, (said, grey, count) in enumerate(reversed(rows)):
        y = 0.01 + GREY_ROW * k
        axes.scatter([0.02], [y], s=34, marker="s", c=grey, edgecolors=style.EDGE, transform=axes.transAxes, clip_on=False)
        axes.text(0.05, y, f"{thousands(count)} {said}", transform=axes.transAxes, color=style.MUTED, fontsize=9.5, va="center")
