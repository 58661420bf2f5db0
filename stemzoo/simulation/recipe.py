"""A recipe: what a dataset shows and how it was imaged. Owns the schema; files are read by `simulation.loading`.

Wherever a recipe takes a number it also takes a pair `[low, high]`, from which each frame draws anew: uniformly, or uniformly in the
logarithm for dose and sampling."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from stemzoo.errors import RecipeError
from stemzoo.schema import Strict
from stemzoo.simulation.cif import read_cif
from stemzoo.simulation.crystal import CENTRINGS, Crystal, cell_vectors

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

    element: str = Field(description="chemical symbol")
    xyz: tuple[float, float, float] = Field(description="fractions of the cell")
    occupancy: float = Field(1.0, gt=0, le=1, description="share of the cells where an atom is there")
    thermal: float | None = Field(None, gt=0, lt=1, description="rms thermal displacement along an axis [Å]; None: the specimen's")


class Structure(Strict):
    """What the specimen is made of, and from where it is seen.

    `kind = "crystal"` takes a CIF or a cell with sites; `"random_lattice"` draws another two-dimensional lattice for each frame;
    `"atoms"` scatters single atoms.
    """

    kind: Literal["crystal", "random_lattice", "atoms"] = Field(
        "crystal", description="a CIF or a cell with sites; another two-dimensional lattice for each frame; single atoms scattered"
    )
    cif: str | None = Field(None, description="file with cell, space group and sites; relative to the recipe")
    cell: tuple[float, ...] | None = Field(None, description="a, b, c [Å] and optionally alpha, beta, gamma [degrees]")
    centring: Literal["P", "I", "F", "A", "B", "C"] = Field("P", description="of the Bravais lattice; repeats the sites")
    sites: tuple[Site, ...] = Field((), description="atoms of the cell, a table each")
    zone_axis: tuple[int, int, int] = Field((0, 0, 1), description="direction of the beam, [u, v, w]")
    species: dict[str, str] = Field(default_factory=dict, description="heaviest element of a column -> name of its class")
    visible_fraction: float = Field(0.1, ge=0, lt=1, description="columns fainter than this share of the brightest nearby are no truth")
    elements: tuple[str, ...] = Field((), description="of single atoms, for kind 'atoms'")
    spacing: Number = Field(4.0, description="closest pair of single atoms [Å]; range of the lattice period for a random lattice")
    density: Number = Field(0.01, description="single atoms per Å²")


class Frame(Strict):
    """Field of view and sampling."""

    size_px: int = Field(384, ge=32, description="side of the square frame")
    sampling: Number = Field((0.15, 0.3), description="Å/px")
    rotation_deg: Number = Field((0.0, 360.0), description="turn of the crystal in the scan, counter-clockwise as displayed")
    grains: int = Field(1, ge=1, le=4, description="most grains in a frame")
    misorientation_deg: Number = Field((2.0, 45.0), description="turn of a grain against the first")
    mirror_grains: bool = Field(False, description="every second grain is the mirror image of the first, not turned")


class OpticsTable(Strict):
    """As `probe.Optics`, with ranges; directions of the aberrations are drawn at random."""

    energy_kev: Number = Field(200.0, description="of the electrons")
    convergence_mrad: Number = Field((20.0, 30.0), description="half-angle of the aperture")
    defocus_nm: Number = Field((-4.0, 4.0), description="underfocus is positive; of a focal series, that in its middle")
    astigmatism_nm: Number = Field((0.0, 2.0), description="two-fold")
    coma_nm: Number = Field((0.0, 60.0), description="axial")
    spherical_um: Number = Field(0.0, description="third order")
    source_fwhm: Number = Field((0.6, 1.0), description="width of the source's image [Å]")


class Specimen(Strict):
    """Thickness, contrast and what lies under and around the columns."""

    thickness_nm: Number | Literal["monolayer"] = Field((5.0, 40.0), description='"monolayer": one repeat along the beam, nothing above it')
    thickness_gradient: Number = Field((0.0, 0.3), description="a wedge: relative change across the frame, in a random direction")
    contrast_exponent: Number = Field((1.6, 2.0), description="intensity goes as Z to this power")
    thermal: Number = Field((0.06, 0.1), description="rms thermal displacement along an axis [Å] of sites that name none")
    roughness: Number = Field((0.0, 0.05), description="rms variation of a column's thickness from column to column, relative")
    displacement: Number = Field((0.0, 0.06), description="static random displacement of columns, rms [Å]")
    background: Number = Field((0.05, 0.4), description="flat background over the mean intensity of the lattice")
    carbon: Number = Field(
        (0.0, 0.15), description="rms speckle of amorphous material over the mean intensity; the background is at least 2.5 times this"
    )
    grain: Number = Field((0.4, 0.7), description="sigma of that speckle's grain [Å]; a wide probe blurs the film as it blurs columns")
    contamination: Number = Field((0.0, 0.3), description="slow variation of the background over the mean intensity")
    vacuum: float = Field(0.0, ge=0, le=1, description="probability that a frame shows the specimen's edge")
    particle: float = Field(0.0, ge=0, le=1, description="probability that only a particle lies in the field")


class Dose(Strict):
    """How many electrons the columns send to the detector."""

    counts_per_column: Number = Field((50.0, 3000.0), description="mean electrons detected in a visible column's peak")


class Scan(Strict):
    """What the scan does to the frame. All but the rows' jitter moves the truth with the columns."""

    row_jitter: Number = Field((0.0, 0.05), description="rms shift of a row [Å], independent from row to row")
    flicker: Number = Field(0.0, description="rms relative change of the beam's current from row to row, as cold emitters show")
    drift: Number = Field((0.0, 1.0), description="drift over the frame [Å], steady and changing")
    shear: Number = Field((-0.01, 0.01), description="shear, relative")
    flyback: Number = Field((0.0, 0.0), description="stretch of the rows' beginnings, where the beam still settles [Å]")
    flyback_share: Number = Field((0.03, 0.1), description="share of a row in which that decays by e")
    hum: Number = Field((0.0, 0.0), description="amplitude of a slow sideways wave, as of the mains [Å]")
    hum_rows: Number = Field((24.0, 120.0), description="rows a period of that wave")
    jumps: float = Field(0.0, ge=0, le=5, description="mean number of sudden sideways steps a frame")
    jump: Number = Field((0.3, 1.5), description="size of such a step [Å]")
    line_skips: float = Field(0.0, ge=0, le=5, description="mean number of places a frame where rows are missing")


