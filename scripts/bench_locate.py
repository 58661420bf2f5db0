"""Print how well and how fast columns are located, beside AtomAI, atomap and a scikit-image baseline, on the same frames in one run.

    python scripts/bench_locate.py --model adf-unet [--atomai PYTHON] [--atomap PYTHON] [--part speed] [--work DIR] [--threads 2]

Frames are simulated by tests/geometry/simulated.py: a perovskite at 0.15 Å/px (columns of sigma 0.45 Å, 2.76 Å apart, the second kind
0.55 as bright), Poisson noise, no scan noise, by counts in the brightest column's central pixel. `RMSE / bound` holds the root mean square
error of matched columns against that of their Cramér–Rao bounds, all positions and amplitudes unknown together. PYTHON is the interpreter
of an environment that has the peer; AtomAI is trained there on frames of the same kind for --train-seconds of a processor, unless DIR holds
one from before: train it with `--part none` on a busy machine, then time on a quiet one. The baseline is told sigma and spacing. Each runs
in a process of its own, with the same number of threads. Seconds are those of one frame, the best of a few: by the clock and, in brackets,
of processor time, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "geometry")]

from simulated import Scene, joint_bound, lattice, scene  # noqa: E402

from stemzoo.geometry.matching import match  # noqa: E402

PIXEL_SIZE, SIGMA, SPACING = 0.15, 3.0, 18.4
TOLERANCE = 0.5
DOSES = (20, 50, 100, 300, 1000)
SIZES = (256, 512, 1024, 2048)
GROWTH = (1024, 2048, 4096, 8192)
TRAINING_FRAMES = 64
LARGEST_REPEATED = 1024  # px: peers take half a minute for a larger frame, which one run tells well enough


def make(size: int, counts: float, seed: int) -> Scene:
    """Return a perovskite, columns cut by the frame's edge included."""
    y, x = np.mgrid[:size, :size] / size
    yx, peak = lattice("perovskite", SPACING, size, seed, margin_px=-8.0, turn=0.3 + 0.7 * seed)
    return scene(yx, peak * counts, SIGMA, (size, size), 0.2 * counts * (1 + 0.3 * np.cos(3 * y + 2 * x)))


def write_frames(work: Path, sizes: tuple[int, ...], frames: int) -> dict[str, Scene]:
    """Write every frame to be located, in the place of those of an earlier run; return the truth by the frames' names.

    Args: sizes: of the frames that are timed; frames: for each dose, to be scored.
    """
    for old in work.glob("frame_*.npz"):
        old.unlink()
    truth = {f"frame_d{dose}_{k}": make(256, dose, k) for dose in DOSES for k in range(frames)}
    truth |= {f"frame_s{size}": make(size, 100, 77) for size in sizes}
    for number, (name, made) in enumerate(truth.items()):
        repeats = 3 if name.startswith("frame_s") and len(made.expected) <= LARGEST_REPEATED else 1
        np.savez(work / f"{name}.npz", image=made.noisy(number), spacing_px=SPACING, repeats=repeats)
    return truth


def write_training(work: Path) -> None:
    """Write AtomAI's training frames."""
    rng = np.random.default_rng(5)
    images, masks = [], []
    y, x = np.mgrid[:256, :256]
    for k in range(TRAINING_FRAMES):
        made = make(256, float(np.exp(rng.uniform(np.log(20), np.log(1500)))), 1000 + k)
        images.append(made.noisy(k))
        mask = np.zeros((256, 256), bool)
        for row, col in made.yx:
            mask |= (y - row) ** 2 + (x - col) ** 2 < SIGMA**2
        masks.append(mask)
    np.savez(work / "train.npz", images=np.stack(images), masks=np.stack(masks))


def run_ours(work: Path, model: str, threads: int) -> None:
    """Locate every frame with a stemzoo model; write WORK/<model>.npz."""
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.pipeline import locate
    from stemzoo.runtime.segmenter import Segmenter
    from stemzoo.runtime.session import SessionOptions
    from stemzoo.types import Frames
    from stemzoo.zoo import resolve

    segmenter = Segmenter(Bundle.load(resolve(model), SessionOptions(threads=threads)))
    result: dict[str, object] = {}
    for path in sorted(work.glob("frame_*.npz")):
        frame = np.load(path)
        frames = Frames(frame["image"][None], PIXEL_SIZE, "user", path.name)
        best, worked, analysis = np.inf, np.inf, None
        for _ in range(2 * int(frame["repeats"]) if len(frames.frame(0)) <= SIZES[-1] else 1):
            began, busy = time.perf_counter(), time.process_time()
            tried = locate(frames, segmenter)
            worked = min(worked, time.process_time() - busy)
            if (took := time.perf_counter() - began) < best:
                best, analysis = took, tried
        assert analysis is not None
        result[path.stem], result[f"{path.stem}_seconds"] = analysis.columns[0].yx, (best, worked)
        result[f"{path.stem}_stages"] = ", ".join(f"{name} {1e3 * took:.0f}" for name, took in analysis.seconds.items())
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(work / f"{model.replace('/', '_')}.npz", **result)  # type: ignore[arg-type]


