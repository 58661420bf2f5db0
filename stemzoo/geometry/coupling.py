"""Columns that overlap, and the background under them, solved together. Owns the joint step and the joint standard errors.

Works on the small matrices of columnmodel, never on pixels; NumPy only. Called by jointfit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stemzoo.geometry.background import Background
from stemzoo.geometry.columnmodel import CORE
from stemzoo.geometry.gram import moved, recentred
from stemzoo.geometry.neighbours import Pairs
from stemzoo.geometry.sidebyside import TOGETHER, inverse, marginal, times, times_transposed

MOST_NEIGHBOURS = 6  # overlapping columns that share in a column's standard error: a hexagon of them
TOLERANCE = 1e-4  # of the squared residual, in the preconditioner's metric: a step good to a hundredth, of which the next corrects the rest
SHARED = np.array([12.0, 12.0, 4.0])  # how much better than one column's window the surface knows its own slopes and height


class Equations(NamedTuple):
    """The joint normal equations of n columns and the background; columns last.

    own (4, 4, n) and gradient (4, n) of each column; stiff (4, n) a prior's information and pull (4, n) its gradient; sharing (n,) 1
    where a column has a say in the common width; coupling (4, 4, p) between `pairs` (ordered, each couple twice); lift (4, 9, n) between
    columns and background nodes `node` (9, n); plane (4, 3, n) and flat (3, 3, n): how each column's window sees a background with slopes
    along u and v and a constant about the column.
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


class Step(NamedTuple):
    """A joint step: of each column (4, n), of all log widths together, and of the background's nodes (k,). Steps add and scale like one
    vector."""

    columns: np.ndarray
    width: float
    nodes: np.ndarray

    def plus(self, other: Step, factor: float) -> Step:
        """Return self + factor × other."""
        return Step(self.columns + factor * other.columns, self.width + factor * other.width, self.nodes + factor * other.nodes)

    def dot(self, other: Step) -> float:
        """Return the inner product."""
        columns = np.vdot(self.columns, other.columns)
        return float(columns + self.width * other.width + np.vdot(self.nodes, other.nodes))


def joint_step(equations: Equations, background: Background, score: np.ndarray, damping: np.ndarray, iterations: int) -> Step:
    """Return the step that solves the joint equations for the columns' gradient and the background's `score` (k,).

    A column's log width is the sum of its own, which the prior in `equations.stiff` holds back, and of one that all share, which is free.
    Conjugate gradients, preconditioned by each column's own matrix and the nodes' diagonal; `damping` (n,) is Levenberg's, relative to
    the diagonal.
    Source: J. Nocedal and S. J. Wright, Numerical Optimization (2006), algorithm 5.3.
    """
    pairs, node, lift, sharing = equations.pairs, equations.node, equations.lift, equations.sharing
    n, corner = equations.own.shape[2], np.arange(CORE)
    extra = equations.stiff + damping * equations.own[corner, corner]
    alone = equations.own.copy()
    alone[corner, corner] += extra + 1e-30
    inverse_own = inverse(alone)
    inverse_width = 1 / max(float(equations.own[3, 3] @ sharing), 1e-30)
    inverse_nodes = 1 / np.maximum(background.diagonal(), 1e-30)

    def product(step: Step) -> Step:
        columns = step.columns.copy()
        columns[3] += step.width * sharing
        out = times(equations.own, columns)
        out += times(lift, step.nodes[node])
        if len(pairs.first):
            shared = times(equations.coupling, columns[:, pairs.second])
            out += np.stack([np.bincount(pairs.first, weights=each, minlength=n) for each in shared])
        back = times_transposed(lift, columns)
        nodes = background.product(step.nodes) + np.bincount(node.ravel(), weights=back.ravel(), minlength=len(score))
        width = float(out[3] @ sharing)
        out += extra * step.columns
        return Step(out, width, nodes)

    def precondition(step: Step) -> Step:
        return Step(times(inverse_own, step.columns), inverse_width * step.width, inverse_nodes * step.nodes)

    left = Step(equations.gradient + equations.pull, float(equations.gradient[3] @ sharing), score)
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


def covariance(equations: Equations, uv: np.ndarray, farthest: float) -> np.ndarray:
    """Return the covariance (4, 4, n) of each column's parameters with its overlapping neighbours' and the background unknown; NaN where
    singular.

    A column is taken with its `MOST_NEIGHBOURS` nearest columns no farther than `farthest` px, their couplings among each other and a plane
    of background under all of them; who is farther away is held fixed. uv (2, n) are the columns' positions in sigmas.
    """
    n, pairs = uv.shape[1], equations.pairs
    order = np.lexsort((pairs.distance, pairs.first))
    first, second = pairs.first[order], pairs.second[order]
    rank = np.arange(len(first)) - np.searchsorted(first, first)
    taken = (rank < MOST_NEIGHBOURS) & (pairs.distance[order] < farthest)
    slots = np.full((n, MOST_NEIGHBOURS), -1)
    slots[first[taken], rank[taken]] = second[taken]
    keys = pairs.first * n + pairs.second  # ascending: pairs are ordered by first, then second
    used = (slots >= 0).sum(axis=1)
    cover = np.empty((CORE, CORE, n))
    for count in np.unique(used):
        which = np.flatnonzero(used == count)
        for start in range(0, len(which), TOGETHER):
            group = which[start : start + TOGETHER]
            members = np.column_stack([group, slots[group, :count]]).T
            cover[:, :, group] = marginal(_group(equations, uv, members, keys), CORE)
    return cover


def _group(equations: Equations, uv: np.ndarray, members: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the joint matrices of groups of columns and a plane of background about the first of each; members (k, g), `keys` of the
    pairs."""
    size, groups = members.shape
    planes, corner = size * CORE, np.arange(CORE)
    joint = np.zeros((planes + 3, planes + 3, groups))
    for a, member in enumerate(members):
        rows = slice(a * CORE, (a + 1) * CORE)
        joint[rows, rows] = equations.own[:, :, member]
        joint[a * CORE + corner, a * CORE + corner] += equations.stiff[:, member]
        first = uv[:, members[0]] - uv[:, member]  # the plane is that about the first, seen from this one
        joint[planes:, rows] = moved(equations.plane[:, :, member].transpose(1, 0, 2), first)
        joint[rows, planes:] = joint[planes:, rows].transpose(1, 0, 2)
        seen = recentred(equations.flat[:, :, member], first, first)
        joint[planes:, planes:] += seen if a else seen * np.sqrt(SHARED[:, None] * SHARED)[:, :, None]
        for b, other in enumerate(members):
            if a != b and len(keys):
                key = member * uv.shape[1] + other
                at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
                linked = np.flatnonzero(keys[at] == key)
                joint[rows, b * CORE : (b + 1) * CORE, linked] = equations.coupling[:, :, at[linked]]
    return joint
