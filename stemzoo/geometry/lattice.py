"""The lattice of a frame in pixels, when it has one. Owns the search for its two vectors; NumPy only.

Called by scale, which brings a frame without pixel size to a network's sampling, and by analyze.window. The
strongest grain wins; what the pixels are in Å is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.geometry.filters import even_frame

LARGEST_PX = 1024  # a frame's middle of this size decides
FALSE_ALARM = 7.0  # a spectral peak stands this many e-foldings above what all bins together reach by chance
SHORTEST_PX = 2.5  # of a lattice vector
PEAK_BINS = 1.3  # a spectral peak lies this close to the reciprocal lattice that explains it
AS_GOOD = 0.93  # the smallest cell that explains this fraction of what the best cell explains


@dataclass(frozen=True)
class Lattice:
    """Translation lattice of a frame's strongest grain.

    Args:
        vectors_px: (2, 2) float64, rows a and b as (y, x) in px, |a| ≤ |b|, reduced: no shorter pair spans the same lattice.
        period_px: |a|, the shortest translation.
        strength: in [0, 1], fraction of the spectrum's significant peaks, by power, that lie on the reciprocal lattice; low for several
        grains.
    """

    vectors_px: np.ndarray
    period_px: float
    strength: float


def find_lattice(image: np.ndarray) -> Optional[Lattice]:
    """Return the lattice of a frame (H, W), or None where there is none: single atoms, noise, fringes in one direction only.

    The significant peaks of the power spectrum, noise and slow background left out, give an autocorrelation free of both; its maxima are
    the candidate vectors, and the smallest cell whose reciprocal lattice explains the peaks is the answer. A superstructure counts when
    its own peaks are significant. Raises: ShapeError if `image` is not 2-D.
    """
    if image.ndim != 2:
        raise ShapeError(f"find_lattice got an array of shape {image.shape}; wanted one frame (H, W)")
    frame = even_frame(image, LARGEST_PX)
    if frame is None:
        return None
    height, width = frame.shape
    power = np.abs(np.fft.rfft2(frame * np.outer(np.hanning(height), np.hanning(width)))) ** 2
    peaks, strength = _spectral_peaks(power, height, width)
    if len(peaks) < 2:
        return None
    candidates = _autocorrelation_maxima(power, peaks, height, width)
    best = _smallest_cell(candidates, peaks, strength, frame.shape)
    if best is None:
        return None
    vectors, explained = best
    return Lattice(vectors, float(np.hypot(*vectors[0])), explained)


def _spectral_peaks(power: np.ndarray, height: int, width: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return frequencies (k, 2) in cycles per px of significant spectral peaks, one of each ± couple, and their power over the noise
    (k,)."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.hypot(fy, fx)
    bins = radius * min(height, width)
    ring = np.floor(10 * np.log2(1 + bins / 4)).astype(np.int64)  # narrow where spectra are steep, wide where they are flat
    count = int(ring.max()) + 1
    order = np.argsort(ring.ravel(), kind="stable")
    edges = np.searchsorted(ring.ravel()[order], np.arange(count + 1))
    # noise power is exponential: its 35th percentile, which the peaks of a lattice do not reach, lies at 0.43 of its mean
    rings = [power.ravel()[order[a:b]] for a, b in zip(edges[:-1].tolist(), edges[1:].tolist())]
    floor = np.array([np.percentile(values, 35) / 0.43 if len(values) else 0.0 for values in rings])
    floor = np.maximum(floor, np.maximum(np.append(floor[1:], 0), np.append(0, floor[:-1])))
    # a crystal without noise has rings without floor: the spectrum's own leakage and rounding set one
    over = power / np.maximum(floor[ring], 1e-9 * power.max())
    wrapped = np.concatenate([power[-1:], power, power[:1]])
    inner = power[:, 1:-1]
    around = [np.roll(power, shift, axis=0)[:, 1:-1] for shift in (-1, 1)]
    sides = [wrapped[1 + dy : 1 + dy + height, 1 + dx : power.shape[1] - 1 + dx] for dy in (-1, 0, 1) for dx in (-1, 1)]
    top = np.zeros(power.shape, bool)
    top[:, 1:-1] = np.all([inner >= other for other in around + sides], axis=0)
    column = power[:, 0]
    top[1 : height // 2, 0] = ((column >= np.roll(column, 1)) & (column >= np.roll(column, -1)) & (column >= power[:, 1]))[1 : height // 2]
    slowest = 3.0 / min(height, width)
    limit = np.log(power.size) + FALSE_ALARM
    row, col = np.nonzero(top & (over > limit) & (radius > slowest) & (radius < 1 / SHORTEST_PX / 0.8))
    if len(row) == 0:
        return np.zeros((0, 2)), np.zeros(0)
    keep = np.argsort(-over[row, col], kind="stable")[:120]
    row, col = row[keep], col[keep]
    log = np.log(np.maximum(power, 1e-300))
    step = []
    for before, after in (
        (((row - 1) % height, col), ((row + 1) % height, col)),
        ((row, np.abs(col - 1)), (row, np.minimum(col + 1, power.shape[1] - 1))),
    ):
        step.append(_to_top(log[before], log[row, col], log[after], 1e-9))
    cycles = np.stack([np.where(row < height / 2, row, row - height) + step[0], col + step[1]], axis=1)
    return cycles / (height, width), power[row, col] - floor[ring[row, col]]


def _to_top(low: np.ndarray, middle: np.ndarray, high: np.ndarray, least_bend: float) -> np.ndarray:
    """Return the step from the middle of three values to the top of the parabola through them, at most half; none where it hardly bends."""
    bend = 2 * middle - low - high
    step: np.ndarray = np.clip(np.where(bend > least_bend, (high - low) / (2 * np.maximum(bend, least_bend)), 0), -0.5, 0.5)
    return step


def _autocorrelation_maxima(power: np.ndarray, peaks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the maxima (k, 2) px of the autocorrelation made of significant peaks only, shortest first, those too weak to be
    translations left out."""
    kept = np.zeros_like(power)
    row = np.rint(peaks[:, 0] * height).astype(np.int64)
    col = np.rint(peaks[:, 1] * width).astype(np.int64)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            at = ((row + dy) % height, np.clip(col + dx, 0, power.shape[1] - 1))
            kept[at] = power[at]
    correlation = np.fft.irfft2(kept, (height, width))
    reach_y, reach_x = height // 4, width // 4
    part = np.roll(correlation, (reach_y, reach_x), axis=(0, 1))[: 2 * reach_y + 1, : 2 * reach_x + 1] / correlation[0, 0]
    centre = part[1:-1, 1:-1]
    top = np.all(
        [centre >= part[1 + dy : part.shape[0] - 1 + dy, 1 + dx : part.shape[1] - 1 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)], axis=0
    )
    y, x = np.nonzero(top)
    y, x = y + 1, x + 1
    value = part[y, x]
    step = []
    for dy, dx in ((1, 0), (0, 1)):
        step.append(_to_top(part[y - dy, x - dx], value, part[y + dy, x + dx], 1e-12))
    vector = np.stack([y - reach_y + step[0], x - reach_x + step[1]], axis=1)
    length = np.hypot(vector[:, 0], vector[:, 1])
    forward = (vector[:, 0] > 1e-9) | ((np.abs(vector[:, 0]) <= 1e-9) & (vector[:, 1] > 0))
    # the window weakens the correlation with distance, by the overlap of the shifted windows
    fade = np.clip(1 - 1.5 * np.abs(vector[:, 0]) / height, 0.2, 1) * np.clip(1 - 1.5 * np.abs(vector[:, 1]) / width, 0.2, 1)
    usable = forward & (length >= SHORTEST_PX) & (value / fade > 0.25)
    order = np.flatnonzero(usable)[np.argsort(length[usable], kind="stable")]
    return vector[order]


