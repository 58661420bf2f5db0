"""Make the models that ship in model_cards/, one command each: data, training, evaluation, bundle.

    python scripts/train_zoo.py adf-unet --work runs                 # about 1.5 h on one busy core
    python scripts/train_zoo.py rvae-sr3fe2o7 --work runs            # a few minutes
    python scripts/train_zoo.py adf-unet --work runs --checkpoint runs/adf-unet/run/checkpoints/best.ckpt

With --checkpoint the training is skipped and only evaluation and bundle are made. Half of a training step on a CPU can be page faults;
MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=100000000 in the environment avoids them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.evaluate import evaluate
from stemzoo.export.bundle import write_bundle
from stemzoo.geometry.matching import match
from stemzoo.geometry.subimages import cut
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.simulation import draw_frames, simulate_dataset
from stemzoo.training import SegmenterConfig, load_for_export, train_segmenter
from stemzoo.training.encoder_run import train_encoder
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.types import Columns, Frames

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "datasets"
HELD_BACK_SEED = 90_000
MATERIALS = ("sr3fe2o7", "srtio3", "mos2")

ALIGNED = {
    "optics.defocus_nm": [-1.5, 1.5],
    "optics.astigmatism_nm": [0.0, 0.8],
    "optics.coma_nm": [0.0, 20.0],
    "optics.source_fwhm": [0.4, 0.8],
    "scan.row_jitter": [0.0, 0.03],
}
"""A well-aligned microscope: the universal recipe alone shows mostly probes that are not."""

SEGMENTERS: dict[str, dict[str, Any]] = {
    "adf-unet": {
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

ENCODERS: dict[str, dict[str, Any]] = {
    "rvae-sr3fe2o7": {
        "data": {"recipe": "sr3fe2o7", "n_frames": 60, "seed": 11, "settings": {**ALIGNED, "frame.sampling": 0.2}},
        "config": {"window": 8.0, "window_px": 40, "latents": 2, "normalisation": "image", "epochs": 8, "seed": 11},
        "card": {
            "title": "Local structure in Sr3Fe2O7 and its relatives along [100]",
            "summary": "Angle and two latents of the 8 Å around each column, invariant to rotation, gain and offset.",
            "materials": ["sr3fe2o7"],
            "sampling": {"min": 0.1, "nominal": 0.2, "max": 0.3},
            "default": True,
            "limits": [
                "Trained on simulated Sr3Fe2O7 along [100] alone; elsewhere angles and latents are of unproved meaning: fit an encoder.",
                "Each sub-image is normalised by its own mean and spread, so latents know nothing of absolute intensity or thickness.",
                "The angle compares a column with the reference of its own kind; between kinds (Sr, Fe) references differ.",
            ],
        },
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=[*SEGMENTERS, *ENCODERS])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "model_cards")
    options = parser.parse_args()
    if options.model in SEGMENTERS:
        make_segmenter(options.model, options.work / options.model, options.version, options.checkpoint, options.out)
    else:
        make_encoder(options.model, options.work / options.model, options.version, options.checkpoint, options.out)


def make_segmenter(name: str, work: Path, version: int, checkpoint: Path | None, out: Path) -> None:
    """Train (unless there is a checkpoint), evaluate and bundle one segmenter."""
    plan = SEGMENTERS[name]
    hours = 0.0
    for number, stage in enumerate(plan["stages"], 1) if checkpoint is None else ():
        paths = [simulated(work, key, **plan["data"][key]) for key in stage["data"]]
        settings = {key: value for key, value in stage.items() if key != "data"}
        config = SegmenterConfig(datasets=tuple(str(path) for path in paths), **plan["config"], **settings)
        run = train_segmenter(config, work / f"stage{number}", start=checkpoint, progress=sys.stderr.isatty())
        checkpoint, hours = run.best, hours + run.seconds / 3600
    assert checkpoint is not None
    _, modules, draft = load_for_export(checkpoint)
    draft |= {
        "name": name,
        "version": version,
        "licence": "MIT",
        "citation": "stemzoo contributors, stemzoo model zoo (2026)",
        **plan["card"],
    }
    draft["materials"] = sorted(path.stem for path in RECIPES.glob("*.toml") if path.stem != "universal")
    draft["training"]["recipes"] = [entry["recipe"] for entry in plan["data"].values()]
    draft["training"]["steps"] = sum(stage.get("stop_after", stage["steps"]) for stage in plan["stages"])
    if hours:
        draft["training"]["hours"] = round(hours, 2)
    trial = work / f"trial-{name}"
    shutil.rmtree(trial, ignore_errors=True)
    write_bundle(trial, modules, draft)
    draft["evaluation"] = held_back_scores(Segmenter(Bundle.load(trial)), work)
    card = write_bundle(out / name / f"v{version}", modules, draft)
    print(f"{card.id}: {card.size_bytes / 1e6:.1f} MB, {card.parameters:,} parameters")


def make_encoder(name: str, work: Path, version: int, checkpoint: Path | None, out: Path) -> None:
    """Train (unless there is a checkpoint), evaluate and bundle one encoder."""
    plan = ENCODERS[name]
    if checkpoint is None:
        data = simulated(work, "train", **plan["data"])
        checkpoint = train_encoder(EncoderConfig(datasets=(str(data),), **plan["config"]), work / "run", progress=sys.stderr.isatty()).best
    _, modules, draft = load_for_export(checkpoint)
    draft |= {
        "name": name,
        "version": version,
        "licence": "MIT",
        "citation": "stemzoo contributors, stemzoo model zoo (2026)",
        **plan["card"],
    }
    draft["training"]["recipes"] = [plan["data"]["recipe"]]
    trial = work / f"trial-{name}"
    shutil.rmtree(trial, ignore_errors=True)
    write_bundle(trial, modules, draft)
    draft["evaluation"] = rotation_scores(Encoder(Bundle.load(trial)), plan["data"])
    card = write_bundle(out / name / f"v{version}", modules, draft)
    print(f"{card.id}: {card.size_bytes / 1e6:.1f} MB, {card.parameters:,} parameters")


def rotation_scores(encoder: Encoder, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Errors of angle differences: the same scene simulated at known scan rotations, true positions, column against column."""
    turns = (0.0, 17.0, 40.0, 100.0)
    errors, spreads, distances, spans = [], [], [], []
    for repeat in range(3):
        views = []
        for turn in turns:
            quiet = {"scan.drift": 0.0, "scan.shear": 0.0, "specimen.displacement": 0.0, "specimen.thickness_gradient": 0.0}
            settings = {**plan["settings"], **quiet, "frame.rotation_deg": turn, "dose.counts_per_column": 1000, "defects": []}
            frame = next(draw_frames(RECIPES / f"{plan['recipe']}.toml", 1, HELD_BACK_SEED + repeat, settings))
            n = len(frame.yx)
            none = np.zeros(n)
            columns = Columns(frame.yx, np.ones((n, 2)), none, none, none, none, pixel_size=frame.pixel_size)
            stack = Frames(frame.image[None], frame.pixel_size, "user", "simulated")
            window = encoder.spec.window_angstrom / frame.pixel_size
            views.append((frame, encoder.encode(cut(stack, columns, window, encoder.spec.window_px))))
        first, reference = views[0]
        centre = (np.array(first.image.shape) - 1) / 2
        for turn, (frame, encoding) in zip(turns[1:], views[1:], strict=True):
            angle = np.radians(turn)
            rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            pairs = match(frame.yx, (first.yx - centre) @ rotation + centre, 0.5)
            kept = encoding.inside[pairs.found] & reference.inside[pairs.truth]
            i, j = pairs.found[kept], pairs.truth[kept]
            difference = encoding.angle[i] - reference.angle[j] - angle
            period = 2 * np.pi / np.maximum(encoding.symmetry[i], reference.symmetry[j])
            wrapped = (difference + period / 2) % period - period / 2
            errors.append(np.degrees(wrapped))
            spreads.append(wrapped / np.hypot(encoding.angle_sigma[i], reference.angle_sigma[j]))
            distances.append(np.linalg.norm(encoding.latents[i] - reference.latents[j], axis=1))
            known = reference.latents[reference.inside]
            spans.append(np.linalg.norm(known - known.mean(axis=0), axis=1).mean())
    error, z = np.abs(np.concatenate(errors)), np.concatenate(spreads)
    said = ", ".join(f"{turn:g}" for turn in turns[1:])
    where = f"{plan['recipe']}, scenes turned by {said} degrees, 1000 counts a column, seeds from {HELD_BACK_SEED}"
    rows = {
        "median angle error of a difference [degrees], modulo symmetry": float(np.median(error)),
        "90th percentile of the angle error [degrees]": float(np.quantile(error, 0.9)),
        "spread of angle error / stated σ, robust": float(1.4826 * np.median(np.abs(z))),
        "median change of the latents over their spread in a frame": float(np.median(np.concatenate(distances)) / np.mean(spans)),
    }
    for metric, value in rows.items():
        print(f"{metric}: {value:.3f}")
    return [{"dataset": where, "role": "held back", "metric": metric, "value": value, "n": len(error)} for metric, value in rows.items()]


