"""Columns in a field of view, before any probe sees them. Owns `Scene`, the outline of a specimen and the collisions of columns.

Made by `simulation.layout`, changed by `simulation.defects`, drawn by `simulation.frame`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.errors import RecipeError
from stemzoo.simulation.elements import atomic_number
from stemzoo.simulation.intensity import Contrast
from stemzoo.simulation.lattice import Placed

MARGIN = 4.0
"""Columns up to this far outside the field [Å] are drawn too, for their tails and for drift."""

PRISTINE, FREE = -1, -2

SLACK = 30.0
"""Columns up to this far outside the field [Å] are laid out, so that defects may bring them in."""


class Outline(Protocol):
    """The border of a specimen: how far inside it a point lies."""

    def __call__(self, yx: np.ndarray) -> np.ndarray:
        """(…, 2) points [Å] to (…) depth inside the border [Å], negative outside."""


@dataclass(frozen=True)
class Scene:
    """Columns in a field of view.

    Args:
        yx: (n, 2) float64, Å from the centre of the field.
        atoms: (n, E) float64, atoms of each element per repeat along the beam.
        repeats: (n,) float64, repeats along the beam.
        species: (n,) int, index into `classes`; -1 for columns too faint to be truth.
        thermal: (n,) float64, rms displacement of a column's atoms along an axis [Å].
        elements: chemical symbols of the columns of `atoms`.
        classes: names of the species.
        extent: side of the field [Å].
        repeat: length of the repeat along the beam [Å]; 0 where nothing repeats.
        contrast: how atoms become intensity.
        crystal: the crystal and how it lies, for defects that speak of its directions or need more of it; None for scattered atoms.
        phases: other crystals by name, for interfaces.
        outlines: borders of the specimen.
        home: (n,) int, `PRISTINE`; or where a point defect changed the column, the species it had before; or `FREE` for atoms bound to no
            site. In a time series the latter two move.
    """

    yx: np.ndarray
    atoms: np.ndarray
    repeats: np.ndarray
    species: np.ndarray
    thermal: np.ndarray
    elements: tuple[str, ...]
    classes: tuple[str, ...]
    extent: float
    repeat: float = 0.0
    contrast: Contrast = field(default_factory=Contrast)
    crystal: Placed | None = None
    phases: Mapping[str, Placed] = field(default_factory=dict)
    outlines: tuple[Outline, ...] = ()
    home: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if len(self.home) != len(self.yx):
            object.__setattr__(self, "home", np.full(len(self.yx), PRISTINE))

    @property
    def weight(self) -> np.ndarray:
        """(n,) scattering cross-section of each column's own peak [Å²]."""
        return self.contrast.weights(self.atoms, self.elements, self.repeats, self.repeat)

    @property
    def haze(self) -> np.ndarray:
        """(n,) cross-section of what each column loses to the crystal around it [Å²]."""
        return self.contrast.haze(self.atoms, self.elements, self.repeats, self.repeat)

    @property
    def width(self) -> np.ndarray:
        """(n,) rms width of each column as the probe sees it, along an axis [Å]: thermal, and by the beam's spread."""
        return np.asarray(np.hypot(self.thermal, self.contrast.spread(self.atoms, self.elements, self.repeats, self.repeat)))

    @property
    def filled(self) -> np.ndarray:
        """(n,) bool, columns that are truth and hold atoms."""
        return np.asarray((self.species >= 0) & (self.atoms.sum(axis=1) > 0) & (self.repeats > 0))

    def chosen(self, keep: np.ndarray) -> Scene:
        """The scene with only the columns where `keep` is True, or with those of an index array."""
        return replace(
            self,
            yx=self.yx[keep],
            atoms=self.atoms[keep],
            repeats=self.repeats[keep],
            species=self.species[keep],
            thermal=self.thermal[keep],
            home=self.home[keep],
        )

    def joined(self, other: Scene) -> Scene:
        """The columns of both; everything else is this scene's. Elements, classes and the field must be the same."""
        return replace(
            self,
            yx=np.concatenate([self.yx, other.yx]),
            atoms=np.concatenate([self.atoms, other.atoms]),
            repeats=np.concatenate([self.repeats, other.repeats]),
            species=np.concatenate([self.species, other.species]),
            thermal=np.concatenate([self.thermal, other.thermal]),
            home=np.concatenate([self.home, other.home]),
        )

    def with_element(self, symbol: str) -> Scene:
        """The scene in whose columns there may be atoms of `symbol`: as it is, or with a column of zeros in `atoms`.

        Raises: StructureError for a symbol that is no element's.
        """
        atomic_number(symbol)
        if symbol in self.elements:
            return self
        return replace(self, elements=(*self.elements, symbol), atoms=np.pad(self.atoms, ((0, 0), (0, 1))))

    def with_class(self, name: str) -> Scene:
        """The scene with a class `name` that columns may be of."""
        return self if name in self.classes else replace(self, classes=(*self.classes, name))

    def of(self, species: str | None) -> np.ndarray:
        """(n,) bool, True for the columns of one species, or for all that are truth.

        Raises: RecipeError if the structure shows no such species.
        """
        if species is None:
            return np.asarray(self.species >= 0)
        if species not in self.classes:
            raise RecipeError(f"defect wants the species {species!r}; this structure shows {', '.join(self.classes)}")
        return np.asarray(self.species == self.classes.index(species))

    def homes(self, hit: np.ndarray) -> np.ndarray:
        """`home` (n,) after a point defect changed the columns `hit` (n,) bool."""
        return np.where(hit & (self.home == PRISTINE), self.species, self.home)

    def placed(self, wanted_by: str) -> Placed:
        """The crystal and how it lies.

        Raises: RecipeError for a scene without one.
        """
        if self.crystal is None:
            raise RecipeError(f"defect {wanted_by!r} needs a crystal; single atoms have none")
        return self.crystal

    def refilled(self, crystal: Placed) -> Scene:
        """The whole field filled with `crystal`, as thick as this scene is in the mean."""
        yx, index = crystal.fill(self.extent / 2 + SLACK)
        cell = crystal.cell
        repeats = float(np.median(self.repeats)) * self.repeat / cell.repeat if self.repeat > 0 and cell.repeat > 0 else 1.0
        return replace(
            self,
            yx=yx,
            atoms=cell.atoms[index],
            repeats=np.full(len(yx), repeats),
            species=cell.species[index],
            thermal=cell.thermal[index],
            home=np.full(len(yx), PRISTINE),
        )


def without_collisions(scene: Scene, fraction: float = 0.62) -> Scene:
    """Drop one of each pair of columns nearer than `fraction` of the usual spacing, as at a grain boundary."""
    seen = scene.filled
    if seen.sum() < 3:
        return scene
    distance, _ = cKDTree(scene.yx[seen]).query(scene.yx[seen], k=2)
    limit = fraction * float(np.median(distance[:, 1]))
    pairs = cKDTree(scene.yx).query_pairs(limit, output_type="ndarray")
    both = pairs[seen[pairs].all(axis=1)] if len(pairs) else pairs
    keep = np.ones(len(scene.yx), dtype=bool)
    keep[both[:, 1]] = False
    return scene.chosen(keep)


def cut_out(scene: Scene, depth: Outline, taper: float) -> Scene:
    """Keep what lies inside an outline; towards it the thickness falls over `taper` [Å] to a sixth, in whole atoms."""
    inside = depth(scene.yx)
    thin = np.clip(inside / max(taper, 1e-3), 0.15, 1.0)
    repeats = scene.repeats * thin if scene.repeat > 0 else scene.repeats
    return replace(scene, repeats=repeats, outlines=(*scene.outlines, depth)).chosen(inside > 0)
