"""What data costs: rendering beside its FFTs, patches beside the trainer that eats them, memory beside the size of the file.

    python scripts/bench_data.py                       # all three; the big file goes to a temporary folder
    python scripts/bench_data.py --part render
    python scripts/bench_data.py --part memory --gigabytes 20 --work /scratch

Each part measures both sides of its ratio in one process and in turn, so that a busy machine slows both alike; times are CPU seconds of one
core. The big file is a dataset like any other, its chunks compressed; `gigabytes` counts its arrays as they are read.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import scipy.fft
import torch

from stemzoo.io.datasets import Dataset
from stemzoo.simulation import frame as simulated
from stemzoo.simulation import load, simulate_dataset
from stemzoo.simulation.render import render as real_render
from stemzoo.training import SegmenterConfig
from stemzoo.training.patches import PatchData
from stemzoo.training.segmentation import SegmenterTask

RECIPES = Path(__file__).parents[1] / "datasets"
FFTS = ("fft", "ifft", "rfft", "irfft", "fft2", "ifft2", "rfft2", "irfft2")
DISTINCT = 4  # frames simulated for the big file, whose content repeats


class Clock:
    """CPU seconds spent in what it wraps."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.process_time() - began
                self.calls += 1

        return timed


def render(size_px: int, n_frames: int) -> None:
    """Print of every recipe the frames a second a core, rendered and whole, and rendering over the FFTs inside it."""
    print(f"rendering, {size_px}² px, one core; goal: 20 frames/s, or rendering within 3 times its FFTs")
    print(f"{'recipe':<22}{'columns':>9}{'whole/s':>9}{'render/s':>10}{'FFTs/s':>9}{'render : FFTs':>15}")
    for path in sorted(RECIPES.glob("*.toml")):
        recipe = load(path, {"frame.size_px": size_px})
        if recipe.structure is None:  # a mixture of the others
            continue
        whole, rendering, ffts, columns = Clock(), Clock(), Clock(), 0
        simulated.simulate(recipe, np.random.default_rng(99))  # plans and caches

        def within(*args: Any, ffts: Clock = ffts, **options: Any) -> Any:
            clocked: dict[str, Any] = {name: ffts.around(getattr(scipy.fft, name)) for name in FFTS}
            with mock.patch.multiple(scipy.fft, **clocked):
                return real_render(*args, **options)

        with mock.patch.object(simulated, "render", rendering.around(within)):
            for seed in range(n_frames):
                columns += len(whole.around(simulated.simulate)(recipe, np.random.default_rng(seed)).yx)
        rate = [n_frames / clock.seconds for clock in (whole, rendering, ffts)]
        ratio = f"{rendering.seconds / ffts.seconds:.1f}"
        print(f"{path.stem:<22}{columns // n_frames:>9}{rate[0]:>9.1f}{rate[1]:>10.1f}{rate[2]:>9.1f}{ratio:>15}", flush=True)


