"""A unit cell and the atoms in it, refused if it cannot exist. Called by `simulation.cif`, `.recipe` and `.projection`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stemzoo.errors import StructureError
from stemzoo.simulation.elements import atomic_number

MIN_SITE_DISTANCE = 0.6
"""Two sites nearer than this in the crystal [Å] cannot both be full."""


@dataclass(frozen=True)
class Crystal:
    """A unit cell and the atoms in it.

    Args:
        cell: (3, 3) float64, lattice vectors as rows [Å].
        elements: chemical symbol of each site.
        fractional: (n, 3) float64, fractional coordinates.
        occupancy: (n,) float64 in (0, 1].
        name: for messages.
        thermal: (n,) float64, rms thermal displacement along an axis [Å], nan where unknown; None if nowhere known.

    Raises: StructureError for a flat cell, or sites that overlap and are not shared by occupancy.
    """

    cell: np.ndarray
    elements: tuple[str, ...]
    fractional: np.ndarray
    occupancy: np.ndarray
    name: str = "crystal"
    thermal: np.ndarray | None = None

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
