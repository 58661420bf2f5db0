"""What a segmenter's card says of how good it is: calibration of its confidence, scores on held-back frames by material and dose, and on
real atoms labelled by hand. Called by train_zoo.
"""

from __future__ import annotations

import csv
import itertools
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from segmenter_plans import ALIGNED, WIDE

from stemzoo.evaluate import calibration_error, evaluate, fit_calibration, frame_scores
from stemzoo.geometry.matching import match
from stemzoo.io.read import read
from stemzoo.runtime.pipeline import LocateOptions, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.simulation import simulate_dataset

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "datasets"
HELD_BACK_SEED = 90_000
CALIBRATION_SEED = 80_000
CALIBRATED_FROM = 0.1  # lowest probability of a maximum that takes part in the calibration
MATERIALS = ("sr3fe2o7", "srtio3", "mos2")
DOSES: dict[str, Any] = {"50": 50, "100": 100, "300 and more": [300, 3000]}
LABELLED = {"bpy_crop20.tif": "bpy_crop20.csv", "045*.tif": "045*Results.csv", "072*.tif": "072*Results.csv"}
LABEL_TOLERANCE_PX = 5.0
DOSE_SEED = 91_001

WELL_ALIGNED = {
    **ALIGNED,
    "optics.convergence_mrad": [25.0, 30.0],
    "optics.defocus_nm": [-1.0, 1.0],
    "optics.coma_nm": [0.0, 10.0],
    "optics.source_fwhm": [0.5, 0.7],
    "scan.row_jitter": [0.0, 0.02],
    "specimen.background": [0.05, 0.2],
}
"""For evaluation: an aberration-corrected instrument on a good day."""

OPTICS: dict[str, dict[str, Any]] = {"well aligned": WELL_ALIGNED, "as the recipe says": {}}


def simulated(work: Path, key: str, recipe: str, n_frames: int, seed: int, settings: dict[str, Any] | None = None) -> Path:
    """The dataset of one training stage, made unless it is there."""
    path = work / f"{key}.h5"
    return path if path.exists() else simulate_dataset(RECIPES / f"{recipe}.toml", n_frames, path, seed, settings=settings)


def calibration(segmenter: Segmenter, work: Path, recipe: str) -> dict[str, list[float]]:
    """What the map's probability at its maxima amounts to, on frames of a recipe that serve nothing else."""
    path = simulated(work, f"calibration_{recipe}", recipe, 80, CALIBRATION_SEED, WIDE)
    frames = list(frame_scores(segmenter, path, options=LocateOptions(threshold=CALIBRATED_FROM, refine=False)))
    probability, right = (np.concatenate([getattr(frame, name) for frame in frames]) for name in ("confidence", "right"))
    fitted = fit_calibration(probability, right)
    mended = np.interp(probability, fitted["probability"], fitted["confidence"])
    print(f"calibration: ECE {calibration_error(probability, right):.3f} before, {calibration_error(mended, right):.3f} after", flush=True)
    return fitted


