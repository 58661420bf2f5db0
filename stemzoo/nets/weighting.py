"""The angle once more, with each column's pixels weighed as one. Owns the last step of the angle; called by nets.graphs.

Disorder moves columns, so the pixels on a column's flanks err together, and by as much as the column is bright. The likelihood of white
noise, on which the search over all angles rests, lets the brightest columns decide. Here one step of generalised least squares follows from
the angle it found. Residuals have the covariance

    C = 1 + β Σ_a g_a K g_a,    a = right, up,

in units of the white part: g is the pattern's gradient and K a Gaussian as wide as a column, for neighbouring pixels are displaced alike.
So a column counts by its lever arm, hardly by its brightness. β is 0 where training found the angle's error to be that of white noise. The
angle's error is left as the search states it: what the step gains is no more than what patterns that are not quite right cost.
C X = G, G being what a turn and two shifts change, is solved by a few steps of conjugate gradients on a grid of merged pixels; what lies
outside the window has no weight.

Source: Gauss–Markov theorem: S. M. Kay, Fundamentals of Statistical Signal Processing: Estimation Theory (1993), ch. 6; one step suffices
from a consistent start: A. W. van der Vaart, Asymptotic Statistics (1998), sec. 5.7.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from stemzoo.nets.mirror import parts, split_drawing, unfold
from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.polar_grid import PolarGrid

MERGED = 2  # pixels along a side that are weighed as one; the outermost lines stay apart, for a sub-image cut anew lacks one
MOST = 25  # lines of merged pixels; wider windows merge more
SHAKEN = 0.3  # β times the mean square of the gradient: displacement beside white noise; between 0.2 and 0.7 angles are alike
WIDER = 1.2  # width of K in widths of a column
STEPS = 2  # of conjugate gradients; more follow the model of C where it is only roughly true
SURE = 0.1  # rad; a peak wider than this is left as it is
FARTHEST = 0.05  # rad; one step goes no farther


class Weighing(nn.Module):
    """One step of generalised least squares for a trained network; a module so that its matrices travel with an exported graph."""

    def __init__(self, net: PolarRVAE) -> None:
        super().__init__()
        grid, size = PolarGrid(net.window_px), net.window_px
        bins = _bins(size)
        n = self.size = len(bins)
        drawing = grid.rendering @ np.kron(bins, bins).T
        axis = bins**2 @ (np.arange(size) - grid.half_px)
        right, up = np.tile(axis, n), -np.repeat(axis, n)
        inside = np.hypot(right, up) <= grid.radii_px[-1] + grid.spacing_px / 2
        fixed: dict[str, np.ndarray] = {"bins": bins.T, "right": right, "up": up, "inside": inside}
        blocks = parts(grid.ring_and_order[1])
        fixed |= {f"drawing_{block}": part for block, part in enumerate(split_drawing(drawing, n, blocks))}
        self.n_even, self.n_half = len(blocks[0]), grid.size // 2
        for name, array in fixed.items():
            self.register_buffer(name, torch.tensor(np.ascontiguousarray(array), dtype=torch.float32), persistent=False)
        self.register_buffer("order", net.order_of.clone(), persistent=False)
        with torch.no_grad():
            typical = self.draw(net.decode(net.landmarks, net.fixed()).pattern, torch.zeros(len(net.landmarks)))
            width_px = (typical[:, 0].square().sum() / typical[:, 1:].square().sum().clamp(min=1e-9)).sqrt()  # a Gaussian's: its sigma
            reach = (WIDER * width_px).clamp(min=1.0, max=size / 4)
            kernel = torch.exp(-0.5 * ((self.right[:n, None] - self.right[:n]) / reach).square())
        self.register_buffer("kernel", kernel, persistent=False)

    bins: Tensor
    right: Tensor
    up: Tensor
    inside: Tensor
    order: Tensor
    kernel: Tensor

    def draw(self, pattern: Tensor, angle: Tensor) -> Tensor:
        """Return (N, 3, P) on the coarse grid: pattern and derivatives (N, 3, D), turned by `angle` (N,)."""
        cosine, sine = ((wave(angle[:, None] * self.order))[:, None] for wave in (torch.cos, torch.sin))
        even, odd = pattern[..., : self.n_half], pattern[..., self.n_half :]
        quarters = []
        for half in (even * cosine - odd * sine, odd * cosine + even * sine):
            quarters += [half[..., : self.n_even], half[..., self.n_even :]]
        flat = [part.reshape(-1, part.shape[2]) @ self.get_buffer(f"drawing_{block}") for block, part in enumerate(quarters)]
        return unfold(flat, self.size).reshape(-1, 3, self.size**2)

    def forward(self, images: Tensor, pattern: Tensor, angle: Tensor, step: Tensor, disorder: Tensor) -> Tensor:
        """Return by how much to turn on (N,) [rad].

        Args:
            images: (N, S, S) normalised, as cut anew by `step` (N, 2). pattern: (N, 3, D), pattern and derivatives. angle: (N,).
            disorder: (N,), 0 to 1, the share of the angle's variance that is not white noise's.
        """
        n = self.size
        seen = self.inside * self._within(step)
        drawn = self.draw(pattern, angle) * seen[:, None]
        measured = (images.reshape(-1, images.shape[1]) @ self.bins).reshape(-1, images.shape[1], n)
        measured = (self.bins.T @ measured).reshape(-1, n * n) * seen
        cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
        slope_right = cosine * drawn[:, 1] - sine * drawn[:, 2]
        slope_up = sine * drawn[:, 1] + cosine * drawn[:, 2]
        changes = torch.stack([self.right * slope_up - self.up * slope_right, slope_right, slope_up], 1)
        changes = torch.cat([-changes[:, :1], changes[:, 1:]], 1)
        square = drawn[:, 1:].square().sum(1, keepdim=True)
        shaken = SHAKEN * images.shape[1] ** 2 * disorder[:, None, None] / (square.sum(2, keepdim=True) + 1e-6)
        slopes = drawn[:, 1:] * shaken.sqrt()
        diagonal = 1 + slopes.square().sum(1, keepdim=True)
        solved, rest = torch.zeros_like(changes), changes
        scaled = rest / diagonal
        towards, power = scaled, (rest * scaled).sum(2, keepdim=True)
        for number in range(STEPS):
            spread = self._covariance(towards, slopes)
            length = power / ((towards * spread).sum(2, keepdim=True) + 1e-12)
            solved = solved + length * towards
            if number + 1 < STEPS:
                rest = rest - length * spread
                scaled = rest / diagonal
                before, power = power, (rest * scaled).sum(2, keepdim=True)
                towards = scaled + power / (before + 1e-12) * towards
        turn: Tensor = ((_first_row(solved, changes) * solved).sum(1) * (measured - drawn[:, 0])).sum(1)
        return turn

    def _within(self, step: Tensor) -> Tensor:
        """Return (N, P): 0 on the line of pixels that a sub-image moved by `step` lacks."""
        n = self.size
        first, last = (torch.nn.functional.one_hot(torch.tensor(at, device=step.device), n).to(step.dtype) for at in (0, n - 1))
        lines = [1 - last * axis.clamp(min=0)[:, None] - first * (-axis).clamp(min=0)[:, None] for axis in (step[:, 1], step[:, 0])]
        return (lines[0][:, :, None] * lines[1][:, None]).reshape(-1, n * n)

    def _covariance(self, vectors: Tensor, slopes: Tensor) -> Tensor:
        """Return C times vectors (N, K, P)."""
        n, pixels = self.size, vectors.shape[2]
        moved = (vectors[:, :, None] * slopes[:, None]).reshape(-1, n)
        across = (moved @ self.kernel).reshape(-1, n, n)
        smooth = (self.kernel @ across).reshape(-1, vectors.shape[1], 2, pixels)
        return vectors + (smooth * slopes[:, None]).sum(2)


def _first_row(solved: Tensor, changes: Tensor) -> Tensor:
    """Return (N, 3, 1): the first row of the inverse of `solved` @ `changes`ᵀ, both (N, 3, P): what makes a pure turn count as itself."""
    a = solved @ changes.transpose(1, 2)
    minors = torch.stack(
        [
            a[:, 1, 1] * a[:, 2, 2] - a[:, 1, 2] * a[:, 2, 1],
            a[:, 0, 2] * a[:, 2, 1] - a[:, 0, 1] * a[:, 2, 2],
            a[:, 0, 1] * a[:, 1, 2] - a[:, 0, 2] * a[:, 1, 1],
        ],
        1,
    )
    determinant = (a[:, :, 0] * minors).sum(1, keepdim=True)
    return (minors / (determinant + 1e-12))[..., None]


def _bins(size: int) -> np.ndarray:
    """Return (n, size): a line of pixels to merged ones, each the sum over the root of its length, so that white noise stays as it is."""
    n = min(-(-(size - 2) // MERGED), MOST - 2)
    edges = np.concatenate([[0], np.linspace(1, size - 1, n + 1), [size]])
    pixel = np.arange(size)
    overlap = np.clip(np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel), 0, None)
    return np.asarray(overlap / np.linalg.norm(overlap, axis=1, keepdims=True))
