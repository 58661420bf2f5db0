"""Crystals to projected atomic columns: a cell seen along a lattice direction becomes a two-dimensional lattice of columns.

Owns zone axes and what each column holds per repeat; knows nothing of probes, thickness or pixels. Called by `simulation.layout` and
`simulation.draft`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemzoo.errors import StructureError
from stemzoo.simulation.crystal import Crystal
from stemzoo.simulation.elements import atomic_number

MERGE_DISTANCE = 0.4
"""Sites closer than this in projection [Å] are one column, its position their weighted mean: no ADF probe has told them apart.

Source: 0.405 Å, the finest resolved so far; S. Morishita et al., Microscopy 67 (2018) 46. Fe and O of Sr3Fe2O7 [100] lie 0.37 Å apart."""


@dataclass(frozen=True)
class Projection:
    """The columns of a crystal seen along a zone axis: one period of a two-dimensional lattice.

    Args:
        lattice: (2, 2) float64, rows are the periods as (y, x) [Å]; the shortest lies along +x.
        yx: (n, 2) float64, columns within one period [Å].
        atoms: for each column the atoms per repeat, ((element, occupancy-weighted number), …), heaviest first.
        repeat: length of the repeat along the beam [Å].
        axes: (3, 2) float64, the crystal's a, b and c as they are seen, (y, x) [Å]; the cell's origin lies at (0, 0).
        thermal: (n,) float64, rms thermal displacement along an axis [Å], nan where the crystal knows none.
        static: (n,) float64, rms distance along an axis of the column's atoms from its middle [Å], above 0 for zigzag columns.
    """

    lattice: np.ndarray
    yx: np.ndarray
    atoms: tuple[tuple[tuple[str, float], ...], ...]
    repeat: float
    axes: np.ndarray
    thermal: np.ndarray
    static: np.ndarray


def project(crystal: Crystal, zone_axis: tuple[int, int, int]) -> Projection:
    """Return the columns of `crystal` along the lattice direction `zone_axis` = [uvw].

    Raises: StructureError if the zone axis is [000].
    """
    axis = np.array(zone_axis, dtype=int)
    if not axis.any():
        raise StructureError(f"{crystal.name}: zone axis [0 0 0] is no direction; give one like [1, 0, 0]")
    axis //= np.gcd.reduce(axis)
    beam = axis @ crystal.cell
    repeat = float(np.linalg.norm(beam))
    in_plane = np.array([vector - (vector @ beam) / repeat**2 * beam for vector in _completing_vectors(axis) @ crystal.cell])
    ex = _shortest(in_plane)
    ex = ex / np.linalg.norm(ex)
    ey = np.cross(beam / repeat, ex)
    to_plane = np.stack([ey, ex], axis=1)
    lattice = _reduce(in_plane @ to_plane)
    position = (crystal.fractional @ crystal.cell) @ to_plane
    groups = _merge(position, lattice)
    yx, atoms, thermal, static = [], [], [], []
    known = np.full(len(crystal.elements), np.nan) if crystal.thermal is None else crystal.thermal
    for group in groups:
        weights = np.array([atomic_number(crystal.elements[i]) ** 1.7 * crystal.occupancy[i] for i in group])
        weights = weights / weights.sum()
        shift = (position[group] - position[group[0]]) @ np.linalg.inv(lattice)
        offset = (shift - np.round(shift)) @ lattice
        centre = weights @ offset
        yx.append(position[group[0]] + centre)
        static.append(np.sqrt(weights @ ((offset - centre) ** 2).mean(axis=1)))
        thermal.append(np.sqrt(weights @ known[group] ** 2))
        content: dict[str, float] = {}
        for i in group:
            content[crystal.elements[i]] = content.get(crystal.elements[i], 0.0) + float(crystal.occupancy[i])
        atoms.append(tuple(sorted(content.items(), key=lambda item: -atomic_number(item[0]))))
    return Projection(lattice, np.array(yx), tuple(atoms), repeat, crystal.cell @ to_plane, np.array(thermal), np.array(static))


def _completing_vectors(axis: np.ndarray) -> np.ndarray:
    """Two integer vectors that, with the coprime `axis`, span the whole lattice (rows of a unimodular matrix)."""
    # A unimodular U with axis @ U = (g, 0, 0); the inverse's last two rows complete the first, which is the axis.
    unimodular = np.eye(3, dtype=int)
    row = axis.copy()
    for column in (1, 2):
        while row[column]:
            quotient = row[0] // row[column]
            row[0], row[column] = row[column], row[0] - quotient * row[column]
            first = unimodular[:, 0].copy()
            unimodular[:, 0] = unimodular[:, column]
            unimodular[:, column] = first - quotient * unimodular[:, column]
    inverse = np.round(np.linalg.inv(unimodular)).astype(int)
    return inverse[1:]


def _shortest(vectors: np.ndarray) -> np.ndarray:
    i, j = np.meshgrid(np.arange(-4, 5), np.arange(-4, 5))
    candidates = np.stack([i.ravel(), j.ravel()], 1) @ vectors
    length = np.linalg.norm(candidates, axis=1)
    length[length < 1e-6] = np.inf
    best = np.flatnonzero(length < length.min() + 1e-6)
    # Among equals take the one nearest the first in-plane vector, so that the orientation does not hang on rounding.
    return np.asarray(candidates[best[np.argmax(candidates[best] @ vectors[0])]])


def _reduce(vectors: np.ndarray) -> np.ndarray:
    """Lagrange–Gauss reduction of a two-dimensional lattice; the shorter vector first."""
    a, b = vectors[0], vectors[1]
    while True:
        if a @ a > b @ b:
            a, b = b, a
        step = round(float(a @ b) / float(a @ a))
        if step == 0:
            return np.stack([a, b])
        b = b - step * a


def _merge(position: np.ndarray, lattice: np.ndarray) -> list[list[int]]:
    shift = (position[:, None] - position[None]) @ np.linalg.inv(lattice)
    near = np.linalg.norm((shift - np.round(shift)) @ lattice, axis=-1) < MERGE_DISTANCE
    unseen = set(range(len(position)))
    groups = []
    while unseen:
        first = min(unseen)
        group = [i for i in sorted(unseen) if near[first, i]]
        groups.append(group)
        unseen -= set(group)
    return groups
