"""One recipe to frames with exact truth. Owns the order of things: specimen, defects, optics, scan, dose, detector.

Called by `simulation.generate`, tests and scripts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.errors import RecipeError
from stemzoo.simulation import defects, noise
from stemzoo.simulation.background import surroundings
from stemzoo.simulation.interpolate import bilinear
from stemzoo.simulation.layout import lay_out
from stemzoo.simulation.motion import advance
from stemzoo.simulation.probe import Optics
from stemzoo.simulation.recipe import Defect, Recipe, draw
from stemzoo.simulation.render import render, render_haze
from stemzoo.simulation.scan import draw_scan
from stemzoo.simulation.scene import MARGIN, SLACK, Scene

_FAINT_REACH = 6.0
_FAINT_AMONG = 9
"""A column is held against its brightest neighbour within this distance [Å], and among so many."""

_COARSE = 4
"""Outlines are smooth: they are worked out at every so many pixels."""


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
        facts: what was drawn, for the dataset's attributes: material, zone axis, optics, rotation, thickness; in a series,
            `series_frame` counts from 0.
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
    """Return one frame drawn from `recipe`, the first of its series; everything random comes from `rng`.

    Raises: RecipeError if the sampling is too coarse for the structure's shortest spacing.
    """
    return next(simulate_series(recipe, rng))


def simulate_series(recipe: Recipe, rng: np.random.Generator) -> Iterator[SimulatedFrame]:
    """Yield the frames of one scene drawn from `recipe`: as many as its `[series]` says, one by default.

    From frame to frame defocus and drift go on, point defects hop and free atoms wander; scan and noise are drawn anew.
    Raises: as `simulate`.
    """
    if recipe.structure is None:
        raise RecipeError(f"{recipe.material}: a mixture has no frame of its own; draw from its parts")
    pixel_size = draw(recipe.frame.sampling, rng, log=True)
    scene = specimen(recipe, recipe.frame.size_px * pixel_size, rng)
    _check_spacing(recipe, scene, pixel_size)
    optics = _optics(recipe, rng)
    counts_per_column = draw(recipe.dose.counts_per_column, rng, log=True)
    dose = counts_per_column / _typical(scene)
    series = recipe.series
    defocus_step = draw(series.defocus_step_nm, rng)
    place, ground = np.zeros(2), int(rng.integers(2**62))
    for index in range(series.frames):
        if index:
            place = np.clip(place + rng.normal(0, draw(series.drift, rng), 2), MARGIN - SLACK, SLACK - MARGIN)
            scene = advance(scene, rng, hop=series.hop, wander=draw(series.wander, rng))
        focused = replace(optics, defocus_nm=optics.defocus_nm + (index - (series.frames - 1) / 2) * defocus_step)
        facts: dict[str, float | str] = {
            "material": recipe.material,
            "zone_axis": ",".join(str(i) for i in recipe.structure.zone_axis) if recipe.structure.kind == "crystal" else "",
            "counts_per_column": counts_per_column,
            **_lie(scene),
            **asdict(focused),
            **({"series_frame": index, "series_frames": series.frames} if series.frames > 1 else {}),
        }
        exposure = _Exposure(focused, pixel_size, dose, place, ground)
        yield _exposed(recipe, replace(scene, yx=scene.yx + place), exposure, facts, rng)


def specimen(recipe: Recipe, extent: float, rng: np.random.Generator) -> Scene:
    """Return the columns of one scene over a field of side `extent` [Å], with its defects, borders, disorder and thickness."""
    assert recipe.structure is not None
    scene = lay_out(recipe, extent, rng)
    grains, border = list(_grains(recipe, rng)), list(_border(recipe, rng))
    for defect in (*grains, *recipe.defects, *border):
        scene = defects.apply(defect, scene, rng)
    if displacement := draw(recipe.specimen.displacement, rng):
        scene = replace(scene, yx=scene.yx + rng.normal(0, displacement, scene.yx.shape))
    wedge = _wedge(scene.yx / extent, draw(recipe.specimen.thickness_gradient, rng), rng)
    if scene.repeat > 0:
        rough = 1 + draw(recipe.specimen.roughness, rng) * rng.standard_normal(len(scene.yx))
        return replace(scene, repeats=np.maximum(np.round(scene.repeats * wedge * np.maximum(rough, 0)), 1.0))
    return replace(scene, repeats=scene.repeats * wedge) if scene.crystal is not None else scene


def _grains(recipe: Recipe, rng: np.random.Generator) -> Iterator[Defect]:
    """The grain boundary that `[frame]` asks for, as a defect."""
    frame = recipe.frame
    if frame.grains > 1 and (number := int(rng.integers(1, frame.grains + 1))) > 1:
        yield Defect.model_validate(
            {"kind": "grain_boundary", "number": number, "misorientation_deg": frame.misorientation_deg, "mirrored": frame.mirror_grains}
        )


def _border(recipe: Recipe, rng: np.random.Generator) -> Iterator[Defect]:
    """Where the specimen ends, if `[specimen]` asks for it, as a defect: the last, since others lay columns out anew."""
    roll = rng.random()
    if roll < recipe.specimen.particle:
        yield Defect.model_validate({"kind": "particle", "radius": (0.2, 0.45), "taper": (2.0, 30.0)})
    elif roll < recipe.specimen.particle + recipe.specimen.vacuum:
        yield Defect.model_validate({"kind": "edge", "taper": (2.0, 30.0)})


@dataclass(frozen=True)
class _Exposure:
    """What one frame of a series does not share with the next, and what it does.

    Args: optics; pixel_size [Å/px]; dose [e⁻/Å²]; place: (2,) where the specimen has drifted to [Å]; ground: seed of what it lies on.
    """

    optics: Optics
    pixel_size: float
    dose: float
    place: np.ndarray
    ground: int


def _exposed(recipe: Recipe, scene: Scene, exposure: _Exposure, facts: dict[str, float | str], rng: np.random.Generator) -> SimulatedFrame:
    """One scan over the scene, which already lies where it has drifted to."""
    assert recipe.structure is not None
    pixel_size, dose = exposure.pixel_size, exposure.dose
    size, extent = recipe.frame.size_px, scene.extent
    scan = draw_scan(recipe.scan, size, rng)
    scene = replace(scene, yx=scan.seen(scene.yx, extent))
    reach = extent / 2 + MARGIN
    shape = (size + scan.n_missing, size)
    haze = render_haze(scene.yx / pixel_size + (size - 1) / 2, scene.haze, shape, pixel_size) if scene.repeat > 0 else np.float32(0)
    low, high = np.array([-reach, -reach]), np.array([reach + scan.n_missing * pixel_size, reach])
    scene = scene.chosen(np.all((scene.yx > low) & (scene.yx < high), axis=1))
    scene = _hide_faint(scene, recipe.structure.visible_fraction)
    weight, width = scene.weight, scene.width
    yx_px = scene.yx / pixel_size + (size - 1) / 2
    row_shift = scan.row_shift(np.arange(shape[0]), shape[0], pixel_size) if scan.shifts_rows else None
    lattice = render(yx_px, weight, width, shape, pixel_size, exposure.optics, row_shift_px=row_shift)
    if row_shift is not None:
        yx_px[:, 1] += row_shift[np.clip(np.rint(yx_px[:, 0]).astype(np.intp), 0, shape[0] - 1)]
    mean = float(lattice.mean()) or _typical(scene) / extent**2
    depths = _depths(scene, shape, exposure)
    ground = np.random.default_rng(exposure.ground)
    beside = surroundings(recipe.specimen, depths, shape, mean, pixel_size, ground, exposure.place / pixel_size)
    expected, yx_px = scan.skipped((lattice + haze + beside.field) * np.float32(dose * pixel_size**2), yx_px)
    inside = (scene.species >= 0) & (yx_px >= 0).all(axis=1) & (yx_px <= size - 1).all(axis=1)
    order = np.flatnonzero(inside)[np.lexsort((yx_px[inside, 1], yx_px[inside, 0]))]
    recording = _recording(recipe, pixel_size, rng)
    return SimulatedFrame(
        image=noise.record(expected, recording, rng),
        expected=expected,
        yx=yx_px[order],
        species=scene.species[order],
        counts=weight[order] * dose,
        classes=scene.classes,
        pixel_size=pixel_size,
        dose=dose,
        facts={
            **facts,
            "thermal": float(np.median(width[scene.species >= 0])) if (scene.species >= 0).any() else 0.0,
            "readout": recording.readout,
            "row_jitter": recording.row_jitter_px * pixel_size,
            "flicker": recording.flicker,
            "gain": recording.gain,
            "offset": recording.offset,
            "hot_pixels": recording.hot_fraction,
            "saturation": 1e9 if recording.saturation is None else recording.saturation,
            "smoothing_px": recording.smoothing_px,
            "speckle": beside.speckle * dose * pixel_size**2,
            "speckle_grain": beside.grain,
        },
    )


def _typical(scene: Scene) -> float:
    """Mean cross-section of the columns in sight [Å²]."""
    seen = scene.filled & (np.abs(scene.yx) < scene.extent / 2).all(axis=1)
    return float(scene.weight[seen].mean()) if seen.any() else 0.01


def _lie(scene: Scene) -> dict[str, float | str]:
    """How far the crystal, of grains the first, is turned, counter-clockwise as displayed, and how thick the specimen is in the median."""
    if scene.crystal is None:
        return {}
    cosine, sine = scene.crystal.turn[0]
    seen = scene.filled & (np.abs(scene.yx) < scene.extent / 2).all(axis=1)
    thickness = {"thickness_nm": float(np.median(scene.repeats[seen])) * scene.repeat / 10} if scene.repeat > 0 and seen.any() else {}
    return {"rotation_deg": math.degrees(math.atan2(sine, cosine)) % 360, **thickness}


def _hide_faint(scene: Scene, fraction: float) -> Scene:
    """Take from the truth what is empty or fainter than `fraction` of the brightest column around, as defects may have left it."""
    if not len(scene.yx):
        return scene
    weight = scene.weight
    _, index = cKDTree(scene.yx).query(scene.yx, k=min(_FAINT_AMONG, len(scene.yx)), distance_upper_bound=_FAINT_REACH)
    brightest = np.append(weight, 0.0)[index.reshape(len(scene.yx), -1)].max(axis=1)
    return replace(scene, species=np.where((weight < fraction * brightest) | (weight <= 0), -1, scene.species))


def _wedge(relative: np.ndarray, gradient: float, rng: np.random.Generator) -> np.ndarray:
    direction = rng.uniform(0, 2 * np.pi)
    return np.asarray(np.clip(1 + gradient * (relative @ np.array([math.cos(direction), math.sin(direction)])), 0.1, None))


def _depths(scene: Scene, shape: tuple[int, int], exposure: _Exposure) -> list[np.ndarray]:
    """How far inside each outline of the specimen each pixel lies [Å]."""
    if not scene.outlines:
        return []
    y, x = ((np.arange(0, n + _COARSE, _COARSE) - (shape[1] - 1) / 2) * exposure.pixel_size for n in shape)
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), -1) - exposure.place
    rows, cols = (np.arange(n) / _COARSE for n in shape)
    return [bilinear(outline(grid).astype(np.float32), rows, cols) for outline in scene.outlines]


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


def _recording(recipe: Recipe, pixel_size: float, rng: np.random.Generator) -> noise.Recording:
    detector = recipe.detector
    return noise.Recording(
        row_jitter_px=draw(recipe.scan.row_jitter, rng) / pixel_size,
        flicker=draw(recipe.scan.flicker, rng),
        gain=draw(detector.gain, rng),
        offset=draw(detector.offset, rng),
        readout=draw(detector.readout, rng),
        hot_fraction=draw(detector.hot_pixels, rng),
        saturation=None if detector.saturation is None else draw(detector.saturation, rng),
        smoothing_px=draw(detector.smoothing_px, rng),
    )


def _check_spacing(recipe: Recipe, scene: Scene, pixel_size: float) -> None:
    seen = scene.yx[scene.filled & (np.abs(scene.yx) < scene.extent / 2 + MARGIN).all(axis=1)]
    if len(seen) < 2:
        return
    nearest = float(np.median(cKDTree(seen).query(seen, k=2)[0][:, 1]))
    if nearest < 3 * pixel_size:
        raise RecipeError(
            f"{recipe.material}: columns lie {nearest:.2f} Å apart, but a pixel is {pixel_size:.2f} Å wide; "
            f"set frame.sampling below {nearest / 3:.2f} Å/px"
        )
