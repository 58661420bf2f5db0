"""What a fit leaves over around columns, from which the noise's correlation is judged. Owns `Leftover`; NumPy only.

Called by residuals; read by noise and rowjitter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stemzoo.geometry.columnmodel import State, gaussian, placed
from stemzoo.geometry.gram import basis, whitening
from stemzoo.geometry.windows import Windows


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
    values = basis(windows.fit_y, windows.fit_x, white).values
    off = np.stack([windows.fit_y, windows.fit_x])[:, None] - (state.yx - windows.centre)[which].T[:, :, None]  # (2, k, m) px
    u, v = np.tensordot(white, off, axes=1)
    functions = place.factors(state.amplitude[which])[:, :, None] * np.stack([u, v, np.ones_like(u), u * u + v * v])
    derivatives = functions * gaussian(place.exponent(), values)
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
    known = (np.concatenate([derivatives, np.ones((1, *root.shape)), off]) * root).transpose(1, 0, 2)
    along = np.tensordot(white.T, known[:, :2], axes=(1, 1))  # (2, k, m), by y and by x
    known = known / np.maximum(np.sqrt((known**2).sum(axis=2, keepdims=True)), 1e-12)
    noise = np.random.default_rng(0).standard_normal(left.shape) * used
    loose = np.where(np.arange(known.shape[1]) < len(derivatives), 0.0, 1 / max(crowd, 1e-3) - 1)
    gram = np.matmul(known, known.transpose(0, 2, 1)) + np.diag(1e-9 + loose)
    noise -= np.matmul(known.transpose(0, 2, 1), np.linalg.solve(gram, np.matmul(known, noise[:, :, None])))[:, :, 0]
    squares = np.zeros((5, len(which), 2 * windows.half + 1, 2 * windows.half + 1), np.float32)
    for square, values in zip(squares, (left, noise, used, *along)):
        square[:, y + windows.half, x + windows.half] = values
    return Leftover(squares[0], squares[1], squares[2] > 0, squares[3], squares[4], windows.centre[which])
