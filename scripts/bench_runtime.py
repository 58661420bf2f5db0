"""Print how fast and how small the instrument layer is, beside AtomAI, and what it leaves to an acquisition that runs beside it.

    python scripts/bench_runtime.py --part frames [--model adf-unet --model adf-unet-int8] [--atomai PYTHON] [--work DIR] [--threads 2]
    python scripts/bench_runtime.py --part folder      # size, memory and start of the folder that `stemzoo bundle` writes
    python scripts/bench_runtime.py --part guard       # a busy loop on one core, stemzoo.pyz --cores on the other

Frames are those of bench_locate.py at 100 counts: a perovskite at 0.15 Å/px, columns 2.76 Å apart. `frames` times the whole way, from the
pixels to columns with errors, angles and latents, with models loaded: ours segments, locates, refines all columns together and encodes;
AtomAI predicts with `refine=True`, cuts sub-images and encodes them, in its own environment and process; where DIR holds the atomai.pt of
`bench_locate.py --work`, that is taken, else one is trained first for --train-seconds. Times are the best of a few, by the clock, so run it
on a quiet machine. `outside` is the share of our time that is spent neither in the segmenter's network nor in encoding, which
cuts its sub-images.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "scripts")]

from bench_locate import PIXEL_SIZE, SPACING, make, write_training  # noqa: E402

SIZES = (512, 1024)
NETWORKS = ("network", "encode")
ROUND_S, ROUNDS = 0.25, 60  # of the busy loop, with and without the analysis beside it: short ones, since a virtual core's speed drifts
STACK = 400  # frames analysed meanwhile


def write_frames(work: Path) -> dict[int, int]:
    """Write a frame of each size for both contenders; return how many columns each shows."""
    many = {}
    for size in SIZES:
        made = make(size, 100, 77)
        many[size] = int(((made.yx > -0.5) & (made.yx < size - 0.5)).all(axis=1).sum())
        image = made.noisy(0).astype(np.float32)
        np.savez(work / f"runtime_{size}.npz", image=image, spacing_px=SPACING)
        np.save(work / f"frame_{size}.npy", image)
    return many


def run_ours(work: Path, model: str, encoder: str, threads: int, repeats: int) -> None:
    """Analyse every frame; write WORK/runtime_ours.npz with the stages of the quickest run."""
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.encoder import Encoder
    from stemzoo.runtime.pipeline import analyze
    from stemzoo.runtime.segmenter import Segmenter
    from stemzoo.runtime.session import SessionOptions
    from stemzoo.types import Frames
    from stemzoo.zoo import resolve

    options = SessionOptions(threads=threads)
    finder, coder = Segmenter(Bundle.load(resolve(model), options)), Encoder(Bundle.load(resolve(encoder), options))
    result: dict[str, object] = {}
    for size in SIZES:
        frames = Frames(np.load(work / f"runtime_{size}.npz")["image"][None], PIXEL_SIZE, "user", f"runtime_{size}")
        best = np.inf
        for _ in range(repeats):
            began = time.perf_counter()
            analysis = analyze(frames, finder, coder)
            took = time.perf_counter() - began
            if took < best:
                best = took
                result |= {f"{size}_seconds": took, f"{size}_stages": list(analysis.seconds), f"{size}_found": len(analysis.columns[0])}
                result[f"{size}_each"] = list(analysis.seconds.values())
    np.savez(work / "runtime_ours.npz", **result)  # type: ignore[arg-type]


def frames(options: argparse.Namespace, work: Path) -> None:
    """Print the time of a whole frame, by stage, beside AtomAI's."""
    many = write_frames(work)
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    theirs: dict[int, float] = {}
    if options.atomai:
        if not (work / "atomai.pt").exists() and not (work / "train.npz").exists():
            write_training(work)
        script = REPOSITORY / "scripts" / "peers" / "runtime_atomai.py"
        words = [options.atomai, str(script), str(work), "--seconds", str(options.train_seconds), "--threads", str(options.threads)]
        alone = {key: value for key, value in environment.items() if key not in ("PYTHONPATH", "OPENBLAS_NUM_THREADS")}
        subprocess.run(words, env=alone, check=True, cwd=work)  # AtomAI leaves files where it runs
        data = np.load(work / "runtime_atomai.npz")
        for size in SIZES:
            theirs[size] = float(data[f"{size}_seconds"].sum())
            each = ", ".join(f"{name} {took:.3f}" for name, took in zip(data[f"{size}_stages"], data[f"{size}_seconds"], strict=True))
            print(f"AtomAI, {size}²: {data[f'{size}_found']} of {many[size]} columns, {theirs[size]:.2f} s: {each}")
        print(
            f"AtomAI: import {data['import_s']:.1f} s, first result {data['first_s']:.1f} s, peak memory at 1024² {data['peak_mb']:.0f} MB"
        )
    for model in options.model or ["adf-unet", "adf-unet-int8"]:
        words = [sys.executable, str(Path(__file__).resolve()), "--part", "ours", "--work", str(work), "--threads", str(options.threads)]
        subprocess.run([*words, "--model", model, "--encoder", options.encoder], env=environment, check=True)
        data = np.load(work / "runtime_ours.npz")
        for size in SIZES:
            took = float(data[f"{size}_seconds"])
            stages = dict(zip(data[f"{size}_stages"], data[f"{size}_each"], strict=True))
            outside = 1 - sum(stages[name] for name in NETWORKS) / took
            ratio = f", {theirs[size] / took:.1f} × AtomAI" if theirs else ""
            print(f"{model}, {size}²: {data[f'{size}_found']} of {many[size]} columns, {took:.3f} s{ratio}, outside {100 * outside:.0f} %")
            print("    ms: " + ", ".join(f"{name} {1000 * value:.0f}" for name, value in stages.items()))


