"""Fine-tuning beside training from scratch, at equal budget, on a material that the start has never seen: the figures of docs/retrain.md.

    python scripts/bench_finetune.py --work runs/finetune --steps 100

The material is rutile along [001], drafted from its CIF as the page does; the held-back frames are of another seed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from stemzoo.evaluate import evaluate
from stemzoo.export.bundle import export_checkpoint
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.simulation import simulate_dataset
from stemzoo.simulation.draft import draft_recipe
from stemzoo.training import SegmenterConfig, train_segmenter
from stemzoo.zoo import resolve

ROOT = Path(__file__).parents[1]
START = "adf-unet@1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    recipe = options.work / "rutile.toml"
    if not recipe.exists():
        draft_recipe(ROOT / "tests" / "data" / "rutile.cif", (0, 0, 1), recipe)
    paths = {"train": options.work / "rutile.h5", "held back": options.work / "held_back.h5"}
    for seed, (name, path) in enumerate(paths.items()):
        if not path.exists():
            simulate_dataset(recipe, options.frames if name == "train" else 8, path, seed)
    _say("start", Segmenter(Bundle.load(resolve(START))), paths["held back"], 0.0)
    for name, start in (("fine-tuned", resolve(START) / "weights.safetensors"), ("from scratch", None)):
        began = time.perf_counter()
        config = SegmenterConfig(
            datasets=(str(paths["train"]),),
            classes=("column",),
            steps=options.steps,
            steps_per_epoch=options.steps,
            batch=options.batch,
            validation_patches=16,
            ema_decay=0.95,  # the default averages over more steps than so small a budget has
        )
        run = train_segmenter(config, options.work / name.replace(" ", "-"), start=start, progress=False)
        folder = options.work / f"{name.replace(' ', '-')}-bundle"
        export_checkpoint(run.best, folder)
        _say(name, Segmenter(Bundle.load(folder)), paths["held back"], time.perf_counter() - began)


def _say(name: str, segmenter: Segmenter, dataset: Path, seconds: float) -> None:
    score = evaluate(segmenter, dataset)[0]
    row = {"model": name, "f1": score.f1, "f1_interval": score.f1_interval, "rmse_pm": score.rmse_pm, "n": score.n_columns}
    print(json.dumps({**row, "seconds": round(seconds)}), flush=True)


if __name__ == "__main__":
    main()
