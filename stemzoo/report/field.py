"""One frame, ready to draw: its columns, which column fills each pixel of a map, and the part that is magnified.

Called by report.pictures and analyze.study; drawn by report.figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemzoo.report.summary import nearest_distances, pixel_size_of
from stemzoo.types import Analysis, Columns

MAP_PX = 800
ZOOM_SPACINGS = 8.0  # side of the magnified part, but …
ZOOM_SHARE = 1 / 3  # … of the frame's, beyond which it would magnify nothing: single atoms lie far apart …
FEWEST_SPACINGS = 3.0  # … unless it then held hardly a column
FREE = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Field:
    """One frame, ready to draw: what all its plates share, worked out once.

    Args:
        image: (H, W). `yx`: (n, 2) px. `cells`: (rows, cols) int, number of the column whose colour fills a map pixel, −1 for none.
        spacing_px: median nearest-neighbour distance. `zoom`: (y0, x0, side) of the magnified part, px.
    """

    image: np.ndarray
    columns: Columns
    cells: np.ndarray
    spacing_px: float
    zoom: tuple[float, float, float]
    pixel_size: float | None
    name: str


def field_of(analysis: Analysis) -> Field:
    """Return the first frame with its columns, map cells and zoom window."""
    image = analysis.frames.frame(0)
    columns = analysis.columns[0]
    distances = nearest_distances(columns.yx)
    side = float(min(image.shape))
    spacing = float(np.median(distances)) if len(distances) else side / 8
    spacing = min(spacing, side / 6)
    height, width = analysis.frames.shape
    name = f"frame {columns.frame}" if len(analysis.frames) > 1 else f"{width} × {height} px"
    cells, zoom = _cells(columns.yx, (height, width), spacing), _zoom(columns.yx, (height, width), spacing)
    return Field(image, columns, cells, spacing, zoom, pixel_size_of(analysis), name)


def _cells(yx: np.ndarray, shape: tuple[int, int], spacing: float) -> np.ndarray:
    """Return which column fills each pixel of a coarse map of the frame; −1 far from any column."""
    height, width = shape
    step = max(max(height, width) / MAP_PX, 0.25)
    rows, cols = max(round(height / step), 1), max(round(width / step), 1)
    cells = np.full(rows * cols, FREE, dtype=np.int64)
    at = (yx + 0.5) * [rows / height, cols / width] - 0.5
    reach = max(min(1.05 * spacing, 0.04 * min(shape)) / step, 1.0)
    offsets = np.arange(-int(np.ceil(reach)), int(np.ceil(reach)) + 1)
    chunk = max(2_000_000 // len(offsets) ** 2, 1)
    for first in range(0, len(at), chunk):  # each column bids for the pixels around it; the lowest (distance, number) wins
        part = at[first : first + chunk]
        y = np.round(part[:, 0]).astype(np.int64)[:, None, None] + offsets[:, None]
        x = np.round(part[:, 1]).astype(np.int64)[:, None, None] + offsets
        square = (y - part[:, :1, None]) ** 2 + (x - part[:, 1:, None]) ** 2
        near = (square <= reach**2) & (y >= 0) & (y < rows) & (x >= 0) & (x < cols)
        number = np.broadcast_to(np.arange(first, first + len(part))[:, None, None], near.shape)
        bids = (square[near] * 4096).astype(np.int64) << 32 | number[near]
        np.minimum.at(cells, (y * cols + x)[near], bids)
    return np.where(cells == FREE, -1, cells & 0xFFFFFFFF).reshape(rows, cols)


def _zoom(yx: np.ndarray, shape: tuple[int, int], spacing: float) -> tuple[float, float, float]:
    """Return the square (y0, x0, side) with the most columns; rather near the centre, and clear of the scale bar."""
    height, width = shape
    least = min(height, width)
    wide = min(ZOOM_SPACINGS * spacing, max(ZOOM_SHARE * least, FEWEST_SPACINGS * spacing))
    side = float(min(max(wide, 24.0), least))
    y0, x0 = np.linspace(0, height - side, 9), np.linspace(0, width - side, 9)
    inside_y = (yx[:, 0] >= y0[:, None]) & (yx[:, 0] <= y0[:, None] + side)
    inside_x = (yx[:, 1] >= x0[:, None]) & (yx[:, 1] <= x0[:, None] + side)
    counts = inside_y.astype(float) @ inside_x.astype(float).T
    far = np.hypot(*np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9), indexing="ij"))
    under_bar = (y0[:, None] + side > 0.84 * height) & (x0 < 0.34 * width)
    best = int(np.argmax((counts + 1) * (1 - 0.3 * far) * np.where(under_bar, 0.3, 1.0)))
    return float(y0[best // 9]) - 0.5, float(x0[best % 9]) - 0.5, side
