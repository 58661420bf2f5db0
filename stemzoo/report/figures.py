"""Plates of the field: the frame with its columns, the segmentation, and maps of angle and latents. Each returns a matplotlib Figure.

A map fills each column's neighbourhood with the column's colour (nearest column, cut off at about one spacing), so that layers,
domains and single columns read at any magnification. Called by `report.pictures`; saving is there.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from stemzoo.report import style
from stemzoo.report.field import Field
from stemzoo.report.legends import GREY_ROW, GREYS, OUTSIDE_GREY, class_legend, grey_legend, histogram_legend, wheel
from stemzoo.report.pixels import Pixels, coloured
from stemzoo.report.summary import thousands
from stemzoo.types import Columns, Encoding

UNCERTAIN = 1 / 8
CONTOURS = ((0.25, "#7b3f9d"), (0.5, "#e8537a"), (0.75, "#fed395"))
FAINT = 0.02


def frame_figure(field: Field) -> Figure:
    """Return the frame with a mark at every column, coloured by class; failed fits are crossed."""
    n = len(field.columns)
    failed = int((~field.columns.fit_ok).sum())
    plate = style.plate(field.image.shape, "Atomic columns", f"{thousands(n)} columns, {field.name}")
    _background(plate, field)
    colours = _class_colours(field.columns)
    points = field.spacing_px * plate.points_per_px
    ring = points > 7
    _marks(plate.field, field.columns, colours, size=0.42 * points if ring else max(0.34 * points, 1.1), ring=ring)
    zoom_points = field.spacing_px * _zoom_points(plate, field)
    _marks(plate.zoom, field.columns, colours, size=0.46 * zoom_points, ring=True, centre=True)
    rows = [(name, colour, int(count)) for name, colour, count in _class_rows(field.columns)]
    if failed:
        rows.append(("fit failed", style.ALARM, failed))
    class_legend(plate.legend, rows)
    return plate.figure


def segmentation_figure(field: Field, probability: np.ndarray) -> Figure:
    """Return the probability of a column, on its own and as contours over the magnified frame.

    Args: probability: (h, w) in [0, 1], over the whole frame at any sampling, as the network saw it.
    """
    plate = style.plate(field.image.shape, "Segmentation", f"Probability that a column is there, {field.name}")
    style.show_image(plate.field, probability, limits=(0.0, 1.0), cmap=style.PROBABILITY_MAP, shape=field.image.shape)
    _show_zoom(plate, field)
    y0, x0, side = field.zoom
    y = (np.arange(probability.shape[0]) + 0.5) * field.image.shape[0] / probability.shape[0] - 0.5
    x = (np.arange(probability.shape[1]) + 0.5) * field.image.shape[1] / probability.shape[1] - 0.5
    rows, cols = (y >= y0 - 1) & (y <= y0 + side + 1), (x >= x0 - 1) & (x <= x0 + side + 1)
    part = probability[np.ix_(rows, cols)]
    crossed = [(level, colour) for level, colour in CONTOURS if part.size and part.min() < level < part.max()]
    if min(part.shape) >= 2 and crossed:
        plate.zoom.contour(x[cols], y[rows], part, levels=[c[0] for c in crossed], colors=[c[1] for c in crossed], linewidths=1.1)
    _finish(plate, field)
    shown = probability[probability > FAINT]
    histogram_legend(
        plate.legend, shown, style.PROBABILITY_MAP, (0.0, 1.0), f"probability (pixels above {FAINT}, logarithmic)", log=len(shown) > 0
    )
    return plate.figure


def angle_figure(field: Field, encoding: Encoding) -> Figure:
    """Return the map of angles in cyclic colours, with a wheel that shows which direction a colour means and how often it occurs."""
    colours, order, cause = angle_colours(encoding)
    modulo = "" if order == 1 else f", known modulo {360 / order:g}°"
    plate = style.plate(field.image.shape, "Angle", f"Turn of each local pattern from the reference of its kind, counter-clockwise{modulo}")
    _map(plate, field, colours)
    _arms(plate, field, encoding, colours, order)
    greys = np.bincount(cause[cause >= 0], minlength=len(GREYS))
    wheel(plate.legend, np.asarray(encoding.angle)[cause < 0], order, foot=GREY_ROW * (greys > 0).sum())
    grey_legend(plate.legend, greys)
    return plate.figure


def angle_colours(encoding: Encoding) -> tuple[np.ndarray, int, np.ndarray]:
    """Return RGBA (N, 4) by angle modulo 2π/n, the n that most columns have, and why a column is grey: an index into `GREYS`, or -1."""
    known = np.isfinite(encoding.angle)
    symmetry = np.asarray(encoding.symmetry, dtype=np.int64)
    order = int(np.bincount(symmetry[known]).argmax()) if known.any() else 1
    unsure = np.asarray(encoding.angle_sigma) > UNCERTAIN * 2 * np.pi / np.maximum(symmetry, 1)
    cause = np.select([~known, unsure, symmetry != order], [0, 1, 2], -1)
    colours = np.asarray(style.cyclic_map()((np.nan_to_num(encoding.angle) * order / (2 * np.pi)) % 1.0))
    for number, (_, grey) in enumerate(GREYS):
        colours[cause == number] = to_rgba(grey)
    return colours, order, cause


def latent_figure(field: Field, values: np.ndarray, number: int) -> Figure:
    """Return the map of latent `number` (from 1); `values` (n,) in the order of the columns. Colours end at the 1st and 99th percentile."""
    limits = style.robust_limits(values)
    caption = "Local structure with the rotation taken out; colours from the 1st to the 99th percentile"
    plate = style.plate(field.image.shape, f"Latent {number}", caption)
    colours = latent_colours(values, limits)
    _map(plate, field, colours)
    _dots(plate, field, colours)
    histogram_legend(plate.legend, values, style.LATENT_MAP, limits, f"z{number}")
    return plate.figure


def show_classes(field: Field, colours: np.ndarray, rows: list[tuple[str, str, int]], title: str, caption: str) -> Figure:
    """Return the map of columns by RGBA (n, 4), with a list of (name, colour, count) as its key."""
    plate = style.plate(field.image.shape, title, caption)
    _map(plate, field, colours)
    _dots(plate, field, colours)
    class_legend(plate.legend, rows)
    return plate.figure


def _background(plate: style.Plate, field: Field, dim: float = 1.0) -> None:
    style.show_image(plate.field, field.image, dim=dim)
    _show_zoom(plate, field)
    _finish(plate, field)


def _show_zoom(plate: style.Plate, field: Field) -> None:
    """Show the magnified part at full resolution and with its own contrast."""
    y0, x0, side = field.zoom
    top, left = max(int(y0), 0), max(int(x0), 0)
    part = field.image[top : int(y0 + side) + 2, left : int(x0 + side) + 2]
    extent = (left - 0.5, left + part.shape[1] - 0.5, top + part.shape[0] - 0.5, top - 0.5)
    limits = style.robust_limits(part, 0.3, 99.7)
    plate.zoom.add_artist(Pixels(coloured(part, "gray", limits), extent))


def _finish(plate: style.Plate, field: Field) -> None:
    """Set both views, draw the scale bars and the outline of the magnified part."""
    height, width = field.image.shape
    y0, x0, side = field.zoom
    plate.field.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    plate.zoom.set(xlim=(x0, x0 + side), ylim=(y0 + side, y0))
    plate.field.set_anchor("C")
    style.scale_bar(plate.field, width, field.pixel_size)
    style.scale_bar(plate.zoom, side, field.pixel_size)
    plate.field.add_patch(Rectangle((x0, y0), side, side, fill=False, edgecolor="white", linewidth=1.2, alpha=0.9, zorder=7))
    style.bare(plate.zoom, edge="#c3cad2")


def _zoom_points(plate: style.Plate, field: Field) -> float:
    """Typographic points per frame pixel in the magnified view."""
    inches = plate.zoom.get_position().width * plate.figure.get_figwidth()
    return float(inches * 72 / field.zoom[2])


def _class_colours(columns: Columns) -> np.ndarray:
    palette = np.array([to_rgba(c) for c in style.CLASS_COLOURS])
    return np.asarray(palette[columns.species % len(palette)])


def _class_rows(columns: Columns) -> list[tuple[str, str, int]]:
    counts = np.bincount(columns.species, minlength=len(columns.classes))
    return [(name, style.CLASS_COLOURS[k % len(style.CLASS_COLOURS)], int(counts[k])) for k, name in enumerate(columns.classes)]


def _marks(axes: Axes, columns: Columns, colours: np.ndarray, *, size: float, ring: bool, centre: bool = False) -> None:
    """Draw a ring or dot of `size` points at every column, one scatter a class, and a cross where the fit failed."""
    ok = columns.fit_ok
    for kind in np.unique(columns.species):
        chosen = ok & (columns.species == kind)
        if not chosen.any():
            continue
        y, x = columns.yx[chosen].T
        colour = tuple(colours[chosen][0])
        if ring:
            axes.scatter(x, y, s=size**2, facecolors="none", edgecolors=[colour], linewidths=0.8 if not centre else 1.4, zorder=4)
        if centre or not ring:
            axes.scatter(x, y, s=(3.0 if centre else size) ** 2, facecolors=[colour], edgecolors="none", zorder=5)
    if (~ok).any():
        y, x = columns.yx[~ok].T
        axes.scatter(x, y, s=max(0.7 * size, 3.5) ** 2, marker="x", c=style.ALARM, linewidths=1.3, zorder=6)


def _map(plate: style.Plate, field: Field, colours: np.ndarray) -> None:
    """Fill the field with the columns' RGBA colours over the dimmed frame."""
    _background(plate, field, dim=0.45)
    paint(plate.field, field, colours)


