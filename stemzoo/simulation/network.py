"""Flat networks of three bonds to an atom, as in graphene: from rings to atoms, and to rest. Called by the defects that change rings."""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay

_STEPS = 150
_PACE = 0.15
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
    """Ring centres moved, where `free`, until neighbours lie about `spacing` apart; the neighbours are found anew on the way."""
    points = points.copy()
    for _ in range(8):
        triangles = Delaunay(points).simplices
        edges = np.unique(np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]]), axis=1), axis=0)
        points = relaxed(points, edges[np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1) < 2 * spacing], free, spacing, 8)
    return points


def relaxed(points: np.ndarray, bonds: np.ndarray, free: np.ndarray, length: float, steps: int = _STEPS) -> np.ndarray:
    """Return `points` (n, 2) after `steps` towards bonds of `length`; only `free` ones move.

    Where there are three bonds an atom, second neighbours also push each other to √3 of that length.
    """
    points = points.copy()
    pairs, rest, stiffness = bonds, np.full(len(bonds), length), np.ones(len(bonds))
    if len(bonds) < 2 * len(points):  # a network of atoms, not of rings
        second = second_neighbours(bonds, len(points))
        pairs = np.concatenate([bonds, second])
        rest = np.concatenate([rest, np.full(len(second), 3**0.5 * length)])
        stiffness = np.concatenate([stiffness, np.full(len(second), _SECOND)])
    near = free[pairs].any(axis=1)
    pairs, rest, stiffness = pairs[near], rest[near], stiffness[near]
    for _ in range(steps):
        arrow = points[pairs[:, 1]] - points[pairs[:, 0]]
        distance = np.maximum(np.linalg.norm(arrow, axis=1), 1e-6)
        pull = (stiffness * (distance - rest) / distance)[:, None] * arrow
        force = np.zeros_like(points)
        for axis in range(2):
            force[:, axis] = np.bincount(pairs[:, 0], pull[:, axis], len(points)) - np.bincount(pairs[:, 1], pull[:, axis], len(points))
        points[free] += _PACE * force[free]
    return points


def second_neighbours(bonds: np.ndarray, n: int) -> np.ndarray:
    """(m, 2) pairs that share a neighbour."""
    both = np.concatenate([bonds, bonds[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    start = np.searchsorted(both[:, 0], np.arange(n + 1))
    around = [both[start[i] : start[i + 1], 1] for i in range(n)]
    found = [(a, b) for near in around for k, a in enumerate(near) for b in near[k + 1 :]]
    return np.unique(np.sort(np.array(found, dtype=np.int64).reshape(-1, 2), axis=1), axis=0)
