"""The model of a frame that refinement fits: a Gaussian per column on a smooth background. Owns its drawing and normal equations.

A column has four parameters, in this order everywhere: its place along u and v (gram: in sigmas of the mean peak), amplitude, log of its
width relative to the frame's. The derivatives by them are the column's Gaussian times the four functions of gram, so the normal equations
follow from a few weighted sums over a window's pixels, which one matrix product gives for many columns. Arrays of many columns have them
last. NumPy only. Called by jointfit and leftover.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Tuple

import numpy as np

from stemzoo.geometry.gram import R, U, as_gram, basis, functions, moved, recentred, uneven_moved, whitening
from stemzoo.geometry.neighbours import Pairs
from stemzoo.geometry.windows import Which, Windows, product

CORE = 4


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

    own (4, 4, n) and gradient (4, n): the four parameters; plane (4, 4, n) each parameter with a background of slopes along u and v, a
    constant and a bowl r about the column; flat (3, 3, n) the first three of these with each other; chi2 (n,) weighted and squares (n,)
    plain sum of squared residuals; ellipticity (2, 2, n): score and information of the two shape terms, stretch and shear.
    """

    own: np.ndarray
    gradient: np.ndarray
    plane: np.ndarray
    flat: np.ndarray
    chi2: np.ndarray
    squares: np.ndarray
    ellipticity: np.ndarray


class Placed(NamedTuple):
    """Columns as seen from the centres of windows, in sigmas of the mean peak: uv (2, c), and the inverse squared widths (c,)."""

    uv: np.ndarray
    narrow: np.ndarray

    def exponent(self) -> np.ndarray:
        """Return the coefficients (c, 4) on u, v, 1, r of the exponent of each column's Gaussian."""
        u, v = self.uv
        coefficients: np.ndarray = np.stack([u, v, -0.5 * (u * u + v * v), np.full(len(u), -0.5)], axis=1) * self.narrow[:, None]
        return coefficients

    def factors(self, amplitude: np.ndarray) -> np.ndarray:
        """Return what u, v, 1, r are multiplied by, besides the Gaussian, in its derivatives by the four parameters: (4, c)."""
        steep = amplitude * self.narrow
        return np.stack([steep, steep, np.ones(len(steep)), steep])


def placed(state: State, centre: np.ndarray, which: Which, white: np.ndarray) -> Placed:
    """Return columns `which` (indices or a slice) as seen from the pixels `centre` (c, 2)."""
    return Placed(white @ (state.yx[which] - centre).T, np.exp(-2 * state.log_width[which]))


