"""What a fit leaves over around columns, from which the noise's correlation is judged. Owns `Leftover`; NumPy only.

Called by residuals; read by noise and rowjitter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stemzoo.geometry.columnmodel import CORE, State, gaussian, placed
from stemzoo.geometry.gram import functions, whitening
from stemzoo.geometry.windows import Windows

SLOPES = CORE  # place of the level and slopes among what a fit follows


class Leftover(NamedTuple):
    """What the model leaves over around k columns, in square windows (k, P, P), 0 outside the disk and where pixels are masked.

    residual over the noise's standard deviation, what columns of like brightness have in common taken off; white: independent noise freed
    of the same parameters; inside: bool, pixels used; along_y and along_x: derivatives of the column by y and x, over the noise's standard
    deviation; centre (k, 2): the pixel in the middle of each window.
    """

    residual: np.ndarray
    white: np.ndarray
    inside: np.ndarray
    along_y: np.ndarray
    along_x: np.ndarray
    centre: np.ndarray


def leftover(state: State, windows: Windows, residual: np.ndarray, weight: np.ndarray, which: np.ndarray, crowd: float = 1.0) -> Leftover:
    """Return what the fit left over around columns `which` (k,).

    Args: crowd: 0 to 1, how nearly a column's neighbours take a level and a slope of the noise in its window away, as the background hardly
        does.
    """
    white = whitening(state.shape)
    place = placed(state, windows.centre[which], which, white)
    values = functions(windows.fit_y, windows.fit_x, white)
    u, v = values[:2, None] - place.uv.astype(np.float32)[:, :, None]
    known = np.empty((SLOPES + 3, *u.shape), np.float32)  # the column's derivatives, a level and slopes, by all of which a fit follows
    known[:SLOPES] = u, v, np.ones_like(u), u * u + v * v
    known[:SLOPES] *= place.factors(state.amplitude[which]).astype(np.float32)[:, :, None]
    known[:SLOPES] *= gaussian(place.exponent(), values)
    known[SLOPES:] = np.ones_like(u), u, v
    index = windows.flat_index(which, windows.fit_y, windows.fit_x)
    root = np.sqrt(weight.ravel().take(index))
    known *= root
    used = root > 0
    left = residual.ravel().take(index) * root
    # a misfit that all share, as of a probe that is no Gaussian, is not noise and does not scatter positions
    alike = np.array_split(np.argsort(state.amplitude[which]), max(1, min(3, len(which) // 10)))
    for group in alike if len(which) >= 10 else ():
        left[group] -= left[group].mean(axis=0) * used[group]
    along = (white.T.astype(np.float32) @ known[:2].reshape(2, -1)).reshape(2, *u.shape)  # by y and by x
    known /= np.maximum(np.sqrt(np.einsum("akm,akm->ak", known, known)), 1e-12)[:, :, None]
    noise = np.random.default_rng(0).standard_normal(left.shape, np.float32) * used
    loose = np.where(np.arange(len(known)) < SLOPES, 0.0, 1 / max(crowd, 1e-3) - 1)
    each = known.transpose(1, 0, 2)
    gram = np.matmul(each, each.transpose(0, 2, 1)) + np.diag(1e-9 + loose)
    share = np.linalg.solve(gram, np.matmul(each, noise[:, :, None])).astype(np.float32)
    noise -= np.matmul(each.transpose(0, 2, 1), share)[:, :, 0]
    y, x = windows.fit_y + windows.half, windows.fit_x + windows.half
    squares = np.zeros((5, len(which), 2 * windows.half + 1, 2 * windows.half + 1), np.float32)
    squares[:, :, y, x] = left, noise, used, *along
    return Leftover(squares[0], squares[1], squares[2] > 0, squares[3], squares[4], windows.centre[which])
