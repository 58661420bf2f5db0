"""Make the segmenters that ship in model_cards/, one command each: data, training, evaluation, bundle. Encoders: train_encoders.py.

    python scripts/train_zoo.py adf-unet@1 --work runs               # about 1.5 h on one busy core
    python scripts/train_zoo.py adf-unet@2 --work runs               # as long again, from adf-unet@1
    python scripts/train_zoo.py adf-unet-nano@1 --work runs          # about as long
    python scripts/train_zoo.py adf-unet-atoms@1 --work runs         # half an hour, from adf-unet-nano
    python scripts/train_zoo.py adf-unet-int8@3 --work runs          # minutes: adf-unet@5 in eight bits
    python scripts/train_zoo.py adf-unet@2 --work runs --checkpoint runs/adf-unet@2/stage1/checkpoints/best.ckpt

With --checkpoint the training is skipped; confidence is calibrated, and evaluation and bundle are made. With --scores N the published
version is scored by dose on N frames each, and nothing is written. Half of a training step on a CPU can be page faults;
MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=100000000 in the environment avoids them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from score_segmenter import RECIPES, ROOT, calibration, dose_scores, held_back_scores, simulated
from segmenter_plans import EIGHT_BITS, SEGMENTERS, WIDE

from stemzoo.evaluate.gallery import add_gallery
from stemzoo.export.bundle import write_bundle
from stemzoo.quantise import quantise
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.training import SegmenterConfig, load_for_export, train_segmenter
from stemzoo.zoo import resolve
from stemzoo.zoo.card import CARD_FILE, dump_card, read_card
from stemzoo.zoo.check import sha256_of

EIGHT_BITS_SEED = 95_000


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
        # at the end of the last stage the rate has come down to nothing, and a few validation patches tell less than that
        checkpoint = run.last if plan.get("kept") == "last" and number == len(plan["stages"]) else run.best
        hours += run.seconds / 3600
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
    if "prose" in plan:
        add_section(out / name / f"v{version}", (ROOT / "scripts" / plan["prose"]).read_text(encoding="utf-8"))
    print(f"{card.id}: {card.size_bytes / 1e6:.1f} MB, {card.parameters:,} parameters")


def add_section(folder: Path, section: str) -> None:
    """Let the prose of the card in `folder`, which is not published yet, end with `section`."""
    card, prose = read_card(folder)
    (folder / CARD_FILE).write_text(dump_card(card, f"{prose.rstrip()}\n\n{section}"), encoding="utf-8")


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


if __name__ == "__main__":
    main()
