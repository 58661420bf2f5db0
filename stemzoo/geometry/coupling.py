"""Columns that overlap, and the background under them, solved together. Owns the joint step and the joint standard errors.

Works on the small matrices of columnmodel, never on pixels; NumPy only. Called by refine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stemzoo.geometry.background import Background
from stemzoo.geometry.columnmodel import CORE
from stemzoo.geometry.neighbours import Pairs

MOST_NEIGHBOURS = 6  # overlapping columns that share in a column's standard error: a hexagon of them
TOLERANCE = 1e-4  # of the squared residual, in the preconditioner's metric: a step good to a hundredth, of which the next corrects the rest
SHARED = np.array([4.0, 12.0, 12.0])  # how much better than one column's window the surface knows its own height and slopes


class Equations(NamedTuple):
    """The joint normal equations of n columns and the background.

    own (n, 4, 4) and gradient (n, 4) of each column; stiff (n, 4) a prior's information and pull (n, 4) its gradient; sharing (n,) 1
    where a column has a say in the common width; coupling (p, 4, 4) between `pairs` (ordered, each couple twice); lift (n, 4, K²) between
    columns and background nodes `node` (n, K²); plane (n, 4, 3) and flat (n, 3, 3): how each column's window sees a plane of background
    about the column.
    """

    own: np.ndarray
    gradient: np.ndarray
    stiff: np.ndarray
    pull: np.ndarray
    sharing: np.ndarray
    coupling: np.ndarray
    pairs: Pairs
    node: np.ndarray
    lift: np.ndarray
    plane: np.ndarray
    flat: np.ndarray


def _times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the product of each (i, j) matrix with its own (j,) vector."""
    out: np.ndarray = np.matmul(matrices, vectors[:, :, None])[:, :, 0]
    return out


class Step(NamedTuple):
    """A joint step: of each column (n, 4), of all log widths together, and of the background's nodes (k,). Steps add and scale like one
    vector."""

    columns: np.ndarray
    width: float
    nodes: np.ndarray

    def plus(self, other: Step, factor: float) -> Step:
        """Return self + factor × other."""
        return Step(self.columns + factor * other.columns, self.width + factor * other.width, self.nodes + factor * other.nodes)

    def dot(self, other: Step) -> float:
        """Return the inner product."""
        return float((self.columns * other.columns).sum() + self.width * other.width + (self.nodes * other.nodes).sum())


def joint_step(equations: Equations, background: Background, score: np.ndarray, damping: np.ndarray, iterations: int) -> Step:
    """Return the step that solves the joint equations for the columns' gradient and the background's `score` (k,).

    A column's log width is the sum of its own, which the prior in `equations.stiff` holds back, and of one that all share, which is free.
    Conjugate gradients, preconditioned by each column's own matrix and the nodes' diagonal; `damping` (n,) is Levenberg's, relative to
    the diagonal.
    Source: J. Nocedal and S. J. Wright, Numerical Optimization (2006), algorithm 5.3.
    """
    n, pairs, node, lift = len(equations.own), equations.pairs, equations.node, equations.lift
    corner = np.arange(CORE)
    extra = equations.stiff + damping[:, None] * np.einsum("nii->ni", equations.own)
    alone = equations.own.copy()
    alone[:, corner, corner] += extra + 1e-30
    inverse_own = np.linalg.inv(alone)
    inverse_width = 1 / max(float((equations.own[:, 3, 3] * equations.sharing).sum()), 1e-30)
    inverse_nodes = 1 / np.maximum(background.diagonal(), 1e-30)

    def product(step: Step) -> Step:
        columns = step.columns.copy()
        columns[:, 3] += step.width * equations.sharing
        out = _times(equations.own, columns) + _times(lift, step.nodes[node])
        if len(pairs.first):
            shared = _times(equations.coupling, columns[pairs.second])
            out += np.stack([np.bincount(pairs.first, weights=shared[:, k], minlength=n) for k in range(CORE)], axis=1)
        back = np.matmul(columns[:, None], lift)
        nodes = background.product(step.nodes) + np.bincount(node.ravel(), weights=back.ravel(), minlength=len(score))
        return Step(out + extra * step.columns, float((out[:, 3] * equations.sharing).sum()), nodes)

    def precondition(step: Step) -> Step:
        return Step(_times(inverse_own, step.columns), inverse_width * step.width, inverse_nodes * step.nodes)

    left = Step(equations.gradient + equations.pull, float((equations.gradient[:, 3] * equations.sharing).sum()), score)
    total = Step(np.zeros_like(left.columns), 0.0, np.zeros_like(score))
    along = ready = precondition(left)
    strength = start = left.dot(ready)
    for _ in range(iterations):
        if not strength > TOLERANCE * start:
            break
        image = product(along)
        curvature = along.dot(image)
        if not curvature > 0:  # columns on top of each other: the couple has no minimum along this direction
            break
        total = total.plus(along, strength / curvature)
        left = left.plus(image, -strength / curvature)
        ready = precondition(left)
        strength, previous = left.dot(ready), strength
        along = ready.plus(along, strength / previous)
    return total


