"""The model of a frame that refinement fits: a Gaussian per column on a smooth background. Owns its drawing and normal equations.

A column has four parameters, in this order everywhere: y, x, amplitude, log of its width relative to the frame's. The derivatives by them
are the column's Gaussian times polynomials of the distance to it, so the normal equations follow from a few weighted moments of a window's
pixels, which one matrix product gives for many columns. NumPy only. Called by jointfit and leftover.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple, Union

import numpy as np

from stemzoo.geometry.background import Background
from stemzoo.geometry.neighbours import Pairs
from stemzoo.geometry.windows import POWERS, Windows, product

CORE = 4
TOGETHER = np.array([[POWERS.index((a + c, b + d)) for c, d in POWERS[:6]] for a, b in POWERS[:6]])
"""(6, 6) which monomial is the product of two of at most the second degree."""


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
    the two shape terms (stretch along y, shear); lift (n, 4, K²) how strongly each parameter shares pixels with the background nodes in
    the window (`Windows.reach`), empty unless asked for.
    """

    matrix: np.ndarray
    gradient: np.ndarray
    chi2: np.ndarray
    squares: np.ndarray
    pixels: np.ndarray
    ellipticity: np.ndarray
    lift: np.ndarray


class Templates(NamedTuple):
    """Polynomials in the pixels' offsets from the centre of a window, coefficients as in POWERS, up to the second degree, float64.

    exponent (c, 6) of the Gaussian of a column, core (c, 4, 6) by which it is multiplied in its derivatives by the four parameters, shape
    (c, 2, 6) the same by stretch and shear, plane (c, 3, 6) a constant and the distances in y and x.
    """

    exponent: np.ndarray
    core: np.ndarray
    shape: np.ndarray
    plane: np.ndarray


def templates(state: State, shift: np.ndarray, which: Union[np.ndarray, slice, None] = None) -> Templates:
    """Return the polynomials of columns `which` (indices or a slice; all if None) in windows whose centres lie `shift` (c, 2) px away."""
    amplitude, log_width = (array if which is None else array[which] for array in (state.amplitude, state.log_width))
    none, one = np.zeros(len(shift)), np.ones(len(shift))
    y, x = shift.T
    along_y = np.stack([y, one, none, none, none, none], axis=1)
    along_x = np.stack([x, none, one, none, none, none], axis=1)
    yy = np.stack([y * y, 2 * y, none, one, none, none], axis=1)
    yx = np.stack([y * x, x, y, none, one, none], axis=1)
    xx = np.stack([x * x, none, 2 * x, none, none, one], axis=1)
    (a, b), (_, d) = np.linalg.inv(state.shape)
    narrow = np.exp(-2 * log_width)[:, None]
    pull_y, pull_x = narrow * (a * along_y + b * along_x), narrow * (b * along_y + d * along_x)
    squared = narrow * (a * yy + 2 * b * yx + d * xx)
    stretch = narrow * (a * yy - d * xx)
    shear = narrow * narrow * (a * b * yy + (a * d + b * b) * yx + b * d * xx)
    constant = np.stack([one, none, none, none, none, none], axis=1)
    height = amplitude[:, None]
    core = np.stack([height * pull_y, height * pull_x, constant, height * squared], axis=1)
    shape = np.stack([height * stretch, height * shear], axis=1)
    return Templates(-0.5 * squared, core, shape, np.stack([constant, along_y, along_x], axis=1))


