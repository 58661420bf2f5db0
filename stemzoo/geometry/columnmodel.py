"""The model of a frame that refinement fits: a Gaussian per column on a smooth background. Owns its drawing and normal equations.

Everything is vectorised over columns and worked through in chunks that fit a processor's cache; NumPy only. Called by refine.
A column has four parameters, in this order everywhere: y, x, amplitude, log of its width relative to the frame's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple, TypeVar

import numpy as np

from stemzoo.geometry.background import Background, Reach
from stemzoo.geometry.neighbours import Pairs

CORE = 4
FIT_RADIUS = 3.0  # sigmas: holds 94 % of what the photons of a peak say of its position, and little of what they do not
RENDER_RADIUS = 3.9  # sigmas: a neighbour's tail beyond is below 5e-4 of its peak
COVER_RADIUS = 4.5  # sigmas: pixels this near to a column tell of the background and of the noise
NOISE_PX = 2_000_000  # pixels of the frame from which those that tell of the noise are chosen
BATCH = 16  # chunks handed out at a time
CHUNK_PX = 60_000  # pixels of windows at a time

T = TypeVar("T")


@dataclass
class State:
    """The current parameters of n columns, float64; `shape` is the (2, 2) covariance [px²] of the frame's mean peak."""

    yx: np.ndarray
    amplitude: np.ndarray
    log_width: np.ndarray
    shape: np.ndarray

    def area(self) -> np.ndarray:
        """Return the integral of each column's Gaussian of unit amplitude, px²."""
        area: np.ndarray = 2 * np.pi * np.sqrt(np.linalg.det(self.shape)) * np.exp(2 * self.log_width)
        return area


class Normal(NamedTuple):
    """Normal equations of each column's window at the current state.

    matrix (n, 7, 7) and gradient (n, 4): the four parameters, then (matrix only) a constant and slopes in y and x about the column;
    chi2 (n,) weighted and squares (n,) plain sum of squared residuals; pixels (n,) used; ellipticity (n, 2, 2): score and information of
    the two shape terms (stretch along y, shear), zero unless asked for; lift (n, 4, K²) how strongly each parameter shares pixels with the
    background nodes in the window (`Windows.reach`), empty unless asked for.
    """

    matrix: np.ndarray
    gradient: np.ndarray
    chi2: np.ndarray
    squares: np.ndarray
    pixels: np.ndarray
    ellipticity: np.ndarray
    lift: np.ndarray