def held_back_scores(segmenter: Segmenter, work: Path, recipe: str) -> list[dict[str, Any]]:
    """Scores on frames that no training saw: `recipe` as it comes; for the universal mixture, three materials in two alignments and all of
    them by dose too; and single atoms labelled by hand where those frames are to be had."""
    rows: list[dict[str, Any]] = []
    if recipe == "universal":
        for material, counts, (label, optics) in itertools.product(MATERIALS, (100, 300, 1000), OPTICS.items()):
            settings = {"dose.counts_per_column": counts, "frame.sampling": 0.2, **optics}
            key = f"held_back_{material}_{counts}_{label.split()[0]}"
            path = simulated(work, key, material, 2, HELD_BACK_SEED + counts, settings)
            where = f"{material}, {counts} counts a column, 0.2 Å/px, optics {label}, seed {HELD_BACK_SEED + counts}"
            rows += _rows(where, segmenter, path, by_material=False)
        rows += dose_scores(segmenter, work)
    path = simulated(work, f"held_back_{recipe}", recipe, 96, HELD_BACK_SEED, WIDE)
    rows += _rows(f"{recipe}, 96 frames, 0.12–0.3 Å/px, seed {HELD_BACK_SEED}", segmenter, path, by_material=True)
    return [_readable(row) for row in rows + real_scores(segmenter)]


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a card with its figures to five digits: more is noise of whoever ran it."""
    interval = {"interval": [_five(bound) for bound in row["interval"]]} if "interval" in row else {}
    return {**row, "value": _five(row["value"]), **interval}


def _five(figure: float) -> float:
    return float(f"{figure:.5g}")


def dose_scores(segmenter: Segmenter, work: Path, n_frames: int = 110) -> list[dict[str, Any]]:
    """Scores by dose on all materials alike, over all columns and over those that their electrons show."""
    rows: list[dict[str, Any]] = []
    for label, counts in DOSES.items():
        path = work / f"held_back_{label.split()[0]}_{n_frames}.h5"
        if not path.exists():
            simulate_dataset(_alike(work), n_frames, path, DOSE_SEED, settings={"dose.counts_per_column": counts, **WIDE})
        where = f"every material alike, {label} counts a column, {n_frames} frames, 0.12–0.3 Å/px, seed {DOSE_SEED}"
        rows += _dose_rows(where, segmenter, path)
    return rows


def _alike(work: Path) -> Path:
    """Return the universal mixture, written into `work`, with the same weight for every part; single atoms, of which a frame shows few,
    count twice."""
    tables = tomllib.loads((RECIPES / "universal.toml").read_text(encoding="utf-8"))
    weights = {part["recipe"]: 2.0 if part["recipe"] == "atoms_on_carbon" else 1.0 for part in tables["mixture"]}
    mixture = ", ".join(f'{{ recipe = "{RECIPES / recipe}.toml", weight = {weight} }}' for recipe, weight in weights.items())
    common = [
        f"[{table}]\n" + "\n".join(f"{key} = {value}" for key, value in tables[table].items()) for table in ("frame", "scan", "detector")
    ]
    head = f'schema_version = {tables["schema_version"]}\nmaterial = "universal"\ntitle = "every material alike"\nseed = 1\n'
    path = work / "alike.toml"
    path.write_text(f"{head}mixture = [{mixture}]\n\n" + "\n\n".join(common) + "\n", encoding="utf-8")
    return path


def _dose_rows(dataset: str, segmenter: Segmenter, path: Path) -> list[dict[str, Any]]:
    """F1 of all columns and of those that their electrons can place, over all frames and as the mean over materials."""
    everything, *materials = evaluate(segmenter, path, bound=True)
    mean, lowest = (float(pick([score.f1_resolvable for score in materials])) for pick in (np.nanmean, np.nanmin))
    print(
        f"{dataset}: F1 {everything.f1:.4f}, of resolvable columns {everything.f1_resolvable:.4f}, mean over materials {mean:.4f}, "
        f"RMSE / bound {everything.over_bound:.2f}; "
        + ", ".join(f"{score.group} {score.f1:.3f} / {score.f1_resolvable:.3f}" for score in materials),
        flush=True,
    )
    common = {"dataset": dataset, "role": "held back", "n": everything.n_columns}
    sure = {**common, "n": everything.n_resolvable}
    return [
        {**common, "metric": "F1 at 0.5 Å", "value": everything.f1, "interval": everything.f1_interval},
        {**sure, "metric": "F1 at 0.5 Å of columns that their electrons can place within it", "value": everything.f1_resolvable},
        {**sure, "metric": "the same, mean over materials", "value": mean},
        {**sure, "metric": "the same, the worst material", "value": lowest},
        {**sure, "metric": "RMSE / Cramér–Rao bound, median over frames", "value": everything.over_bound},
    ]


def real_scores(segmenter: Segmenter) -> list[dict[str, Any]]:
    """F1 on real single atoms labelled by hand, X and Y in px of a CSV beside each frame, in the folder that STEMZOO_REAL names."""
    folder = Path(os.environ.get("STEMZOO_REAL", ROOT.parent / "shared" / "real"))
    rows = []
    for frame, labels in LABELLED.items():
        image, table = next(folder.glob(frame), None), next(folder.glob(labels), None)
        if image is None or table is None:
            continue
        with table.open() as file:
            truth = np.array([[float(row["Y"]), float(row["X"])] for row in csv.DictReader(file)])
        found = locate(read(str(image)), segmenter, LocateOptions(refine=False)).columns[0]
        hits = len(match(found.yx, truth, LABEL_TOLERANCE_PX).found)
        value = 2 * hits / (len(found) + len(truth))
        print(f"{image.name}: {hits} of {len(truth)} atoms, {len(found)} found, F1 {value:.3f}", flush=True)
        common = {"dataset": f"{image.name}, atoms labelled by hand", "role": "real, never trained on", "n": len(truth)}
        rows.append({**common, "metric": f"F1 at {LABEL_TOLERANCE_PX:g} px", "value": value})
    return rows


def _rows(dataset: str, segmenter: Segmenter, path: Path, *, by_material: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for score in evaluate(segmenter, path):
        where = dataset if score.group == "all" else f"{dataset}: {score.group}"
        print(
            f"{where}: F1 {score.f1:.4f} RMSE {score.rmse_px:.3f} px {score.rmse_pm:.1f} pm "
            f"z {score.z_spread:.2f} coverage {score.coverage:.3f} ECE {score.calibration:.3f}",
            flush=True,
        )
        common = {"dataset": where, "role": "held back", "n": max(score.n_columns, 1)}
        rows.append({**common, "metric": "F1 at 0.5 Å", "value": score.f1, "interval": score.f1_interval})
        rows.append({**common, "metric": "position RMSE [pm]", "value": score.rmse_pm, "interval": score.rmse_pm_interval})
        rows.append({**common, "metric": "spread of error / stated σ", "value": score.z_spread})
        if score.group == "all" and by_material:
            rows.append({**common, "metric": "calibration error of the confidence", "value": score.calibration})
            rows.append({**common, "metric": "share of errors inside the stated 95 %", "value": score.coverage})
        if not by_material:
            break
    return rows