def gaussian(exponent: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Return exp of the polynomials (c, 6) at pixels whose monomials are `powers` (m, 6 or more): (c, m) float32."""
    value = product(exponent.astype(np.float32), np.ascontiguousarray(powers[:, :6].T))
    np.exp(value, out=value)
    return value


def render(state: State, windows: Windows) -> np.ndarray:
    """Return the sum of all columns' Gaussians, float32, in the padded frame of `windows`."""
    total = np.zeros(windows.image.shape, np.float32)
    flat = total.ravel()
    exponent = templates(state, windows.centre - state.yx).exponent
    amplitude = state.amplitude.astype(np.float32)

    def draw(start: int, stop: int) -> Tuple[int, np.ndarray]:
        peak = gaussian(exponent[start:stop], windows.draw_powers)
        peak *= amplitude[start:stop, None]
        index = windows.flat_index(start, stop, windows.draw_y, windows.draw_x)
        low = int(index.min())
        index -= low
        return low, np.bincount(index.ravel(), weights=peak.ravel())

    for low, part in windows.stream(len(windows.draw_y), draw):
        flat[low : low + len(part)] += part
    return total


def normal_equations(
    state: State, windows: Windows, residual: np.ndarray, weight: np.ndarray, background: Optional[Background] = None
) -> Normal:
    """Return every column's normal equations for the whole model's residual and weight, both in the padded frame.

    Args: background: given where the coupling to its nodes is wanted.
    """
    flat_residual, flat_weight = residual.ravel(), weight.ravel()
    powers, quadratic, cubic = windows.fit_powers, windows.fit_powers[:, :6].copy(), windows.fit_powers[:, :10].copy()

    def work(start: int, stop: int) -> Normal:
        columns = slice(start, stop)
        terms = templates(state, windows.centre[columns] - state.yx[columns], columns)
        peak = gaussian(terms.exponent, quadratic)
        index = windows.flat_index(start, stop, windows.fit_y, windows.fit_x)
        left, w = flat_residual.take(index), flat_weight.take(index)
        own = w * peak
        lift = np.zeros((stop - start, CORE, 0)) if background is None else _lift(own, terms.core, windows, background, start, stop)
        flat, once = product(w, quadratic), product(own, cubic)
        pixels = np.count_nonzero(w, axis=1)
        own *= peak
        twice = product(own, powers)
        squares = np.einsum("cm,cm,cm->c", left, left, w > 0)
        w *= left
        chi2 = np.einsum("cm,cm->c", w, left)
        w *= peak
        return _assembled(terms, product(w, quadratic), flat, once, twice)._replace(chi2=chi2, squares=squares, pixels=pixels, lift=lift)

    parts = zip(*windows.each(len(windows.fit_y), work))
    return Normal(*(np.concatenate(part).astype(np.float64) for part in parts))


def _assembled(terms: Templates, pull: np.ndarray, flat: np.ndarray, once: np.ndarray, twice: np.ndarray) -> Normal:
    """Return what of the normal equations of c columns follows from their moments, of residual × Gaussian (c, 6), and of the weight alone
    (c, 6), times the Gaussian (c, 10) and times its square (c, 15)."""
    pull, flat, once, twice = (moments.astype(np.float64) for moments in (pull, flat, once, twice))
    core, shape, plane = terms.core, terms.shape, terms.plane
    matrix = np.empty((len(core), CORE + 3, CORE + 3))
    alike = twice[:, TOGETHER]
    matrix[:, :CORE, :CORE] = core @ alike @ core.transpose(0, 2, 1)
    matrix[:, :CORE, CORE:] = core @ once[:, TOGETHER[:, :3]] @ plane[:, :, :3].transpose(0, 2, 1)
    matrix[:, CORE:, :CORE] = matrix[:, :CORE, CORE:].transpose(0, 2, 1)
    matrix[:, CORE:, CORE:] = plane[:, :, :3] @ flat[:, TOGETHER[:3, :3]] @ plane[:, :, :3].transpose(0, 2, 1)
    score = (shape @ pull[:, :, None])[:, :, 0]
    information = np.einsum("nki,nij,nkj->nk", shape, alike, shape)
    gradient = (core @ pull[:, :, None])[:, :, 0]
    none = np.zeros(len(core))
    return Normal(matrix, gradient, none, none, none, np.stack([score, information], axis=2), none)


def _lift(own: np.ndarray, core: np.ndarray, windows: Windows, background: Background, start: int, stop: int) -> np.ndarray:
    """Return the products of each column's four derivatives with the background nodes in its window: (c, 4, K²).

    Args: own (c, m) weighted Gaussians; core (c, 4, 6).
    """
    reach = windows.reach(background)
    side = 2 * windows.half + 1
    square = np.zeros((stop - start, side * side), np.float32)
    square[:, (windows.fit_y + windows.half) * side + windows.fit_x + windows.half] = own
    offset = np.arange(-windows.half, windows.half + 1, dtype=np.float32)[:, None]
    rows, cols = (
        np.concatenate([nodes[start:stop] * offset**power for power in range(3)], axis=2) for nodes in (reach.by_row, reach.by_col)
    )
    nodes = reach.by_row.shape[2]
    tensor = np.matmul(rows.transpose(0, 2, 1), np.matmul(square.reshape(-1, side, side), cols)).reshape(-1, 3, nodes, 3, nodes)
    moments = np.stack([tensor[:, a, :, b] for a, b in POWERS[:6]], axis=1).reshape(stop - start, 6, -1)
    lift: np.ndarray = np.matmul(core.astype(np.float32), moments)
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
    first, second = pairs.first[once], pairs.second[once]

    def work(start: int, stop: int) -> np.ndarray:
        part = slice(ends[start], ends[stop])
        one, other = first[part], second[part]
        own = templates(state, windows.centre[start:stop] - state.yx[start:stop], slice(start, stop))
        away_from = templates(state, windows.centre[one] - state.yx[other], other)
        w = flat_weight.take(windows.flat_index(start, stop, windows.fit_y, windows.fit_x))
        both = gaussian(own.exponent[one - start] + away_from.exponent, windows.fit_powers)
        both *= w[one - start]
        # from the other's window: |offset|² + 2 offset · apart + |apart|², one matrix product instead of six passes
        apart = (windows.centre[one] - windows.centre[other]).astype(np.float32)
        away = product(2 * apart, np.ascontiguousarray(windows.fit_powers[:, 1:3].T))
        away += (windows.fit_y**2 + windows.fit_x**2).astype(np.float32)
        both *= away <= (radius - (apart**2).sum(axis=1))[:, None]
        moments = product(both, windows.fit_powers).astype(np.float64)
        shared: np.ndarray = own.core[one - start] @ moments[:, TOGETHER] @ away_from.core.transpose(0, 2, 1)
        return shared

    per_column = len(once) // len(state.yx)
    blocks[once] = np.concatenate(windows.each(len(windows.fit_y) * (1 + per_column), work))
    # the k-th pair in order of its second column is the k-th in order, the other way round
    backward = np.lexsort((pairs.first, pairs.second))
    mirrored = blocks[backward].transpose(0, 2, 1)
    return np.where((pairs.first < pairs.second)[:, None, None], blocks, mirrored)


def fit_amplitudes(windows: Windows, state: State) -> Tuple[np.ndarray, np.ndarray]:
    """Return first amplitudes and backgrounds (n,), each column alone, positions and width as they stand, by linear least squares."""
    exponent = templates(state, windows.centre - state.yx).exponent

    def work(start: int, stop: int) -> np.ndarray:
        peak = gaussian(exponent[start:stop], windows.fit_powers)
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
