"""A frame of any size through a network of bounded input. Owns padding, the layout of overlapping tiles and putting their cores together.

Tiles start at multiples of the network's stride and overlap by at least its receptive reach, so the result equals the evaluation of the
whole frame as long as the network looks no further than that. NumPy only. Called by runtime.segmenter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Iterator, Optional, Tuple

import numpy as np

from stemzoo.errors import ShapeError

MAX_TILE_PX = 1536  # a fifth less overlap than with 1024, in a gigabyte


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of a padded frame, all of length `size`.

    Args:
        padded: length of the axis after padding.
        size: length of a tile.
        starts: first pixel of each tile, a multiple of the stride.
        cuts: (n + 1) borders between the cores: tile i answers for [cuts[i], cuts[i + 1]).
    """

    padded: int
    size: int
    starts: Tuple[int, ...]
    cuts: Tuple[int, ...]


def plan_axis(length: int, overlap_px: int, stride_px: int, max_tile_px: int) -> Axis:
    """Return the fewest, smallest equal tiles of at most `max_tile_px` that cover `length` with `overlap_px` of context on each inner side.

    A tile is made larger than `max_tile_px` where the overlap alone would fill more than half of it.
    """
    if length < 1 or stride_px < 1 or overlap_px < 0:
        raise ShapeError(
            f"tiles of an axis of {length} px with stride {stride_px} and overlap {overlap_px}; wanted length and stride ≥ 1, overlap ≥ 0"
        )
    padded = _round_up(length, stride_px)
    halo = _round_up(overlap_px, stride_px)
    limit = max(_round_up(max_tile_px, stride_px), 4 * halo + stride_px)
    if padded <= limit:
        return Axis(padded, padded, (0,), (0, length))
    count = math.ceil((padded - 2 * halo) / (limit - 2 * halo))
    step = _round_up(math.ceil((padded - 2 * halo) / count), stride_px)
    size = step + 2 * halo
    starts = tuple(min(i * step, padded - size) for i in range(count))
    cuts = (0, *(start + halo for start in starts[1:]), length)
    return Axis(padded, size, starts, cuts)


def evaluate(
    image: np.ndarray,
    network: Callable[[np.ndarray], np.ndarray],
    *,
    overlap_px: int,
    stride_px: int,
    max_tile_px: int = MAX_TILE_PX,
    last: Optional[Callable[[np.ndarray], np.ndarray]] = None,
) -> np.ndarray:
    """Return the network's output for a whole image.

    Args:
        image: (H, W) float32, at least 1 px a side; padded by reflection, below and to the right, to multiples of the stride.
        network: (B, 1, h, w) float32 -> (B, C, h, w) float32.
        overlap_px: how far the network looks.
        stride_px: height and width given to the network are multiples of it.
        max_tile_px: longest side of a tile; bounds memory.
        last: called instead of `network` on the last of several batches: the same, but it gives its memory back.
    Returns: (C, H, W) float32.
    Raises: ShapeError if the image is not 2-D or the network returns another height or width.
    """
    if image.ndim != 2:
        raise ShapeError(f"image has shape {image.shape}; wanted (H, W)")
    rows = plan_axis(image.shape[0], overlap_px, stride_px, max_tile_px)
    cols = plan_axis(image.shape[1], overlap_px, stride_px, max_tile_px)
    padding = ((0, rows.padded - image.shape[0]), (0, cols.padded - image.shape[1]))
    padded = np.pad(image, padding, mode="symmetric" if min(image.shape) == 1 else "reflect") if padding != ((0, 0), (0, 0)) else image
    padded = np.asarray(padded, dtype=np.float32)
    tiles = list(_tiles(rows, cols))
    batch = max(1, max_tile_px**2 // (rows.size * cols.size))
    result = np.zeros(0, dtype=np.float32)
    for first in range(0, len(tiles), batch):
        chosen = tiles[first : first + batch]
        stack = np.stack([padded[y : y + rows.size, x : x + cols.size] for (y, x), _ in chosen])[:, None]
        output = (last if last and 0 < first >= len(tiles) - batch else network)(stack)
        if output.ndim != 4 or output.shape[0] != len(chosen) or output.shape[2:] != stack.shape[2:]:
            raise ShapeError(f"the network made {output.shape} of {stack.shape}; wanted (B, C, h, w) of the same B, h and w")
        if first == 0:
            result = np.empty((output.shape[1], *image.shape), dtype=np.float32)
        for ((y, x), (top, bottom, left, right)), values in zip(chosen, output):
            result[:, top:bottom, left:right] = values[:, top - y : bottom - y, left - x : right - x]
    return result


def _tiles(rows: Axis, cols: Axis) -> Iterator[Tuple[Tuple[int, int], Tuple[int, int, int, int]]]:
    """Yield each tile's first pixel and the core (top, bottom, left, right) that it answers for."""
    for i, y in enumerate(rows.starts):
        for j, x in enumerate(cols.starts):
            yield (y, x), (rows.cuts[i], rows.cuts[i + 1], cols.cuts[j], cols.cuts[j + 1])


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
