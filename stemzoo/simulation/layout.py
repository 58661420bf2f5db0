"""A recipe's specimen laid out over the field, without defects: crystals, lattices nobody has seen, single atoms.

Called by `simulation.frame`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.errors import RecipeError
from stemzoo.simulation.intensity import Contrast
from stemzoo.simulation.lattice import Cell, Placed, rotation
from stemzoo.simulation.projection import Projection, project
from stemzoo.simulation.recipe import Recipe, Structure, crystal, draw
from stemzoo.simulation.scene import FREE, SLACK, Scene

_STAND_IN = "Sn"
"""The element of which a random lattice is made, more or less of it in each column."""
_STAND_IN_REPEAT = 4.0
_TYPICAL_EXPONENT = 1.7
"""At this contrast a structure's columns are found visible or not, so that every frame of a recipe knows the same species."""


def lay_out(recipe: Recipe, extent: float, rng: np.random.Generator) -> Scene:
    """Return the columns of one frame of `recipe` over a square field of side `extent` [Å] and its surroundings, without defects."""
    structure = recipe.structure
    if structure is None:
        raise RecipeError(f"{recipe.material}: a mixture has no scene of its own; draw one of its parts")
    contrast = Contrast(draw(recipe.specimen.contrast_exponent, rng), draw(recipe.optics.energy_kev, rng))
    thermal = draw(recipe.specimen.thermal, rng)
    if structure.kind == "atoms":
        return _atoms(recipe, structure, extent, contrast, thermal, rng)
    phases: dict[str, Cell] = {}
    elements: tuple[str, ...] = (_STAND_IN,)
    classes: tuple[str, ...] = ("column",)
    if structure.kind == "random_lattice":
        own = _random_cell(structure, thermal, rng)
    else:
        seen = {"": (structure, _projected(structure, recipe.material))}
        seen |= {name: (phase, _projected(phase, f"{recipe.material}: phase {name}")) for name, phase in recipe.phases.items()}
        elements, classes, cells = _cells(seen, contrast, thermal, monolayer=isinstance(recipe.specimen.thickness_nm, str))
        own, phases = cells.pop(""), cells
    thickness = recipe.specimen.thickness_nm
    repeats = 1.0 if isinstance(thickness, str) else 10 * draw(thickness, rng) / own.repeat
    turn = rotation(math.radians(draw(recipe.frame.rotation_deg, rng)))
    placed = Placed(own, turn, rng.random(2) @ own.lattice @ turn)
    yx, index = placed.fill(extent / 2 + SLACK)
    return Scene(
        yx=yx,
        atoms=own.atoms[index],
        repeats=np.full(len(yx), repeats),
        species=own.species[index],
        thermal=own.thermal[index],
        elements=elements,
        classes=classes,
        extent=extent,
        repeat=own.repeat,
        contrast=contrast,
        crystal=placed,
        phases={name: Placed(cell, turn, placed.origin) for name, cell in phases.items()},
    )


def _projected(structure: Structure, name: str) -> Projection:
    return project(crystal(structure, name), structure.zone_axis)


def _cells(
    seen: Mapping[str, tuple[Structure, Projection]], contrast: Contrast, thermal: float, *, monolayer: bool
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, Cell]]:
    """Return elements, classes and the cells by name, all with the same numbering of both.

    Columns that name no thermal displacement get `thermal` [Å].
    """
    elements = tuple(sorted({element for _, projection in seen.values() for atoms in projection.atoms for element, _ in atoms}))
    facts = {}
    for name, (structure, projection) in seen.items():
        counts = np.array([[dict(atoms).get(element, 0.0) for element in elements] for atoms in projection.atoms])
        weight = replace(contrast, exponent=_TYPICAL_EXPONENT).weights(counts, elements, np.ones(len(counts)), 0.0)
        visible = weight >= structure.visible_fraction * weight.max()
        facts[name] = (counts, visible, column_names(projection, structure.species))
    classes = tuple(sorted({name for _, visible, names in facts.values() for name, is_seen in zip(names, visible, strict=True) if is_seen}))
    cells = {}
    for name, (_, projection) in seen.items():
        counts, visible, names = facts[name]
        species = np.array([classes.index(n) if is_seen else -1 for n, is_seen in zip(names, visible, strict=True)])
        width = np.hypot(np.where(np.isnan(projection.thermal), thermal, projection.thermal), projection.static)
        repeat = 0.0 if monolayer else projection.repeat
        cells[name] = Cell(projection.lattice, projection.yx, counts, species, width, repeat, projection.axes)
    return elements, classes, cells


def column_names(projection: Projection, mapping: Mapping[str, str]) -> list[str]:
    """The class of each column: the recipe's name for its heaviest element, or that element's symbol."""
    return [mapping.get(atoms[0][0], atoms[0][0]) for atoms in projection.atoms]


def _random_cell(structure: Structure, thermal: float, rng: np.random.Generator) -> Cell:
    """A lattice nobody has seen: random periods, one to four columns that keep their distance, random contents."""
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
    atoms = np.exp(rng.uniform(math.log(0.15), 0.0, (len(placed), 1)))
    atoms[0] = 1.0
    none = np.zeros(len(placed), dtype=np.int64)
    axes = np.concatenate([lattice, np.zeros((1, 2))])
    return Cell(lattice, np.array(placed) @ lattice, atoms, none, np.full(len(placed), thermal), _STAND_IN_REPEAT, axes)


def _atoms(recipe: Recipe, structure: Structure, extent: float, contrast: Contrast, thermal: float, rng: np.random.Generator) -> Scene:
    """Single atoms at random, none nearer to another than the recipe's spacing."""
    if not structure.elements:
        raise RecipeError(f"{recipe.material}: kind 'atoms' wants `elements`, e.g. elements = ['Pt']")
    side = extent + 2 * SLACK
    n = rng.poisson(draw(structure.density, rng, log=True) * side**2)
    candidates = rng.uniform(-side / 2, side / 2, (max(n, 1), 2))
    pairs = cKDTree(candidates).query_pairs(draw(structure.spacing, rng), output_type="ndarray")
    keep = np.ones(len(candidates), dtype=bool)
    keep[pairs.max(axis=1)] = False
    yx = candidates[keep]
    which = rng.integers(0, len(structure.elements), len(yx))
    classes = tuple(sorted({structure.species.get(e, e) for e in structure.elements}))
    mapped = np.array([classes.index(structure.species.get(e, e)) for e in structure.elements])
    atoms = np.eye(len(structure.elements))[which]
    return Scene(
        yx=yx,
        atoms=atoms,
        repeats=np.ones(len(yx)),
        species=mapped[which],
        thermal=np.full(len(yx), thermal),
        elements=structure.elements,
        classes=classes,
        extent=extent,
        contrast=contrast,
        home=np.full(len(yx), FREE),
    )
