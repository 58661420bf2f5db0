"""How well the electrons of a simulated frame let its columns be located: the Cramér–Rao bound, for the peak that the probe really makes.

Called by `stemzoo.evaluate` and by benchmarks, which hold located columns against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.ndimage import map_coordinates
from scipy.sparse import csr_matrix, diags, vstack
from scipy.spatial import cKDTree
from scipy.special import ndtri

from stemzoo.simulation.probe import Optics, transfer

_OVERSAMPLING = 8
_TABLE_PX = 64
_CONTENT = 0.998
_LEAST_COUNTS = 1e-6
_POINTS_APART = 1.25
_BEYOND = 1.5
"""Distance of a film's points, and how far from a column's pixels they count, in units of its grain; more change no bound by 3 %."""

FOUND = 0.95
"""Share of columns that an ideal detector must find for them to count as detectable."""


@dataclass(frozen=True)
class Blur:
    """What hides columns besides shot noise.

    Args:
        readout: rms readout noise [electrons].
        speckle: rms of an amorphous film's own structure [electrons a pixel]; 0 for none.
        grain: sigma of the Gaussian that independent points of the film become in the frame [Å].
    """

    readout: float = 0.0
    speckle: float = 0.0
    grain: float = 0.0


CLEAR = Blur()


class Limits(NamedTuple):
    """What the electrons of a frame can say of its columns, at best.

    Args:
        position: (n, 2) least standard error that an unbiased estimate of each position can have [px].
        significance: (n,) electrons in each column's peak over the least standard error of their number.
        detectable: significance from which a detector that takes the likelier of column and nothing finds `FOUND` of the columns: the
            fewer columns among the places where one might be, the higher.
    """

    position: np.ndarray
    significance: np.ndarray
    detectable: float


def limits(
    expected: np.ndarray, yx: np.ndarray, counts: np.ndarray, optics: Optics, thermal: float, pixel_size: float, blur: Blur = CLEAR
) -> Limits:
    """Return how well columns can be placed and told from nothing.

    The positions and amplitudes of a column and of all that share its pixels are unknown together; the shape of the peak, the flat
    background and columns that are no truth are known. Of amorphous speckle only the statistics are known: nobody can take away what a
    film adds to a column, however many electrons there are. Real fits know less, so nothing can be better than this and most are a little
    worse.

    Args:
        expected: (H, W), electrons expected at each pixel, background and every neighbour included.
        yx: (n, 2) px, positions; counts: (n,) electrons expected in each column's peak.
        optics, thermal: the probe and the rms displacement [Å] that make the peak.
        pixel_size: Å/px. blur: readout noise and speckle.
    Source: Fisher information of independent counts, Σ ∂λ ∂λᵀ / (λ + readout²); S. Van Aert et al., J. Struct. Biol. 138 (2002) 21. The
        speckle enters as Gaussian points of random strength, whose prior adds to the information (the Bayesian form of the bound:
        H. L. Van Trees, Detection, Estimation, and Modulation Theory I, 1968, 2.4). A column of significance d is told from nothing by a
        statistic of N(d, 1) against N(0, 1); at even odds, with a share p of places that are columns, the step lies at
        d / 2 + ln((1 − p) / p) / d.
    """
    if not len(yx):
        return Limits(np.zeros((0, 2)), np.zeros(0), float("inf"))
    peak, radius = _peak(optics, thermal, pixel_size)
    offset = np.stack(np.meshgrid(*2 * [np.arange(-radius, radius + 1)], indexing="ij"), -1).reshape(-1, 2)
    base = np.rint(yx).astype(np.int64)
    at = base[:, None] + offset
    where = np.moveaxis(at - yx[:, None], -1, 0) * _OVERSAMPLING + _TABLE_PX * _OVERSAMPLING
    slopes = np.stack([map_coordinates(table, where, order=1) for table in peak], axis=1)
    slopes[:, :2] *= counts[:, None, None]
    inside = ((at >= 0) & (at < expected.shape)).all(axis=-1)
    variance = np.maximum(expected, _LEAST_COUNTS).ravel() + blur.readout**2
    pixels = at[..., 0] * expected.shape[1] + at[..., 1]
    rows = _scaled(slopes, pixels, inside, 1 / variance)
    points, film = _film(blur, expected.shape, pixel_size, 1 / variance)
    jacobian = vstack([rows, film], format="csr")
    prior = np.repeat([0.0, 1.0], [rows.shape[0], film.shape[0]])
    information = csr_matrix(jacobian @ jacobian.T + diags(prior))
    reach = radius + _BEYOND * blur.grain / pixel_size
    around = cKDTree(points).query_ball_point(base, reach, p=np.inf) if len(points) else [[]] * len(yx)
    bound = np.empty((len(yx), 3))
    for column, near in enumerate(cKDTree(base).query_ball_point(base, radius, p=np.inf)):
        group = np.array([column, *(other for other in near if other != column)])
        chosen = np.concatenate([(3 * group[:, None] + np.arange(3)).ravel(), 3 * len(yx) + np.asarray(around[column], dtype=np.int64)])
        bound[column] = _least_errors(information[chosen][:, chosen].toarray())
    filled = 1 / float((peak[2][::_OVERSAMPLING, ::_OVERSAMPLING] ** 2).sum())
    return Limits(bound[:, :2], counts / bound[:, 2], _detectable(len(yx) * filled / expected.size))


def _detectable(share: float) -> float:
    """The significance d at which d / 2 − ln((1 − p) / p) / d standard deviations of an ideal statistic lie above its step, for `FOUND`.

    Args: share: p, of places that are columns, a place as large as the area that a peak fills; above a half everywhere is a column.
    """
    share = min(share, 0.5)
    margin = float(ndtri(FOUND))
    return margin + float(np.sqrt(margin**2 + 2 * np.log((1 - share) / share)))


def limits_of(facts: Mapping[str, float | str], expected: np.ndarray, yx: np.ndarray, counts: np.ndarray) -> Limits:
    """Return `limits` of a frame of a simulated dataset from its attributes. Raises: KeyError for one that does not hold them."""
    optics = Optics(**{field.name: float(facts[field.name]) for field in fields(Optics)})
    blur = Blur(float(facts["readout"]), float(facts.get("speckle", 0.0)), float(facts.get("speckle_grain", 0.0)))
    return limits(expected, yx, counts, optics, float(facts["thermal"]), float(facts["pixel_size"]), blur)


def _peak(optics: Optics, thermal: float, pixel_size: float) -> tuple[np.ndarray, int]:
    """The derivatives of a peak of one electron to y and x [1/px²] and the peak itself [1/px²], oversampled, its centre at `_TABLE_PX`; and
    the radius [px] that holds `_CONTENT` of what it says of its position."""
    side = 2 * _TABLE_PX * _OVERSAMPLING
    step = pixel_size / _OVERSAMPLING
    fy, fx = np.fft.fftfreq(side, step)[:, None], np.fft.fftfreq(side, step)[None]
    spectrum = transfer(optics, fy, fx) * np.exp(-2 * (np.pi * thermal) ** 2 * (fy**2 + fx**2))
    per_px = 2j * np.pi * pixel_size
    tables = np.stack([np.fft.ifft2(spectrum * factor).real for factor in (-per_px * fy, -per_px * fx, 1)])
    tables = np.fft.fftshift(tables, axes=(1, 2)) * _OVERSAMPLING**2
    axis = (np.arange(side) - side // 2) / _OVERSAMPLING
    distance = np.hypot(axis[:, None], axis[None])
    order = np.argsort(distance, axis=None)
    peak = np.maximum(tables[2], 1e-4 * tables[2].max())
    within = np.cumsum(((tables[0] ** 2 + tables[1] ** 2) / peak).ravel()[order])
    radius = float(distance.ravel()[order][min(int(np.searchsorted(within, _CONTENT * within[-1])), side * side - 1)])
    return tables, int(min(np.ceil(radius), _TABLE_PX - 2))


def _least_errors(information: np.ndarray) -> np.ndarray:
    """Return the least standard errors (3,) of the first three parameters; infinite where two columns are one to all that can be seen."""
    try:
        factor = cho_factor(information, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return np.full(3, np.inf)
    return np.asarray(np.sqrt(np.diag(cho_solve(factor, np.eye(len(information), 3), check_finite=False))))


def _scaled(slopes: np.ndarray, pixels: np.ndarray, inside: np.ndarray, precision: np.ndarray) -> csr_matrix:
    """The derivatives of the expected counts to every column's y, x and amplitude over the noise: (3n, H × W).

    Args: slopes (n, P, K); pixels (n, K) their index in the frame; inside (n, K) whether they lie in it; precision (H × W,) of one pixel's
    count.
    """
    n, parameters, _ = slopes.shape
    rows = np.broadcast_to(np.arange(parameters * n).reshape(n, parameters, 1), slopes.shape)
    cols = np.broadcast_to(pixels[:, None], slopes.shape)
    used = np.broadcast_to(inside[:, None], slopes.shape)
    scaled = (slopes * np.sqrt(precision[np.where(inside, pixels, 0)])[:, None])[used]
    return csr_matrix((scaled, (rows[used], cols[used])), shape=(parameters * n, precision.size))


def _film(blur: Blur, shape: tuple[int, int], pixel_size: float, precision: np.ndarray) -> tuple[np.ndarray, csr_matrix]:
    """The points (m, 2) px that make an amorphous film's speckle, and what each adds to the frame over its noise, (m, H × W), at one rms.

    None where the speckle is too weak, beside the noise of the counts, to change a bound by a hundredth.
    """
    grain_px = blur.grain / pixel_size
    if 4 * np.pi * (grain_px * blur.speckle) ** 2 * float(np.median(precision)) < 0.02:
        return np.zeros((0, 2)), csr_matrix((0, precision.size))
    step = _POINTS_APART * grain_px
    y, x = (np.arange(-grain_px, n + grain_px, step) for n in shape)
    points = np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)
    half = int(np.ceil(3.5 * grain_px))
    offset = np.stack(np.meshgrid(*2 * [np.arange(-half, half + 1)], indexing="ij"), -1).reshape(-1, 2)
    at = np.rint(points).astype(np.int64)[:, None] + offset
    strength = blur.speckle * step / (grain_px * np.sqrt(np.pi))
    added = strength * np.exp(-((at - points[:, None]) ** 2).sum(axis=-1) / (2 * grain_px**2))
    inside = ((at >= 0) & (at < shape)).all(axis=-1)
    return points, _scaled(added[:, None], at[..., 0] * shape[1] + at[..., 1], inside, precision)
