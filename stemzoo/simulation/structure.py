"""Crystal structures to projected atomic columns. Owns zone axes and compositions; called by `simulation.scene`.

A crystal is a cell and its sites; seen along a lattice direction [uvw] it becomes a two-dimensional lattice of columns, each with
the atoms that it holds per repeat. Nothing here knows of probes, thickness or pixels.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.errors import StructureError

MERGE_DISTANCE = 0.35
"""Sites closer than this in projection [Å] are seen as one column."""

MIN_SITE_DISTANCE = 0.6
"""Two sites nearer than this in the crystal [Å] cannot both be full."""

ELEMENTS = tuple(
    [
        "H",
        "He",
        "Li",
        "Be",
        "B",
        "C",
        "N",
        "O",
        "F",
        "Ne",
        "Na",
        "Mg",
        "Al",
        "Si",
        "P",
        "S",
        "Cl",
        "Ar",
        "K",
        "Ca",
        "Sc",
        "Ti",
        "V",
        "Cr",
        "Mn",
        "Fe",
        "Co",
        "Ni",
        "Cu",
        "Zn",
        "Ga",
        "Ge",
        "As",
        "Se",
        "Br",
        "Kr",
        "Rb",
        "Sr",
        "Y",
        "Zr",
        "Nb",
        "Mo",
        "Tc",
        "Ru",
        "Rh",
        "Pd",
        "Ag",
        "Cd",
        "In",
        "Sn",
        "Sb",
        "Te",
        "I",
        "Xe",
        "Cs",
        "Ba",
        "La",
        "Ce",
        "Pr",
        "Nd",
        "Pm",
        "Sm",
        "Eu",
        "Gd",
        "Tb",
        "Dy",
        "Ho",
        "Er",
        "Tm",
        "Yb",
        "Lu",
        "Hf",
        "Ta",
        "W",
        "Re",
        "Os",
        "Ir",
        "Pt",
        "Au",
        "Hg",
        "Tl",
        "Pb",
        "Bi",
        "Po",
        "At",
        "Rn",
        "Fr",
        "Ra",
        "Ac",
        "Th",
        "Pa",
        "U",
    ]
)


def atomic_number(element: str) -> int:
    """Return Z of a chemical symbol.

    >>> atomic_number("Sr")
    38
    """
    if element not in ELEMENTS:
        raise StructureError(f"element {element!r} is not a chemical symbol up to U; write it like 'Sr'")
    return ELEMENTS.index(element) + 1


@dataclass(frozen=True)
class Crystal:
    """A unit cell and the atoms in it.

    Args:
        cell: (3, 3) float64, lattice vectors as rows [Å].
        elements: chemical symbol of each site.
        fractional: (n, 3) float64, fractional coordinates.
        occupancy: (n,) float64 in (0, 1].
        name: for messages.

    Raises: StructureError for a flat cell, or sites that overlap and are not shared by occupancy.
    """

    cell: np.ndarray
    elements: tuple[str, ...]
    fractional: np.ndarray
    occupancy: np.ndarray
    name: str = "crystal"

    def __post_init__(self) -> None:
        if abs(np.linalg.det(self.cell)) < 1.0:
            raise StructureError(
                f"{self.name}: cell volume {abs(np.linalg.det(self.cell)):.3g} Å³; the three lattice vectors lie in one plane"
            )
        if len(self.elements) == 0:
            raise StructureError(f"{self.name}: no atoms in the cell")
        for element in self.elements:
            atomic_number(element)
        shift = self.fractional[:, None] - self.fractional[None]
        shift -= np.round(shift)
        distance = np.linalg.norm(shift @ self.cell, axis=-1)
        too_full = (
            (distance < MIN_SITE_DISTANCE)
            & (self.occupancy[:, None] + self.occupancy[None] > 1.02)
            & ~np.eye(len(self.elements), dtype=bool)
        )
        if too_full.any():
            i, j = np.argwhere(too_full)[0]
            raise StructureError(
                f"{self.name}: sites {i} ({self.elements[i]}) and {j} ({self.elements[j]}) lie {distance[i, j]:.2f} Å apart; "
                f"atoms need at least {MIN_SITE_DISTANCE} Å, or occupancies that add up to 1"
            )

    def formula_counts(self) -> dict[str, float]:
        """Atoms of each element in the cell, weighted by occupancy."""
        counts: dict[str, float] = {}
        for element, occupancy in zip(self.elements, self.occupancy, strict=True):
            counts[element] = counts.get(element, 0.0) + float(occupancy)
        return counts


CENTRINGS: dict[str, list[tuple[float, float, float]]] = {
    "P": [(0, 0, 0)],
    "I": [(0, 0, 0), (0.5, 0.5, 0.5)],
    "F": [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
    "A": [(0, 0, 0), (0, 0.5, 0.5)],
    "B": [(0, 0, 0), (0.5, 0, 0.5)],
    "C": [(0, 0, 0), (0.5, 0.5, 0)],
}


def cell_vectors(a: float, b: float, c: float, alpha: float = 90.0, beta: float = 90.0, gamma: float = 90.0) -> np.ndarray:
    """Return (3, 3) lattice vectors [Å] as rows, a along x and b in the xy plane; lengths in Å, angles in degrees."""
    ca, cb, cg = (math.cos(math.radians(angle)) for angle in (alpha, beta, gamma))
    sg = math.sin(math.radians(gamma))
    cy = (ca - cb * cg) / sg
    return np.array([[a, 0, 0], [b * cg, b * sg, 0], [c * cb, c * cy, c * math.sqrt(max(1 - cb**2 - cy**2, 0))]])


def read_cif(path: str | Path) -> Crystal:
    """Return the crystal in a CIF file, read by ASE and checked against the file's own formula.

    Raises: StructureError if the file is missing or is no CIF, or if the atoms that the symmetry yields contradict the formula
    (ASE misreads the origin of some settings and would swap cations in silence).
    """
    path = Path(path)
    if not path.is_file():
        raise StructureError(f"{path}: no such file; wanted a CIF with a cell, a space group and atom sites")
    try:
        from ase.io.cif import parse_cif
    except ImportError:
        raise StructureError("reading a CIF needs ASE; install it with: pip install 'stemzoo[train]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            block: Any = next(block for block in parse_cif(str(path)) if block.has_structure())  # type: ignore[no-untyped-call]
            atoms = block.get_atoms(store_tags=False, fractional_occupancies=True)
    except Exception as failure:
        raise StructureError(
            f"{path}: not a CIF with a crystal structure ({type(failure).__name__}: {failure}); export it with cell and atom sites"
        ) from None
    crystal = _from_ase(atoms, path.name)
    _check_formula(crystal, block.get("_chemical_formula_sum"))
    return crystal


def _from_ase(atoms: Any, name: str) -> Crystal:
    symbols = atoms.get_chemical_symbols()
    fractional = atoms.get_scaled_positions()
    kinds = atoms.arrays.get("spacegroup_kinds")
    shares = atoms.info.get("occupancy")
    elements: list[str] = []
    rows: list[np.ndarray] = []
    occupancy: list[float] = []
    for index, (symbol, position) in enumerate(zip(symbols, fractional, strict=True)):
        share = {symbol: 1.0} if shares is None or kinds is None else shares[str(kinds[index])]
        for element, value in share.items():
            elements.append(element)
            rows.append(position)
            occupancy.append(float(value))
    cell = np.asarray(atoms.cell.array, dtype=np.float64)
    return Crystal(cell, tuple(elements), np.array(rows, dtype=np.float64), np.array(occupancy), name)


def _check_formula(crystal: Crystal, formula: str | None) -> None:
    """Compare ratios of elements with the CIF's `_chemical_formula_sum`."""
    if not formula:
        return
    import re

    wanted = {element: float(number or 1) for element, number in re.findall(r"([A-Z][a-z]?)\s*([0-9.]*)", formula)}
    got = crystal.formula_counts()
    if set(wanted) != set(got) and set(wanted) - {"H", "D"} != set(got):
        raise StructureError(
            f"{crystal.name}: its formula is {formula!r} but the sites hold {sorted(got)}; check the CIF's symmetry setting"
        )
    scale = sum(got.values()) / sum(wanted[element] for element in got)
    for element, number in got.items():
        if abs(number - scale * wanted[element]) > 0.08 * scale * wanted[element] + 0.02 * scale:
            raise StructureError(
                f"{crystal.name}: the formula {formula!r} wants {scale * wanted[element]:.2f} {element} in the cell, "
                f"the symmetry yields {number:.2f}; "
                "the space-group origin or setting was misread: export the CIF with explicit symmetry operations or in P1"
            )


