"""Columns laid out in a field of view, before any probe sees them. Owns `Scene` and lattices filled into grains.

Called by `simulation.generate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from stemzoo.errors import RecipeError
from stemzoo.simulation import recipe as recipes
from stemzoo.simulation.probe import wavelength
from stemzoo.simulation.recipe import Recipe, draw
from stemzoo.simulation.structure import Projection, atomic_number, project

MARGIN = 4.0
"""Columns up to this far outside the field [Å] are laid out too, for their tails and for drift."""


@dataclass(frozen=True)
class Scene:
    """Columns in a field of view.

    Args:
        yx: (n, 2) float64, Å from the centre of the field.
        weight: (n,) float64, scattering cross-section [Å²].
        species: (n,) int, index into `classes`; -1 for columns too faint to be truth.
        classes: names of the species.
        extent: side of the field [Å].
    """

    yx: np.ndarray
    weight: np.ndarray
    species: np.ndarray
    classes: tuple[str, ...]
    extent: float

    def chosen(self, keep: np.ndarray) -> Scene:
        """The scene with only the columns where `keep` is True."""
        return replace(self, yx=self.yx[keep], weight=self.weight[keep], species=self.species[keep])


def cross_section(z: float, exponent: float, energy_kev: float, inner_mrad: float = 80.0, outer_mrad: float = 200.0) -> float:
    """Return the cross-section of one atom for scattering on to the ADF detector [Å²].

    Source: Rutherford scattering in the small-angle form, σ = 4γ²Z²/a₀² (λ/2π)⁴ π (1/θ₁² − 1/θ₂²), with Z² replaced by
    79² (Z/79)^exponent to follow the measured Z^1.6–1.9 of annular detectors.
    """
    gamma = 1 + energy_kev / 510.999
    geometry = math.pi * ((inner_mrad * 1e-3) ** -2 - (outer_mrad * 1e-3) ** -2)
    return float(4 * gamma**2 * 79**2 * (z / 79) ** exponent / 0.529177**2 * (wavelength(energy_kev) / (2 * math.pi)) ** 4 * geometry)


def lay_out(recipe: Recipe, extent: float, rng: np.random.Generator) -> Scene:
    """Return the columns of one frame of `recipe` over a square field of side `extent` [Å], without defects."""
    structure = recipe.structure
    if structure is None:
        raise RecipeError(f"{recipe.material}: a mixture has no scene of its own; draw one of its parts")
    if structure.kind == "atoms":
        return _atoms(recipe, extent, rng)
    cell = _random_projection(recipe, rng) if structure.kind == "random_lattice" else _projection(recipe, rng)
    return _grains(cell, recipe, extent, rng)


@dataclass(frozen=True)
class _Cell:
    """One period of the projected lattice with weights [Å²]."""

    lattice: np.ndarray
    yx: np.ndarray
    weight: np.ndarray
    species: np.ndarray
    classes: tuple[str, ...]


def column_names(projection: Projection, mapping: dict[str, str]) -> list[str]:
    """The class of each column: the recipe's name for its heaviest element, or that element's symbol."""
    return [mapping.get(atoms[0][0], atoms[0][0]) for atoms in projection.atoms]


def _projection(recipe: Recipe, rng: np.random.Generator) -> _Cell:
    structure = recipe.structure
    assert structure is not None
    projection = project(recipes.crystal(structure, recipe.material), structure.zone_axis)
    exponent = draw(recipe.specimen.contrast_exponent, rng)
    energy = draw(recipe.optics.energy_kev, rng)
    repeats = 1.0 if recipe.specimen.thickness_nm is None else 10 * draw(recipe.specimen.thickness_nm, rng) / projection.repeat
    weight = np.array([sum(n * cross_section(atomic_number(e), exponent, energy) for e, n in atoms) for atoms in projection.atoms])
    # Electrons scattered high up are lost to the channelling further down: intensity levels off within some tens of nm.
    depth = 250.0 / projection.repeat
    weight = weight * depth * (1 - math.exp(-repeats / depth))
    names = column_names(projection, structure.species)
    visible = weight >= structure.visible_fraction * weight.max()
    classes = tuple(sorted({name for name, seen in zip(names, visible, strict=True) if seen}))
    species = np.array([classes.index(name) if seen else -1 for name, seen in zip(names, visible, strict=True)])
    return _Cell(projection.lattice, projection.yx, weight, species, classes)


def _random_projection(recipe: Recipe, rng: np.random.Generator) -> _Cell:
    """A lattice nobody has seen: random periods, one to four columns that keep their distance, random weights."""
    structure = recipe.structure
    assert structure is not None
    while True:
        a, b = draw(structure.spacing, rng), draw(structure.spacing, rng)
        gamma = math.radians(rng.choice([60.0, 90.0, 90.0, rng.uniform(55, 125)]))
        lattice = np.array([[0.0, a], [b * math.sin(gamma), b * math.cos(gamma)]])
        wanted = int(rng.integers(1, 5))
        least = rng.uniform(1.3, 2.2)
        placed = [np.zeros(2)]
        for _ in range(60):
            candidate = rng.random(2)
            shift = candidate - np.array(placed)
            if np.linalg.norm((shift - np.round(shift)) @ lattice, axis=1).min() > least:
                placed.append(candidate)
            if len(placed) == wanted:
                break
        if min(a, b) > least:
            break
    weight = 0.5 * np.exp(rng.uniform(math.log(0.15), 0.0, len(placed)))
    weight[0] = 0.5
    return _Cell(lattice, np.array(placed) @ lattice, weight, np.zeros(len(placed), dtype=np.int64), ("column",))


def _grains(cell: _Cell, recipe: Recipe, extent: float, rng: np.random.Generator) -> Scene:
    """Fill the field with one lattice, or with several turned against each other along straight boundaries."""
    frame = recipe.frame
    n_grains = int(rng.integers(1, frame.grains + 1))
    rotation = draw(frame.rotation_deg, rng)
    seeds = rng.uniform(-extent / 2, extent / 2, (n_grains, 2))
    yx, weight, species = [], [], []
    for grain in range(n_grains):
        mirrored = frame.mirror_grains and grain % 2 == 1
        turned = rotation if grain == 0 or mirrored else rotation + draw(frame.misorientation_deg, rng)
        positions, index = _fill(cell, turned, extent, rng.random(2), mirrored)
        distance = np.linalg.norm(positions[:, None] - seeds[None], axis=-1)
        mine = distance.argmin(axis=1) == grain
        yx.append(positions[mine])
        weight.append(cell.weight[index[mine]])
        species.append(cell.species[index[mine]])
    scene = Scene(np.concatenate(yx), np.concatenate(weight), np.concatenate(species), cell.classes, extent)
    return scene if n_grains == 1 else _without_collisions(scene, 0.62)


def _fill(cell: _Cell, rotation_deg: float, extent: float, origin: np.ndarray, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions [Å] and index within the cell of every column that falls into the field and its margin."""
    angle = math.radians(rotation_deg)
    # Rows are (y, x) with y down: this turns counter-clockwise as displayed.
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    lattice = cell.lattice * ([1, -1] if mirrored else [1, 1]) @ turn
    basis = cell.yx * ([1, -1] if mirrored else [1, 1]) @ turn
    reach = extent / 2 + MARGIN
    corners = np.array([[-reach, -reach], [-reach, reach], [reach, -reach], [reach, reach]]) @ np.linalg.inv(lattice)
    low, high = np.floor(corners.min(0)).astype(int) - 2, np.ceil(corners.max(0)).astype(int) + 2
    i, j = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
    nodes = (np.stack([i.ravel(), j.ravel()], 1) + origin) @ lattice
    positions = (nodes[:, None] + basis[None]).reshape(-1, 2)
    index = np.tile(np.arange(len(basis)), len(nodes))
    inside = (np.abs(positions) < reach).all(axis=1)
    return positions[inside], index[inside]


