"""What the latents mean, in pictures: their scatter, the decoder's manifold, and class averages beside reconstructions.

Patterns are drawn turned to the gauge (angle 0), so that neighbouring panels differ only in structure. Called by `report.pictures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stemzoo.report import style
from stemzoo.report.inputs import Decode
from stemzoo.report.pixels import Pixels, coloured
from stemzoo.report.summary import thousands
from stemzoo.types import Encoding, SubImages

GRID = 9
GROUPS = 6
PER_GROUP = 200
PATTERN_MAP = "inferno"


@dataclass(frozen=True, slots=True)
class Group:
    """Columns with like latents: how many, and (S, S) averages before and after turning to the gauge."""

    label: str
    count: int
    turned: np.ndarray
    reconstruction: np.ndarray | None


def scatter_figure(encoding: Encoding) -> Figure:
    """Return the first two latents, a dot a column: by density on the left, by angle on the right. One latent stands against the angle.

    Every row's angle and latents are finite.
    """
    latents = encoding.latents
    two = latents.shape[1] >= 2
    x, y = (latents[:, 0], latents[:, 1]) if two else (latents[:, 0], np.rad2deg(encoding.folded))
    names = ("z1", "z2") if two else ("z1", "angle [°]")
    order = int(np.bincount(np.asarray(encoding.symmetry, dtype=np.int64)).argmax()) if len(encoding) else 1
    hue = style.cyclic_map()((np.asarray(encoding.angle) * order / (2 * np.pi)) % 1.0)
    size = float(np.clip(9000 / max(len(x), 1), 2.0, 26.0))
    figure = style.card(11.2, 5.6, "Latent space", f"{thousands(len(x))} columns; left: density, right: coloured by angle")
    for k, colours in enumerate((_density_colours(x, y), hue)):
        axes = figure.add_axes((0.075 + 0.485 * k, 0.12, 0.42, 0.71))
        style.dark_axes(axes, names)
        axes.set(xlim=_limits(x), ylim=_limits(y))
        axes.scatter(x, y, s=size, c=colours, linewidths=0, alpha=0.9, rasterized=True)
    return figure


def manifold_figure(encoding: Encoding, decode: Decode) -> Figure:
    """Return what the decoder draws over the plane of the first two latents (one latent: over a line), turned to the gauge."""
    latents = np.asarray(encoding.latents, dtype=np.float64)
    middle = np.median(latents, axis=0)
    spans = [np.linspace(*style.robust_limits(latents[:, k], 2, 98), GRID) for k in range(min(2, latents.shape[1]))]
    rows = GRID if len(spans) == 2 else 1
    points = np.tile(middle, (rows * GRID, 1))
    points[:, 0] = np.tile(spans[0], rows)
    if rows > 1:
        points[:, 1] = np.repeat(spans[1][::-1], GRID)
    patterns = decode(points.astype(np.float32), np.zeros(len(points), dtype=np.float32))
    size = patterns.shape[1]
    gap = max(size // 16, 1)
    tile = np.full((rows * (size + gap) - gap, GRID * (size + gap) - gap), np.nan)
    for k, pattern in enumerate(patterns):
        top, left = (k // GRID) * (size + gap), (k % GRID) * (size + gap)
        tile[top : top + size, left : left + size] = pattern
    side, head, pad = 7.0, 0.85, 0.9
    tall = side * tile.shape[0] / tile.shape[1]
    width, height = 11.2, tall + head + pad  # as wide as the other plates, so that the page shows its text as large as theirs
    note = "Patterns the decoder draws over the latents, each at the reference angle of its own kind"
    figure = style.card(width, height, "Latent manifold", note)
    axes = figure.add_axes(((width - side) / 2 / width, pad / height, side / width, tall / height))
    finite = tile[np.isfinite(tile)]
    top_value = float(np.percentile(finite, 99.8))
    tall_px, wide_px = tile.shape
    axes.add_artist(Pixels(coloured(tile, PATTERN_MAP, (float(finite.min()), top_value)), (-0.5, wide_px - 0.5, tall_px - 0.5, -0.5)))
    axes.set(xlim=(-0.5, wide_px - 0.5), ylim=(tall_px - 0.5, -0.5))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor(style.PAPER)
    centres = (np.arange(GRID) + 0.5) * (size + gap) - gap / 2 - 0.5
    axes.set_xticks(centres[::2], [_signed(v) for v in spans[0][::2]])
    axes.set_xlabel("z1", color=style.INK)
    axes.set_yticks(centres[:rows:2] if rows > 1 else [], [_signed(v) for v in spans[1][::-1][::2]] if rows > 1 else [])
    if rows > 1:
        axes.set_ylabel("z2", color=style.INK)
    axes.tick_params(colors=style.MUTED, length=0, labelsize=10)
    return figure


def groups_of(encoding: Encoding, subimages: SubImages, decode: Decode | None, latent: int = 0) -> tuple[Group, ...]:
    """Return the columns in up to six groups of equal count along one latent, averaged after turning each to the gauge.

    Only windows wholly inside the frame take part; at most 200 a group, spread evenly.
    """
    chosen = np.flatnonzero(np.asarray(subimages.inside) & np.isfinite(encoding.angle) & np.isfinite(encoding.latents).all(axis=1))
    if len(chosen) == 0:
        return ()
    ranked = chosen[np.argsort(encoding.latents[chosen, latent], kind="stable")]
    groups = []
    for members in np.array_split(ranked, min(GROUPS, len(ranked))):
        part = members[:: max(len(members) // PER_GROUP, 1)]
        turned = turn(subimages.data[part], -np.asarray(encoding.angle)[part]).mean(axis=0)
        centre = np.median(encoding.latents[members], axis=0, keepdims=True).astype(np.float32)
        drawn = decode(centre, np.zeros(1, dtype=np.float32))[0] if decode is not None else None
        groups.append(Group(f"z{latent + 1} = {_signed(centre[0, latent])}", len(members), turned, drawn))
    return tuple(groups)


def _signed(value: float) -> str:
    """Return a number with a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


