"""Small frames with exact truth for the tests of this room: Gaussian columns on a background, Poisson noise, and the Cramér–Rao bound of
both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scene:
    """Expected counts of a frame (H, W), and what they were made of: positions (n, 2) px, peak counts (n,), sigma in px."""

    expected: np.ndarray
    yx: np.ndarray
    peak: np.ndarray
    sigma_px: float

    def noisy(self, seed: int) -> np.ndarray:
        """Return one exposure, float32 counts."""
        return np.random.default_rng(seed).poisson(self.expected).astype(np.float32)

    def starts(self, seed: int, error_px: float = 0.2) -> np.ndarray:
        """Return positions as a network would give them."""
        return self.yx + np.random.default_rng(seed + 1000).normal(0, error_px, self.yx.shape)

    def nowhere(self, seed: int, many: int) -> np.ndarray:
        """Return `many` positions (many, 2) in the frame at which there is no column within two sigmas."""
        guess = np.random.default_rng(seed + 2000).uniform(0, np.asarray(self.expected.shape) - 1, (40 * many, 2))
        near = np.hypot(*(guess[:, None] - self.yx).transpose(2, 0, 1)).min(axis=1)
        far: np.ndarray = guess[near > 2 * self.sigma_px]
        return far[:many]


def scene(yx: np.ndarray, peak: np.ndarray, sigma_px: float, shape: tuple[int, int], background: np.ndarray | float = 0.0) -> Scene:
    """Return the frame in which column k has `peak[k]` counts in its central pixel above `background` counts a pixel."""
    expected = np.zeros(shape) + background
    reach = int(np.ceil(6 * sigma_px)) + 1
    for (y0, x0), counts in zip(yx, peak, strict=True):
        top, left = max(0, round(y0) - reach), max(0, round(x0) - reach)
        y = np.arange(top, max(top, min(shape[0], round(y0) + reach + 1)))[:, None]
        x = np.arange(left, max(left, min(shape[1], round(x0) + reach + 1)))[None]
        expected[top : top + len(y), left : left + x.size] += counts * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * sigma_px**2))
    return Scene(expected, np.asarray(yx, float), np.asarray(peak, float), sigma_px)


def lattice(
    kind: str, spacing_px: float, size_px: int, seed: int = 0, margin_px: float = 12.0, turn: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (n, 2) and relative amplitudes (n,) of a lattice inside the frame, columns jittered by 2 % of the spacing.

    `kind`: square (one species), perovskite (a second, fainter one in the middle), honeycomb (bright and faint), graphene (two alike),
    dumbbell (pairs, the next pair 2.5 times as far away), row (close in x, far in y). `spacing_px` is the nearest distance
    between columns.
    """
    rng = np.random.default_rng(seed)
    s = spacing_px
    hexagonal = np.array([[1.5, 0.75**0.5], [1.5, -(0.75**0.5)]]) * s
    motifs: dict[str, tuple[np.ndarray, list[list[float]], list[float]]] = {
        "square": (np.eye(2) * s, [[0, 0]], [1.0]),
        "perovskite": (np.eye(2) * s * 2**0.5, [[0, 0], [0.5, 0.5]], [1.0, 0.55]),
        "honeycomb": (hexagonal, [[0, 0], [1 / 3, 1 / 3]], [1.0, 0.45]),
        "graphene": (hexagonal, [[0, 0], [1 / 3, 1 / 3]], [1.0, 1.0]),
        "dumbbell": (np.array([[2.8, 1.4], [0, 4.0]]) * s, [[0, 0], [0, 0.25]], [1.0, 0.8]),
        "row": (np.array([[5.0, 0.3], [0, 1.0]]) * s, [[0, 0]], [1.0]),
    }
    cell, basis, amplitude = motifs[kind]
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    many = int(2 * size_px / s) + 2
    steps = np.stack(np.meshgrid(np.arange(-many, many + 1), np.arange(-many, many + 1), indexing="ij"), axis=-1).reshape(-1, 2)
    yx = np.concatenate([(steps + np.asarray(b)) @ cell @ rotation.T for b in basis]) + size_px / 2
    peak = np.repeat(amplitude, len(steps))
    yx = yx + rng.normal(0, 0.02 * s, yx.shape)
    inside = ((yx > margin_px) & (yx < size_px - 1 - margin_px)).all(axis=1)
    order = np.argsort(yx[inside, 0])
    return yx[inside][order], peak[inside][order]


def joint_bound(truth: Scene, background_known: bool = True) -> np.ndarray:
    """Return the Cramér–Rao bound (n, 2), px, of all columns' positions with all positions and amplitudes unknown together, Poisson noise.

    Source: Fisher information of independent Poisson counts, Σ ∂λ ∂λᵀ / λ; S. Van Aert et al., J. Struct. Biol. 138, 21 (2002).
    """
    height, width = truth.expected.shape
    s, n = truth.sigma_px, len(truth.yx)
    reach = int(np.ceil(5 * s))
    rows, cols, values = [], [], []
    for k, (y0, x0) in enumerate(truth.yx):
        grid = np.meshgrid(
            np.arange(max(0, round(y0) - reach), min(height, round(y0) + reach + 1)),
            np.arange(max(0, round(x0) - reach), min(width, round(x0) + reach + 1)),
            indexing="ij",
        )
        y, x = (axis.ravel() for axis in grid)
        gaussian = np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * s * s))
        for j, template in enumerate((truth.peak[k] * gaussian * (y - y0) / s**2, truth.peak[k] * gaussian * (x - x0) / s**2, gaussian)):
            rows.append(np.full(len(y), 3 * k + j))
            cols.append(y * width + x)
            values.append(template / np.sqrt(truth.expected[y, x]))
    from scipy.sparse import coo_matrix

    jacobian = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=(3 * n, height * width)).tocsr()
    if not background_known:
        from scipy.sparse import vstack

        jacobian = vstack([jacobian, (1 / np.sqrt(truth.expected)).reshape(1, -1)]).tocsr()
    information = (jacobian @ jacobian.T).toarray()
    bound: np.ndarray = np.sqrt(np.diag(np.linalg.inv(information))[: 3 * n])
    return bound.reshape(n, 3)[:, :2]