def simulated(work: Path, key: str, recipe: str, n_frames: int, seed: int, settings: dict[str, Any] | None = None) -> Path:
    """The dataset of one training stage, made unless it is there."""
    path = work / f"{key}.h5"
    return path if path.exists() else simulate_dataset(RECIPES / f"{recipe}.toml", n_frames, path, seed, settings=settings)


def held_back_scores(segmenter: Segmenter, work: Path) -> list[dict[str, Any]]:
    """Scores on frames that no training saw: three materials at two doses and 0.2 Å/px, and the universal mixture as it comes."""
    rows: list[dict[str, Any]] = []
    for material in MATERIALS:
        for counts in (300, 1000):
            for label, optics in (("well aligned", WELL_ALIGNED), ("as the recipe says", {})):
                settings = {"dose.counts_per_column": counts, "frame.sampling": 0.2, **optics}
                path = work / f"held_back_{material}_{counts}_{label.split()[0]}.h5"
                simulate_dataset(RECIPES / f"{material}.toml", 4, path, HELD_BACK_SEED + counts, settings=settings)
                where = f"{material}, {counts} counts a column, 0.2 Å/px, optics {label}, seed {HELD_BACK_SEED + counts}"
                rows += _rows(where, segmenter, path, by_material=False)
    path = simulate_dataset(RECIPES / "universal.toml", 64, work / "held_back_universal.h5", HELD_BACK_SEED)
    return rows + _rows(f"universal, 64 frames, seed {HELD_BACK_SEED}", segmenter, path, by_material=True)


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
        if not by_material:
            break
    return rows


if __name__ == "__main__":
    main()
