"""Two-dimensional lattices of columns: a period of one, and how it lies in the field. Owns filling.

Called by `simulation.layout`, and by defects that turn, mirror or replace a crystal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from stemzoo.errors import RecipeError


@dataclass(frozen=True)
class Cell:
    """One period of a projected crystal.

    Args:
        lattice: (2, 2) float64, periods as rows (y, x) [Å]. yx: (m, 2) float64, columns [Å].
        atoms: (m, E) atoms of each element per repeat. species: (m,) int, -1 where too faint. thermal: (m,) [Å].
        repeat: length of the repeat along the beam [Å]; 0 where nothing repeats.
        axes: (3, 2) the crystal's a, b and c as seen [Å].
    """

    lattice: np.ndarray
    yx: np.ndarray
    atoms: np.ndarray
    species: np.ndarray
    thermal: np.ndarray
    repeat: float
    axes: np.ndarray


@dataclass(frozen=True)
class Placed:
    """A crystal and how it lies in the field.

    Args:
        cell: its period.
        turn: (2, 2) orthogonal matrix that takes the cell's (y, x), as a row, to the field's.
        origin: (2,) where the cell's origin lies, Å from the centre of the field.
    """

    cell: Cell
    turn: np.ndarray
    origin: np.ndarray

    @property
    def lattice(self) -> np.ndarray:
        """(2, 2) periods in the field [Å]."""
        return np.asarray(self.cell.lattice @ self.turn)

    def vector(self, uvw: tuple[float, ...]) -> np.ndarray:
        """(2,) the crystal vector [uvw], as it is seen in the field [Å].

        Raises: RecipeError if it is not three numbers.
        """
        if len(uvw) != 3:
            raise RecipeError(f"defect: {list(uvw)} is no crystal vector; wanted three numbers [u, v, w]")
        return np.asarray(np.array(uvw, dtype=np.float64) @ self.cell.axes @ self.turn)

    def direction(self, uvw: tuple[float, ...]) -> np.ndarray:
        """(2,) the unit vector along [uvw] as it is seen.

        Raises: RecipeError if [uvw] points along the beam.
        """
        vector = self.vector(uvw)
        length = float(np.linalg.norm(vector))
        if length < 0.05:
            raise RecipeError(f"defect: the direction {list(uvw)} lies along the beam; name one that is seen from the side")
        return np.asarray(vector / length)

    def turned(self, angle: float, *, mirrored: bool = False, origin: np.ndarray | None = None) -> Placed:
        """The crystal turned by `angle` [rad] counter-clockwise as displayed, after being mirrored if asked."""
        flip = np.diag([1.0, -1.0]) if mirrored else np.eye(2)
        return replace(self, turn=flip @ self.turn @ rotation(angle), origin=self.origin if origin is None else origin)

    def fill(self, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, 2) positions [Å] and (n,) index within the cell of every column within `reach` [Å] of the centre, per axis."""
        lattice, basis = self.lattice, self.cell.yx @ self.turn
        corners = np.array([[-reach, -reach], [-reach, reach], [reach, -reach], [reach, reach]]) - self.origin
        corners = corners @ np.linalg.inv(lattice)
        low, high = np.floor(corners.min(0)).astype(int) - 2, np.ceil(corners.max(0)).astype(int) + 2
        i, j = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
        nodes = np.stack([i.ravel(), j.ravel()], 1) @ lattice + self.origin
        positions = (nodes[:, None] + basis[None]).reshape(-1, 2)
        index = np.tile(np.arange(len(basis)), len(nodes))
        inside = (np.abs(positions) < reach).all(axis=1)
        return positions[inside], index[inside]


def rotation(angle: float) -> np.ndarray:
    """(2, 2) matrix that turns rows (y, x), y down, by `angle` [rad] counter-clockwise as displayed.

    >>> rotation(math.pi / 2).round().tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