def _smallest_cell(
    candidates: np.ndarray, peaks: np.ndarray, strength: np.ndarray, shape: Tuple[int, ...]
) -> Optional[Tuple[np.ndarray, float]]:
    """Return the smallest cell spanned by two candidates that suits the spectral peaks about as well as any, refined on them, and how
    much of them it explains."""
    weight = np.sqrt(strength)  # of the amplitudes: a superstructure's weak peaks have a say
    weight = weight / weight.sum()
    order = np.hypot(peaks[:, 0], peaks[:, 1])
    rising = np.argsort(order)
    reach = float(order[rising[min(len(order) - 1, int(np.searchsorted(np.cumsum(weight[rising]), 0.7)))]]) * 1.02
    cells = _refine(_cells(candidates[:16], peaks[np.argsort(-strength)[:8]]), peaks, strength, shape)
    index, off = _distance(cells, peaks, shape)
    hit = off < PEAK_BINS
    usable = _independent(index, hit)
    if not usable.any():
        return None
    cells, index, hit = cells[usable], index[usable], hit[usable]
    area = np.abs(np.linalg.det(cells))
    # a large cell has so dense a reciprocal lattice that it meets peaks by chance …
    chance = np.minimum(0.9, np.pi * PEAK_BINS**2 * area / (shape[0] * shape[1]))
    explained = (hit @ weight - chance) / (1 - chance)
    # … and where two grains share it, most of its points stay empty
    filled = np.array([_filled(cell, i[h & (order <= reach)], reach) for cell, i, h in zip(cells, index, hit)])
    suits = explained * filled
    if suits.max() < 0.15:
        return None
    good = np.flatnonzero(suits >= AS_GOOD * suits.max())
    best = good[area[good].argmin()]
    return _reduced(cells[best]), float(np.clip(explained[best], 0, 1))