class Windows:
    """The pixels around each start position, fixed for the whole fit: a disk in a frame that is padded so that no window leaves it."""

    def __init__(self, image: np.ndarray, usable: np.ndarray, yx: np.ndarray, sigma_px: float, threads: int) -> None:
        """Args: image (H, W) float32; usable (H, W) bool; yx (n, 2) starts sorted by y; sigma_px of the mean peak."""
        self.size = image.shape
        self.threads = threads
        self.beyond = int(1.5 * sigma_px)  # how far outside the frame a column may lie
        self.pad = int(np.ceil(max(COVER_RADIUS * sigma_px * 1.3, 3.0))) + 1 + self.beyond
        self.width = image.shape[1] + 2 * self.pad
        self.image = np.pad(image, self.pad)
        self.usable = np.pad(usable, self.pad)
        self._lock = Lock()
        self.place(yx, sigma_px)

    def place(self, yx: np.ndarray, sigma_px: float) -> None:
        """Centre the windows on positions yx (n, 2), sorted by y."""
        self.centre = np.clip(np.rint(yx), -self.beyond, np.asarray(self.size) - 1 + self.beyond).astype(np.int64)
        self.set_width(sigma_px)

    def set_width(self, sigma_px: float) -> None:
        """Fit windows and rendering windows to the width of the mean peak, and find out which pixels lie in any window."""
        self.fit_y, self.fit_x = _disk(min(max(FIT_RADIUS * sigma_px, 2.0), self.pad))
        self.draw_y, self.draw_x = _disk(min(max(RENDER_RADIUS * sigma_px, 3.0), self.pad))
        self.half = int(max(np.abs(self.fit_y).max(), np.abs(self.fit_x).max()))
        self._reach: Optional[Reach] = None
        covered = np.zeros(self.image.shape, bool)

        cover_y, cover_x = _disk(min(COVER_RADIUS * sigma_px, self.pad))

        def cover(start: int, stop: int) -> None:
            covered.ravel()[self.flat_index(start, stop, cover_y, cover_x)] = True

        self.each(len(cover_y), cover)
        self.covered = covered & self.usable
        inner = np.zeros_like(covered)
        rim = min(int(3 * sigma_px), min(self.size) // 4)  # beyond the frame's edge may lie columns that nobody sees
        core = slice(self.pad + rim, -self.pad - rim)
        inner[core, core] = self.covered[core, core]
        chosen = inner if inner.any() else self.covered
        stride = max(1, chosen.size // NOISE_PX)
        self.calm = np.flatnonzero(chosen.ravel()[::stride]) * stride

    def reach(self, background: Background) -> Reach:
        """Return which of the background's nodes make it in each fit window, and how; worked out once for each size of the windows."""
        with self._lock:
            if self._reach is None:
                self._reach = background.reach(self.centre, self.half)
            return self._reach

    def inner(self, padded: np.ndarray) -> np.ndarray:
        """Return the frame's own part (H, W) of a padded array."""
        return padded[self.pad : self.pad + self.size[0], self.pad : self.pad + self.size[1]]

    def chunks(self, pixels: int) -> Iterator[Tuple[int, int]]:
        """Yield (start, stop) of columns that are worked on together, `pixels` each."""
        many = max(8, CHUNK_PX // max(1, pixels))
        for start in range(0, len(self.centre), many):
            yield start, min(start + many, len(self.centre))

    def each(self, pixels: int, work: Callable[[int, int], T]) -> List[T]:
        """Return work(start, stop) for chunks of columns, in order."""
        return list(self.stream(pixels, work))

    def stream(self, pixels: int, work: Callable[[int, int], T]) -> Iterator[T]:
        """Yield work(start, stop) for chunks of columns, in order; NumPy lets go of the interpreter, so threads share the load."""
        chunks = list(self.chunks(pixels))
        if self.threads < 2 or len(chunks) < 2:
            yield from (work(start, stop) for start, stop in chunks)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            for first in range(0, len(chunks), BATCH):  # so that few results wait for the one who takes them
                yield from pool.map(lambda chunk: work(*chunk), chunks[first : first + BATCH])

    def flat_index(self, start: int, stop: int, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        """Return positions in the padded, flattened frame of the pixels at (dy, dx) around columns start … stop: (c, m)."""
        base = (self.centre[start:stop, 0] + self.pad) * self.width + self.centre[start:stop, 1] + self.pad
        index: np.ndarray = base[:, None] + (dy * self.width + dx)[None]
        return index


def _disk(radius: float) -> Tuple[np.ndarray, np.ndarray]:
    reach = np.arange(-int(radius), int(radius) + 1)
    dy, dx = np.meshgrid(reach, reach, indexing="ij")
    inside = dy**2 + dx**2 <= radius**2
    return dy[inside], dx[inside]


def _offsets(
    state: State, windows: Windows, which: np.ndarray, seen_from: np.ndarray, dy: np.ndarray, dx: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Return the float32 (c, m) distances in y and x of the pixels around `seen_from` to the columns `which`."""
    shift = (windows.centre[seen_from] - state.yx[which]).astype(np.float32)
    return dy.astype(np.float32)[None] + shift[:, :1], dx.astype(np.float32)[None] + shift[:, 1:]


def _gaussian(state: State, which: np.ndarray, y: np.ndarray, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit Gaussians (c, m) of columns `which` and their exponents' gradients in y and x: Σ⁻¹ (p − r), each (c, m)."""
    inverse = np.linalg.inv(state.shape)
    narrow = np.exp(-2 * state.log_width[which]).astype(np.float32)[:, None]
    yy, yx, xx = (np.float32(v) for v in (inverse[0, 0], inverse[0, 1], inverse[1, 1]))
    pull_y = yy * y
    pull_x = xx * x
    if yx != 0:
        pull_y += yx * x
        pull_x += yx * y
    pull_y *= narrow
    pull_x *= narrow
    exponent = pull_y * y
    exponent += pull_x * x
    exponent *= np.float32(-0.5)
    return np.exp(exponent, out=exponent), pull_y, pull_x


def render(state: State, windows: Windows) -> np.ndarray:
    """Return the sum of all columns' Gaussians, float32, in the padded frame of `windows`."""
    total = np.zeros(windows.image.shape, np.float32)
    flat = total.ravel()

    def draw(start: int, stop: int) -> Tuple[int, np.ndarray]:
        which = np.arange(start, stop)
        y, x = _offsets(state, windows, which, which, windows.draw_y, windows.draw_x)
        peak, _, _ = _gaussian(state, which, y, x)
        peak *= state.amplitude[start:stop].astype(np.float32)[:, None]
        index = windows.flat_index(start, stop, windows.draw_y, windows.draw_x)
        low = int(index.min())
        index -= low
        return low, np.bincount(index.ravel(), weights=peak.ravel())

    for low, part in windows.stream(len(windows.draw_y), draw):
        flat[low : low + len(part)] += part
    return total


def _templates(
    state: State, windows: Windows, which: np.ndarray, seen_from: np.ndarray, full: bool
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the derivatives (c, 4 or 7, m) of the model in the fit windows of `seen_from` by the parameters of `which`, the difference
    of the two pulls times distance, and the peak (c, m)."""
    y, x = _offsets(state, windows, which, seen_from, windows.fit_y, windows.fit_x)
    peak, pull_y, pull_x = _gaussian(state, which, y, x)
    out = np.empty((len(which), 7 if full else CORE, y.shape[1]), np.float32)
    out[:, 2] = peak
    peak *= state.amplitude[which].astype(np.float32)[:, None]
    np.multiply(peak, pull_y, out=out[:, 0])
    np.multiply(peak, pull_x, out=out[:, 1])
    pull_y *= y
    pull_x *= x
    np.multiply(peak, pull_y + pull_x, out=out[:, 3])
    if full:
        out[:, 4] = 1
        out[:, 5] = y
        out[:, 6] = x
    return out, pull_y - pull_x, peak


def normal_equations(
    state: State,
    windows: Windows,
    residual: np.ndarray,
    weight: np.ndarray,
    background: Optional[Background] = None,
    shape_too: bool = False,
) -> Normal:
    """Return every column's normal equations for the whole model's residual and weight, both in the padded frame.

    Args: background: given where the coupling to its nodes is wanted; shape_too: whether the shape terms are.
    """
    flat_residual, flat_weight = residual.ravel(), weight.ravel()

    def work(start: int, stop: int) -> Normal:
        which = np.arange(start, stop)
        templates, stretch, peak = _templates(state, windows, which, which, full=True)
        index = windows.flat_index(start, stop, windows.fit_y, windows.fit_x)
        left, w = flat_residual[index], flat_weight[index]
        weighted = templates * w[:, None]
        matrix = np.matmul(weighted, templates.transpose(0, 2, 1))
        gradient = np.matmul(weighted[:, :CORE], left[:, :, None])[:, :, 0]
        used = w > 0
        squares = left * left
        chi2 = np.einsum("cm,cm->c", w, squares)
        squares *= used
        terms = np.zeros((stop - start, 2, 2))
        if shape_too:
            pull = w * left
            shear = templates[:, 0] * templates[:, 1] / np.where(np.abs(peak) > 1e-12, peak, np.float32(np.inf))
            for k, term in enumerate((stretch * peak, shear)):
                terms[:, k, 0] = np.einsum("cm,cm->c", term, pull)
                terms[:, k, 1] = np.einsum("cm,cm,cm->c", term, w, term)
        lift = np.zeros((stop - start, CORE, 0)) if background is None else _lift(weighted[:, :CORE], windows, background, start, stop)
        return Normal(matrix, gradient, chi2, squares.sum(axis=1), used.sum(axis=1), terms, lift)

    parts = windows.each(len(windows.fit_y), work)
    return Normal(*(np.concatenate([getattr(part, name) for part in parts]).astype(np.float64) for name in Normal._fields))


def _lift(weighted: np.ndarray, windows: Windows, background: Background, start: int, stop: int) -> np.ndarray:
    """Return the weighted products of each column's four derivatives (c, 4, m) with the background nodes in its window: (c, 4, K²)."""
    reach = windows.reach(background)
    side = 2 * windows.half + 1
    square = np.zeros((stop - start, CORE, side * side), np.float32)
    square[:, :, (windows.fit_y + windows.half) * side + windows.fit_x + windows.half] = weighted
    by_col = np.matmul(square.reshape(stop - start, CORE * side, side), reach.by_col[start:stop]).reshape(stop - start, CORE, side, -1)
    lift: np.ndarray = np.matmul(reach.by_row[start:stop].transpose(0, 2, 1)[:, None], by_col).reshape(stop - start, CORE, -1)
    return lift


def pair_blocks(state: State, windows: Windows, weight: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Return how strongly the parameters of each ordered pair of columns share pixels: (p, 4, 4) float64.

    Only pixels that lie in both fit windows count, so that all blocks together are a Gram matrix and the joint equations have a minimum.
    """
    blocks = np.zeros((len(pairs.first), CORE, CORE))
    once = np.flatnonzero(pairs.first < pairs.second)
    if len(once) == 0:
        return blocks
    ends = np.searchsorted(pairs.first[once], np.arange(len(state.yx) + 1))
    flat_weight = weight.ravel()
    radius = float((windows.fit_y**2 + windows.fit_x**2).max())

    def work(start: int, stop: int) -> np.ndarray:
        part = once[ends[start] : ends[stop]]
        first, second = pairs.first[part], pairs.second[part]
        which = np.arange(start, stop)
        own, _, _ = _templates(state, windows, which, which, full=False)
        own *= flat_weight[windows.flat_index(start, stop, windows.fit_y, windows.fit_x)][:, None]
        other, _, _ = _templates(state, windows, second, first, full=False)
        apart = windows.centre[first] - windows.centre[second]
        other *= ((windows.fit_y + apart[:, :1]) ** 2 + (windows.fit_x + apart[:, 1:]) ** 2 <= radius)[:, None]
        block: np.ndarray = np.matmul(own[first - start], other.transpose(0, 2, 1))
        return block

    per_column = len(once) // len(state.yx)
    blocks[once] = np.concatenate(windows.each(len(windows.fit_y) * (1 + per_column), work))
    backward = np.lexsort(
        (pairs.first, pairs.second)
    )  # the k-th pair in order of its second column is the k-th in order, the other way round
    mirrored = blocks[backward].transpose(0, 2, 1)
    return np.where((pairs.first < pairs.second)[:, None, None], blocks, mirrored)


def fit_amplitudes(windows: Windows, state: State) -> Tuple[np.ndarray, np.ndarray]:
    """Return first amplitudes and backgrounds (n,), each column alone, positions and width as they stand, by linear least squares."""

    def work(start: int, stop: int) -> np.ndarray:
        which = np.arange(start, stop)
        y, x = _offsets(state, windows, which, which, windows.fit_y, windows.fit_x)
        peak, _, _ = _gaussian(state, which, y, x)
        index = windows.flat_index(start, stop, windows.fit_y, windows.fit_x)
        weight = windows.usable.ravel()[index] * np.sqrt(peak)  # the middle counts most: the rim may belong to a neighbour
        value = windows.image.ravel()[index]
        norm = np.maximum(weight.sum(axis=1), 1e-9)
        mean_peak, mean_value = (weight * peak).sum(axis=1) / norm, (weight * value).sum(axis=1) / norm
        covariance = (weight * peak * value).sum(axis=1) / norm - mean_peak * mean_value
        amplitude = covariance / np.maximum((weight * peak * peak).sum(axis=1) / norm - mean_peak**2, 1e-6)
        return np.stack([amplitude, mean_value - amplitude * mean_peak], axis=1)

    both = np.concatenate(windows.each(len(windows.fit_y), work)).astype(np.float64)
    return both[:, 0], both[:, 1]


class Leftover(NamedTuple):
    """What the model leaves over around k columns, in square windows (k, P, P), 0 outside the disk and where pixels are masked.

    residual over the noise's standard deviation, what columns of like brightness have in common taken off; white: independent noise freed
    of the same parameters; inside: bool, pixels used; along_y and along_x: derivatives of the column by y and x, over the noise's standard
    deviation.
    """

    residual: np.ndarray
    white: np.ndarray
    inside: np.ndarray
    along_y: np.ndarray
    along_x: np.ndarray


def leftover(state: State, windows: Windows, residual: np.ndarray, weight: np.ndarray, which: np.ndarray) -> Leftover:
    """Return what the fit left over around columns `which` (k,), for judging the noise's correlation."""
    templates, _, _ = _templates(state, windows, which, which, full=True)
    y, x = windows.fit_y, windows.fit_x
    base = (windows.centre[which, 0] + windows.pad) * windows.width + windows.centre[which, 1] + windows.pad
    index = base[:, None] + (y * windows.width + x)[None]
    root = np.sqrt(weight.ravel()[index])
    used = root > 0
    left = residual.ravel()[index] * root
    # a misfit that all share, as of a probe that is no Gaussian, is not noise and does not scatter positions
    alike = np.array_split(np.argsort(state.amplitude[which]), max(1, min(3, len(which) // 10)))
    for group in alike if len(which) >= 10 else ():
        left[group] -= left[group].mean(axis=0) * used[group]
    basis = (templates * root[:, None]).astype(np.float64)
    along = basis[:, :2].copy()
    basis /= np.maximum(np.sqrt((basis**2).sum(axis=2, keepdims=True)), 1e-12)
    white = np.random.default_rng(0).standard_normal(left.shape) * used
    gram = np.matmul(basis, basis.transpose(0, 2, 1)) + 1e-9 * np.eye(basis.shape[1])
    white -= np.matmul(basis.transpose(0, 2, 1), np.linalg.solve(gram, np.matmul(basis, white[:, :, None])))[:, :, 0]
    squares = np.zeros((5, len(which), 2 * windows.half + 1, 2 * windows.half + 1), np.float32)
    for square, values in zip(squares, (left, white, used, along[:, 0], along[:, 1])):
        square[:, y + windows.half, x + windows.half] = values
    return Leftover(squares[0], squares[1], squares[2] > 0, squares[3], squares[4])
