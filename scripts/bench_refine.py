"""Print how near refinement comes to the Cramér–Rao bound, how far its sigma can be believed, and what it costs.

    python scripts/bench_refine.py [--quick]

Frames are simulated by tests/geometry/simulated.py: Gaussian columns (sigma 3 px) on a background with a gradient, Poisson noise, starts
0.25 px off. Ratios are root mean squares over all columns and both axes against the bound of all positions, amplitudes and the background's
level together; `z` is the spread of errors over their stated sigma. The second table adds starts where there is no column. Seconds are the
best of five, one core's own time beside the wall's, so that a busy machine shows. NumPy alone does the work; SciPy is needed for the bound.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "geometry")]

from simulated import Scene, joint_bound, lattice, scene  # noqa: E402

from stemzoo.geometry.refine import refine  # noqa: E402

SIGMA, SIZE = 3.0, 200
FALSE = (0, 0.01, 0.02, 0.05, 0.15)
CASES = (("square", 7.0), ("perovskite", 5.5), ("honeycomb", 4.0), ("graphene", 3.5), ("dumbbell", 3.0), ("dumbbell", 2.0), ("row", 2.5))


def make(kind: str, separation: float, counts: float) -> Scene:
    """Return a scene whose nearest columns are `separation` sigmas apart, with `counts` in the brightest's central pixel."""
    yx, amplitude = lattice(kind, separation * SIGMA, SIZE, margin_px=4 * SIGMA)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    return scene(yx, amplitude * counts, SIGMA, (SIZE, SIZE), 0.2 * counts * (1 + 0.3 * np.cos(3 * y + 2 * x)))


def precision(seeds: int) -> None:
    """Print a table of RMSE over bound and of z, by arrangement and dose, and the error without noise."""
    doses = (20, 50, 200, 1000, 5000)
    print("RMSE / bound (z) by counts in the brightest column's central pixel; max |error| in px of a frame without noise")
    print(f"{'columns':22s}" + "".join(f"{dose:>14d}" for dose in doses) + f"{'no noise':>12s}")
    for kind, separation in CASES:
        cells = []
        for dose in doses:
            truth = make(kind, separation, dose)
            bound = joint_bound(truth, background_known=False)
            errors, scores, bounds = [], [], []
            for seed in range(seeds):
                fit = refine(truth.noisy(seed), truth.starts(seed, 0.25))
                errors.append((fit.yx - truth.yx)[fit.ok])
                scores.append(errors[-1] / fit.sigma[fit.ok])
                bounds.append(bound[fit.ok])
            ratio = np.sqrt(np.mean(np.concatenate(errors) ** 2) / np.mean(np.concatenate(bounds) ** 2))
            cells.append(f"{ratio:7.3f} ({np.concatenate(scores).std():.2f})")
        truth = make(kind, separation, 100)
        bias = np.abs(refine(truth.expected, truth.starts(0, 0.25)).yx - truth.yx).max()
        print(f"{kind + f', {separation:g} sigma apart':22s}" + "".join(f"{cell:>14s}" for cell in cells) + f"{bias:12.4f}", flush=True)


def strays(seeds: int) -> None:
    """Print RMSE over bound of a perovskite's columns, and how many false ones pass for columns, by the share of starts that are false."""
    print("\nRMSE / bound, false starts taken for columns, ms a frame; by false starts for each column")
    print(f"{'counts':>10s}" + "".join(f"{share:>20.0%}" for share in FALSE))
    for dose in (50, 300, 1000):
        truth = make("perovskite", 6.1, dose)
        bound, columns, cells = joint_bound(truth, background_known=False), len(truth.yx), []
        for share in FALSE:
            squares, bounds, passed, seconds = [], [], 0, []
            for seed in range(seeds):
                starts = np.concatenate([truth.starts(seed, 0.25), truth.nowhere(seed, int(share * columns))])
                frame, began = truth.noisy(seed), time.perf_counter()
                fit = refine(frame, starts)
                seconds.append(time.perf_counter() - began)
                good, passed = fit.ok[:columns], passed + int(fit.ok[columns:].sum())
                squares.append(((fit.yx[:columns] - truth.yx)[good] ** 2).ravel())
                bounds.append((bound[good] ** 2).ravel())
            ratio = np.sqrt(np.concatenate(squares).mean() / np.concatenate(bounds).mean())
            cells.append(f"{ratio:.3f}, {passed}, {1e3 * np.median(seconds):.0f}")
        print(f"{dose:>10d}" + "".join(f"{cell:>20s}" for cell in cells), flush=True)


def cost(sizes: tuple[int, ...]) -> None:
    """Print seconds by size of the frame, a perovskite at 0.15 Å/px (nearest columns 18.4 px apart, sigma 3 px)."""
    print("\nseconds a frame")
    print(f"{'frame':>10s}{'columns':>10s}{'wall':>10s}{'processor':>10s}{'ms/column':>12s}{'RMSE px':>10s}")
    for size in sizes:
        yx, amplitude = lattice("perovskite", 18.4, size)
        truth = scene(yx, amplitude * 100, SIGMA, (size, size), 20.0)
        frame, starts = truth.noisy(0), truth.starts(0, 0.25)
        wall, core = [], []
        for _ in range(5):
            began, busy = time.perf_counter(), time.process_time()
            fit = refine(frame, starts)
            wall.append(time.perf_counter() - began)
            core.append(time.process_time() - busy)
        rmse = np.sqrt(((fit.yx - yx)[fit.ok] ** 2).mean())
        print(f"{size:>9d}²{len(yx):>10d}{min(wall):>10.3f}{min(core):>10.3f}{1e3 * min(core) / len(yx):>12.3f}{rmse:>10.4f}", flush=True)


def main() -> None:
    """Read the options, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two exposures a cell and small frames")
    chosen = parser.parse_args()
    precision(2 if chosen.quick else 6)
    strays(2 if chosen.quick else 6)
    cost((256, 512) if chosen.quick else (256, 512, 1024, 2048))


if __name__ == "__main__":
    main()
