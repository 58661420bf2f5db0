"""A recipe: one TOML file that says what a dataset shows and how it was imaged. Owns its schema.

Called by `simulation.generate` and the CLI.

Wherever a recipe takes a number it also takes a pair `[low, high]`, from which each frame draws anew: uniformly, or uniformly in the
logarithm for dose and sampling. A recipe may say `extends = "other"`: its tables are laid over the other's, key by key.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field

from stemzoo.errors import RecipeError
from stemzoo.schema import Strict, validate
from stemzoo.simulation.structure import CENTRINGS, Crystal, cell_vectors, read_cif

SCHEMA = 1


def _ordered(value: float | tuple[float, float]) -> float | tuple[float, float]:
    if isinstance(value, tuple) and value[0] > value[1]:
        raise ValueError(f"a range runs from low to high, not {list(value)}")
    return value


Number = Annotated[float | tuple[float, float], AfterValidator(_ordered)]
"""A fixed number, or a range from which each frame draws."""


def draw(value: float | tuple[float, float], rng: np.random.Generator, *, log: bool = False) -> float:
    """Return `value`, or a draw from it if it is a range; uniform in the logarithm if `log`."""
    if not isinstance(value, tuple):
        return float(value)
    if log:
        return float(math.exp(rng.uniform(math.log(value[0]), math.log(value[1]))))
    return float(rng.uniform(*value))


class Site(Strict):
    """An atom of the cell."""

    element: str
    xyz: tuple[float, float, float]
    occupancy: float = Field(1.0, gt=0, le=1)


class Structure(Strict):
    """What the specimen is made of, and from where it is seen.

    `kind = "crystal"` takes a CIF or a cell with sites; `"random_lattice"` draws another two-dimensional lattice for each frame;
    `"atoms"` scatters single atoms.
    """

    kind: Literal["crystal", "random_lattice", "atoms"] = "crystal"
    cif: str | None = None
    cell: tuple[float, ...] | None = Field(None, description="a, b, c [Å] and optionally alpha, beta, gamma [degrees]")
    centring: Literal["P", "I", "F", "A", "B", "C"] = "P"
    sites: tuple[Site, ...] = ()
    zone_axis: tuple[int, int, int] = (0, 0, 1)
    species: dict[str, str] = Field(default_factory=dict, description="heaviest element of a column -> name of its class")
    visible_fraction: float = Field(0.1, ge=0, lt=1, description="columns fainter than this share of the brightest are no truth")
    elements: tuple[str, ...] = Field((), description="for kind 'atoms'")
    spacing: Number = Field(4.0, description="closest pair of single atoms [Å]; range of the lattice period for a random lattice")
    density: Number = Field(0.01, description="single atoms per Å²")


class Frame(Strict):
    """Field of view and sampling."""

    size_px: int = Field(384, ge=32)
    sampling: Number = Field((0.15, 0.3), description="Å/px")
    rotation_deg: Number = (0.0, 360.0)
    grains: int = Field(1, ge=1, le=4)
    misorientation_deg: Number = (2.0, 45.0)
    mirror_grains: bool = False


class OpticsTable(Strict):
    """As `probe.Optics`, with ranges; directions of the aberrations are drawn at random."""

    energy_kev: Number = 200.0
    convergence_mrad: Number = (20.0, 30.0)
    defocus_nm: Number = (-4.0, 4.0)
    astigmatism_nm: Number = (0.0, 2.0)
    coma_nm: Number = (0.0, 60.0)
    spherical_um: Number = 0.0
    source_fwhm: Number = (0.6, 1.0)


class Specimen(Strict):
    """Thickness, contrast and what lies under and around the columns."""

    thickness_nm: Number | None = Field((5.0, 40.0), description="None: one repeat along the beam, as in a monolayer")
    thickness_gradient: Number = Field((0.0, 0.3), description="relative change across the frame")
    contrast_exponent: Number = Field((1.6, 1.9), description="intensity goes as Z to this power")
    thermal: Number = Field((0.06, 0.1), description="rms thermal displacement [Å]")
    displacement: Number = Field((0.0, 0.06), description="static random displacement of columns, rms [Å]")
    background: Number = Field((0.05, 0.4), description="flat background over the mean intensity of the lattice")
    carbon: Number = Field((0.0, 0.15), description="contrast of amorphous material over the mean intensity")
    contamination: Number = Field((0.0, 0.3), description="slow variation of the background over the mean intensity")
    vacuum: float = Field(0.0, ge=0, le=1, description="probability that a frame shows the specimen's edge")
    particle: float = Field(0.0, ge=0, le=1, description="probability that only a particle lies in the field")


class Dose(Strict):
    """How many electrons the columns send to the detector."""

    counts_per_column: Number = Field((50.0, 3000.0), description="mean electrons detected in a visible column's peak")


class Scan(Strict):
    """What the scan does to the frame."""

    row_jitter: Number = Field((0.0, 0.05), description="rms shift of a row [Å]")
    drift: Number = Field((0.0, 1.0), description="drift over the frame [Å]")
    shear: Number = Field((-0.01, 0.01), description="shear and flyback, relative")


class Detector(Strict):
    """What the detector does to the counts."""

    gain: Number = 1.0
    offset: Number = 0.0
    readout: Number = Field(0.0, description="rms readout noise [electrons]")
    hot_pixels: Number = Field(0.0, description="fraction of pixels")


class Defect(Strict, extra="allow"):
    """A defect by name; its other keys are that function's arguments, checked in `simulation.defects`."""

    kind: str
    probability: float = Field(1.0, ge=0, le=1)


