"""Print what segmenters of several shapes cost and find, each trained for as many short steps: which shape pays on a CPU.

    stemzoo data simulate datasets/universal.toml --frames 240 --seed 7 --out universal.h5
    stemzoo data simulate datasets/universal.toml --frames 48 --seed 8 --out held_back.h5
    python scripts/sweep_segmenter.py --data universal.h5 --held-back held_back.h5 [--steps 400] [--work runs/sweep] > sweep.md

A shape is the fold of the stem (its stride), the widths and the depths of the levels, and whether its convolutions are separable
(depthwise, then across channels). All see the same patches in the same order, with one schedule, on one thread. `GFLOP` are those of a
512² frame, multiply and add counted apart; `ms` the processor time of onnxruntime on it, one thread, the least of nine; `s/step` the
processor time of a step of training. F1 at 0.5 Å and the RMSE of the network's own maxima, before any refinement, are over the held-back
frames.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from stemzoo.evaluate import TOLERANCE
from stemzoo.export.bundle import export_checkpoint
from stemzoo.geometry.matching import match
from stemzoo.io.datasets import Dataset
from stemzoo.nets.unet import UNet
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.pipeline import LocateOptions, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import SessionOptions
from stemzoo.training import SegmenterConfig, train_segmenter
from stemzoo.types import Frames


class Shape(NamedTuple):
    """A network's stem and levels."""

    fold: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    separable: bool = False


SHAPES = (
    Shape(2, (24, 48, 72, 96), (2, 2, 2, 2)),
    Shape(2, (16, 32, 48, 64), (2, 2, 2, 2)),
    Shape(2, (16, 32, 48, 64), (1, 1, 2, 2)),
    Shape(2, (16, 32, 64), (2, 2, 2)),
    Shape(2, (24, 48, 72, 96), (2, 2, 2, 2), separable=True),
    Shape(4, (32, 64, 96, 128), (2, 2, 1, 1)),
    Shape(4, (48, 64, 96), (2, 2, 2)),
    Shape(4, (32, 48, 64), (2, 2, 2)),
    Shape(4, (32, 48, 64), (1, 2, 2)),
    Shape(4, (48, 64, 96), (2, 2, 2), separable=True),
)
BATCH = 8


def gflop(shape: Shape) -> float:
    """Return the arithmetic on a 512² frame."""
    net = UNet(1, shape.widths, shape.fold, shape.depths, shape.separable).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 512, 512))
    return float(counter.get_total_flops()) / 1e9


def config_for(shape: Shape, data: Path, steps: int) -> SegmenterConfig:
    """Return the configuration of `steps` steps, the schedule fitted to them."""
    return SegmenterConfig(
        datasets=(str(data),),
        classes=("column",),
        fold=shape.fold,
        widths=shape.widths,
        depths=shape.depths,
        separable=shape.separable,
        batch=BATCH,
        steps=steps,
        steps_per_epoch=steps,
        validation_patches=8,
        workers=0,
        ema_decay=0.98,
    )


def score(segmenter: Segmenter, held_back: Path) -> tuple[float, float]:
    """Return F1 and RMSE [px] of unrefined positions over a dataset's frames."""
    hits, found, placed, errors = 0, 0, 0, []
    dataset = Dataset(held_back)
    for index in range(len(dataset)):
        pixel_size, yx = float(dataset.attributes(index)["pixel_size"]), dataset.positions(index)
        frames = Frames(dataset.image(index)[None], pixel_size, "file")
        columns = locate(frames, segmenter, LocateOptions(refine=False)).columns[0]
        pairs = match(columns.yx, yx, TOLERANCE / pixel_size)
        hits, found, placed = hits + len(pairs.found), found + len(columns), placed + len(yx)
        errors.append(columns.yx[pairs.found] - yx[pairs.truth])
    return 2 * hits / max(found + placed, 1), float(np.sqrt((np.concatenate(errors) ** 2).mean()))


def milliseconds(segmenter: Segmenter) -> float:
    """Return the least processor time of the network on a 512² frame."""
    image = np.random.default_rng(0).poisson(20, (512, 512)).astype(np.float32)
    times = []
    for _ in range(10):
        began = time.process_time()
        segmenter.probabilities(image)
        times.append(1e3 * (time.process_time() - began))
    return min(times[1:])


def main() -> None:
    """Read the options, print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--held-back", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400, help="of training, each shape")
    parser.add_argument("--work", type=Path, default=Path("runs/sweep"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print("| fold | widths | depths | separable | GFLOP / 512² | ms | s/step | F1 | RMSE px | F1 per GFLOP | RMSE × GFLOP |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for number, shape in enumerate(SHAPES):
        work = chosen.work / str(number)
        began = time.process_time()
        run = train_segmenter(config_for(shape, chosen.data, chosen.steps), work / "run", progress=False)
        each = (time.process_time() - began) / chosen.steps
        export_checkpoint(run.best, work / "bundle")
        segmenter = Segmenter(Bundle.load(work / "bundle", SessionOptions(threads=1)))
        (f1, rmse), cost = score(segmenter, chosen.held_back), gflop(shape)
        sizes = " | ".join("-".join(map(str, values)) for values in (shape.widths, shape.depths))
        print(f"| {shape.fold} | {sizes} | {'yes' if shape.separable else 'no'} | {cost:.2f} | {milliseconds(segmenter):.0f} ", end="")
        print(f"| {each:.2f} | {f1:.3f} | {rmse:.2f} | {f1 / cost:.3f} | {rmse * cost:.2f} |", flush=True)


if __name__ == "__main__":
    main()
