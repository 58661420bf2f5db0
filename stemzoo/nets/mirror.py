"""Square images split by their two mirror symmetries, so that maps to circular harmonics cost a quarter. Called by nets.polar.

cos(mφ) and sin(mφ) are each even or odd under a left-right and an up-down reflection. An image folded onto one quadrant, once for each of
the four combinations of parities, therefore holds all that the harmonics of that combination can see: four small matrices take the place
of a large one, in time and in the exported file alike.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

PARITIES = ((0, 0), (0, 1), (1, 1), (1, 0))
"""(up-down, left-right), 1 for odd, of: cosines of even order, cosines of odd order, sines of even order, sines of odd order."""


def fold(images: Tensor) -> list[Tensor]:
    """Return images (N, S, S) folded onto their upper left quadrant, (N, Q) for each of `PARITIES`.

    Q = ⌈S/2⌉²; where S is odd, a middle line counts twice. Lines are folded by a small matrix: turning their order round costs more.
    """
    size = int(images.shape[1])  # a constant of an exported graph
    half = (size + 1) // 2
    rows = (images.reshape(-1, size) @ _folding(size, images)).reshape(-1, size, 2 * half)
    upper, lower = rows[:, :half], rows.index_select(1, torch.arange(size - 1, size - 1 - half, -1, device=images.device))
    return _quadrants(upper + lower, upper - lower, half)


def fold_anew(images: Tensor, step: Tensor) -> list[Tensor]:
    """Return what `fold` gives of images (N, S, S) moved against `step` (N, 2), -1, 0 or 1 px to the right and down, as `recut` moves
    them: moved and folded by one matrix from either side."""
    size = int(images.shape[1])  # a constant of an exported graph
    line, half = torch.arange(size, device=images.device), (size + 1) // 2
    moves = [torch.eye(size, device=images.device).index_select(0, size - 1 - (size - 1 - (line + by).abs()).abs()) for by in (-1, 0, 1)]
    across = torch.stack([move.T @ _folding(size, images) for move in moves])
    right, down = (step + 1).to(torch.int64).unbind(1)
    folded = across.transpose(1, 2).contiguous().index_select(0, down) @ (images @ across.index_select(0, right))
    return _quadrants(folded[:, :half], folded[:, half:], half)


def _folding(size: int, like: Tensor) -> Tensor:
    """Return (S, 2⌈S/2⌉): a line to the sums, then the differences, of what lies opposite."""
    half, there = (size + 1) // 2, torch.eye(size, dtype=like.dtype, device=like.device)
    back = there.flip(0)
    return torch.cat([there[:, :half] + back[:, :half], there[:, :half] - back[:, :half]], 1)


def _quadrants(even: Tensor, odd: Tensor, half: int) -> list[Tensor]:
    """Return (N, Q) for each of `PARITIES` from lines folded both ways."""
    even_even, even_odd, odd_even, odd_odd = (part.flatten(1) for both in (even, odd) for part in (both[..., :half], both[..., half:]))
    return [even_even, even_odd, odd_odd, odd_even]


def unfold(quadrants: list[Tensor], size: int) -> Tensor:
    """Return the images (N, size, size) whose parts of each of `PARITIES` are the quadrants (N, Q)."""
    half = (size + 1) // 2
    even_even, even_odd, odd_odd, odd_even = (part.reshape(-1, half, half) for part in quadrants)
    keep = size - half
    rows = []
    for even, odd in ((even_even, even_odd), (odd_even, odd_odd)):
        rows.append(torch.cat([even + odd, (even - odd).flip(2)[..., half - keep :]], 2))
    return torch.cat([rows[0] + rows[1], (rows[0] - rows[1]).flip(1)[:, half - keep :]], 1)


def parts(order: np.ndarray) -> list[np.ndarray]:
    """Return, for each of `PARITIES`, which of the 2H coefficients belong to it; `order` (H,) is that of each cosine and of each sine."""
    even, odd, half = np.flatnonzero(order % 2 == 0), np.flatnonzero(order % 2 == 1), len(order)
    return [even, odd, half + even, half + odd]


def split_reading(matrix: np.ndarray, size: int, columns: list[np.ndarray]) -> list[np.ndarray]:
    """Return matrices (Q, K) that take `fold`ed images where `matrix` (S², D) takes whole ones; `columns` as `parts` gives them."""
    return [spread @ matrix[:, chosen] for spread, chosen in zip(_spreads(size), columns, strict=True)]


def split_form(matrix: np.ndarray, size: int) -> list[np.ndarray]:
    """Return matrices (Q, K) with the same sum of squares, over all four, of folded images as `matrix` (S², P) gives of whole ones.

    Only for a sum of squares that no reflection changes.
    """
    roots = []
    for spread in _spreads(size):
        reduced = spread @ matrix
        values, vectors = np.linalg.eigh(reduced @ reduced.T)
        kept = values > 1e-7 * values[-1]
        roots.append(vectors[:, kept] * np.sqrt(values[kept]))
    return roots


def split_drawing(matrix: np.ndarray, size: int, rows: list[np.ndarray]) -> list[np.ndarray]:
    """Return matrices (K, Q) that give quadrants for `unfold` where `matrix` (D, S²) gives whole images; `rows` as `parts` gives them."""
    half = (size + 1) // 2
    quadrant = (np.arange(half)[:, None] * size + np.arange(half)).ravel()
    return [matrix[np.ix_(chosen, quadrant)] for chosen in rows]


def _spreads(size: int) -> list[np.ndarray]:
    """Return, for each of `PARITIES`, the (Q, S²) matrix whose transpose gives back that part of an image from its fold."""
    half = (size + 1) // 2
    axes = []
    for sign in (1, -1):
        folding = np.eye(size)[:half] + sign * np.eye(size)[::-1][:half]
        axes.append(folding / np.maximum((folding**2).sum(1, keepdims=True), 1e-9))
    return [np.kron(axes[down], axes[across]) for down, across in PARITIES]
