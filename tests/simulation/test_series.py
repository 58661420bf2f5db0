"""Scans and series: the truth goes with the image whatever the scan does; what moves in a series moves as its recipe says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stemzoo.io.datasets import Dataset
from stemzoo.simulation import draw_frames, load, simulate_dataset, simulate_series
from stemzoo.simulation.frame import SimulatedFrame
from stemzoo.simulation.layout import lay_out
from stemzoo.simulation.motion import advance
from stemzoo.simulation.noise import Recording, record
from stemzoo.simulation.recipe import Defect
from stemzoo.simulation.scene import FREE

FOLDER = Path(__file__).parents[2] / "datasets"
STILL = {
    "structure.spacing": 5.0,
    "structure.density": 0.03,
    "frame.sampling": 0.2,
    "frame.size_px": 256,
    "optics.coma_nm": 0.0,
    "optics.astigmatism_nm": 0.0,
    "optics.defocus_nm": 0.0,
    "optics.source_fwhm": 0.8,
    "specimen.background": 1.0,
    "specimen.carbon": 0.0,
    "specimen.contamination": 0.0,
    "specimen.vacuum": 0.0,
    "scan.row_jitter": 0.0,
    "scan.drift": 0.0,
    "scan.shear": 0.0,
}


def _offsets(frame: SimulatedFrame) -> np.ndarray:
    """(n, 2) px between each lone atom's centre of mass in the expected image and its truth."""
    offsets = []
    for y, x in frame.yx:
        row, col = round(y), round(x)
        if not (6 < row < 249 and 6 < col < 249):
            continue
        window = frame.expected[row - 5 : row + 6, col - 5 : col + 6]
        light = np.maximum(window - np.median(frame.expected) - 0.02 * window.max(), 0)
        dy, dx = np.mgrid[-5:6, -5:6]
        offsets.append([(dy * light).sum() / light.sum() + row - y, (dx * light).sum() / light.sum() + col - x])
    return np.array(offsets)


@pytest.mark.parametrize(
    "scan",
    [
        {},
        {"drift": 3.0, "shear": 0.03},
        {"flyback": 3.0, "flyback_share": 0.2},
        {"hum": 1.0, "hum_rows": 100.0},
        {"jumps": 3.0, "jump": 1.5},
        {"line_skips": 4.0},
    ],
    ids=lambda scan: next(iter(scan), "still"),
)
def test_the_truth_goes_where_the_scan_puts_the_atoms(scan: dict[str, float]) -> None:
    settings = {**STILL, **{f"scan.{key}": value for key, value in scan.items()}}
    offsets = _offsets(next(draw_frames(FOLDER / "atoms_on_carbon.toml", 1, 4, settings)))
    assert len(offsets) > 12
    assert np.median(np.abs(offsets), axis=0).max() < 0.12
    torn = 0.2 if "jumps" in scan or "line_skips" in scan else 0.0  # atoms that a step cuts in two have no one place
    assert (np.abs(offsets).max(axis=1) > 0.5).mean() <= torn


def test_a_scan_moves_the_atoms_at_all() -> None:
    still, scanned = (
        next(draw_frames(FOLDER / "atoms_on_carbon.toml", 1, 4, {**STILL, "scan.hum": hum, "scan.hum_rows": 100.0})).yx
        for hum in (0.0, 1.0)
    )
    assert len(still) == pytest.approx(len(scanned), abs=2)
    assert max(np.abs(still[:, 1][:, None] - scanned[:, 1]).min(axis=1)) > 1.0


def test_a_focal_series_steps_through_focus_over_one_scene(tmp_path: Path) -> None:
    settings = {
        "series.drift": 0.0,
        "series.defocus_step_nm": 3.0,
        "optics.defocus_nm": 0.0,
        "frame.size_px": 96,
        "scan.drift": 0.0,
        "optics.coma_nm": 0.0,
    }
    path = simulate_dataset(FOLDER / "srtio3_focal_series.toml", 9, tmp_path / "d.h5", 3, settings=settings)
    data = Dataset(path)
    facts = [data.attributes(i) for i in range(9)]
    assert [f["defocus_nm"] for f in facts[:7]] == pytest.approx([-9, -6, -3, 0, 3, 6, 9])
    assert [f["series_frame"] for f in facts] == [*range(7), 0, 1]
    assert [data.scene(i) == data.scene(0) for i in range(9)] == [True] * 7 + [False] * 2
    inner = [data.window(i, (0, 0), (96, 96), "expected") for i in (0, 6)]
    assert np.corrcoef(inner[0].ravel(), inner[1].ravel())[0, 1] > 0.9  # the same columns on the same ground, as far from focus
    sharpness = [data.window(i, (0, 0), (96, 96), "expected").std() for i in range(7)]
    assert int(np.argmax(sharpness)) == 3


def test_drift_between_frames_moves_all_columns_alike() -> None:
    recipe = load(FOLDER / "srtio3_focal_series.toml", {"series.drift": 0.25, "scan.drift": 0.0, "scan.shear": 0.0, "frame.size_px": 128})
    first, second, *_ = simulate_series(recipe, np.random.default_rng(0))
    inner = first.yx[((first.yx > 30) & (first.yx < 98)).all(axis=1)]
    step = second.yx[np.linalg.norm(second.yx[:, None] - inner, axis=-1).argmin(axis=0)] - inner
    assert np.abs(step).max() > 0.2 and np.ptp(step, axis=0).max() < 1e-6


def test_defects_hop_to_neighbouring_sites_of_their_own_species() -> None:
    from stemzoo.simulation.defects import apply

    rng = np.random.default_rng(0)
    scene = lay_out(load(FOLDER / "mos2.toml"), 60.0, rng)
    doped = apply(Defect.model_validate({"kind": "dopant", "species": "M", "element": "W", "fraction": 0.05}), scene, rng)
    tungsten = doped.elements.index("W")
    later = advance(doped, rng, hop=1.0, wander=0.0)
    before, after = (np.flatnonzero(s.atoms[:, tungsten] > 0) for s in (doped, later))
    assert len(before) == len(after) and len(np.intersect1d(before, after)) < 0.2 * len(before)
    assert (later.species[after] == doped.species[before][0]).all()
    reach = np.linalg.norm(doped.yx[after][:, None] - doped.yx[before], axis=-1).min(axis=1)
    assert reach == pytest.approx(np.full(len(after), 3.16), abs=0.02) or (reach < 3.2).all()
    assert np.array_equal(later.yx, doped.yx)


def test_free_atoms_wander_by_what_they_are_told() -> None:
    scene = lay_out(load(FOLDER / "atoms_on_carbon.toml"), 200.0, np.random.default_rng(0))
    assert (scene.home == FREE).all()
    step = advance(scene, np.random.default_rng(1), hop=0.0, wander=0.5).yx - scene.yx
    assert step.std() == pytest.approx(0.5, rel=0.1)


def test_saturation_clips_and_smoothing_averages() -> None:
    expected = np.full((200, 200), 25.0)
    expected[:100] = 100.0
    rng = np.random.default_rng(0)
    clipped = record(expected, Recording(saturation=0.5), rng)
    assert (clipped[:100] == 50).mean() > 0.99 and clipped[100:].mean() == pytest.approx(25, rel=0.02)
    smooth = record(np.full((200, 200), 25.0), Recording(smoothing_px=1.5), rng)
    assert smooth.mean() == pytest.approx(25, rel=0.01)
    assert smooth.var() == pytest.approx(25 / (4 * np.pi * 1.5**2), rel=0.1)
