"""How well the electrons of a simulated frame let its columns be located: the Cramér–Rao bound, for the peak that the probe really makes.

Called by `stemzoo.evaluate` and by benchmarks, which hold located columns against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from stemzoo.simulation.probe import Optics, transfer

_OVERSAMPLING = 8
_TABLE_PX = 64
_CONTENT = 0.998
_LEAST_COUNTS = 1e-6


def position_bound(
    expected: np.ndarray, yx: np.ndarray, counts: np.ndarray, optics: Optics, thermal: float, pixel_size: float, readout: float = 0.0
) -> np.ndarray:
    """Return the least standard error that an unbiased estimate of each position can have, (n, 2) px.

    The positions and amplitudes of a column and of all that share its pixels are unknown together; the shape of the peak, the background
    and columns that are no truth are known. Real fits know less, so nothing can be better than this and most are a little worse.

    Args:
        expected: (H, W), electrons expected at each pixel, background and every neighbour included.
        yx: (n, 2) px, positions; counts: (n,) electrons expected in each column's peak.
        optics, thermal: the probe and the rms displacement [Å] that make the peak.
        pixel_size: Å/px. readout: rms readout noise [electrons].
    Source: Fisher information of independent counts, Σ ∂λ ∂λᵀ / (λ + readout²); S. Van Aert et al., J. Struct. Biol. 138 (2002) 21.
    """
    if not len(yx):
        return np.zeros((0, 2))
    peak, radius = _peak(optics, thermal, pixel_size)
    offset = np.stack(np.meshgrid(*2 * [np.arange(-radius, radius + 1)], indexing="ij"), -1).reshape(-1, 2)
    base = np.rint(yx).astype(np.int64)
    at = base[:, None] + offset
    where = np.moveaxis(at - yx[:, None], -1, 0) * _OVERSAMPLING + _TABLE_PX * _OVERSAMPLING
    slopes = np.stack([map_coordinates(table, where, order=1) for table in peak], axis=1)
    slopes[:, :2] *= counts[:, None, None]
    inside = ((at >= 0) & (at < expected.shape)).all(axis=-1)
    precision = 1 / (np.maximum(expected, _LEAST_COUNTS).ravel() + readout**2)
    information = _information(slopes, at[..., 0] * expected.shape[1] + at[..., 1], inside, precision)
    bound = np.empty((len(yx), 2))
    for column, near in enumerate(cKDTree(base).query_ball_point(base, 2 * radius, p=np.inf)):
        group = np.array([column, *(other for other in near if other != column)])
        chosen = (3 * group[:, None] + np.arange(3)).ravel()
        bound[column] = np.sqrt(np.diag(np.linalg.inv(information[chosen][:, chosen].toarray()))[:2])
    return bound


def bound_of(facts: Mapping[str, float | str], expected: np.ndarray, yx: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return `position_bound` of a frame of a simulated dataset from its attributes. Raises: KeyError for one that does not hold them."""
    optics = Optics(**{field.name: float(facts[field.name]) for field in fields(Optics)})
    return position_bound(expected, yx, counts, optics, float(facts["thermal"]), float(facts["pixel_size"]), float(facts["readout"]))


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


def _information(slopes: np.ndarray, pixels: np.ndarray, inside: np.ndarray, precision: np.ndarray) -> csr_matrix:
    """The Fisher information (3n, 3n) of every column's y, x and amplitude.

    Args: slopes (n, 3, K) of the expected counts; pixels (n, K) their index in the frame; inside (n, K) whether they lie in it; precision
    (H × W,) of one pixel's count.
    """
    rows = np.broadcast_to(np.arange(3 * len(pixels)).reshape(-1, 3, 1), slopes.shape)
    cols = np.broadcast_to(pixels[:, None], slopes.shape)
    used = np.broadcast_to(inside[:, None], slopes.shape)
    scaled = (slopes * np.sqrt(precision[np.where(inside, pixels, 0)])[:, None])[used]
    jacobian = csr_matrix((scaled, (rows[used], cols[used])), shape=(3 * len(pixels), precision.size))
    return csr_matrix(jacobian @ jacobian.T)