def _without_collisions(scene: Scene, fraction: float) -> Scene:
    """Drop one of each pair of columns nearer than `fraction` of the usual spacing, as at a grain boundary."""
    from scipy.spatial import cKDTree

    seen = scene.species >= 0
    distance, _ = cKDTree(scene.yx[seen]).query(scene.yx[seen], k=2)
    limit = fraction * float(np.median(distance[:, 1]))
    pairs = cKDTree(scene.yx).query_pairs(limit, output_type="ndarray")
    both = pairs[(scene.species[pairs] >= 0).all(axis=1)] if len(pairs) else pairs
    keep = np.ones(len(scene.yx), dtype=bool)
    keep[both[:, 1]] = False
    return scene.chosen(keep)


def _atoms(recipe: Recipe, extent: float, rng: np.random.Generator) -> Scene:
    """Single atoms at random, none nearer to another than the recipe's spacing."""
    structure = recipe.structure
    assert structure is not None
    if not structure.elements:
        raise RecipeError(f"{recipe.material}: kind 'atoms' wants `elements`, e.g. elements = ['Pt']")
    exponent, energy = draw(recipe.specimen.contrast_exponent, rng), draw(recipe.optics.energy_kev, rng)
    side = extent + 2 * MARGIN
    n = rng.poisson(draw(structure.density, rng, log=True) * side**2)
    candidates = rng.uniform(-side / 2, side / 2, (max(n, 1), 2))
    kept: list[np.ndarray] = []
    least = draw(structure.spacing, rng)
    for candidate in candidates:
        if not kept or np.linalg.norm(np.array(kept) - candidate, axis=1).min() > least:
            kept.append(candidate)
    which = rng.integers(0, len(structure.elements), len(kept))
    numbers = np.array([atomic_number(element) for element in structure.elements])
    weight = np.array([cross_section(z, exponent, energy) for z in numbers])[which]
    classes = tuple(sorted({structure.species.get(e, e) for e in structure.elements}))
    species = np.array([classes.index(structure.species.get(structure.elements[k], structure.elements[k])) for k in which])
    return Scene(np.array(kept), weight, species, classes, extent)