def make_folder(options: argparse.Namespace, work: Path, model: str) -> Path:
    """Return the folder for the microscope with one segmenter and one encoder."""
    from stemzoo.zoo.microscope import make_folder

    place = work / f"folder_{model.replace('/', '_')}"
    shutil.rmtree(place, ignore_errors=True)
    make_folder([model, options.encoder], place)
    return place


def folder(options: argparse.Namespace, work: Path) -> None:
    """Print size, start and memory of the folder, each run a fresh process of `options.python`."""
    write_frames(work)
    for model in options.model or ["adf-unet", "adf-unet-int8"]:
        place = make_folder(options, work, model)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        print(f"{model} + {options.encoder}: {size / 1e6:.1f} MB")
        for side in SIZES:
            words = [
                options.python,
                str(place / "stemzoo.pyz"),
                "analyze",
                str(work / f"frame_{side}.npy"),
                "--pixel-size",
                str(PIXEL_SIZE),
            ]
            words += ["--out", str(work / "out"), "--threads", str(options.threads)]
            runs = [_timed(words) for _ in range(options.repeats)]
            best, peak = min(took for took, _ in runs), max(mb for _, mb in runs)
            print(f"    {side}²: from start to result {best:.2f} s, peak resident memory {peak:.0f} MB")


def _timed(words: list[str]) -> tuple[float, float]:
    """Return wall seconds and peak resident MB of a process."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    began = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return took, used.ru_maxrss / 1024


def busy_loop(core: int, seconds: float) -> float:
    """Return how many turns a second a loop makes on a core of its own, as an acquisition that polls its hardware."""
    os.sched_setaffinity(0, {core})
    turns, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        turns += 1
    return turns / (time.perf_counter() - began)


def guard(options: argparse.Namespace, work: Path) -> None:
    """Print what a busy loop on core 0 loses while a stack is analysed on core 1, turn and turn about."""
    image = make(512, 100, 77).noisy(0)
    np.save(work / "stack.npy", np.broadcast_to(image.astype(np.uint16), (STACK, *image.shape)))
    place = make_folder(options, work, (options.model or ["adf-unet"])[0])
    words = [options.python, str(place / "stemzoo.pyz"), "analyze", str(work / "stack.npy"), "--pixel-size", str(PIXEL_SIZE)]
    for title, more in (("--cores 1", ["--cores", "1"]), ("no option", [])):
        process = subprocess.Popen([*words, "--out", str(work / "out"), *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rates: dict[bool, list[float]] = {True: [], False: []}
        with multiprocessing.Pool(1) as pool:
            time.sleep(3.0)  # models are loaded, frames under way
            for _ in range(ROUNDS):
                for beside in (False, True):
                    process.send_signal(signal.SIGCONT if beside else signal.SIGSTOP)
                    time.sleep(0.03)
                    rates[beside].append(pool.apply(busy_loop, (0, ROUND_S)))
        done = process.poll() is not None
        process.kill()
        process.wait()
        if done:
            raise SystemExit("the stack was analysed before the rounds were over; make it longer (STACK)")
        alone, beside_us = np.array(rates[False]), np.array(rates[True])
        lost = 1 - beside_us / alone
        drift = 1.25 * np.median(np.abs(np.diff(alone))) / np.median(alone) / np.sqrt(ROUNDS)  # standard error of the median
        print(f"{title}: a busy loop on core 0 loses {100 * np.median(lost):.1f} ± {100 * drift:.1f} % (median of {ROUNDS} pairs)")


def main() -> None:
    """Read the options and run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("frames", "folder", "guard", "ours"), required=True)
    parser.add_argument("--model", action="append", help="may be given several times [default: adf-unet, adf-unet-int8]")
    parser.add_argument("--encoder", default="rvae-sr3fe2o7")
    parser.add_argument("--atomai", metavar="PYTHON")
    parser.add_argument("--train-seconds", type=float, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs stemzoo.pyz")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep frames and results here; may hold atomai.pt [default: nowhere]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if options.part == "ours":
            run_ours(work, options.model[0], options.encoder, options.threads, options.repeats)
        else:
            {"frames": frames, "folder": folder, "guard": guard}[options.part](options, work)


if __name__ == "__main__":
    main()