def groups_figure(traversals: Sequence[tuple[Group, ...]]) -> Figure:
    """Return averages of measured sub-images over reconstructions, a column a group, for the groups along one latent after the other."""
    first = traversals[0]
    rows = 1 if first[0].reconstruction is None else 2
    side, gap, left, head, foot = 1.55, 0.12, 1.35, 0.95, 0.55
    block = rows * (side + gap) + foot
    width, height = left + len(first) * (side + gap) + 0.2, head + len(traversals) * block
    title = "Measured and drawn" if rows == 2 else "Class averages"
    note = "Columns in order of each latent in turn; each sub-image turned to the reference before averaging"
    figure = style.card(width, height, title, note)
    axes = style.panels(figure)
    said: dict[str, Any] = {"color": style.MUTED, "fontsize": 9.5, "ha": "center", "va": "top", "linespacing": 1.1}
    for number, groups in enumerate(traversals):
        for row, name in enumerate((f"z{number + 1}\nmeasured\naverage", "decoder")[:rows]):
            bottom = height - head - number * block - (row + 1) * (side + gap) + gap
            figure.text(style.PAD / width, (bottom + side / 2) / height, name, color=style.INK, fontsize=11, va="center")
            for k, group in enumerate(groups):
                picture = group.turned if row == 0 else group.reconstruction
                assert picture is not None
                at = left + k * (side + gap)
                style.panel(axes, at, bottom, side, picture, PATTERN_MAP, style.robust_limits(picture, 0.5, 99.8))
                if row == rows - 1:
                    axes.text(at + side / 2, bottom - 0.05, f"{group.label}\n{thousands(group.count)} columns", **said)
    return figure


def turn(images: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return (N, S, S) images turned about their centre by (N,) radians, counter-clockwise as displayed; bilinear, edges repeated.

    >>> quarter = turn(np.arange(9.0).reshape(1, 3, 3), np.array([np.pi / 2]))
    >>> quarter[0].round().astype(int).tolist()
    [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    """
    size = images.shape[1]
    centre = (size - 1) / 2
    y, x = np.mgrid[:size, :size] - centre
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    from_x = np.clip(x * cos - y * sin + centre, 0, size - 1)
    from_y = np.clip(x * sin + y * cos + centre, 0, size - 1)
    x0 = np.minimum(from_x.astype(np.int64), max(size - 2, 0))
    y0 = np.minimum(from_y.astype(np.int64), max(size - 2, 0))
    dx, dy = from_x - x0, from_y - y0
    pixels, at = images.ravel(), (np.arange(len(images))[:, None, None] * size + y0) * size + x0
    upper = pixels.take(at) * (1 - dx) + pixels.take(at + 1) * dx
    lower = pixels.take(at + size) * (1 - dx) + pixels.take(at + size + 1) * dx
    return np.asarray(upper * (1 - dy) + lower * dy)


def _density_colours(x: np.ndarray, y: np.ndarray, bins: int = 90) -> np.ndarray:
    """Return RGBA by the smoothed count around each point, on the map used for latents."""
    from matplotlib import colormaps

    ranges = (_limits(x), _limits(y))
    counts, edges_x, edges_y = np.histogram2d(x, y, bins=bins, range=ranges)
    kernel = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    blurred = np.apply_along_axis(np.convolve, 0, counts, kernel, "same")
    smooth = np.sqrt(np.apply_along_axis(np.convolve, 1, blurred, kernel, "same"))
    i = np.clip(np.searchsorted(edges_x, x) - 1, 0, bins - 1)
    j = np.clip(np.searchsorted(edges_y, y) - 1, 0, bins - 1)
    return np.asarray(colormaps["magma"](0.25 + 0.72 * smooth[i, j] / max(smooth.max(), 1e-9)))


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = style.robust_limits(values, 0.3, 99.7)
    return low - 0.08 * (high - low), high + 0.08 * (high - low)
