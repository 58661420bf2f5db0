"""Print what encoders fitted to experimental frames explain, beside principal components, and how well trainings agree with each other.

    python scripts/bench_real_encoders.py FRAME … [--model adf-unet] [--seeds 3] [--steps 600] [--symmetry N]

For each frame: the share of its sub-images' variance that decoded patterns explain (the median over columns), for each seed; the mean share
that 2, 3 and 16 principal components explain, of which 16 are what is not noise; and for each pair of seeds how well one training's latents
and angles follow from the other's, 0 to 1 (`analyze.window.agreement`). An encoder with two latents and an angle that explains no more than
two components has found nothing that they do not show. Then, of the first seed, how many columns are of which order of symmetry, and the
grains: the angles modulo 360°/n, n the commonest order, that a tenth of the columns or more share, within 8°.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations

import numpy as np

from stemzoo.analyze.options import AnalyzeOptions
from stemzoo.analyze.source import read_frames
from stemzoo.analyze.window import agreement
from stemzoo.geometry.angles import difference, mean
from stemzoo.runtime import Bundle, Segmenter, cutting, pipeline
from stemzoo.runtime.structure import disc, explainable, explained
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.fitting import draw_with, encode_with, fit_encoder
from stemzoo.types import ORDERS, Encoding
from stemzoo.zoo import resolve

SAMPLES = 20, 48  # px: sides between which sub-images are resampled


GRAIN, SMALLEST = 8.0, 0.1  # degrees that the angles of a grain lie within, and its share of the columns


def grains(encoding: Encoding, rows: np.ndarray) -> str:
    """Return how many of the columns `rows` (n,) are of which order, and the angles that many of the commonest order share."""
    symmetry, angle = encoding.symmetry[rows], encoding.angle[rows]
    count = {order: int((symmetry == order).sum()) for order in ORDERS}
    order = max(count, key=lambda n: count[n])
    said, left = [], angle[symmetry == order]
    grid = np.radians(np.arange(0, 360 / order, 0.5))
    while len(left):
        near = np.abs(difference(left[:, None], grid, order)) < np.radians(GRAIN / 2)
        together = near[:, near.sum(axis=0).argmax()]
        if together.sum() < SMALLEST * len(rows):
            break
        middle = np.array(mean(left[together], order))
        away = np.degrees(np.percentile(np.abs(difference(left[together], middle, order)), 95))
        said.append(f"{np.degrees(middle) % (360 / order):.1f}° ({together.sum()}, 95 % within {away:.1f}°)")
        left = left[~together]
    return f"{', '.join(f'{many} {n}-fold' for n, many in count.items() if many)}; grains at {', '.join(said) or 'no angle'}"


def describe(path: str, segmenter: Segmenter, seeds: int, steps: int, symmetry: int | None) -> str:
    """Return one frame's line."""
    frames, _ = read_frames(path, AnalyzeOptions())
    analysis = pipeline.locate(frames, segmenter)
    window = cutting.window_for(analysis)
    pieces = cutting.subimages(analysis, window, int(np.clip(round(window), *SAMPLES)))
    rows, seen = np.flatnonzero(pieces.inside), disc(pieces.window_px)
    images = np.asarray(pieces.data[rows][:, seen], dtype=np.float64)
    began, encodings, shares = time.process_time(), [], []
    for seed in range(seeds):
        task = fit_encoder(pieces, EncoderConfig.model_validate({"seed": seed, "max_steps": steps, "symmetry": symmetry}))
        encodings.append(encode_with(task, pieces))
        drawn = draw_with(task, encodings[-1].latents[rows], encodings[-1].angle[rows])[:, seen]
        shares.append(float(np.median(explained(images, drawn))))
    spent = (time.process_time() - began) / seeds
    components = ", ".join(f"{explainable(images, k).mean():.2f}" for k in (2, 3, 16))
    agreed = ", ".join(f"{agreement(one, two, rows):.2f}" for one, two in combinations(encodings, 2))
    explains = ", ".join(f"{share:.2f}" for share in shares)
    found = f"explains {explains} (components {components}); agreement {agreed}"
    return f"{len(rows)} columns, window {window:.1f} px: {found}; {spent:.0f} CPU s a fit\n    {grains(encodings[0], rows)}"


def main() -> None:
    """Read the options and print a line for each frame."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("frames", nargs="+")
    ask.add_argument("--model", default="adf-unet")
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--steps", type=int, default=600, help="of each training")
    ask.add_argument("--symmetry", type=int, metavar="N", help="order that every column is taken for")
    options = ask.parse_args()
    segmenter = Segmenter(Bundle.load(resolve(options.model)))
    for path in options.frames:
        print(f"{path}: {describe(path, segmenter, options.seeds, options.steps, options.symmetry)}", flush=True)


if __name__ == "__main__":
    main()
