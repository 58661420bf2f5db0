"""Print how near located columns come to what the electrons of simulated frames allow, by material, optics and dose.

    python scripts/bench_limit.py [--model adf-unet] [--frames 6] [--seed 77000]

Frames of 384² px at 0.2 Å/px, of crystals with the recipes' defects and grains. `counts` is the mean number of electrons in a visible
column's whole peak, `faintest` the 5th percentile of them. `bound` is the root mean square over the same columns of the Cramér–Rao bound
with all positions and amplitudes unknown (stemzoo.simulation.bound); `z` the spread of errors over their stated sigma.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from stemzoo.evaluate.run import judge
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.pipeline import locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.simulation import draw_frames
from stemzoo.simulation.bound import limits_of
from stemzoo.types import Frames
from stemzoo.zoo import resolve

RECIPES = Path(__file__).parents[1] / "datasets"
SAMPLING = 0.2
IN_FOCUS: dict[str, object] = {
    "optics.defocus_nm": [-1.0, 1.0],
    "optics.astigmatism_nm": [0.0, 0.8],
    "optics.coma_nm": [0.0, 10.0],
    "optics.source_fwhm": [0.5, 0.7],
    "scan.row_jitter": [0.0, 0.02],
    "specimen.background": [0.05, 0.2],
}
AT_ITS_BEST = {**IN_FOCUS, "optics.defocus_nm": 0.0, "optics.astigmatism_nm": 0.0, "specimen.background": [0.02, 0.1]}
OPTICS: dict[str, dict[str, object]] = {
    "as the recipe": {},
    "in focus, source 0.5-0.7 Å": IN_FOCUS,
    "at its best, 0.45-0.55 Å": {**AT_ITS_BEST, "optics.source_fwhm": [0.45, 0.55]},
    "at its best, 0.3-0.35 Å": {**AT_ITS_BEST, "optics.source_fwhm": [0.3, 0.35]},
}
MATERIALS: dict[str, dict[str, object]] = {
    "sr3fe2o7": {},
    "sr3fe2o7, 4 nm": {"specimen.thickness_nm": 4.0},
    "srtio3": {},
    "srtio3, 4 nm": {"specimen.thickness_nm": 4.0},
    "mos2": {},
    "mos2, 80 kV": {"optics.energy_kev": 80.0, "optics.convergence_mrad": [34.0, 36.0]},
}
"""Thin as well as as the recipe says (5 to 40 nm): what a thick crystal scatters between its columns costs precision."""


def score(segmenter: Segmenter, material: str, settings: dict[str, object], frames: int, seed: int) -> str:
    """Return the cells of one row: F1, RMSE, bound, their ratio, z and the faintest counts."""
    hits, found, placed = 0, 0, 0
    errors, scores, bounds, faintest = [], [], [], []
    for frame in draw_frames(RECIPES / f"{material}.toml", frames, seed, settings):
        bound = limits_of({**frame.facts, "pixel_size": frame.pixel_size}, frame.expected, frame.yx, frame.counts).position
        columns = locate(Frames(frame.image[None], frame.pixel_size, "file", material), segmenter).columns[0]
        judged = judge(columns.yx, frame.yx, (frame.image.shape[0], frame.image.shape[1]), frame.pixel_size)
        hits += len(judged.found)
        found += len(judged.found) + len(judged.false)
        placed += len(judged.placed) + len(judged.missed)
        errors.append(columns.yx[judged.found] - frame.yx[judged.placed])
        scores.append(errors[-1] / columns.sigma[judged.found])
        bounds.append(bound[judged.placed])
        faintest.append(np.percentile(frame.counts, 5))
    rmse, least = (float(np.sqrt((np.concatenate(part) ** 2).mean())) for part in (errors, bounds))
    z = float(np.concatenate(scores).std())
    return f"{2 * hits / (found + placed):8.4f}{rmse:10.3f}{least:10.3f}{rmse / least:8.2f}{z:7.2f}{np.mean(faintest):10.0f}{placed:9d}"


def main() -> None:
    """Read the options, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="adf-unet")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--seed", type=int, default=77000)
    chosen = parser.parse_args()
    segmenter = Segmenter(Bundle.load(resolve(chosen.model)))
    heads = {"counts": 7, "F1": 8, "RMSE px": 10, "bound px": 10, "ratio": 8, "z": 7, "faintest": 10, "columns": 9}
    print(f"{'material':16s}{'optics':28s}" + "".join(f"{head:>{width}s}" for head, width in heads.items()))
    for name, own in MATERIALS.items():
        for optics, settings in OPTICS.items():
            for counts in (300.0, 1000.0):
                laid = {**settings, **own, "dose.counts_per_column": counts, "frame.sampling": SAMPLING, "frame.size_px": 384}
                cells = score(segmenter, name.split(",")[0], laid, chosen.frames, chosen.seed)
                print(f"{name:16s}{optics:28s}{counts:7.0f}{cells}", flush=True)


if __name__ == "__main__":
    main()
