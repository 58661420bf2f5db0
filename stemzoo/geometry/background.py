"""The background under the columns of a frame: a smooth surface of quadratic B-splines. Owns its values, drawing and equations.

Its grid is coarser than a column's window, so that the surface follows thickness, carbon and vacuum but cannot follow a column.
NumPy only; called by jointfit, coupling and residuals.
"""

from __future__ import annotations

from typing import List, NamedTuple, Tuple

import numpy as np

from stemzoo.geometry.windows import product

BLOCK = 128  # columns of pixels drawn, rows summed at a time: only the nodes near a block take part
NEIGHBOURS = 2  # nodes farther apart share no pixel
DAMPING = 0.02  # columns see the surface as a bowl and a plane (about): keeps the joint equations positive
ROUGHNESS = 1e-2  # stiffness against bending, relative to what the data say: decides only where there are none
SHIFTS = 2 * NEIGHBOURS + 1


class Block(NamedTuple):
    """Some pixels along one axis, the m nodes that make the surface there, weight (pixels, m) float32 of each, and pairs (pixels,
    SHIFTS·m) float32, the products of these with those of the node's neighbours, from the second before it to the second after."""

    pixels: slice
    nodes: slice
    weight: np.ndarray
    pairs: np.ndarray


class Expansion(NamedTuple):
    """The surface about each of n points: node (9, n), the flat indices of the nodes that make it there, and by_node (4, 9, n), what each
    of these gives to the coefficients of u, v, 1 and r (gram)."""

    node: np.ndarray
    by_node: np.ndarray