class Part(Strict):
    """One recipe in a mixture."""

    recipe: str
    weight: float = Field(1.0, gt=0)


class Recipe(Strict):
    """Everything that makes a dataset, or a mixture of other recipes."""

    schema_version: int = Field(SCHEMA, ge=1, le=SCHEMA)
    material: str
    title: str = ""
    source: str = Field("", description="where the structure's numbers come from")
    seed: int = 0
    structure: Structure | None = None
    frame: Frame = Frame()
    optics: OpticsTable = OpticsTable()
    specimen: Specimen = Specimen()
    dose: Dose = Dose()
    scan: Scan = Scan()
    detector: Detector = Detector()
    defects: tuple[Defect, ...] = ()
    mixture: tuple[Part, ...] = ()


def load(path: str | Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe in a TOML file, with what it extends laid beneath it and `settings` laid over it.

    Args:
        settings: values by dotted key, e.g. {"dose.counts_per_column": 300}.
    Raises: RecipeError for a missing file, bad TOML, an unknown or wrong key (the nearest right one is named), or a circle of `extends`.
    """
    path = Path(path)
    tables = _tables(path, ())
    for key, value in (settings or {}).items():
        tables = _overlay(tables, _nested(key.split("."), value))
    recipe = validate(Recipe, tables, str(path), RecipeError)
    if (recipe.structure is None) == (not recipe.mixture):
        raise RecipeError(f"{path}: wanted either a [structure] or [[mixture]] parts, and got {'both' if recipe.mixture else 'neither'}")
    if recipe.structure is not None and recipe.structure.cif is not None:
        cif = path.parent / recipe.structure.cif
        recipe = recipe.model_copy(update={"structure": recipe.structure.model_copy(update={"cif": str(cif)})})
    return recipe


def parts(path: str | Path, settings: Mapping[str, Any] | None = None) -> list[tuple[Recipe, float]]:
    """Return the recipes that frames are drawn from, with their weights; the recipe itself unless it is a mixture.

    What a mixture's own `[frame]` says holds for all of its parts, and so do `settings`.
    """
    recipe = load(path, settings)
    if not recipe.mixture:
        return [(recipe, 1.0)]
    common = {key: getattr(recipe.frame, key) for key in recipe.frame.model_fields_set}
    found = []
    for part in recipe.mixture:
        for inner, weight in parts(beside(path, part.recipe), settings):
            framed = inner.model_copy(update={"frame": inner.frame.model_copy(update=common)})
            found.append((framed, weight * part.weight))
    return found


def beside(path: str | Path, name: str) -> Path:
    """The recipe `name` in the folder of the recipe `path`."""
    return Path(path).parent / (name if name.endswith(".toml") else f"{name}.toml")


def _tables(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise RecipeError(f"{path}: `extends` goes round in a circle: {' -> '.join(p.stem for p in (*seen, path))}")
    if not path.is_file():
        raise RecipeError(
            f"{path}: no such recipe; its folder holds {', '.join(sorted(p.stem for p in path.parent.glob('*.toml'))) or 'none'}"
        )
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise RecipeError(f"{path}: not TOML: {failure}") from None
    base = tables.pop("extends", None)
    return tables if base is None else _overlay(_tables(beside(path, str(base)), (*seen, path)), tables)


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        merged[key] = _overlay(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return merged


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if len(keys) > 1 else value}


def crystal(structure: Structure, name: str) -> Crystal:
    """Return the crystal that a `[structure]` spells out or points to.

    Raises: RecipeError if there is neither a CIF nor a cell with sites; StructureError from the crystal itself.
    """
    if structure.cif is not None:
        return read_cif(structure.cif)
    if structure.cell is None or not structure.sites or len(structure.cell) not in (3, 6):
        raise RecipeError(f"{name}: [structure] wants `cif`, or `cell` (3 or 6 numbers) with `sites`")
    shifts: list[tuple[float, float, float]] = CENTRINGS[structure.centring]
    positions = [(np.array(site.xyz) + shift) % 1.0 for site in structure.sites for shift in shifts]
    return Crystal(
        cell_vectors(*structure.cell),
        tuple(site.element for site in structure.sites for _ in shifts),
        np.array(positions, dtype=np.float64),
        np.array([site.occupancy for site in structure.sites for _ in shifts]),
        name,
    )
