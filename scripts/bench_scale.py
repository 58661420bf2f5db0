"""Time and memory of an analysis against frames, pixels, columns and workers: the figures that docs/scale.md quotes.

    python scripts/bench_scale.py                          # small: a few minutes on two quiet cores
    python scripts/bench_scale.py --part write --frames 100 1000 10000
    python scripts/bench_scale.py --part stack --frames 100 10000 --side 512    # the whole of it, hours

Each measurement is a process of its own, so that its peak of resident memory is its own. CPU seconds are quoted beside wall seconds: on a
busy machine only the former mean something.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from stemzoo.analyze import NONE, AnalyzeOptions, Here, Outcome, Request, models_for, run
from stemzoo.analyze.batch import Plan, start
from stemzoo.analyze.finish import finish
from stemzoo.analyze.parts import Part
from stemzoo.types import Columns

OPTIONS = AnalyzeOptions(encoder=NONE, pixel_size=0.2, report=False)
PERIOD_PX = 15


def make_stack(path: Path, frames: int, side: int) -> None:
    """Write a stack of lattices (period 3 Å) as uint8, frame by frame."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    stack = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(frames, side, side))
    pictures = []
    for _ in range(min(frames, 8)):
        dy, dx = rng.uniform(0, PERIOD_PX, 2)
        wave = np.cos(2 * np.pi * (y - dy) / PERIOD_PX) + np.cos(2 * np.pi * (x - dx) / PERIOD_PX)
        pictures.append(rng.poisson(100 * np.exp(2 * (wave - 2)) + 5).clip(0, 255).astype(np.uint8))
    for k in range(frames):
        stack[k] = pictures[k % len(pictures)]
    stack.flush()


def measure_stack(folder: Path, frames: int, side: int, workers: int) -> dict[str, float]:
    """Analyse a stack, read lazily as a large one is."""
    import stemzoo.io.npy

    stemzoo.io.npy.EAGER_BYTES = 1
    path = folder / "stack.npy"
    make_stack(path, frames, side)
    request = Request(str(path), folder / "out", "analyze", OPTIONS)
    models = models_for("analyze", OPTIONS)
    outcomes: list[Outcome] = []

    def failed(request: Request, error: Exception) -> None:
        raise error

    if not workers:
        begun, cpu = time.perf_counter(), time.process_time()
        run([request], Here(models), outcomes.append, failed)
        spent = time.process_time() - cpu
    else:
        from stemzoo.analyze.cluster import cluster

        with cluster(f"local:{workers}", models) as pool:
            begun = time.perf_counter()
            run([request], pool, outcomes.append, failed)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime + resource.getrusage(resource.RUSAGE_CHILDREN).ru_stime
    wall = time.perf_counter() - begun
    return {"columns": outcomes[0].summary.columns, "wall_s": wall, "cpu_s": spent, "per_frame_ms": 1000 * spent / frames}


def measure_write(folder: Path, frames: int, columns: int) -> dict[str, float]:
    """Put the parts of `frames` frames of `columns` columns together; the parts are made up, the way is that of every stack."""
    path = folder / "stack.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(frames, 64, 64))[0] = np.arange(64)  # sparse
    models = models_for("analyze", OPTIONS)
    plan = start(Request(str(path), folder / "out", "analyze", replace(OPTIONS, frames="0:1")), models)
    assert isinstance(plan, Plan)
    batches = tuple((a, min(a + 16, frames)) for a in range(0, frames, 16))
    plan = replace(plan, n_frames=frames, batches=batches, request=replace(plan.request, options=OPTIONS))
    rng = np.random.default_rng(0)
    yx, sigma = rng.uniform(0, 64, (columns, 2)), rng.uniform(0.01, 0.02, (columns, 2))
    table = Columns(yx, sigma, np.zeros(columns), rng.random(columns), rng.random(columns), np.ones(columns), plan.classes, 0.2)
    for number, (a, b) in enumerate(batches):
        plan.journal.save("analyze", number, Part(tuple(replace(table, frame=k) for k in range(a, b))))
    begun, cpu = time.perf_counter(), time.process_time()
    outcome = finish(plan, models)
    spent = time.process_time() - cpu
    return {
        "columns": outcome.summary.columns,
        "wall_s": time.perf_counter() - begun,
        "cpu_s": spent,
        "per_frame_ms": 1000 * spent / frames,
    }


def measure_task(folder: Path, tasks: int) -> dict[str, float]:
    """Send empty tasks through a scheduler and one worker."""
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as started, Client(started) as client:
        client.submit(int).result()
        begun, cpu = time.perf_counter(), time.process_time()
        client.gather([client.submit(abs, -k, pure=False) for k in range(tasks)])
        spent = time.process_time() - cpu
        wall = time.perf_counter() - begun
    return {"wall_s": wall, "cpu_s": spent, "per_task_ms": 1000 * spent / tasks}


def apart(name: str, **numbers: int) -> dict[str, float]:
    """Measure in a process of its own; return what it found and its peak of resident memory [MB]."""
    words = [sys.executable, __file__, "--measure", name, "--with", json.dumps(numbers)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(title: str, **numbers: float) -> None:
    print(f"{title:<44}" + "  ".join(f"{name} {value:,.4g}" for name, value in numbers.items()), flush=True)


MEASURES: dict[str, Callable[..., dict[str, float]]] = {"stack": measure_stack, "write": measure_write, "task": measure_task}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["stack", "pixels", "write", "columns", "workers", "task"], help="only this one")
    parser.add_argument("--frames", type=int, nargs="+")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--with", dest="numbers", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        with tempfile.TemporaryDirectory() as folder:
            found = MEASURES[arguments.measure](Path(folder), **arguments.numbers)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    parts = [arguments.part] if arguments.part else ["stack", "pixels", "write", "columns", "workers", "task"]
    if "stack" in parts:
        for frames in arguments.frames or (4, 16, 64):
            show(f"analyse {frames} frames of {arguments.side}²", **apart("stack", frames=frames, side=arguments.side, workers=0))
    if "pixels" in parts:
        for side in (128, 256, 512):
            show(f"analyse 8 frames of {side}²", **apart("stack", frames=8, side=side, workers=0))
    if "write" in parts:
        for frames in arguments.frames or (100, 1000):
            show(f"write {frames} frames of 770 columns", **apart("write", frames=frames, columns=770))
    if "columns" in parts:
        for columns in (100, 1000, 10000):
            show(f"write 100 frames of {columns} columns", **apart("write", frames=100, columns=columns))
    if "workers" in parts:
        found = {n: apart("stack", frames=96, side=arguments.side, workers=n) for n in (1, 2)}
        for n, numbers in found.items():
            show(f"analyse 96 frames of {arguments.side}² on {n} worker{'s' * (n > 1)}", **numbers)
        show("two workers over one", wall=found[1]["wall_s"] / found[2]["wall_s"], cpu=found[1]["cpu_s"] / found[2]["cpu_s"])
    if "task" in parts:
        show("send 1000 empty tasks", **apart("task", tasks=1000))


if __name__ == "__main__":
    main()