def covariance(equations: Equations, yx: np.ndarray, farthest: float) -> np.ndarray:
    """Return the covariance (n, 4, 4) of each column's parameters with its overlapping neighbours' and the background unknown; NaN where
    singular.

    A column is taken with its `MOST_NEIGHBOURS` nearest columns no farther than `farthest` px, their couplings among each other and a plane
    of background under all of them; who is farther away is held fixed. yx (n, 2) are the columns' positions.
    """
    n, pairs = len(equations.own), equations.pairs
    order = np.lexsort((pairs.distance, pairs.first))
    first, second = pairs.first[order], pairs.second[order]
    rank = np.arange(len(first)) - np.searchsorted(first, first)
    taken = (rank < MOST_NEIGHBOURS) & (pairs.distance[order] < farthest)
    slots = np.full((n, MOST_NEIGHBOURS), -1)
    slots[first[taken], rank[taken]] = second[taken]
    keys = pairs.first * n + pairs.second  # ascending: pairs are ordered by first, then second
    used = (slots >= 0).sum(axis=1)
    cover = np.empty((n, CORE, CORE))
    for count in np.unique(used):
        which = np.flatnonzero(used == count)
        for start in range(0, len(which), 1000):
            group = which[start : start + 1000]
            cover[group] = _marginal(equations, yx, np.column_stack([group, slots[group, :count]]), keys)
    return cover


def _marginal(equations: Equations, yx: np.ndarray, members: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the first member's block of the inverse of each group's joint matrix; members (g, k), `keys` of the pairs."""
    groups, size = members.shape
    planes = size * CORE
    joint = np.zeros((groups, planes + 3, planes + 3))
    for a in range(size):
        rows = slice(a * CORE, (a + 1) * CORE)
        joint[:, rows, rows] = equations.own[members[:, a]] + equations.stiff[members[:, a], :, None] * np.eye(CORE)
        # the plane about the first member, seen from this one: constant + slope · distance
        shift = np.broadcast_to(np.eye(3), (groups, 3, 3)).copy()
        shift[:, 0, 1:] = yx[members[:, a]] - yx[members[:, 0]]
        joint[:, rows, planes:] = np.matmul(equations.plane[members[:, a]], shift)
        joint[:, planes:, rows] = joint[:, rows, planes:].transpose(0, 2, 1)
        seen = np.matmul(shift.transpose(0, 2, 1), np.matmul(equations.flat[members[:, a]], shift))
        joint[:, planes:, planes:] += seen if a else seen * np.sqrt(SHARED[:, None] * SHARED)
        for b in range(size):
            if a != b and len(keys):
                key = members[:, a] * len(yx) + members[:, b]
                at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
                linked = keys[at] == key
                joint[linked, rows, b * CORE : (b + 1) * CORE] = equations.coupling[at[linked]]
    return inverse(joint, CORE)


def inverse(matrix: np.ndarray, wanted: int) -> np.ndarray:
    """Return the leading (wanted, wanted) blocks of the inverses of symmetric matrices (g, k, k), NaN where one is not positive
    definite."""
    size = matrix.shape[1]
    diagonal = np.einsum("gii->gi", matrix)
    scale = np.sqrt(np.maximum(diagonal, 1e-300))
    unit = matrix / (scale[:, :, None] * scale[:, None, :])
    good = np.isfinite(unit).all(axis=(1, 2)) & (diagonal > 0).all(axis=1)
    unit[~good] = np.eye(size)
    unit[:, np.arange(size), np.arange(size)] += 1e-9
    right = np.broadcast_to(np.eye(size)[:, :wanted], (len(unit), size, wanted))
    out: np.ndarray = np.linalg.solve(unit, right.copy())[:, :wanted] / (scale[:, :wanted, None] * scale[:, None, :wanted])
    out[~good | (np.einsum("gii->gi", out) <= 0).any(axis=1)] = np.nan
    return out