def run_baseline(work: Path) -> None:
    """Peaks of the smoothed frame, then a least-squares Gaussian a peak; sigma and spacing are told. Write WORK/baseline.npz."""
    from scipy.ndimage import gaussian_filter
    from scipy.optimize import least_squares
    from skimage.feature import peak_local_max

    reach = int(min(2.2 * SIGMA, 0.5 * SPACING))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]

    def fitted(window: np.ndarray, start: list[float]) -> np.ndarray:
        def misfit(p: np.ndarray) -> Any:
            return (p[2] * np.exp(-((dy - p[0]) ** 2 + (dx - p[1]) ** 2) / (2 * p[3] ** 2)) + p[4] - window).ravel()

        return np.asarray(least_squares(misfit, start, method="lm", max_nfev=200).x)

    result: dict[str, object] = {}
    for path in sorted(work.glob("frame_*.npz")):
        image = np.load(path)["image"].astype(float)
        if image.shape[0] > 1024:
            continue
        began, busy = time.perf_counter(), time.process_time()
        smooth = gaussian_filter(image, 0.7 * SIGMA)
        low, high = np.quantile(smooth, (0.05, 0.995))
        least = low + 0.18 * (high - low)
        yx = peak_local_max(smooth, min_distance=int(0.25 * SPACING), threshold_abs=least).astype(float)  # type: ignore[no-untyped-call]
        for k, (row, col) in enumerate(yx.astype(int)):
            if reach <= row < image.shape[0] - reach and reach <= col < image.shape[1] - reach:
                window = image[row - reach : row + reach + 1, col - reach : col + reach + 1]
                found = fitted(window, [0.0, 0.0, float(np.ptp(window)), SIGMA, float(window.min())])
                if np.abs(found[:2]).max() < reach:
                    yx[k] += found[:2]
        result[path.stem], result[f"{path.stem}_seconds"] = yx, (time.perf_counter() - began, time.process_time() - busy)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(work / "baseline.npz", **result)  # type: ignore[arg-type]


def judged(found: np.ndarray, truth: Scene, bound: np.ndarray) -> tuple[int, int, int, float, float]:
    """Return hits, located and true columns away from the edge, and the sums of squared errors and bounds of the hits."""
    margin, limit = 1.0 / PIXEL_SIZE, truth.expected.shape[0] - 1 - 1.0 / PIXEL_SIZE
    inner_found, inner_truth = (((yx > margin) & (yx < limit)).all(axis=1) for yx in (found, truth.yx))
    pairs = match(found, truth.yx, TOLERANCE / PIXEL_SIZE)
    good = inner_truth[pairs.truth]
    hits = int(good.sum())
    false = int(inner_found.sum()) - int(inner_found[pairs.found].sum())
    error = found[pairs.found[good]] - truth.yx[pairs.truth[good]]
    return hits, hits + false, int(inner_truth.sum()), float((error**2).sum()), float((bound[pairs.truth[good]] ** 2).sum())


def growth(work: Path, model: str, largest: int, threads: list[str], environment: dict[str, str]) -> None:
    """Print seconds and peak memory of our own way over growing frames, each in a process of its own."""
    print("\nframe, columns: seconds a frame (processor), µs a column, peak memory in MB; ms by stage")
    for size in (size for size in GROWTH if size <= largest):
        truth = write_frames(work, (size,), 0)
        name, count = next((name, len(made.yx)) for name, made in truth.items())
        del truth
        run = [sys.executable, str(Path(__file__).resolve()), "--alone", model, "--work", str(work), *threads]
        subprocess.run(run, env=environment, check=True, cwd=work)
        data = np.load(work / f"{model.replace('/', '_')}.npz")
        (wall, busy), stages = data[f"{name}_seconds"], data[f"{name}_stages"]
        print(f"{size}², {count}: {wall:.2f} ({busy:.2f}), {1e6 * wall / count:.0f}, {float(data['peak_mb']):.0f}; {stages}", flush=True)