@dataclass(frozen=True)
class Projection:
    """The columns of a crystal seen along a zone axis: one period of a two-dimensional lattice.

    Args:
        lattice: (2, 2) float64, rows are the periods as (y, x) [Å]; the shortest lies along +x.
        yx: (n, 2) float64, columns within one period [Å].
        atoms: for each column the atoms per repeat, ((element, occupancy-weighted number), …), heaviest first.
        repeat: length of the repeat along the beam [Å].
    """

    lattice: np.ndarray
    yx: np.ndarray
    atoms: tuple[tuple[tuple[str, float], ...], ...]
    repeat: float


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
    yx, atoms = [], []
    for group in groups:
        weights = np.array([atomic_number(crystal.elements[i]) ** 1.7 * crystal.occupancy[i] for i in group])
        shift = (position[group] - position[group[0]]) @ np.linalg.inv(lattice)
        yx.append(position[group[0]] + weights @ ((shift - np.round(shift)) @ lattice) / weights.sum())
        content: dict[str, float] = {}
        for i in group:
            content[crystal.elements[i]] = content.get(crystal.elements[i], 0.0) + float(crystal.occupancy[i])
        atoms.append(tuple(sorted(content.items(), key=lambda item: -atomic_number(item[0]))))
    return Projection(lattice, np.array(yx), tuple(atoms), repeat)


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