def paint(axes: Axes, field: Field, colours: np.ndarray) -> None:
    """Fill an axes in the frame's pixels with the columns' RGBA colours, each over its neighbourhood."""
    height, width = field.image.shape
    table = (np.vstack([colours, np.zeros((1, 4))]) * 255).astype(np.uint8)
    picture = table.view(np.uint32)[field.cells].view(np.uint8)  # a colour taken as one number is taken quicker
    axes.add_artist(Pixels(Image.fromarray(picture), (-0.5, width - 0.5, height - 0.5, -0.5), zorder=2))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")


def _dots(plate: style.Plate, field: Field, colours: np.ndarray) -> None:
    """Put coloured dots with a dark rim on the magnified frame."""
    size = 0.34 * field.spacing_px * _zoom_points(plate, field)
    y, x = field.columns.yx.T
    seen = _seen(field)
    plate.zoom.scatter(x[seen], y[seen], s=size**2, c=colours[seen], edgecolors="#000000", linewidths=0.7, zorder=4)


def _arms(plate: style.Plate, field: Field, encoding: Encoding, colours: np.ndarray, order: int) -> None:
    """Draw each column's direction in the magnified frame: one arm for n = 1, n arms for n-fold symmetry."""
    seen = _seen(field) & np.isfinite(encoding.angle)
    y, x = field.columns.yx[seen].T
    turns = np.asarray(encoding.angle)[seen][:, None] + 2 * np.pi * np.arange(order) / order
    reach = 0.36 * field.spacing_px
    start = np.repeat(np.stack([x, y], axis=1)[:, None], order, axis=1)
    arms = np.stack([start, start + reach * np.stack([np.cos(turns), -np.sin(turns)], axis=-1)], axis=2).reshape(-1, 2, 2)
    rgba = np.repeat(colours[seen], order, axis=0)
    plate.zoom.add_collection(LineCollection(list(arms), colors="#000000", linewidths=4.2, capstyle="round", zorder=3))
    plate.zoom.add_collection(LineCollection(list(arms), colors=[tuple(c) for c in rgba], linewidths=2.4, capstyle="round", zorder=4))
    plate.zoom.scatter(x, y, s=16, c=colours[seen], edgecolors="#000000", linewidths=0.6, zorder=5)


def _seen(field: Field) -> np.ndarray:
    y0, x0, side = field.zoom
    yx = field.columns.yx
    margin = 0.5 * field.spacing_px
    return np.asarray(np.all((yx >= np.array([y0, x0]) - margin) & (yx <= np.array([y0, x0]) + side + margin), axis=1))


def latent_colours(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Return RGBA (n, 4), grey where a value is unknown; `limits` default to the 1st and 99th percentile."""
    from matplotlib import colormaps

    low, high = style.robust_limits(values) if limits is None else limits
    chosen: Colormap = colormaps[style.LATENT_MAP]
    rgba = np.asarray(chosen(np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1)))
    rgba[~np.isfinite(values)] = to_rgba(OUTSIDE_GREY)
    return rgba
