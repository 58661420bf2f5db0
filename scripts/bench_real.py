"""Print what a segmenter makes of experimental frames: columns, lattice, labelled atoms, and if repeated noise moves columns as σ says.

    python scripts/bench_real.py FOLDER [--model adf-unet] [--overlays DIR]

FOLDER holds frames that stemzoo reads, and beside some of them labels of single atoms: <stem>.csv, or <first three letters>_Results.csv,
with X and Y in px. `a cell` is the number of columns in a cell of the frame's own lattice, near a whole number where the lattice is found
and no column is missed; F1 is at 5 px. For `z` the frame is located twice with white noise of its own strength added anew: the spread of
differences over their stated σ, which is √½ = 0.71 where σ is right, since the frame's own noise, half of all, is in both; it is less where
the frame was smoothed, whose σ is wide because of what smoothing did.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from stemzoo.errors import StemzooError
from stemzoo.geometry.cleaning import clean
from stemzoo.geometry.lattice import find_lattice
from stemzoo.geometry.matching import match, scores
from stemzoo.geometry.quality import reasons
from stemzoo.io.read import read
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.pipeline import locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Analysis, Frames
from stemzoo.zoo import resolve

LABEL_PX = 5.0


def labels_of(path: Path) -> np.ndarray | None:
    """Return the labelled atoms (n, 2) yx of a frame, None where there are none."""
    for table in (path.with_suffix(".csv"), path.with_name(f"{path.name[:3]}_Results.csv")):
        if table.is_file():
            xy = np.loadtxt(table, delimiter=",", skiprows=1, usecols=(-2, -1), ndmin=2)
            return np.asarray(xy[:, ::-1])
    return None


def spread(frames: Frames, image: np.ndarray, segmenter: Segmenter, first: Analysis) -> str:
    """Return the robust spread of differences between two noisier repeats over their σ, and how many columns tell it."""
    own = float(np.std(image - gaussian_filter(image, 1.0)))
    repeats = []
    for seed in (0, 1):
        noisy = image + np.random.default_rng(seed).normal(0, own, image.shape).astype(np.float32)
        repeats.append(locate(replace(frames, data=noisy[None]), segmenter).columns[0])
    a, b = repeats
    if not len(a) or not len(b):
        return "–"
    reach = 3 * float(np.median(first.columns[0].sigma)) + 1
    pairs = match(a.yx, b.yx, reach)
    good = a.fit_ok[pairs.found] & b.fit_ok[pairs.truth]
    if good.sum() < 20:
        return "–"
    one, other = pairs.found[good], pairs.truth[good]
    z = (a.yx[one] - b.yx[other]) / np.hypot(a.sigma[one], b.sigma[other])
    return f"{1.4826 * np.median(np.abs(z)):.2f} ({good.sum()})"


def overlay(image: np.ndarray, analysis: Analysis, path: Path) -> None:
    """Write the frame with its columns as PNG: green where the fit holds, red where it failed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 10 * image.shape[0] / image.shape[1]), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    low, high = np.percentile(image, (0.5, 99.7))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    columns = analysis.columns[0]
    for held, colour in ((True, "lime"), (False, "red")):
        yx = columns.yx[columns.fit_ok == held]
        axes.scatter(yx[:, 1], yx[:, 0], s=9, facecolors="none", edgecolors=colour, linewidths=0.7)
    axes.set_axis_off()
    figure.savefig(path)


def row(path: Path, segmenter: Segmenter, overlays: Path | None) -> str:
    """Return the line of one frame."""
    frames = replace(read(path), notices=())
    image = clean(frames.frame(0))[0]
    frames = replace(frames, data=image[None])
    analysis = locate(frames, segmenter)
    columns, lattice, labels = analysis.columns[0], find_lattice(image), labels_of(path)
    cell = "–"
    if lattice is not None:
        cell = f"{len(columns) * abs(np.linalg.det(lattice.vectors_px)) / image.size:.2f}"
    f1 = "–" if labels is None else f"{scores(columns.yx, labels, LABEL_PX).f1:.2f} ({len(labels)})"
    if overlays is not None:
        overlays.mkdir(parents=True, exist_ok=True)
        overlay(image, analysis, overlays / f"{path.stem}.png")
    sigma = f"{np.median(columns.sigma):.3f}" if len(columns) else "–"
    failed = int((~columns.fit_ok).sum())
    doubts = ", ".join(reasons(analysis.quality[0])) or "–"
    z = spread(frames, image, segmenter, analysis)
    return f"{path.name[:34]:36s}{len(columns):>8d}{failed:>8d}{sigma:>9s}{cell:>8s}{f1:>12s}{z:>14s}  {doubts}"


def main() -> None:
    """Read the options, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="adf-unet")
    parser.add_argument("--overlays", type=Path, metavar="DIR")
    chosen = parser.parse_args()
    segmenter = Segmenter(Bundle.load(resolve(chosen.model)))
    heads = f"{'columns':>8s}{'failed':>8s}{'σ px':>9s}{'a cell':>8s}{'F1':>12s}{'z (pairs)':>14s}"
    print(f"{'frame':36s}{heads}  doubts")
    for path in sorted(chosen.folder.iterdir()):
        if path.suffix in (".csv", ".json", ".md"):
            continue
        try:
            print(row(path, segmenter, chosen.overlays), flush=True)
        except StemzooError as error:
            print(f"{path.name[:34]:36s}  {error}", flush=True)


if __name__ == "__main__":
    main()
