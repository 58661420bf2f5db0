"""Print how far a segmenter's columns can be believed: how many it sees in noise, whether it is said where a frame's contrast is inverted,
and how often its stated errors cover the true ones.

    python scripts/bench_trust.py [--model adf-unet] [HELD_BACK.h5 ...]

Noise: frames of 512² of nothing but Poisson counts, two each at five pixel sizes and six means. Inverted: frames of 320² of every recipe
below datasets/, as they are and inverted, where twelve columns or more are found. Coverage: of each frame of a
simulated dataset the share of errors within ±1.96 σ, y and x, and its mean over the frames with five columns or more; the datasets of
docs/infer.md are those that train_zoo.py leaves in its --work folder (held_back_50_110.h5 and so on).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from stemzoo.evaluate import frame_scores
from stemzoo.geometry.quality import MISTRUST_POLARITY
from stemzoo.runtime import Bundle, Segmenter, locate
from stemzoo.runtime.pipeline import LocateOptions
from stemzoo.simulation import draw_frames
from stemzoo.types import Frames
from stemzoo.zoo import resolve

PIXEL_SIZES = (0.1, 0.15, 0.2, 0.3, 0.4)
COUNTS = (0.05, 0.3, 1, 5, 50, 5000)
FEWEST = 5


def in_noise(segmenter: Segmenter) -> np.ndarray:
    """Return how many columns are found in each frame of noise."""
    found = []
    for pixel_size in PIXEL_SIZES:
        for counts in COUNTS:
            for seed in range(2):
                rng = np.random.default_rng([seed, int(pixel_size * 100), int(counts * 100)])
                frames = Frames(rng.poisson(counts, (1, 512, 512)).astype(np.float32), pixel_size, "user", "noise")
                found.append(len(locate(frames, segmenter, LocateOptions(refine=False)).columns[0]))
    return np.array(found)


def polarities(segmenter: Segmenter, each: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return the polarity of frames as they are, and of frames whose contrast was inverted."""
    found: tuple[list[float], list[float]] = ([], [])
    for recipe in sorted((Path(__file__).parents[1] / "datasets").glob("*.toml")):
        for drawn in draw_frames(recipe, each, 7, {"frame.size_px": 320}):
            image = np.asarray(drawn.image, dtype=np.float32).reshape(-1, *drawn.image.shape[-2:])[:1]
            for into, data in zip(found, (image, image.max() + image.min() - image), strict=True):
                (quality,) = locate(Frames(data, float(drawn.pixel_size), "user", recipe.stem), segmenter).quality
                into += [] if quality.polarity is None else [quality.polarity]
    return np.array(found[0]), np.array(found[1])


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*")
    parser.add_argument("--model", default="adf-unet")
    options = parser.parse_args()
    segmenter = Segmenter(Bundle.load(resolve(options.model)))
    found = in_noise(segmenter)
    print(f"{segmenter.spec.id}: {found.mean():.2f} columns in 512² of noise, mean over {len(found)} frames; {found.max()} at most")
    bright, dark = polarities(segmenter)
    print(
        f"{(bright < MISTRUST_POLARITY).sum()} of {len(bright)} frames as they are, the lowest at {bright.min():.2f}, and "
        f"{(dark < MISTRUST_POLARITY).sum()} of {len(dark)} inverted ones are said to be inverted"
    )
    for path in options.datasets:
        scores = [score for score in frame_scores(segmenter, path) if score.hits >= FEWEST]
        y, x = np.mean([(np.abs(score.error_px / score.sigma_px) < 1.96).mean(axis=0) for score in scores], axis=0)
        print(
            f"{path}: ±1.96 σ cover {100 * (y + x) / 2:.1f} % of a frame's errors (y {100 * y:.1f}, x {100 * x:.1f}), {len(scores)} frames"
        )


if __name__ == "__main__":
    main()
