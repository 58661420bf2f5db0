"""Whether stated columns lie on intensity, and by how much they all miss it. Called by `validate.datasets` and by labelling.

It catches what goes wrong with truth from elsewhere: y and x exchanged, lengths in another unit, an origin one or half a pixel off, a table
of another frame, a frame whose contrast is inverted. It does not judge single columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

MIN_COLUMNS = 12
"""Fewer columns than this tell nothing."""

MIN_ON = 0.5
"""Agreement with the intensity below which truth is in doubt; positions at random reach a third, faint columns beside bright ones 0.7."""

MAX_OFFSET_PX = 0.5
"""Mean distance of intensity from truth above which an origin is off. Over all recipes exact truth stays below 0.25 on what is expected
without noise."""

_SMOOTH = 0.35  # Å, about half a column: averages shot noise away without merging neighbours
_RING = (0.5, 1.5)  # Å, limits of the radius at which the surroundings are sampled
_MOST = 2000  # columns looked at
_RIM_PX = 0.75  # half the width of the rim of a column's surroundings
_ROUNDS, _SETTLED_PX = 8, 0.02  # in which, and to which, the rim follows the top
_GROUPS = 4  # how columns are divided to see how far their mean offset can be trusted


@dataclass(frozen=True)
class Placement:
    """How columns lie on a frame.

    Args:
        n: columns looked at; those near the edge are left out.
        on: agreement with the intensity: how much brighter columns are than the ring around them, summed, over the sum of how much
            brighter or darker they are. 1 where all are brighter, 0 by chance, -1 where all are darker.
        on_exchanged: the same with y and x exchanged; NaN where that leaves too few inside.
        offset_px: (y, x) by which the intensity lies from the columns on average.
        offset_sigma_px: standard error of that, per axis.
    """

    n: int
    on: float
    on_exchanged: float
    offset_px: tuple[float, float]
    offset_sigma_px: float


def place(image: np.ndarray, yx: np.ndarray, pixel_size: float) -> Placement:
    """Return how the columns `yx` (n, 2) px lie on `image` (H, W), recorded or expected, at `pixel_size` Å/px."""
    smooth = gaussian_filter(np.nan_to_num(np.asarray(image, dtype=np.float32)), max(_SMOOTH / pixel_size, 0.7))
    spacing_px = float(np.median(cKDTree(yx).query(yx, k=2)[0][:, 1])) if len(yx) > 1 else np.inf
    radius = min(max(spacing_px / 2, _RING[0] / pixel_size), _RING[1] / pixel_size)
    reach = radius + 1
    inner = _inside(yx, smooth.shape, reach)
    if len(inner) < MIN_COLUMNS:
        return Placement(len(inner), float("nan"), float("nan"), (float("nan"), float("nan")), float("nan"))
    exchanged = _inside(yx[:, ::-1], smooth.shape, reach)
    groups = np.array([_offset(smooth, inner[k::_GROUPS], radius) for k in range(_GROUPS)])
    return Placement(
        len(inner),
        _on(smooth, inner, radius),
        _on(smooth, exchanged, radius) if len(exchanged) >= MIN_COLUMNS else float("nan"),
        _offset(smooth, inner, radius),
        float(np.sqrt(groups.var(axis=0, ddof=1).mean() / _GROUPS)),
    )


def doubt(placement: Placement) -> str | None:
    """Return in one sentence why the columns cannot be where they are stated, or None."""
    if placement.n < MIN_COLUMNS:
        return None
    stated = f"{placement.n} columns agree with the intensity by {placement.on:.2f}, where 1 is full and 0 is chance"
    if placement.on < -MIN_ON:
        return f"{stated}; is the contrast inverted, as in bright field?"
    if placement.on < MIN_ON:
        if placement.on_exchanged > max(placement.on + 0.3, MIN_ON):
            return f"{stated}, with y and x exchanged by {placement.on_exchanged:.2f}; exchange them"
        return f"{stated}; does the table belong to this frame, in this unit?"
    dy, dx = placement.offset_px
    if np.hypot(dy, dx) - 2 * placement.offset_sigma_px > MAX_OFFSET_PX:
        return (
            f"the intensity lies {dy:+.1f} px in y and {dx:+.1f} px in x from the columns; do they count from 1, or from a pixel's corner?"
        )
    return None


def _inside(yx: np.ndarray, shape: tuple[int, ...], reach: float) -> np.ndarray:
    kept = yx[((yx >= reach) & (yx <= np.array(shape) - 1 - reach)).all(axis=1)]
    return kept[:: -(-len(kept) // _MOST)] if len(kept) else kept


def _at(image: np.ndarray, yx: np.ndarray) -> np.ndarray:
    """Return the image at (…, 2) positions, bilinear."""
    return np.asarray(map_coordinates(image, np.moveaxis(yx, -1, 0), order=1, mode="nearest"))


def _on(image: np.ndarray, yx: np.ndarray, radius: float) -> float:
    angle = np.arange(12) * np.pi / 6
    ring = yx[:, None] + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    excess = _at(image, yx) - _at(image, ring).mean(axis=1)
    return float(excess.sum() / max(np.abs(excess).sum(), 1e-30))


def _offset(image: np.ndarray, yx: np.ndarray, radius: float) -> tuple[float, float]:
    """Return where the mean image around the columns is highest, from a parabola around the maximum.

    Columns count by their brightness: then what neighbours add on one side of the one is what they add on the other side of the other, and
    a lattice of bright and faint columns shifts nothing. The slope of the rim is taken off: near a specimen's edge and on a wedge it draws
    the tops of wide peaks towards the thicker side. The rim follows the top, so that a shift of all columns is not taken for a slope.
    """
    weight = np.maximum(_at(image, yx) - np.percentile(image, 5), 0)
    offset = np.zeros(2)
    for _ in range(_ROUNDS):
        step = _top(image, yx + offset, weight, radius)
        offset = offset + step
        if np.hypot(*step) < _SETTLED_PX or np.hypot(*offset) > 2 * radius:
            break
    return float(offset[0]), float(offset[1])


def _top(image: np.ndarray, yx: np.ndarray, weight: np.ndarray, radius: float) -> np.ndarray:
    """Return (2,) px from `yx` to the highest point of the mean image around them, once the slope of the rim has been taken off."""
    half = max(1, int(np.ceil(radius)))
    steps = np.arange(-half, half + 1)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1)
    mean = np.tensordot(weight, _at(image, yx[:, None, None] + grid), axes=1)
    distance = np.hypot(*np.moveaxis(grid, -1, 0))
    rim = np.abs(distance - max(radius, 1.0)) <= _RIM_PX
    slope = (grid[rim] * mean[rim, None]).sum(axis=0) / (grid[rim] ** 2).sum(axis=0)
    level = mean - grid @ slope
    i, j = (int(k) for k in np.unravel_index(int(np.where(distance <= max(radius, 1.0), level, -np.inf).argmax()), mean.shape))
    return np.array([steps[i] + _vertex(level[:, j], i), steps[j] + _vertex(level[i], j)])


def _vertex(values: np.ndarray, top: int) -> float:
    """Return the shift from `top` to the vertex of the parabola through it and its neighbours."""
    if not 0 < top < len(values) - 1:
        return 0.0
    before, here, after = values[top - 1 : top + 2]
    bend = before - 2 * here + after
    return 0.0 if bend >= 0 else float(0.5 * (before - after) / bend)
