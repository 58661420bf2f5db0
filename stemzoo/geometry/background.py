"""The background under the columns of a frame: a smooth surface of quadratic B-splines. Owns its values, drawing and equations.

Its grid is coarser than a column's window, so that the surface follows thickness, carbon and vacuum but cannot follow a column.
NumPy only; called by refine.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

import numpy as np

BLOCK = 256  # columns of pixels drawn, rows summed at a time: only the nodes near a block take part
NEIGHBOURS = 2  # nodes farther apart share no pixel
FINE = 6  # summed pixels a node, each way, in which the equations are set up
DAMPING = 0.02  # the summed pixels stand for slightly different ones: keeps the joint equations positive
ROUGHNESS = 1e-2  # stiffness against bending, relative to what the data say: decides only where there are none


class Reach(NamedTuple):
    """The K × K nodes that make the surface in a window around each of n columns: flat node index (n, K²), and the weights of K nodes on
    each row and on each column of pixels of the window, (n, P, K) float32."""

    node: np.ndarray
    by_row: np.ndarray
    by_col: np.ndarray


class Background:
    """A surface over a (height, width) frame, B-spline nodes `values` every `spacing` px or so."""

    def __init__(self, size: Tuple[int, int], spacing: float, level: float) -> None:
        self.size = size
        self.count = tuple(max(1, int(np.ceil(length / spacing))) + 2 for length in size)
        self.spacing = tuple(length / (count - 2) for length, count in zip(size, self.count))
        self.values = np.full(self.count, level, np.float64)
        fine = [
            np.minimum(np.arange(0, (count - 2) * FINE + 1) * step / FINE, length)
            for count, step, length in zip(self.count, self.spacing, size)
        ]
        self.edges = [np.unique(np.rint(edge).astype(np.int64)) for edge in fine]
        self.basis = [
            _dense((edge[:-1] + edge[1:] - 1) / 2, step, count) for edge, step, count in zip(self.edges, self.spacing, self.count)
        ]
        self.overlap = [_overlaps(basis) for basis in self.basis]
        self.stiff, self.damping = 0.0, DAMPING
        self.coupling = np.zeros((2 * NEIGHBOURS + 1, 2 * NEIGHBOURS + 1, *self.count))

    def reach(self, centre: np.ndarray, half: int) -> Reach:
        """Return which nodes make the surface in windows of 2·half + 1 pixels around the pixels `centre` (n, 2) int, and how."""
        firsts, weights = [], []
        for axis in (0, 1):
            pixel = centre[:, axis, None] + np.arange(-half, half + 1)
            first, weight, _ = _spline(np.clip(pixel, 0, self.size[axis] - 1).ravel(), self.spacing[axis], self.count[axis])
            first, weight = first.reshape(pixel.shape), weight.reshape(*pixel.shape, 3).astype(np.float32)
            nodes = min(self.count[axis], int((2 * half) / self.spacing[axis]) + 4)
            start = np.minimum(first[:, :1], self.count[axis] - nodes)
            dense = np.zeros((*pixel.shape, nodes), np.float32)
            np.put_along_axis(dense, (first - start)[:, :, None] + np.arange(3), weight, axis=2)
            firsts.append(start + np.arange(nodes))
            weights.append(dense)
        node = firsts[0][:, :, None] * self.count[1] + firsts[1][:, None, :]
        return Reach(node.reshape(len(centre), -1), weights[0], weights[1])

    def at(self, yx: np.ndarray) -> np.ndarray:
        """Return the surface at points (n, 2): (n,)."""
        (row, wy, _), (col, wx, _) = (_spline(yx[:, axis], self.spacing[axis], self.count[axis]) for axis in (0, 1))
        near = self.values[(row[:, None] + np.arange(3))[:, :, None], (col[:, None] + np.arange(3))[:, None, :]]
        value: np.ndarray = np.einsum("nab,na,nb->n", near, wy, wx)
        return value

    def draw(self, out: np.ndarray) -> None:
        """Add the surface to `out` (height, width) float32."""
        (first, weight, _), (col_first, col_weight, _) = (_spline(np.arange(self.size[k]), self.spacing[k], self.count[k]) for k in (0, 1))
        values, weight = self.values.astype(np.float32), weight.astype(np.float32)
        rows = weight[:, :1] * values[first]
        for k in (1, 2):
            rows += weight[:, k : k + 1] * values[first + k]
        for left in range(0, self.size[1], BLOCK):
            nodes, by_col = _block(col_first, col_weight, left, min(left + BLOCK, self.size[1]))
            out[:, left : left + BLOCK] += rows[:, nodes] @ by_col.T

    def weigh(self, weight: np.ndarray) -> None:
        """Set the equations up for pixels weighted by `weight` (height, width)."""
        summed = (1 + self.damping) * self._sum(weight)
        self.stiff = ROUGHNESS * float(summed.sum()) / self.values.size
        around = (2 * NEIGHBOURS + 1, -1, 2 * NEIGHBOURS + 1, self.count[1])
        both = (self.overlap[0] @ summed @ self.overlap[1].T).reshape(around)
        self.coupling = np.ascontiguousarray(both.transpose(0, 2, 1, 3))

    def score(self, residual: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the gradient by each node (nodes,) for residuals and their weights (height, width)."""
        score = self.basis[0].T @ self._sum(residual, weight) @ self.basis[1] - self.stiff * _bend(self.values)
        out: np.ndarray = score.ravel()
        return out

    def product(self, vector: np.ndarray) -> np.ndarray:
        """Return the information matrix of the nodes times `vector` (nodes,)."""
        # node by node, not as one matrix product: those wake up every thread of the linear algebra for next to nothing
        grid = vector.reshape(self.count)
        padded = np.pad(grid, NEIGHBOURS)
        near = np.lib.stride_tricks.as_strided(padded, self.coupling.shape, padded.strides + padded.strides, writeable=False)
        measured = np.einsum("abij,abij->ij", self.coupling, near)
        product: np.ndarray = (measured + self.stiff * _bend(grid)).ravel()
        return product

    def diagonal(self) -> np.ndarray:
        """Return the diagonal of that matrix (nodes,)."""
        diagonal: np.ndarray = self.coupling[NEIGHBOURS, NEIGHBOURS].ravel() + 6 * self.stiff
        return diagonal

    def _sum(self, pixels: np.ndarray, times: Optional[np.ndarray] = None) -> np.ndarray:
        """Return the sums of `pixels`, or of pixels × times, in the blocks between `edges`."""
        by_col = np.empty((len(pixels), len(self.edges[1]) - 1), np.float32)
        for top in range(0, len(pixels), BLOCK):  # along the rows first: those lie together in memory
            rows = slice(top, top + BLOCK)
            part = pixels[rows] if times is None else pixels[rows] * times[rows]
            np.add.reduceat(part, self.edges[1][:-1], axis=1, out=by_col[rows])
        both: np.ndarray = np.add.reduceat(by_col, self.edges[0][:-1], axis=0).astype(np.float64)
        return both


