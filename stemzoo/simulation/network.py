"""Flat networks of three bonds to an atom, as in graphene: from rings to atoms, and to rest. Called by the defects that change rings."""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay, cKDTree

_STEPS = 150
_PACE = 0.15
_SHELL = 5.0
"""Points up to this many spacings from one that moves are looked at."""
_SECOND = 0.35
"""Stiffness between second neighbours against that of a bond: about that of graphene's angles."""


def atoms_of_rings(centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return atoms (n, 2) and bonds (m, 2) of the network whose rings lie about `centres`: one atom for every three rings that meet.

    The network of rings is the dual of the triangulation of their centres, so that a centre with five or seven neighbours is a pentagon or
    a heptagon.
    """
    triangles = Delaunay(centres)
    first = np.repeat(np.arange(len(triangles.simplices)), 3)
    second = triangles.neighbors.ravel()
    return centres[triangles.simplices].mean(axis=1), np.stack([first, second], 1)[first < second]


def settled(points: np.ndarray, free: np.ndarray, spacing: float) -> np.ndarray:
    """Return ring centres (n, 2) [Å] moved, where `free` (n,) bool, until neighbours lie about `spacing` [Å] apart.

    The neighbours are found anew on the way.
    """
    if not free.any():
        return points.copy()
    near = np.isfinite(cKDTree(points[free]).query(points, distance_upper_bound=_SHELL * spacing)[0])
    some, moving = points[near], free[near]
    for _ in range(8):
        corners = np.sort(Delaunay(some).simplices, axis=1)
        codes = np.unique(corners[:, [0, 0, 1]] * len(some) + corners[:, [1, 2, 2]])
        edges = np.stack([codes // len(some), codes % len(some)], 1)
        some = relaxed(some, edges[np.linalg.norm(some[edges[:, 0]] - some[edges[:, 1]], axis=1) < 2 * spacing], moving, spacing, 8)
    moved = points.copy()
    moved[near] = some
    return moved


def relaxed(points: np.ndarray, bonds: np.ndarray, free: np.ndarray, length: float, steps: int = _STEPS) -> np.ndarray:
    """Return `points` (n, 2) after `steps` towards bonds of `length`; only `free` ones move.

    Where there are three bonds an atom, second neighbours also push each other to √3 of that length.
    """
    pairs, rest, stiffness = bonds, np.full(len(bonds), length), np.ones(len(bonds))
    if len(bonds) < 2 * len(points):  # a network of atoms, not of rings
        second = second_neighbours(bonds, len(points))
        pairs = np.concatenate([bonds, second])
        rest = np.concatenate([rest, np.full(len(second), 3**0.5 * length)])
        stiffness = np.concatenate([stiffness, np.full(len(second), _SECOND)])
    near = free[pairs].any(axis=1)
    rest, stiffness = rest[near], stiffness[near]
    used, local = np.unique(pairs[near], return_inverse=True)
    first, second = local.reshape(-1, 2).T
    place, pace = points[used], _PACE * free[used]
    for _ in range(steps):
        arrow = place[second] - place[first]
        distance = np.maximum(np.hypot(arrow[:, 0], arrow[:, 1]), 1e-6)
        pull = (stiffness * (distance - rest) / distance)[:, None] * arrow
        for axis in range(2):
            force = np.bincount(first, pull[:, axis], len(used)) - np.bincount(second, pull[:, axis], len(used))
            place[:, axis] += pace * force
    moved = points.copy()
    moved[used] = place
    return moved


def second_neighbours(bonds: np.ndarray, n: int) -> np.ndarray:
    """(m, 2) pairs that share a neighbour."""
    both = np.concatenate([bonds, bonds[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    start = np.searchsorted(both[:, 0], np.arange(n + 1))
    degree = np.diff(start)
    codes = []
    for one in range(int(degree.max(initial=0))):
        for other in range(one + 1, int(degree.max(initial=0))):
            at = start[:-1][degree > other]
            pair = np.sort(np.stack([both[at + one, 1], both[at + other, 1]], 1), axis=1)
            codes.append(pair[:, 0] * n + pair[:, 1])
    found = np.unique(np.concatenate([np.zeros(0, np.int64), *codes]))
    return np.stack([found // n, found % n], 1)
