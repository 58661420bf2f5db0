"""Make the segmenters that ship in model_cards/, one command each: data, training, evaluation, bundle. Encoders: train_encoders.py.

    python scripts/train_zoo.py adf-unet@1 --work runs               # about 1.5 h on one busy core
    python scripts/train_zoo.py adf-unet@2 --work runs               # as long again, from adf-unet@1
    python scripts/train_zoo.py adf-unet-nano@1 --work runs          # about as long
    python scripts/train_zoo.py adf-unet-atoms@1 --work runs         # half an hour, from adf-unet-nano
    python scripts/train_zoo.py adf-unet-int8@1 --work runs          # minutes: adf-unet@3 in eight bits
    python scripts/train_zoo.py adf-unet@2 --work runs --checkpoint runs/adf-unet@2/stage1/checkpoints/best.ckpt

With --checkpoint the training is skipped; confidence is calibrated, and evaluation and bundle are made. With --scores N the published
version is scored by dose on N frames each, and nothing is written. Half of a training step on a CPU can be page faults;
MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=100000000 in the environment avoids them.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.evaluate import calibration_error, evaluate, fit_calibration, frame_scores
from stemzoo.evaluate.gallery import add_gallery
from stemzoo.export.bundle import write_bundle
from stemzoo.geometry.matching import match
from stemzoo.io.read import read
from stemzoo.quantise import quantise
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.pipeline import LocateOptions, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.simulation import simulate_dataset
from stemzoo.training import SegmenterConfig, load_for_export, train_segmenter
from stemzoo.zoo import resolve
from stemzoo.zoo.check import sha256_of

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "datasets"
HELD_BACK_SEED = 90_000
CALIBRATION_SEED = 80_000
CALIBRATED_FROM = 0.1  # lowest probability of a maximum that takes part in the calibration
MATERIALS = ("sr3fe2o7", "srtio3", "mos2")
DOSES: dict[str, Any] = {"50": 50, "100": 100, "300 and more": [300, 3000]}
LABELLED = {"bpy_crop20.tif": "bpy_crop20.csv", "045*.tif": "045*Results.csv", "072*.tif": "072*Results.csv"}
LABEL_TOLERANCE_PX = 5.0

ALIGNED = {
    "optics.defocus_nm": [-1.5, 1.5],
    "optics.astigmatism_nm": [0.0, 0.8],
    "optics.coma_nm": [0.0, 20.0],
    "optics.source_fwhm": [0.4, 0.8],
    "scan.row_jitter": [0.0, 0.03],
}
"""A well-aligned microscope: the universal recipe alone shows mostly probes that are not."""

SEGMENTERS: dict[str, dict[str, Any]] = {
    "adf-unet@1": {
        "data": {
            "universal": {"recipe": "universal", "n_frames": 1600, "seed": 1},
            "aligned": {"recipe": "universal", "n_frames": 900, "seed": 2, "settings": ALIGNED},
        },
        "stages": [
            {"data": ["universal"], "steps": 14000, "stop_after": 8500, "steps_per_epoch": 500, "seed": 1},
            {"data": ["universal", "aligned"], "steps": 4000, "learning_rate": 2e-3, "steps_per_epoch": 500, "seed": 2},
        ],
        "config": {"classes": ("column",), "precision": "bf16-mixed"},
        "card": {
            "title": "Atomic columns in ADF-STEM frames of any material",
            "summary": "Finds atomic columns in annular dark-field frames, whatever the lattice: one class, `column`.",
            "default": True,
            "limits": [
                "Trained on simulated frames only; a detector or a contrast far from them has not been seen.",
                "Columns nearer than about 1.2 Å merge into one; those fainter than a tenth of the brightest are no truth in training.",
                "Light columns beside heavy ones (oxygen in oxides) are not found in ADF contrast.",
                "Single atoms on thick or rough carbon at low contrast are found incompletely; see the evaluation by material.",
                "TEM, bright-field and iDPC contrast are outside its purpose.",
            ],
        },
    },
}


WIDE = {"frame.sampling": [0.12, 0.3]}
EMPTY = {"structure.density": [1e-7, 1e-6], "frame.size_px": 256, **WIDE}
"""Carbon and noise with hardly an atom: a network that never saw them finds columns in noise. The background is a share of the one atom's
mean over the field, hence the large numbers: from a fiftieth of an electron a pixel to a thousand."""

EMPTY_SHARES = (20.0, 2e2, 2e3, 2e4, 2e5)
EMPTIES = {
    f"empty{share:g}": {
        "recipe": "atoms_on_carbon",
        "n_frames": 26,
        "seed": 60 + number,
        "settings": {
            **EMPTY,
            "specimen.background": [0.3 * share, 3 * share],
            "specimen.carbon": [0.0, 0.12 * share],
            "specimen.contamination": [0.0, 0.1 * share],
        },
    }
    for number, share in enumerate(EMPTY_SHARES)
}
SEGMENTERS["adf-unet@2"] = {
    "data": {
        "wide": {"recipe": "universal", "n_frames": 1400, "seed": 101, "settings": WIDE},
        "aligned": {"recipe": "universal", "n_frames": 700, "seed": 102, "settings": {**ALIGNED, **WIDE}},
        "atoms": {"recipe": "atoms_on_carbon", "n_frames": 350, "seed": 103, "settings": WIDE},
        "lattices": {"recipe": "random_lattice", "n_frames": 350, "seed": 104, "settings": WIDE},
        **EMPTIES,
    },
    "stages": [
        {
            "data": ["wide", "aligned", "atoms", "lattices", *EMPTIES],
            "steps": 13000,
            "learning_rate": 2e-3,
            "steps_per_epoch": 250,
            "seed": 11,
        },
    ],
    "start": "adf-unet@1",
    "config": {
        "classes": ("column",),
        "precision": "bf16-mixed",
        "sampling": {"min": 0.12, "nominal": 0.2, "max": 0.3},
        "augmentation": {"dose_factor": (0.25, 2.5)},
    },
    "threshold": 0.45,
    "card": {
        **SEGMENTERS["adf-unet@1"]["card"],
        "limits": [
            "Trained on simulated frames only; a detector or a contrast far from them has not been seen.",
            "Columns nearer than about 1.5 Å merge into one unless the probe parts them clearly; those fainter than a tenth of the "
            "brightest are no truth in training.",
            "Light columns beside heavy ones (oxygen in oxides) are not found in ADF contrast.",
            "Columns that their own electrons cannot place within 0.5 Å are mostly not found: see the evaluation by dose.",
            "Single atoms on thick or rough carbon at low dose are found incompletely; adf-unet-atoms knows nothing else.",
            "TEM, bright-field and iDPC contrast are outside its purpose.",
        ],
    },
}
NARROW = {"frame.sampling": [0.2, 0.3]}
"""What the network of version 3 sees: finer frames are resampled to 0.25 Å/px, which version 2 lost nothing by at a third of the work."""

SEGMENTERS["adf-unet@3"] = {
    "data": {
        "narrow": {"recipe": "universal", "n_frames": 1500, "seed": 201, "settings": NARROW},
        "aligned": {"recipe": "universal", "n_frames": 800, "seed": 202, "settings": {**ALIGNED, **NARROW}},
        "atoms": {"recipe": "atoms_on_carbon", "n_frames": 450, "seed": 203, "settings": NARROW},
        "lattices": {"recipe": "random_lattice", "n_frames": 350, "seed": 204, "settings": NARROW},
        **{key: {**entry, "seed": entry["seed"] + 200, "settings": {**entry["settings"], **NARROW}} for key, entry in EMPTIES.items()},
    },
    "stages": [
        {
            "data": ["narrow", "aligned", "atoms", "lattices", *EMPTIES],
            "steps": 13000,
            "learning_rate": 2e-3,
            "steps_per_epoch": 250,
            "seed": 21,
        },
    ],
    "start": "adf-unet@2",
    "config": {
        **SEGMENTERS["adf-unet@2"]["config"],
        "sampling": {"min": 0.2, "nominal": 0.25, "max": 0.3},
        "augmentation": {"dose_factor": (0.2, 2.0)},
    },
    "threshold": 0.45,
    "card": {
        **SEGMENTERS["adf-unet@2"]["card"],
        "limits": [
            *SEGMENTERS["adf-unet@2"]["card"]["limits"],
            "On the carbon around a bright particle it may take texture for columns at high dose.",
        ],
    },
}
FILMS = {"specimen.carbon": [3.0, 14.0], "specimen.background": [5.0, 60.0]}
"""Films whose own speckle comes near to the atoms on them: what version 3 finds least."""

SEGMENTERS["adf-unet@4"] = {
    "data": {
        "narrow": {"recipe": "universal", "n_frames": 1200, "seed": 401, "settings": NARROW},
        "aligned": {"recipe": "universal", "n_frames": 600, "seed": 402, "settings": {**ALIGNED, **NARROW}},
        "atoms": {"recipe": "atoms_on_carbon", "n_frames": 600, "seed": 403, "settings": NARROW},
        "films": {"recipe": "atoms_on_carbon", "n_frames": 400, "seed": 404, "settings": {**FILMS, **NARROW}},
        "lattices": {"recipe": "random_lattice", "n_frames": 400, "seed": 405, "settings": NARROW},
        "platinum": {"recipe": "platinum_particle", "n_frames": 120, "seed": 406, "settings": NARROW},
        "gold": {"recipe": "gold_110", "n_frames": 120, "seed": 407, "settings": NARROW},
        **{key: {**entry, "seed": entry["seed"] + 400, "settings": {**entry["settings"], **NARROW}} for key, entry in EMPTIES.items()},
    },
    "stages": [
        {
            "data": ["narrow", "aligned", "atoms", "films", "lattices", "platinum", "gold", *EMPTIES],
            "steps": 5000,
            "learning_rate": 1.2e-3,
            "steps_per_epoch": 250,
            "seed": 41,
        },
    ],
    "start": "adf-unet@3",
    "config": SEGMENTERS["adf-unet@3"]["config"],
    "threshold": 0.45,
    "card": SEGMENTERS["adf-unet@3"]["card"],
}
FAST = {
    "classes": ("column",),
    "precision": "bf16-mixed",
    "fold": 4,
    "widths": (32, 64, 96, 128),
    "depths": (2, 2, 1, 1),
    "sampling": {"min": 0.12, "nominal": 0.2, "max": 0.3},
    "augmentation": {"dose_factor": (0.25, 2.5)},
}
"""2.5 GFLOP a 512² frame in place of 6.3: the first layer works on pixels folded four by four."""

SEGMENTERS["adf-unet-nano@1"] = {
    "data": {
        "universal": {"recipe": "universal", "n_frames": 1600, "seed": 1},
        "aligned": {"recipe": "universal", "n_frames": 700, "seed": 2, "settings": {**ALIGNED, **WIDE}},
        "wide": {"recipe": "universal", "n_frames": 1000, "seed": 41, "settings": WIDE},
        **EMPTIES,
    },
    "stages": [
        {"data": ["universal", "aligned"], "steps": 7000, "stop_after": 2750, "steps_per_epoch": 250, "seed": 3},
        {"data": ["wide", "aligned"], "steps": 3250, "learning_rate": 2.5e-3, "steps_per_epoch": 250, "seed": 4},
        # Sharp frames to the very end: without them the network comes to take the oxygen of oxides, which is no truth, for columns.
        *(
            {
                "data": ["wide", "aligned", *2 * list(EMPTIES)],
                "steps": steps,
                "learning_rate": 2e-3,
                "steps_per_epoch": 250,
                "seed": seed,
            }
            for steps, seed in ((3250, 4), (4000, 5), (5000, 6))
        ),
    ],
    "config": FAST,
    "card": {
        **SEGMENTERS["adf-unet@1"]["card"],
        "title": "Atomic columns in ADF-STEM frames of any material, at a third of the cost",
        "summary": "Finds atomic columns as adf-unet does, with 2.5 GFLOP a 512² frame in place of 6.3: for frames as they are scanned.",
        "default": False,
        "limits": [
            *SEGMENTERS["adf-unet@1"]["card"]["limits"],
            "On sharp frames of oxides it takes some oxygen for columns, and at low dose it misses more than adf-unet.",
            "Its first two stages saw frames of an earlier simulation: scripts/train_zoo.py makes a like network, not these weights.",
        ],
    },
}
SEGMENTERS["adf-unet-atoms@1"] = {
    "data": {
        "atoms": {"recipe": "atoms_on_carbon", "n_frames": 320, "seed": 51, "settings": WIDE},
        "more": {"recipe": "atoms_on_carbon", "n_frames": 320, "seed": 52, "settings": WIDE},
        **EMPTIES,
    },
    "stages": [
        {"data": ["atoms"], "steps": 2000, "learning_rate": 1.5e-3, "steps_per_epoch": 250, "seed": 51},
        {"data": ["atoms", "more", *EMPTIES], "steps": 2500, "learning_rate": 1.5e-3, "steps_per_epoch": 250, "seed": 52},
    ],
    "start": "adf-unet-nano@1",
    "judged_on": "atoms_on_carbon",
    "threshold": 0.38,  # where one in two is an atom, by the calibration
    "config": FAST,
    "card": {
        "title": "Single heavy atoms on amorphous carbon",
        "summary": "Finds single heavy atoms on carbon: F1 0.86 on held-back frames where adf-unet@1 has 0.38, and 0.93 where that has "
        "0.73 on 84 labelled Re atoms.",
        "default": False,
        "limits": [
            "Trained on simulated frames of Pt, Re and Pd atoms on carbon only; light atoms and other supports have not been seen.",
            "For crystals use adf-unet: this network has not been scored on them.",
            "Atoms nearer than about 2 Å merge into one; on thick or rough carbon about half of them are missed.",
            "Trained from an earlier state of adf-unet-nano: scripts/train_zoo.py makes a like network, not these weights.",
        ],
    },
}


EIGHT_BITS = {"adf-unet-int8@1": "adf-unet@3"}
"""Variants in eight bits, by the version that they are made of."""

EIGHT_BITS_SEED = 95_000
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=[*SEGMENTERS, *EIGHT_BITS])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--hours", type=float, default=0.0, help="with --checkpoint: hours of all its stages, for the card")
    parser.add_argument("--out", type=Path, default=ROOT / "model_cards")
    parser.add_argument(
        "--scores", type=int, metavar="N", help="print how the published version does by dose on N frames each; nothing else"
    )
    options = parser.parse_args()
    if options.model in EIGHT_BITS and not options.scores:
        make_variant(options.model, options.work / options.model, options.out)
        return
    if options.scores:
        (options.work / options.model).mkdir(parents=True, exist_ok=True)
        dose_scores(Segmenter(Bundle.load(resolve(options.model))), options.work / options.model, options.scores)
        return
    make_segmenter(options.model, options.work / options.model, options.checkpoint, options.out, options.hours)


def make_segmenter(model: str, work: Path, checkpoint: Path | None, out: Path, hours: float = 0.0) -> None:
    """Train (unless there is a checkpoint), evaluate and bundle one segmenter, `name@version`."""
    plan = SEGMENTERS[model]
    name, version = model.split("@")
    judged_on = plan.get("judged_on", "universal")
    parent = resolve(plan["start"]) / "weights.safetensors" if "start" in plan else None
    start = None if checkpoint else parent
    for number, stage in enumerate(plan["stages"], 1) if checkpoint is None else ():
        paths = [simulated(work, key, **plan["data"][key]) for key in stage["data"]]
        settings = {key: value for key, value in stage.items() if key != "data"}
        config = SegmenterConfig(datasets=tuple(str(path) for path in paths), **plan["config"], **settings)
        run = train_segmenter(config, work / f"stage{number}", start=checkpoint or start, progress=sys.stderr.isatty())
        checkpoint, hours = run.best, hours + run.seconds / 3600
    assert checkpoint is not None
    _, modules, draft = load_for_export(checkpoint)
    draft |= {
        "name": name,
        "version": int(version),
        "licence": "MIT",
        "citation": "stemzoo contributors, stemzoo model zoo (2026)",
        **plan["card"],
    }
    everything = sorted(path.stem for path in RECIPES.glob("*.toml") if path.stem != "universal")
    draft["materials"] = everything if judged_on == "universal" else [judged_on]
    draft["parent"] = sha256_of(parent) if parent else None
    draft["threshold"] = plan.get("threshold", draft["threshold"])
    draft["training"]["recipes"] = sorted({entry["recipe"] for entry in plan["data"].values()})
    draft["training"]["steps"] = sum(stage.get("stop_after", stage["steps"]) for stage in plan["stages"])
    if hours:
        draft["training"]["hours"] = round(hours, 2)
    trial = work / f"trial-{name}"
    shutil.rmtree(trial, ignore_errors=True)
    write_bundle(trial, modules, draft)
    draft["calibration"] = calibration(Segmenter(Bundle.load(trial)), work, judged_on)
    shutil.rmtree(trial)
    write_bundle(trial, modules, draft)
    draft["evaluation"] = held_back_scores(Segmenter(Bundle.load(trial)), work, judged_on)
    write_bundle(out / name / f"v{version}", modules, draft)
    card = add_gallery(out / name / f"v{version}", work / f"held_back_{judged_on}.h5")
    print(f"{card.id}: {card.size_bytes / 1e6:.1f} MB, {card.parameters:,} parameters")


def make_variant(model: str, work: Path, out: Path) -> None:
    """Quantise one segmenter, score it beside what it was made of, and bundle it as `name@version`."""
    name, version = model.split("@")
    work.mkdir(parents=True, exist_ok=True)
    frames = simulated(work, "held_back", "universal", 104, EIGHT_BITS_SEED, WIDE)
    title = f"universal, 0.12–0.3 Å/px, seed {EIGHT_BITS_SEED}"
    folder = out / name / f"v{version}"
    made = quantise(EIGHT_BITS[model], frames, folder, {"name": name, "version": int(version)}, title=title)
    card = add_gallery(folder, frames)
    print(f"{card.id}: {card.size_bytes / 1e6:.1f} MB; F1 {made.eight.f1:.4f}, of {EIGHT_BITS[model]} {made.single.f1:.4f}")


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
    return rows + real_scores(segmenter)


def dose_scores(segmenter: Segmenter, work: Path, n_frames: int = 220) -> list[dict[str, Any]]:
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


if __name__ == "__main__":
    main()