def _spline(position: np.ndarray, spacing: float, count: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first of three nodes at each position (n,), their weights and the weights' slopes (n, 3).

    The grid ends at the frame's outer pixel edges.
    """
    t = (np.asarray(position, dtype=np.float64) + 0.5) / spacing
    cell = np.clip(np.floor(t), 0, count - 3).astype(np.int64)
    u = t - cell
    weight = np.stack([0.5 * (1 - u) ** 2, 0.5 + u * (1 - u), 0.5 * u**2], axis=1)
    slope = np.stack([u - 1, 1 - 2 * u, u], axis=1) / spacing
    return cell, weight, slope


def _dense(position: np.ndarray, spacing: float, count: int) -> np.ndarray:
    first, weight, _ = _spline(position, spacing, count)
    dense = np.zeros((len(position), count))
    np.put_along_axis(dense, first[:, None] + np.arange(3), weight, axis=1)
    return dense


def _overlaps(basis: np.ndarray) -> np.ndarray:
    """Return each node's weights (pixels, nodes) times those of its neighbours, from the second before it to the second after:
    ((2·NEIGHBOURS + 1)·nodes, pixels)."""
    count = basis.shape[1]
    padded = np.pad(basis, ((0, 0), (NEIGHBOURS, NEIGHBOURS)))
    return np.concatenate([(basis * padded[:, shift : shift + count]).T for shift in range(2 * NEIGHBOURS + 1)])


def _block(first: np.ndarray, weight: np.ndarray, start: int, stop: int) -> Tuple[slice, np.ndarray]:
    """Return the nodes that make the pixels from `start` to `stop`, and their weights (stop − start, nodes) float32."""
    low, high = int(first[start]), int(first[stop - 1]) + 3
    dense = np.zeros((stop - start, high - low), np.float32)
    np.put_along_axis(dense, first[start:stop, None] - low + np.arange(3), weight[start:stop].astype(np.float32), axis=1)
    return slice(low, high), dense


def _bend(grid: np.ndarray) -> np.ndarray:
    """Return the gradient of half the summed squared second differences of neighbouring nodes: nothing for a plane."""
    out = np.zeros_like(grid)
    for turned, source in ((out, grid), (out.T, grid.T)):
        second = source[:-2] - 2 * source[1:-1] + source[2:]
        turned[:-2] += second
        turned[1:-1] -= 2 * second
        turned[2:] += second
    return out
