"""Print what encoders fitted to experimental frames explain, beside principal components, and how well trainings agree with each other.

    python scripts/bench_real_encoders.py FRAME … [--model adf-unet] [--seeds 3] [--steps 600]

For each frame: the share of its sub-images' variance that decoded patterns explain (the median over columns), for each seed; the mean share
that 2, 3 and 16 principal components explain, of which 16 are what is not noise; and for each pair of seeds how well one training's latents
and angles follow from the other's, 0 to 1 (`analyze.window.agreement`). An encoder with two latents and an angle that explains no more than
two components has found nothing that they do not show.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations

import numpy as np

from stemzoo.analyze.options import AnalyzeOptions
from stemzoo.analyze.source import read_frames
from stemzoo.analyze.window import agreement
from stemzoo.runtime import Bundle, Segmenter, cutting, pipeline
from stemzoo.runtime.structure import disc, explainable, explained
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.fitting import draw_with, encode_with, fit_encoder
from stemzoo.zoo import resolve

SAMPLES = 20, 48  # px: sides between which sub-images are resampled


def describe(path: str, segmenter: Segmenter, seeds: int, steps: int) -> str:
    """Return one frame's line."""
    frames, _ = read_frames(path, AnalyzeOptions())
    analysis = pipeline.locate(frames, segmenter)
    window = cutting.window_for(analysis)
    pieces = cutting.subimages(analysis, window, int(np.clip(round(window), *SAMPLES)))
    rows, seen = np.flatnonzero(pieces.inside), disc(pieces.window_px)
    images = np.asarray(pieces.data[rows][:, seen], dtype=np.float64)
    began, encodings, shares = time.process_time(), [], []
    for seed in range(seeds):
        task = fit_encoder(pieces, EncoderConfig(seed=seed, max_steps=steps))
        encodings.append(encode_with(task, pieces))
        drawn = draw_with(task, encodings[-1].latents[rows], encodings[-1].angle[rows])[:, seen]
        shares.append(float(np.median(explained(images, drawn))))
    spent = (time.process_time() - began) / seeds
    components = ", ".join(f"{explainable(images, k).mean():.2f}" for k in (2, 3, 16))
    agreed = ", ".join(f"{agreement(one, two, rows):.2f}" for one, two in combinations(encodings, 2))
    explains = ", ".join(f"{share:.2f}" for share in shares)
    found = f"explains {explains} (components {components}); agreement {agreed}"
    return f"{len(rows)} columns, window {window:.1f} px: {found}; {spent:.0f} CPU s a fit"


def main() -> None:
    """Read the options and print a line for each frame."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("frames", nargs="+")
    ask.add_argument("--model", default="adf-unet")
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--steps", type=int, default=600, help="of each training")
    options = ask.parse_args()
    segmenter = Segmenter(Bundle.load(resolve(options.model)))
    for path in options.frames:
        print(f"{path}: {describe(path, segmenter, options.seeds, options.steps)}", flush=True)


if __name__ == "__main__":
    main()