def patches(work: Path, n_steps: int) -> None:
    """Print what the DataModule yields and the default segmenter's training step consumes, and how long the step waits in a real loop."""
    torch.set_num_threads(1)
    path = simulate_dataset(RECIPES / "universal.toml", 24, work / "patches.h5", seed=0)
    config = SegmenterConfig(datasets=(str(path),), classes=("column",), workers=1, steps_per_epoch=n_steps)
    data = PatchData(config)
    task = SegmenterTask(config, data.classes)
    optimiser = torch.optim.AdamW(task.net.parameters(), config.learning_rate)

    def step(batch: Any) -> None:
        from stemzoo.training.segmentation import soft_cross_entropy

        loss = soft_cross_entropy(task.net(batch.image), batch.target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    loader = iter(data.train_dataloader())
    step(next(loader))
    cutting, eating = Clock(), Clock()
    cut, eat = cutting.around(data.training_set.__getitem__), eating.around(step)
    for index in range(n_steps - 1):
        for number in range(config.batch):
            cut(index * config.batch + number)
        eat(next(loader))
    yields, consumes = cutting.calls / cutting.seconds, eating.calls * config.batch / eating.seconds
    print(f"\npatches of {config.patch_px}² px from a DataModule, one core each side; goal: 5 times what the trainer consumes")
    print(f"{'a worker yields':<26}{yields:>8.0f} patches/s")
    print(f"{'the trainer consumes':<26}{consumes:>8.1f} patches/s, batches of {config.batch}, default segmenter, {config.precision}")
    print(f"{'ratio':<26}{yields / consumes:>8.1f}")
    waiting = 0.0
    began = time.perf_counter()
    loader = iter(PatchData(config.model_copy(update={"seed": 1})).train_dataloader())
    step(next(loader))  # the worker starts while this runs
    started = time.perf_counter()
    for _ in range(n_steps - 1):
        before = time.perf_counter()
        batch = next(loader)
        waiting += time.perf_counter() - before
        step(batch)
    lasted = time.perf_counter() - started
    print(
        f"{'waiting for patches':<26}{waiting / lasted:>8.1%} of {lasted:.0f} s with one worker ({started - began:.1f} s to start)",
        flush=True,
    )


def grow(path: Path, gigabytes: float) -> None:
    """Write a dataset of `gigabytes`: frames of 1024² px whose compressed chunks are those of a few simulated ones."""
    seed = simulate_dataset(RECIPES / "srtio3.toml", DISTINCT, path.with_suffix(".seed.h5"), 0, settings={"frame.size_px": 1024})
    with h5py.File(seed, "r") as source, h5py.File(path, "w") as out:
        out.attrs.update(source.attrs)
        packed = h5py.File(path.with_suffix(".packed.h5"), "w")
        for name, group in source["frames"].items():
            for array in ("image", "expected"):
                values = np.round(group[array][...] * 8) / 8  # an eighth of an electron: compresses
                packed.create_dataset(
                    f"{name}/{array}", data=values, chunks=(256, 256), compression="gzip", compression_opts=1, shuffle=True
                )
        names, n_bytes, number = list(source["frames"]), 0, 0
        while n_bytes < gigabytes * 1e9:
            origin = names[number % len(names)]
            group = out.create_group(f"frames/{number:06d}")
            group.attrs.update({**source[f"frames/{origin}"].attrs, "seed": f"0:{number}"})
            for array in ("columns", "species", "counts"):
                source.copy(f"frames/{origin}/{array}", group)
            for array in ("image", "expected"):
                old = packed[f"{origin}/{array}"]
                new = group.create_dataset(
                    array, old.shape, old.dtype, chunks=old.chunks, compression="gzip", compression_opts=1, shuffle=True
                )
                for place in range(old.id.get_num_chunks()):
                    corner = old.id.get_chunk_info(place).chunk_offset
                    new.id.write_direct_chunk(corner, old.id.read_direct_chunk(corner)[1])
                n_bytes += new.size * new.dtype.itemsize
            number += 1
        packed.close()


@dataclass(frozen=True)
class Resident:
    """Memory of one process [GB]: all of it (rss); its share of what several hold (pss); what is no page of a file (anonymous); its share
    of that, which its children hold too until one of them writes to it (own)."""

    name: str
    rss: float
    pss: float
    anonymous: float
    own: float

    @property
    def file(self) -> float:
        """Pages of libraries, which the kernel may drop."""
        return self.rss - self.anonymous


def total(family: list[Resident]) -> float:
    """GB that processes of one family hold together: what each has for itself, and the libraries that they map once."""
    return sum(one.own for one in family) + max((one.file for one in family), default=0.0)


def _peak(command: list[str]) -> tuple[list[Resident], float]:
    """Run python with `command` on one thread; return its processes when they held most, and the largest rss of the first [GB]."""
    process = subprocess.Popen([sys.executable, *command], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    peak: list[Resident] = []
    first = 0.0
    while process.poll() is None:
        now = [one for one in (_resident(pid, "trainer" if pid == process.pid else "worker") for pid in _family(process.pid)) if one]
        peak, first = max(peak, now, key=total), max([first, *(one.rss for one in now[:1])])
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return peak, first


def _resident(pid: int, name: str) -> Resident | None:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (OSError, ProcessLookupError):
        return None
    held = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e9 for line in rollup}
    if "Rss" not in held:
        return None
    return Resident(name, held["Rss"], held["Pss"], held["Anonymous"], held["Pss_Anon"] + held["Pss_Shmem"])


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, ProcessLookupError):
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def memory(work: Path, gigabytes: float, steps: int, batch: int) -> None:
    """Print the peak resident memory of a training on a big file, and on one a hundred times smaller."""
    free = shutil.disk_usage(work).free / 1e9
    if free < 0.35 * gigabytes + 1:
        raise SystemExit(f"{work}: {free:.1f} GB free; the file wants about {0.3 * gigabytes:.0f} GB: name another --work")
    print(f"\ntraining the default segmenter, batches of {batch}, one worker, {steps} steps and a validation; goal: under 1 GB", flush=True)
    for said, code in (("import torch", "import torch"), ("import torch, lightning", "import torch, lightning.pytorch")):
        (floor,), _ = _peak(["-c", f"{code}, time; time.sleep(2)"])
        print(f"{said:<26}{floor.rss:>6.2f} GB: anonymous {floor.anonymous:.2f}, libraries {floor.file:.2f}", flush=True)
    settings = work / "run.toml"
    settings.write_text(f"steps_per_epoch = {steps}\nvalidation_patches = {batch}\nworkers = 1\n")
    for size in (max(gigabytes / 100, 0.05), gigabytes):
        path = work / f"{size:g}.h5"
        grow(path, size)
        on_disk = os.stat(path).st_size / 1e9
        print(f"{size:.3g} GB read, {on_disk:.3g} GB on disk, {len(Dataset(path))} frames")
        for parts in (1, 2, 4):
            sizes = ["--steps", str(steps), "--batch", str(batch), "--accumulate", str(parts), "--out", str(work / f"run{size:g}-{parts}")]
            family, first = _peak(["-m", "stemzoo", "train", "segmenter", str(path), "--config", str(settings), *sizes])
            print(f"  in {parts} part{'s' if parts > 1 else ''}: {total(family):.2f} GB together, rss of the trainer {first:.2f} at most")
            for one in family:
                shares = f"pss {one.pss:.2f}, anonymous {one.anonymous:.2f}, of which its share {one.own:.2f}"
                print(f"    {one.name:<9}rss {one.rss:.2f}, {shares}, libraries {one.file:.2f}", flush=True)
        for left in work.glob(f"{size:g}*.h5"):
            left.unlink()


def main() -> None:
    """Read the options, print the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["render", "patches", "memory"])
    parser.add_argument("--work", type=Path, help="folder for the files; a temporary one where left out")
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--batch", type=int, default=16, help="patches a step, for memory")
    parser.add_argument("--quick", action="store_true", help="fewer frames and steps, a file of 1 GB")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.work) as folder:
        if chosen.part in (None, "render"):
            render(512, 3 if chosen.quick else 10)
        if chosen.part in (None, "patches"):
            patches(Path(folder), 6 if chosen.quick else 20)
        if chosen.part in (None, "memory"):
            memory(Path(folder), 1.0 if chosen.quick else chosen.gigabytes, 4 if chosen.quick else 12, chosen.batch)


if __name__ == "__main__":
    main()