class Detector(Strict):
    """What the detector does to the counts, and what was done to the image before it was saved."""

    gain: Number = Field(1.0, description="detector units an electron")
    offset: Number = Field(0.0, description="detector units without an electron")
    readout: Number = Field(0.0, description="rms readout noise [electrons]")
    hot_pixels: Number = Field(0.0, description="fraction of pixels")
    saturation: Number | None = Field(None, description="share of the brightest expected intensity at which the detector clips")
    smoothing_px: Number = Field(0.0, description="sigma of a low-pass over the recorded image, as after averaging or filtering")


class Series(Strict):
    """Several frames of one scene: a focal series, a time series, or both."""

    frames: int = Field(1, ge=1, le=256, description="frames of one scene; 1: single frames")
    defocus_step_nm: Number = Field(0.0, description="change of defocus from frame to frame")
    drift: Number = Field(0.0, description="rms shift of the specimen from frame to frame, along an axis [Å]")
    hop: float = Field(0.0, ge=0, le=1, description="chance a frame that a point defect moves to a neighbouring column")
    wander: Number = Field(0.0, description="rms step of single atoms from frame to frame, along an axis [Å]")


class Defect(Strict, extra="allow"):
    """A defect by name; its other keys are the arguments of that function in `simulation.defects`, checked there."""

    kind: str = Field(description="name of the defect, as below")
    probability: float = Field(1.0, ge=0, le=1, description="share of the frames that have it")


class Part(Strict):
    """One recipe in a mixture."""

    recipe: str = Field(description="name of one that comes with stemzoo, or a file")
    weight: float = Field(1.0, gt=0, description="its share of the frames, relative")


class Recipe(Strict):
    """Everything that makes a dataset, or a mixture of other recipes."""

    schema_version: int = Field(SCHEMA, ge=1, le=SCHEMA, description="of recipes")
    material: str = Field(description="what the frames are called in datasets and on cards")
    title: str = Field("", description="one line for people")
    source: str = Field("", description="where the structure's numbers come from")
    seed: int = Field(0, description="of everything drawn")
    structure: Structure | None = None
    phases: dict[str, Structure] = Field(default_factory=dict, description="other crystals by name, for interfaces")
    frame: Frame = Frame()
    optics: OpticsTable = OpticsTable()
    specimen: Specimen = Specimen()
    dose: Dose = Dose()
    scan: Scan = Scan()
    detector: Detector = Detector()
    series: Series = Series()
    defects: tuple[Defect, ...] = ()
    mixture: tuple[Part, ...] = ()


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
        np.array([np.nan if site.thermal is None else site.thermal for site in structure.sites for _ in shifts]),
    )
