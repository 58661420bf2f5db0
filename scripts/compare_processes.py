"""Train the same on one process and on several that share each batch, and hold loss curves, final scores and weights against each other.

    python scripts/compare_processes.py DATASET.h5                # a segmenter and an encoder, on one process and on two
    python scripts/compare_processes.py DATASET.h5 --steps 200 --what segmenter

The processes are CPUs under gloo, one thread each. What is left is the order in which floats are added, and what training makes of it.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

SETTINGS = {
    "segmenter": "widths = [8, 16, 16]\nvalidation_patches = 16\nworkers = 0\npatch_px = 64\nbatch = 8\nsteps_per_epoch = {pace}\n",
    "rvae": "window = 5.0\nwindow_px = 16\nwidth = 16\nbatch = 100\nepochs = 1\nvalidation_fraction = 0.2\nmin_steps = {steps}\n",
}


def train(what: str, dataset: str, out: Path, steps: int, processes: int) -> dict[str, list[float]]:
    """Train by the command line on so many processes; return the curve of each quantity of metrics.csv."""
    settings = out.with_suffix(".toml")
    settings.write_text(SETTINGS[what].format(steps=steps, pace=max(1, steps // 8)), encoding="utf-8")
    words = [sys.executable, "-m", "stemzoo", "train", what, dataset, "--out", str(out), "--config", str(settings)]
    words += ["--devices", str(processes), *(["--strategy", "ddp"] if processes > 1 else [])]
    words += ["--steps", str(steps)] if what == "segmenter" else []
    done = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
    curves: dict[str, list[float]] = {}
    with (out / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value and key.startswith(("train_", "val_")):
                    curves.setdefault(key, []).append(float(value))
    return curves


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the final weights and what else the run's state holds."""
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def compare(what: str, dataset: str, steps: int, processes: int) -> dict[str, tuple[float, float, float]]:
    """Return of each quantity the final value on one process and on several, and the largest difference along the curve."""
    with tempfile.TemporaryDirectory() as folder:
        one, several = Path(folder) / "one", Path(folder) / "several"
        alone, shared = train(what, dataset, one, steps, 1), train(what, dataset, several, steps, processes)
        if {k: len(v) for k, v in alone.items()} != {k: len(v) for k, v in shared.items()}:
            sys.exit("the curves differ in length")
        found = {key: (alone[key][-1], shared[key][-1], _apart(alone[key], shared[key])) for key in sorted(alone)}
        a, b = weights(one), weights(several)
        moved = max(float((a[key].double() - b[key].double()).abs().max()) for key in a)
        largest = max(float(a[key].double().abs().max()) for key in a)
        return {**found, "largest weight, and change of any": (largest, largest, moved)}


def _apart(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--what", choices=list(SETTINGS), action="append")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    for what in arguments.what or SETTINGS:
        print(f"{what}, {arguments.steps} steps, one process | {arguments.processes} processes | largest difference along the curve")
        for name, (one, several, apart) in compare(what, arguments.dataset, arguments.steps, arguments.processes).items():
            print(f"  {name:<34} {one:12.6g} {several:12.6g} {apart:10.2g}", flush=True)


if __name__ == "__main__":
    main()
