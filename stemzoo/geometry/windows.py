"""The pixels around each column of a frame, and how they are worked through. Owns `Windows` and `product`; NumPy only.

Everything is vectorised over columns and worked through in chunks that fit a processor's cache. Called by columnmodel, leftover, jointfit.
"""

from __future__ import annotations

from typing import Callable, Iterator, List, Optional, Tuple, TypeVar, Union

import numpy as np

FIT_RADIUS = 3.0  # sigmas: holds 94 % of what the photons of a peak say of its position, and little of what they do not
RENDER_RADIUS = 3.9  # sigmas: a neighbour's tail beyond is below 5e-4 of its peak
COVER_RADIUS = 4.5  # sigmas: pixels this near to a column tell of the background and of the noise
NOISE_PX = 2_000_000  # pixels of the frame from which those that tell of the noise are chosen
CHUNK_PX = 60_000  # pixels of windows at a time
ALONE = 200_000  # multiplications: OpenBLAS gives larger products to all its threads, which then spin for tens of ms on our cores
T = TypeVar("T")
Which = Union[slice, np.ndarray]


class Windows:
    """The pixels around each start position, fixed for the whole fit: a disk in a frame that is padded so that no window leaves it."""

    def __init__(self, image: np.ndarray, usable: np.ndarray, yx: np.ndarray, sigma_px: float) -> None:
        """Args: image (H, W) float32; usable (H, W) bool; yx (n, 2) starts sorted by y; sigma_px of the mean peak."""
        self.size = image.shape
        self.beyond = int(1.5 * sigma_px)  # how far outside the frame a column may lie
        self.reach = int(np.ceil(max(COVER_RADIUS * sigma_px * 1.5, 3.0)))  # of a window, at most: drawn peaks may become 1.7 times as wide
        self.pad = self.reach + 1 + self.beyond
        self.width = image.shape[1] + 2 * self.pad
        self.image, self.usable = (np.zeros((image.shape[0] + 2 * self.pad, self.width), part.dtype) for part in (image, usable))
        self.inner(self.image)[...], self.inner(self.usable)[...] = image, usable
        self.place(yx, sigma_px)

    def place(self, yx: np.ndarray, sigma_px: float) -> None:
        """Centre the windows on positions yx (n, 2), sorted by y."""
        self.centre = np.clip(np.rint(yx), -self.beyond, np.asarray(self.size) - 1 + self.beyond).astype(np.int64)
        self.set_width(sigma_px)

    def set_width(self, sigma_px: float) -> None:
        """Fit windows and rendering windows to the width of the mean peak, and find out which pixels lie in any window."""
        self.fit_y, self.fit_x = _disk(min(max(FIT_RADIUS * sigma_px, 2.0), self.reach))
        self.draw_y, self.draw_x = _disk(min(max(RENDER_RADIUS * sigma_px, 3.0), self.reach))
        self.half = int(max(np.abs(self.fit_y).max(), np.abs(self.fit_x).max()))
        self.covered = self._around(min(COVER_RADIUS * sigma_px, self.reach))
        self.covered &= self.usable
        self.many_covered = int(np.count_nonzero(self.covered))
        self.pixels = np.concatenate(self.each(len(self.fit_y), self._count))
        inner = np.zeros_like(self.covered)
        rim = min(int(3 * sigma_px), min(self.size) // 4)  # beyond the frame's edge may lie columns that nobody sees
        core = slice(self.pad + rim, -self.pad - rim)
        inner[core, core] = self.covered[core, core]
        chosen = inner if inner.any() else self.covered
        stride = max(1, chosen.size // NOISE_PX)
        self.calm = np.flatnonzero(chosen.ravel()[::stride]) * stride

    def _around(self, radius: float) -> np.ndarray:
        """Return which pixels of the padded frame lie within `radius` px of a column, bool: a disk is an interval on each of its rows."""
        near = np.zeros(self.image.shape, bool)
        flat = near.ravel()
        dy = np.arange(-int(radius), int(radius) + 1)
        reach = np.floor(np.sqrt(radius**2 - dy**2)).astype(np.int64)
        for start, stop in self.chunks(8 * len(dy)):
            begin, end = (self.flat_index(slice(start, stop), dy, side).ravel() for side in (-reach, reach + 1))
            low, high = int(begin.min()), int(end.max())
            inside = np.bincount(begin - low, minlength=high - low + 1)
            inside -= np.bincount(end - low, minlength=high - low + 1)
            flat[low : high + 1] |= np.cumsum(inside) > 0
        return near

    def _count(self, start: int, stop: int) -> np.ndarray:
        """Return how many pixels of each of some columns' fit windows count: (stop − start,)."""
        window = self.covered.ravel().take(self.flat_index(slice(start, stop), self.fit_y, self.fit_x))
        return np.asarray(np.count_nonzero(window, axis=1))

    def inner(self, padded: np.ndarray) -> np.ndarray:
        """Return the frame's own part (H, W) of a padded array."""
        return padded[self.pad : self.pad + self.size[0], self.pad : self.pad + self.size[1]]

    def chunks(self, pixels: int, columns: Optional[int] = None) -> Iterator[Tuple[int, int]]:
        """Yield (start, stop) of columns, all if None, that are worked on together, `pixels` each."""
        total, many = len(self.centre) if columns is None else columns, max(8, CHUNK_PX // max(1, pixels))
        for start in range(0, total, many):
            yield start, min(start + many, total)

    def each(self, pixels: int, work: Callable[[int, int], T]) -> List[T]:
        """Return work(start, stop) for chunks of columns, in order."""
        return list(self.stream(pixels, work))

    def each_rows(self, work: Callable[[slice], None]) -> None:
        """Call work(rows) for blocks of the padded frame's rows."""
        step = max(1, CHUNK_PX // self.width)
        for start in range(0, len(self.image), step):
            work(slice(start, start + step))

    def stream(self, pixels: int, work: Callable[[int, int], T]) -> Iterator[T]:
        """Yield work(start, stop) for chunks of columns, in order.

        One after the other: the chunks are a millisecond each, and threads that wait for the interpreter take longer than they save.
        """
        for start, stop in self.chunks(pixels):
            yield work(start, stop)

    def flat_index(self, columns: Which, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        """Return positions in the padded, flattened frame of the pixels at (dy, dx) around c columns, given by index or slice: (c, m)."""
        base = (self.centre[columns, 0] + self.pad) * self.width + self.centre[columns, 1] + self.pad
        index: np.ndarray = base[:, None] + (dy * self.width + dx)[None]
        return index


def product(many: np.ndarray, few: np.ndarray) -> np.ndarray:
    """Return many (n, m) @ few (m, k), worked out by one thread of the linear algebra, whatever its size."""
    rows = max(1, ALONE // few.size)
    if len(many) <= rows:
        whole: np.ndarray = many @ few
        return whole
    out = np.empty((len(many), few.shape[1]), np.result_type(many, few))
    for start in range(0, len(many), rows):
        np.matmul(many[start : start + rows], few, out=out[start : start + rows])
    return out


def _disk(radius: float) -> Tuple[np.ndarray, np.ndarray]:
    reach = np.arange(-int(radius), int(radius) + 1)
    row, col = np.nonzero(reach[:, None] ** 2 + reach**2 <= radius**2)
    return reach[row], reach[col]
