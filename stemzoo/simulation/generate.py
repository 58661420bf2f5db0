"""Recipes to frames with exact truth, and to HDF5 datasets. Owns the order of things in one simulated frame.

Called by the CLI and `scripts/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.errors import RecipeError
from stemzoo.io.datasets import DatasetWriter, LabelledFrame
from stemzoo.simulation import defects, noise
from stemzoo.simulation.probe import Optics
from stemzoo.simulation.recipe import Recipe, draw, load, parts
from stemzoo.simulation.render import render
from stemzoo.simulation.scene import MARGIN, Scene, lay_out


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame and everything that is true of it.

    Args:
        image: (H, W) float32, as recorded [detector units].
        expected: (H, W) float32, electrons expected at each pixel, before row jitter and noise.
        yx: (n, 2) float64, px, visible columns inside the frame, sorted by y then x.
        species: (n,) int, index into `classes`.
        counts: (n,) float64, electrons expected in each column's peak.
        classes: names of the species.
        pixel_size: Å/px.
        dose: e⁻/Å², incident.
        rotation_free: facts of the draw for the dataset's attributes (material, zone axis, optics …).
    """

    image: np.ndarray
    expected: np.ndarray
    yx: np.ndarray
    species: np.ndarray
    counts: np.ndarray
    classes: tuple[str, ...]
    pixel_size: float
    dose: float
    facts: dict[str, float | str]


def simulate(recipe: Recipe, rng: np.random.Generator) -> SimulatedFrame:
    """Return one frame drawn from `recipe`; everything random comes from `rng`.

    Raises: RecipeError if the sampling is too coarse for the structure's shortest spacing.
    """
    if recipe.structure is None:
        raise RecipeError(f"{recipe.material}: a mixture has no frame of its own; draw from its parts")
    size = recipe.frame.size_px
    pixel_size = draw(recipe.frame.sampling, rng, log=True)
    extent = size * pixel_size
    scene = lay_out(recipe, extent, rng)
    for defect in recipe.defects:
        scene = defects.apply(defect, scene, rng)
    scene = _hide_faint(scene, recipe.structure.visible_fraction)
    specimen = recipe.specimen
    if displacement := draw(specimen.displacement, rng):
        scene = replace(scene, yx=scene.yx + rng.normal(0, displacement, scene.yx.shape))
    scene, cover = _outline(scene, recipe, size, rng)
    wedge = _wedge(scene.yx / extent, draw(specimen.thickness_gradient, rng), rng)
    scene = replace(scene, weight=scene.weight * wedge)
    _check_spacing(recipe, scene, pixel_size)

    yx_px = _scanned(scene.yx, recipe, extent, rng) / pixel_size + (size - 1) / 2
    optics = _optics(recipe, rng)
    thermal = np.full(len(scene.yx), draw(specimen.thermal, rng))
    lattice = render(yx_px, scene.weight, thermal, (size, size), pixel_size, optics)

    visible = scene.species >= 0
    counts_per_column = draw(recipe.dose.counts_per_column, rng, log=True)
    typical = float(scene.weight[visible].mean()) if visible.any() else 0.01
    dose = counts_per_column / typical
    surroundings = _background(recipe, cover, float(lattice.mean()) or typical / extent**2, pixel_size, optics, rng)
    expected = (lattice + surroundings) * dose * pixel_size**2

    inside = visible & (yx_px >= 0).all(axis=1) & (yx_px <= size - 1).all(axis=1)
    order = np.lexsort((yx_px[inside, 1], yx_px[inside, 0]))
    recording = _recording(recipe, pixel_size, rng)
    image = noise.record(expected, recording, rng)
    facts: dict[str, float | str] = {
        "material": recipe.material,
        "zone_axis": ",".join(str(i) for i in recipe.structure.zone_axis) if recipe.structure.kind == "crystal" else "",
        "counts_per_column": counts_per_column,
        **asdict(optics),
        "thermal": float(thermal[0]) if len(thermal) else 0.0,
        "readout": recording.readout,
        "row_jitter": recording.row_jitter_px * pixel_size,
        "gain": recording.gain,
        "offset": recording.offset,
        "hot_pixels": recording.hot_fraction,
    }
    return SimulatedFrame(
        image,
        expected.astype(np.float32),
        yx_px[inside][order],
        scene.species[inside][order],
        (scene.weight * dose)[inside][order],
        scene.classes,
        pixel_size,
        dose,
        facts,
    )