def precision_table(work: Path, truth: dict[str, Scene], contenders: dict[str, tuple[str, str]]) -> None:
    """Print F1 and RMSE / bound by dose. contenders: title → file in WORK and suffix of its arrays."""
    bounds = {name: joint_bound(made) for name, made in truth.items() if name.startswith("frame_d")}
    print(f"\nF1 at {TOLERANCE} Å; RMSE / bound, by counts in the brightest column's central pixel (256² px)")
    print(f"{'':<26}" + "".join(f"{dose:>16}" for dose in DOSES))
    for title, (file, suffix) in contenders.items():
        data, cells = np.load(work / f"{file}.npz"), []
        for dose in DOSES:
            names = [name for name in bounds if name.startswith(f"frame_d{dose}_") and name + suffix in data]
            sums = np.sum([judged(data[name + suffix], truth[name], bounds[name]) for name in names], axis=0) if names else np.zeros(5)
            ratio = np.sqrt(sums[3] / sums[4]) if sums[4] else float("nan")
            cells.append(f"{2 * sums[0] / max(sums[1] + sums[2], 1):.4f}; {ratio:.2f}")
        print(f"{title:<26}" + "".join(f"{cell:>16}" for cell in cells))


def speed_table(work: Path, truth: dict[str, Scene], contenders: dict[str, tuple[str, str]], sizes: tuple[int, ...]) -> None:
    """Print seconds by size, ours by stage too, and memory. Arguments as in `precision_table`."""
    print("\nseconds a frame, 100 counts; peak memory of the process")
    print(f"{'':<26}" + "".join(f"{f'{size}²':>16}" for size in sizes) + f"{'MB':>8}")
    columns = "".join(f"{len(truth[f'frame_s{size}'].yx):>16}" for size in sizes)
    print(f"{'columns':<26}{columns}")
    for title, (file, suffix) in contenders.items():
        data = np.load(work / f"{file}.npz")
        cells = []
        for key in (f"frame_s{size}{suffix}_seconds" for size in sizes):
            cells.append("{:.3f} ({:.3f})".format(*data[key]) if key in data else "–")
        print(f"{title:<26}" + "".join(f"{cell:>16}" for cell in cells) + f"{float(data['peak_mb']):>8.0f}")
        for size in sizes:
            if f"frame_s{size}_stages" in data:
                print(f"    {size}² [ms]: {data[f'frame_s{size}_stages']}")


def main() -> None:
    """Read the options, run every contender in its own process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="may be given several times [default: adf-unet]")
    parser.add_argument("--atomai", metavar="PYTHON")
    parser.add_argument("--atomap", metavar="PYTHON")
    parser.add_argument("--train-seconds", type=float, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=("all", "precision", "speed", "growth", "none"), default="all")
    parser.add_argument("--largest", type=int, default=None, help="px, side of the largest timed frame [default: 2048; 8192 to grow]")
    parser.add_argument("--frames", type=int, default=4, help="for each dose")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep frames, results and the trained AtomAI here [default: nowhere]")
    parser.add_argument("--alone", metavar="WHAT", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.alone:
        run_baseline(chosen.work) if chosen.alone == "baseline" else run_ours(chosen.work, chosen.alone, chosen.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(chosen, chosen.work or Path(folder))


def compare(chosen: argparse.Namespace, work: Path) -> None:
    """Run every contender that was asked for in its own process on frames in WORK, and print."""
    work.mkdir(parents=True, exist_ok=True)
    work = work.resolve()
    environment = {**os.environ, "OMP_NUM_THREADS": str(chosen.threads), "PYTHONPATH": str(REPOSITORY)}
    threads = ["--threads", str(chosen.threads)]
    if chosen.part == "growth":
        growth(work, (chosen.model or ["adf-unet"])[0], chosen.largest or GROWTH[-1], threads, environment)
        return
    sizes = tuple(size for size in SIZES if size <= (chosen.largest or SIZES[-1])) if chosen.part in ("all", "speed") else ()
    truth = write_frames(work, sizes, chosen.frames if chosen.part in ("all", "precision") else 0)

    def run(*command: str) -> None:
        subprocess.run(command, env=environment, check=True, cwd=work)

    contenders = {}
    for what in [*(chosen.model or ["adf-unet"]), "baseline"] if truth else []:
        run(sys.executable, str(Path(__file__).resolve()), "--alone", what, "--work", str(work), *threads)
        contenders["scikit-image + Gaussian" if what == "baseline" else what] = (what.replace("/", "_"), "")
    peers = Path(__file__).resolve().parent / "peers"
    if chosen.atomai:
        if not (work / "train.npz").exists():
            write_training(work)
        run(chosen.atomai, str(peers / "locate_atomai.py"), str(work), "--seconds", str(chosen.train_seconds), *threads)
        contenders |= {"AtomAI": ("atomai", ""), "AtomAI, refined": ("atomai", "_refined")}
    if chosen.atomap and truth:
        run(chosen.atomap, str(peers / "locate_atomap.py"), str(work))
        contenders["atomap"] = ("atomap", "")
    if chosen.part in ("all", "precision"):
        precision_table(work, truth, contenders)
    if sizes:
        speed_table(work, truth, contenders, sizes)


if __name__ == "__main__":
    main()