def _cells(vectors: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Return the cells (k, 2, 2) spanned by two of the translations (m, 2) px, then those whose reciprocal lattice two of the frequencies
    (l, 2) span."""
    found = []
    for source, reciprocal in ((vectors, False), (frequencies, True)):
        first, second = np.triu_indices(len(source), 1)
        pairs = np.stack([source[first], source[second]], axis=1).reshape(-1, 2, 2)
        length = np.hypot(pairs[..., 0], pairs[..., 1])
        pairs = pairs[np.abs(np.linalg.det(pairs)) > 0.35 * length[:, 0] * length[:, 1]]
        found.append(np.linalg.inv(pairs).transpose(0, 2, 1) if reciprocal else pairs)
    every = np.concatenate(found)
    cells: np.ndarray = every[np.abs(np.linalg.det(every)) > SHORTEST_PX**2]
    return cells


def _filled(cell: np.ndarray, met: np.ndarray, reach: float) -> float:
    """Return the fraction of the reciprocal lattice's points within `reach` cycles per px that are among the indices (k, 2) `met`, or
    opposite to one."""
    most = int(np.ceil(reach * np.hypot(cell[:, 0], cell[:, 1]).max())) + 1
    side = np.arange(-most, most + 1)
    reciprocal = np.linalg.inv(cell).T
    point = side[:, None, None] * reciprocal[0] + side[None, :, None] * reciprocal[1]
    within = np.hypot(point[..., 0], point[..., 1]) <= reach
    within[most, most] = False
    seen = np.zeros_like(within)
    at = met[(np.abs(met) <= most).all(axis=1)].astype(np.int64)
    seen[most + at[:, 0], most + at[:, 1]] = seen[most - at[:, 0], most - at[:, 1]] = True
    return float((seen & within).sum()) / max(1, int(within.sum()))


def _independent(index: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return for which cells (k,) at least two of the chosen (k, n) indices (k, n, 2) are independent."""
    y, x = index[..., 0] * chosen, index[..., 1] * chosen
    spread: np.ndarray = (y * y).sum(axis=1) * (x * x).sum(axis=1) - (y * x).sum(axis=1) ** 2
    return spread > 0.5  # whole numbers


def _distance(cells: np.ndarray, peaks: np.ndarray, shape: Tuple[int, ...]) -> Tuple[np.ndarray, np.ndarray]:
    """Return each peak's indices (k, n, 2) in the reciprocal lattices of the cells (k, 2, 2), rounded, and how far it lies from there, in
    spectral bins (k, n)."""
    index = peaks @ cells.transpose(0, 2, 1)
    nearest = np.rint(index)
    off = (peaks - nearest @ np.linalg.inv(cells).transpose(0, 2, 1)) * shape
    return nearest, np.hypot(off[..., 0], off[..., 1])


def _refine(cells: np.ndarray, peaks: np.ndarray, strength: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    """Return the cells (k, 2, 2) whose reciprocal lattices fit the peaks near them best, by weighted least squares; low orders first, so
    that none is misindexed."""
    cells = cells.copy()
    order = np.hypot(peaks[:, 0], peaks[:, 1])
    alive = np.ones(len(cells), bool)
    for limit in (0.5, 0.75, 1.0, 1.0):
        index, off = _distance(cells, peaks, shape)
        used = (off < 2.5) & (order <= limit * order.max()) & (index != 0).any(axis=2)
        can = alive & _independent(index, used)
        weighted = index[can] * (used[can] * strength)[..., None]
        normal = weighted.transpose(0, 2, 1) @ index[can]
        reciprocal = np.linalg.solve(normal, weighted.transpose(0, 2, 1) @ peaks)
        sound = np.abs(np.linalg.det(reciprocal)) >= 1e-12
        which = np.flatnonzero(can)
        alive[which[~sound]] = False
        cells[which[sound]] = np.linalg.inv(reciprocal[sound]).transpose(0, 2, 1)
    return cells


def _reduced(cell: np.ndarray) -> np.ndarray:
    """Return the shortest pair of vectors that spans the same lattice (Lagrange), pointing down or right, shorter first."""
    a, b = cell
    for _ in range(50):
        if a @ a > b @ b:
            a, b = b, a
        times = round(float(a @ b) / float(a @ a))
        if times == 0:
            break
        b = b - times * a
    return np.stack([v if v[0] > 1e-9 or (abs(v[0]) <= 1e-9 and v[1] > 0) else -v for v in (a, b)])
