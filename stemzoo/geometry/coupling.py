"""Columns that overlap, and the background under them, solved together. Owns the joint step and the joint standard errors.

Works on the small matrices of columnmodel, never on pixels; NumPy only. Called by jointfit and certainty.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stemzoo.geometry.background import Background
from stemzoo.geometry.columnmodel import CORE
from stemzoo.geometry.gram import moved, recentred
from stemzoo.geometry.neighbours import Pairs
from stemzoo.geometry.sidebyside import TOGETHER, inner, inverse, marginal, times, times_transposed

MOST_NEIGHBOURS = 6  # overlapping columns that share in a column's standard error: a hexagon of them
ENOUGH = 0.01  # standard errors, mean over all unknowns, that a step may be off: the next, if one is needed, corrects them …
TOLERANCE = 1e-5  # … or this share of its squared length, where it is so long that the equations will be others after it
LEFT = 0.15  # of what is known of a node or the common width, at least: where columns seem to take up more, overlaps are out of date
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
    """A joint step: of each column (4, n), of the background's nodes (k,), and of all log widths together."""

    columns: np.ndarray
    nodes: np.ndarray
    width: float


class Joint:
    """The joint equations as a matrix for vectors of all unknowns, in the order of a Step, and what is nearly that matrix' inverse."""

    def __init__(self, equations: Equations, background: Background, damping: np.ndarray) -> None:
        """Args: damping (n,) is Levenberg's, relative to the diagonal."""
        self.equations, self.background = equations, background
        own, lift, sharing = equations.own, equations.lift, equations.sharing
        self.many, corner = own.shape[2], np.arange(CORE)
        self.node, self.nodes = equations.node.ravel(), len(background.diagonal())
        self.place = (np.arange(CORE)[:, None] * self.many + equations.pairs.first).ravel()
        self.extra = equations.stiff + damping * own[corner, corner]
        alone = own.copy()
        alone[corner, corner] += self.extra + 1e-30
        self.inverse = inverse(alone)
        # how columns give way to a step of what they share, and what of the information on that is left then
        self.taken_nodes, self.taken_width = np.einsum("abn,bkn->akn", self.inverse, lift), times(self.inverse, own[3] * sharing)
        node_left = background.diagonal() - self.at_nodes(np.einsum("akn,akn->kn", lift, self.taken_nodes))
        width_left = inner(own[3, 3] - np.einsum("an,an->n", own[3], self.taken_width), sharing)
        self.node_left = np.maximum(node_left, LEFT * background.diagonal() + 1e-30)
        self.width_left = max(width_left, LEFT * inner(own[3, 3], sharing), 1e-30)

    def at_nodes(self, each: np.ndarray) -> np.ndarray:
        """Return the sums (k,) at the background's nodes of what each column has there (9, n)."""
        return np.bincount(self.node, weights=each.ravel(), minlength=self.nodes)

    def parts(self, vector: np.ndarray) -> Step:
        """Return a vector's parts, views of it."""
        size = CORE * self.many
        return Step(vector[:size].reshape(CORE, self.many), vector[size:-1], vector[-1])

    def times(self, vector: np.ndarray) -> np.ndarray:
        """Return the matrix times a vector."""
        equations, step = self.equations, self.parts(vector)
        columns = step.columns.copy()
        columns[3] += step.width * equations.sharing
        pull = times(equations.own, columns)
        pull += times(equations.lift, step.nodes.take(equations.node))
        if len(equations.pairs.first):
            shared = times(equations.coupling, columns.take(equations.pairs.second, axis=1))
            pull += np.bincount(self.place, weights=shared.ravel(), minlength=pull.size).reshape(pull.shape)
        nodes = self.background.product(step.nodes) + self.at_nodes(times_transposed(equations.lift, columns))
        return _joined(pull + self.extra * step.columns, nodes, inner(pull[3], equations.sharing))

    def nearly_solved(self, vector: np.ndarray) -> np.ndarray:
        """Return what the matrix would make this vector of, if columns met only in what they share, and each of that stood for itself."""
        step = self.parts(vector)
        nodes = (step.nodes - self.at_nodes(times_transposed(self.taken_nodes, step.columns))) / self.node_left
        width = (step.width - inner(self.taken_width, step.columns)) / self.width_left
        columns = times(self.inverse, step.columns)
        columns -= width * self.taken_width
        columns -= times(self.taken_nodes, nodes.take(self.equations.node))
        return _joined(columns, nodes, width)


def _joined(columns: np.ndarray, nodes: np.ndarray, width: float) -> np.ndarray:
    return np.concatenate([columns.ravel(), nodes, [width]])


def joint_step(equations: Equations, background: Background, score: np.ndarray, damping: np.ndarray, iterations: int) -> Step:
    """Return the step that solves the joint equations for the columns' gradient and the background's `score` (k,).

    A column's log width is the sum of its own, which the prior in `equations.stiff` holds back, and of one that all share, which is free.
    Conjugate gradients, preconditioned as if columns met in the background and the common width alone.
    Source: J. Nocedal and S. J. Wright, Numerical Optimization (2006), algorithm 5.3.
    """
    joint, gradient = Joint(equations, background, damping), equations.gradient
    left = _joined(gradient + equations.pull, score, inner(gradient[3], equations.sharing))
    total = np.zeros_like(left)
    along = ready = joint.nearly_solved(left)
    strength = inner(left, ready)  # about the summed squares of how far all unknowns are from the solution, in their standard errors
    enough = max(TOLERANCE * strength, ENOUGH**2 * len(left))
    for _ in range(iterations):
        image = joint.times(along)
        curvature = inner(along, image)
        if not curvature > 0:  # columns on top of each other: the couple has no minimum along this direction
            break
        total += strength / curvature * along
        left -= strength / curvature * image
        ready = joint.nearly_solved(left)
        strength, previous = inner(left, ready), strength
        if not strength > enough:
            break
        along = ready + strength / previous * along
    return joint.parts(total)


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