class Background:
    """A surface over a (height, width) frame, B-spline nodes `values` every `spacing` px or so."""

    def __init__(self, size: Tuple[int, int], spacing: float, level: float) -> None:
        self.size = size
        self.count = tuple(max(1, int(np.ceil(length / spacing))) + 2 for length in size)
        self.spacing = tuple(length / (count - 2) for length, count in zip(size, self.count))
        self.values = np.full(self.count, level, np.float64)
        self.blocks = [_blocks(length, step, count) for length, step, count in zip(size, self.spacing, self.count)]
        self.stiff, self.damping = 0.0, DAMPING
        self.coupling = np.zeros((SHIFTS, SHIFTS, *self.count))
        padded = np.zeros(tuple(count + 2 * NEIGHBOURS for count in self.count))
        # of a vector that is being multiplied, each node's value, and those of its neighbours
        self.vector = padded[NEIGHBOURS:-NEIGHBOURS, NEIGHBOURS:-NEIGHBOURS]
        self.around = np.lib.stride_tricks.as_strided(padded, self.coupling.shape, padded.strides + padded.strides, writeable=False)

    def about(self, yx: np.ndarray, shape: np.ndarray) -> Expansion:
        """Return the surface about points (n, 2) px, for a mean peak with the covariance `shape` (2, 2) [px²].

        A bowl and a plane are all that a column sees of it: the rest of its bending is at right angles to a round Gaussian's derivatives,
        or of the third order in a window over the distance of two nodes.
        """
        (row, wy, dy), (col, wx, dx) = (_spline(yx[:, axis], self.spacing[axis], self.count[axis]) for axis in (0, 1))
        three = np.arange(3)[:, None]
        node = (row + three)[:, None] * self.count[1] + (col + three)
        wy, dy = wy[:, None], dy[:, None]
        bend = np.array([1.0, -2.0, 1.0])[:, None]
        bowl = (shape[0, 0] / 4 / self.spacing[0] ** 2 * bend)[:, None] * wx
        bowl += wy * (shape[1, 1] / 4 / self.spacing[1] ** 2 * bend)
        bowl += dy * (shape[0, 1] / 2 * dx)
        root = np.linalg.cholesky(shape)  # px along y and x that make one u, one v
        by_node = np.stack([dy * (root[0, 0] * wx) + wy * (root[1, 0] * dx), wy * (root[1, 1] * dx), wy * wx, bowl])
        return Expansion(node.reshape(9, -1), by_node.reshape(4, 9, -1))

    def at(self, yx: np.ndarray) -> np.ndarray:
        """Return the surface at points (n, 2): (n,)."""
        (row, wy, _), (col, wx, _) = (_spline(yx[:, axis], self.spacing[axis], self.count[axis]) for axis in (0, 1))
        three = np.arange(3)[:, None]
        value: np.ndarray = np.einsum("abn,an,bn->n", self.values[(row + three)[:, None], col + three], wy, wx)
        return value

    def draw(self, out: np.ndarray) -> None:
        """Add the surface to `out` (height, width) float32."""
        rows = np.empty((self.size[0], self.count[1]), np.float32)
        values = self.values.astype(np.float32)
        for block in self.blocks[0]:
            rows[block.pixels] = product(block.weight, values[block.nodes])
        for block in self.blocks[1]:
            out[:, block.pixels] += product(rows[:, block.nodes], block.weight.T)

    def weigh(self, weight: np.ndarray) -> None:
        """Set the equations up for pixels weighted by `weight` (height, width)."""
        rows = np.zeros((self.size[0], SHIFTS, self.count[1]), np.float32)
        for block in self.blocks[1]:
            rows[:, :, block.nodes] += product(weight[:, block.pixels], block.pairs).reshape(len(rows), SHIFTS, -1)
        both = np.zeros((SHIFTS, self.count[0], SHIFTS, self.count[1]))
        for block in self.blocks[0]:
            part = product(block.pairs.T, rows[block.pixels].reshape(len(block.weight), -1))
            both[:, block.nodes] += part.reshape(SHIFTS, -1, *both.shape[2:])
        self.stiff = (1 + self.damping) * ROUGHNESS * float(weight.sum()) / self.values.size
        self.coupling = np.ascontiguousarray(both.transpose(0, 2, 1, 3))
        self.coupling *= 1 + self.damping
        for axis, count in enumerate(self.count):
            stencil = self.stiff * _bending(count)
            if axis == 0:
                self.coupling[:, NEIGHBOURS] += stencil[:, :, None]
            else:
                self.coupling[NEIGHBOURS] += stencil[:, None]

    def score(self, residual: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the gradient by each node (nodes,) for residuals and their weights (height, width)."""
        rows = np.zeros((self.size[0], self.count[1]), np.float32)
        for block in self.blocks[1]:
            rows[:, block.nodes] += product(residual[:, block.pixels] * weight[:, block.pixels], block.weight)
        score = -self.stiff * _bend(self.values)
        for block in self.blocks[0]:
            score[block.nodes] += product(np.ascontiguousarray(block.weight.T), rows[block.pixels])
        out: np.ndarray = score.ravel()
        return out

    def product(self, vector: np.ndarray) -> np.ndarray:
        """Return the information matrix of the nodes times `vector` (nodes,)."""
        # node by node, not as one matrix product: those wake up every thread of the linear algebra for next to nothing
        self.vector[...] = vector.reshape(self.count)
        product: np.ndarray = np.einsum("abij,abij->ij", self.coupling, self.around).ravel()
        return product

    def diagonal(self) -> np.ndarray:
        """Return the diagonal of that matrix (nodes,)."""
        diagonal: np.ndarray = self.coupling[NEIGHBOURS, NEIGHBOURS].ravel()
        return diagonal


def _spline(position: np.ndarray, spacing: float, count: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first of three nodes at each position (n,), their weights and the weights' slopes (3, n).

    The grid ends at the frame's outer pixel edges.
    """
    t = (np.asarray(position, dtype=np.float64) + 0.5) / spacing
    cell = np.clip(np.floor(t), 0, count - 3).astype(np.int64)
    u = t - cell
    weight = np.stack([0.5 * (1 - u) ** 2, 0.5 + u * (1 - u), 0.5 * u**2])
    slope = np.stack([u - 1, 1 - 2 * u, u]) / spacing
    return cell, weight, slope


def _blocks(length: int, spacing: float, count: int) -> List[Block]:
    """Return the pixels along one axis in blocks."""
    first, weight, _ = _spline(np.arange(length), spacing, count)
    blocks = []
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        low, high = int(first[start]), int(first[stop - 1]) + 3
        padded = np.zeros((stop - start, high - low + 2 * NEIGHBOURS), np.float32)
        dense = padded[:, NEIGHBOURS:-NEIGHBOURS]
        np.put_along_axis(dense, first[start:stop, None] - low + np.arange(3), weight[:, start:stop].T.astype(np.float32), axis=1)
        pairs = np.concatenate([dense * padded[:, shift : shift + high - low] for shift in range(SHIFTS)], axis=1)
        blocks.append(Block(slice(start, stop), slice(low, high), dense, pairs))
    return blocks


def _bend(grid: np.ndarray) -> np.ndarray:
    """Return the gradient of half the summed squared second differences of neighbouring nodes: nothing for a plane."""
    out = np.zeros_like(grid)
    for turned, source in ((out, grid), (out.T, grid.T)):
        second = source[:-2] - 2 * source[1:-1] + source[2:]
        turned[:-2] += second
        turned[1:-1] -= 2 * second
        turned[2:] += second
    return out


def _bending(count: int) -> np.ndarray:
    """Return what _bend along one axis multiplies each node's neighbours by: (2·NEIGHBOURS + 1, count)."""
    second = np.zeros((max(count - 2, 0), count))
    for place, factor in enumerate((1.0, -2.0, 1.0)):
        np.fill_diagonal(second[:, place:], factor)
    whole = np.pad(second.T @ second, ((0, 0), (NEIGHBOURS, NEIGHBOURS)))
    return np.stack([np.diagonal(whole, shift) for shift in range(SHIFTS)])