def draw_frames(
    path: str | Path, n_frames: int, seed: int | None = None, settings: Mapping[str, Any] | None = None
) -> Iterator[SimulatedFrame]:
    """Yield `n_frames` frames of the recipe at `path`, a mixture's parts by their weights; frame i hangs on `seed` and i alone.

    `settings` are laid over the recipe by dotted key, as in `recipe.load`.
    """
    chosen = parts(path, settings)
    weights = np.array([weight for _, weight in chosen])
    root = load(path, settings).seed if seed is None else seed
    # Stratified: each part gets its share of frames to within one, in a shuffled order.
    share = np.floor(np.cumsum(weights / weights.sum()) * n_frames + 0.5).astype(int)
    which = np.searchsorted(share, np.arange(n_frames), side="right")
    np.random.default_rng([root, 1]).shuffle(which)
    for index in range(n_frames):
        yield simulate(chosen[which[index]][0], np.random.default_rng([root, 0, index]))


def simulate_dataset(
    path: str | Path,
    n_frames: int,
    out: str | Path,
    seed: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write `n_frames` frames of the recipe at `path` to the HDF5 dataset `out`, whole or not at all.

    `settings` are laid over the recipe by dotted key, e.g. {"dose.counts_per_column": 300, "frame.sampling": 0.2}.

    Raises: RecipeError, StructureError from the recipe; OutputError if `out` cannot be written.
    """
    if n_frames < 1:
        raise RecipeError(f"{path}: {n_frames} frames asked for; wanted at least 1")
    recipe = load(path, settings)
    used = recipe.seed if seed is None else seed
    with DatasetWriter(out, recipe=recipe.model_dump_json(), material=recipe.material, seed=used) as writer:
        for index, frame in enumerate(draw_frames(path, n_frames, seed, settings)):
            writer.add(
                LabelledFrame(
                    image=frame.image,
                    columns=frame.yx,
                    species=frame.species,
                    classes=frame.classes,
                    pixel_size=frame.pixel_size,
                    expected=frame.expected,
                    counts=frame.counts,
                    attributes={**frame.facts, "dose": frame.dose, "recipe": recipe.material, "seed": f"{used}:{index}"},
                )
            )
            if progress is not None:
                progress(index + 1, n_frames)
    return Path(out)


def _hide_faint(scene: Scene, fraction: float, reach: float = 6.0) -> Scene:
    """Take from the truth what is fainter than `fraction` of the brightest column within `reach` [Å], as defects may have left it."""
    if not len(scene.yx):
        return scene
    _, index = cKDTree(scene.yx).query(scene.yx, k=min(16, len(scene.yx)), distance_upper_bound=reach)
    weight = np.append(scene.weight, 0.0)
    brightest = weight[index.reshape(len(scene.yx), -1)].max(axis=1)
    return replace(scene, species=np.where(scene.weight < fraction * brightest, -1, scene.species))


def _outline(scene: Scene, recipe: Recipe, size: int, rng: np.random.Generator) -> tuple[Scene, np.ndarray]:
    """Cut the specimen to a particle or an edge; returns the scene and the (H, W) share of each pixel that is covered."""
    roll = rng.random()
    if roll >= recipe.specimen.particle + recipe.specimen.vacuum:
        return scene, np.ones((size, size))
    extent = scene.extent
    harmonics = [(n, rng.normal(0, 0.12 / n), rng.uniform(0, 2 * np.pi)) for n in range(2, 7)]
    if roll < recipe.specimen.particle:
        centre, radius = rng.uniform(-0.15, 0.15, 2) * extent, rng.uniform(0.2, 0.45) * extent
    else:
        direction = rng.uniform(0, 2 * np.pi)
        radius = 1.5 * extent
        centre = (radius + rng.uniform(-0.3, 0.2) * extent) * np.array([math.cos(direction), math.sin(direction)])
        harmonics = [(12 * n, a / 12, phase) for n, a, phase in harmonics]

    def depth(yx: np.ndarray) -> np.ndarray:
        offset = yx - centre
        phi = np.arctan2(offset[..., 0], offset[..., 1])
        edge = radius * (1 + sum(a * np.cos(n * phi + p) for n, a, p in harmonics))
        return np.asarray(edge - np.linalg.norm(offset, axis=-1))

    axis = (np.arange(size) - (size - 1) / 2) * extent / size
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    taper = rng.uniform(2.0, 30.0)
    kept = depth(scene.yx) > 0
    thin = np.clip(depth(scene.yx) / taper, 0.15, 1.0)
    return replace(scene, weight=scene.weight * thin).chosen(kept), np.clip(depth(grid) / 2.0 + 0.5, 0, 1)


def _wedge(relative: np.ndarray, gradient: float, rng: np.random.Generator) -> np.ndarray:
    direction = rng.uniform(0, 2 * np.pi)
    return np.asarray(np.clip(1 + gradient * (relative @ np.array([math.cos(direction), math.sin(direction)])), 0.1, None))


def _scanned(yx: np.ndarray, recipe: Recipe, extent: float, rng: np.random.Generator) -> np.ndarray:
    """Where the columns appear when the specimen drifts and the scan is sheared; `yx` in Å from the centre."""
    time = yx[:, :1] / extent
    drift = draw(recipe.scan.drift, rng) * _unit(rng) + draw(recipe.scan.drift, rng) * _unit(rng) * time
    return np.asarray(yx + time * drift + np.concatenate([np.zeros_like(time), draw(recipe.scan.shear, rng) * yx[:, :1]], axis=1))


def _unit(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([math.cos(angle), math.sin(angle)])


def _optics(recipe: Recipe, rng: np.random.Generator) -> Optics:
    table = recipe.optics
    return Optics(
        energy_kev=draw(table.energy_kev, rng),
        convergence_mrad=draw(table.convergence_mrad, rng),
        defocus_nm=draw(table.defocus_nm, rng),
        astigmatism_nm=draw(table.astigmatism_nm, rng),
        astigmatism_deg=rng.uniform(0, 180),
        coma_nm=draw(table.coma_nm, rng),
        coma_deg=rng.uniform(0, 360),
        spherical_um=draw(table.spherical_um, rng),
        source_fwhm=draw(table.source_fwhm, rng),
    )


def _background(recipe: Recipe, cover: np.ndarray, mean: float, pixel_size: float, optics: Optics, rng: np.random.Generator) -> np.ndarray:
    """Scattering that belongs to no column, as a share of the beam: flat, slowly varying and amorphous; never negative."""
    specimen, shape = recipe.specimen, cover.shape
    flat = draw(specimen.background, rng)
    slow = draw(specimen.contamination, rng) * noise.smooth_field(shape, 0.7 * shape[0], rng)
    speckle = draw(specimen.carbon, rng) * noise.amorphous(shape, rng.uniform(0.4, 0.7) / pixel_size, rng)
    return np.asarray(mean * np.maximum(cover * (flat + slow + speckle), 0.002))


def _recording(recipe: Recipe, pixel_size: float, rng: np.random.Generator) -> noise.Recording:
    detector = recipe.detector
    return noise.Recording(
        row_jitter_px=draw(recipe.scan.row_jitter, rng) / pixel_size,
        gain=draw(detector.gain, rng),
        offset=draw(detector.offset, rng),
        readout=draw(detector.readout, rng),
        hot_fraction=draw(detector.hot_pixels, rng),
    )


def _check_spacing(recipe: Recipe, scene: Scene, pixel_size: float) -> None:
    seen = scene.yx[(scene.species >= 0) & (np.abs(scene.yx) < scene.extent / 2 + MARGIN).all(axis=1)]
    if len(seen) < 2:
        return
    nearest = float(np.median(cKDTree(seen).query(seen, k=2)[0][:, 1]))
    if nearest < 3 * pixel_size:
        raise RecipeError(
            f"{recipe.material}: columns lie {nearest:.2f} Å apart, but a pixel is {pixel_size:.2f} Å wide; "
            f"set frame.sampling below {nearest / 3:.2f} Å/px"
        )