def gaussian(exponent: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return exp of the coefficients (c, 4) on u, v, 1, r at m pixels, `values` (4, m): (c, m) float32."""
    value = product(exponent.astype(np.float32), values)
    np.exp(value, out=value)
    return value


def render(state: State, windows: Windows, out: np.ndarray) -> None:
    """Set `out`, float32 of the shape of the padded frame of `windows`, to the sum of all columns' Gaussians."""
    out[:] = 0
    flat = out.ravel()
    white = whitening(state.shape)
    values = functions(windows.draw_y, windows.draw_x, white)
    amplitude = state.amplitude.astype(np.float32)

    def draw(start: int, stop: int) -> Tuple[int, np.ndarray]:
        columns = slice(start, stop)
        peak = gaussian(placed(state, windows.centre[columns], columns, white).exponent(), values)
        peak *= amplitude[columns, None]
        index = windows.flat_index(columns, windows.draw_y, windows.draw_x)
        low = int(index.min())
        index -= low
        return low, np.bincount(index.ravel(), weights=peak.ravel())

    for low, part in windows.stream(len(windows.draw_y), draw):
        flat[low : low + len(part)] += part


def normal_equations(state: State, windows: Windows, residual: np.ndarray, weight: np.ndarray) -> Normal:
    """Return every column's normal equations for the whole model's residual and weight, both in the padded frame and 0 where a
    pixel does not count."""
    flat_residual, flat_weight = residual.ravel(), weight.ravel()
    white = whitening(state.shape)
    values, products, pulling = basis(windows.fit_y, windows.fit_x, white)

    def work(start: int, stop: int) -> Normal:
        columns = slice(start, stop)
        place = placed(state, windows.centre[columns], columns, white)
        peak = gaussian(place.exponent(), values)
        index = windows.flat_index(columns, windows.fit_y, windows.fit_x)
        left, w = flat_residual.take(index), flat_weight.take(index)
        flat = product(w, products)
        own = w * peak
        once = product(own, products)
        own *= peak
        twice = product(own, products)
        squares = np.einsum("cm,cm->c", left, left)
        w *= left
        chi2 = np.einsum("cm,cm->c", w, left)
        w *= peak
        pull = product(w, pulling)
        return _assembled(place, state.amplitude[columns], (flat, once, twice, pull))._replace(chi2=chi2, squares=squares)

    parts = zip(*windows.each(len(windows.fit_y), work))
    return Normal(*(np.concatenate(part, axis=-1).astype(np.float64) for part in parts))


def _assembled(place: Placed, amplitude: np.ndarray, sums: Tuple[np.ndarray, ...]) -> Normal:
    """Return what of the normal equations of c columns follows from sums over their windows: of the weight alone (c, 10), times the
    Gaussian (c, 10) and times its square (c, 10), and of the weighted residual times the Gaussian (c, 6)."""
    flat, once, twice = (as_gram(moments) for moments in sums[:3])
    pull, uneven = sums[3][:, :4].T.astype(np.float64), sums[3][:, 4:].T.astype(np.float64)
    factor = place.factors(amplitude)
    steep = factor[U]
    own = recentred(twice, place.uv, place.uv) * factor[:, None]
    score = steep * uneven_moved(uneven, pull, place.uv)
    # a round weight sees half of r² in what is stretched and an eighth in what is sheared
    information = steep * own[R, R] * np.array([[0.5], [0.125]])
    own *= factor
    plane = recentred(once, place.uv, place.uv) * factor[:, None]
    none = np.zeros(len(steep))
    gradient = factor * moved(pull, place.uv)
    return Normal(own, gradient, plane, recentred(flat[:R, :R], place.uv, place.uv), none, none, np.stack([score, information]))


def pair_blocks(state: State, windows: Windows, weight: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Return how strongly the parameters of each ordered pair of columns share pixels: (4, 4, p) float64.

    Only pixels that lie in both fit windows count, so that all blocks together are a Gram matrix and the joint equations have a minimum.
    """
    blocks = np.zeros((CORE, CORE, len(pairs.first)))
    once = np.flatnonzero(pairs.first < pairs.second)
    if len(once) == 0:
        return blocks
    flat_weight = weight.ravel()
    radius = float((windows.fit_y**2 + windows.fit_x**2).max())
    first, second = pairs.first[once], pairs.second[once]
    which, begin = np.unique(first, return_index=True)
    ends = np.append(begin, len(once))
    white = whitening(state.shape)
    values, products, _ = basis(windows.fit_y, windows.fit_x, white)
    offset = np.stack([windows.fit_y, windows.fit_x]).astype(np.float32)
    from_centre = (offset**2).sum(axis=0)

    def work(start: int, stop: int) -> np.ndarray:
        part, columns = slice(ends[start], ends[stop]), which[start:stop]
        one, other = first[part], second[part]
        here = placed(state, windows.centre[one], one, white)
        there = placed(state, windows.centre[one], other, white)
        w = flat_weight.take(windows.flat_index(columns, windows.fit_y, windows.fit_x))
        both = gaussian(here.exponent() + there.exponent(), values)
        both *= np.repeat(w, np.diff(ends[start : stop + 1]), axis=0)
        # from the other's window: |offset|² + 2 offset · apart + |apart|², one matrix product instead of six passes
        apart = (windows.centre[one] - windows.centre[other]).astype(np.float32)
        away = product(2 * apart, offset)
        away += from_centre
        both *= away <= (radius - (apart**2).sum(axis=1))[:, None]
        shared = recentred(as_gram(product(both, products)), here.uv, there.uv)
        shared *= here.factors(state.amplitude[one])[:, None] * there.factors(state.amplitude[other])
        return shared

    per_column = len(once) // len(which)
    parts = [work(*part) for part in windows.chunks(len(windows.fit_y) * (1 + per_column), len(which))]
    blocks[:, :, once] = np.concatenate(parts, axis=2)
    # the k-th pair in order of its second column is the k-th in order, the other way round
    backward = np.lexsort((pairs.first, pairs.second))
    mirrored = blocks[:, :, backward].transpose(1, 0, 2)
    both_ways: np.ndarray = np.where(pairs.first < pairs.second, blocks, mirrored)
    return both_ways


def fit_amplitudes(windows: Windows, state: State, which: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return amplitudes and backgrounds (k,) of columns `which` (k,), each alone, positions and width as they stand, by linear least
    squares."""
    white = whitening(state.shape)
    values = functions(windows.fit_y, windows.fit_x, white)

    def work(start: int, stop: int) -> np.ndarray:
        columns = which[start:stop]
        peak = gaussian(placed(state, windows.centre[columns], columns, white).exponent(), values)
        index = windows.flat_index(columns, windows.fit_y, windows.fit_x)
        weight = np.sqrt(peak)  # the middle counts most: the rim may belong to a neighbour
        weight *= windows.usable.ravel().take(index)
        value = windows.image.ravel().take(index)
        norm = np.maximum(weight.sum(axis=1), 1e-9)
        heavy = weight * peak
        mean_peak, mean_value = heavy.sum(axis=1) / norm, np.einsum("cm,cm->c", weight, value) / norm
        covariance = np.einsum("cm,cm->c", heavy, value) / norm - mean_peak * mean_value
        amplitude = covariance / np.maximum(np.einsum("cm,cm->c", heavy, peak) / norm - mean_peak**2, 1e-6)
        return np.stack([amplitude, mean_value - amplitude * mean_peak], axis=1)

    parts = [work(*part) for part in windows.chunks(len(windows.fit_y), len(which))]
    both = np.concatenate(parts or [np.zeros((0, 2))]).astype(np.float64)
    return both[:, 0], both[:, 1]
