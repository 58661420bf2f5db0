"""Time and memory of an analysis against frames, pixels, columns and workers: the figures that docs/scale.md quotes.

    python scripts/bench_scale.py                          # small: a few minutes on two quiet cores
    python scripts/bench_scale.py --part write --frames 100 1000 10000
    python scripts/bench_scale.py --part stack --frames 10 100 10000 --side 512 --model adf-unet-nano --workers 1    # an hour
    python scripts/bench_scale.py --part workers --frames 256 --side 512      # two workers beside one

Each measurement is a process of its own, whose resident memory is sampled twice a second, its workers' beside it. CPU seconds are quoted
beside wall seconds: on a busy machine only the former mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stemzoo.analyze import NONE, AnalyzeOptions, Here, Models, Outcome, Request, run
from stemzoo.analyze.cluster import LOCAL, cluster
from stemzoo.analyze.finish import finish
from stemzoo.analyze.journal import Part
from stemzoo.analyze.plan import Plan, start
from stemzoo.types import Columns

OPTIONS = AnalyzeOptions(encoder=NONE, pixel_size=0.2, report=False)
CELL = 4.0  # Å, about that of a perovskite
PICTURES = 8  # different frames of a stack, which come again and again


def make_stack(folder: Path, frames: int, side: int, pixel_size: float) -> Path:
    """Write a stack of noisy lattices, float64; a few frames lie on the disk, and the stack names them over and over as its pages."""
    rng, period = np.random.default_rng(0), CELL / pixel_size
    y, x = np.mgrid[:side, :side]
    with (folder / "pictures.raw").open("wb") as pictures:
        for _ in range(PICTURES):
            dy, dx = rng.uniform(0, period, 2)
            wave = np.cos(2 * np.pi * (y - dy) / period) + np.cos(2 * np.pi * (x - dx) / period)
            pictures.write(rng.poisson(100 * np.exp(4 * (wave - 2)) + 5).astype(np.float64).tobytes())
    whole, rest = divmod(frames, PICTURES)
    raw, page = str(folder / "pictures.raw"), side * side * 8
    pages = [(raw, 0, n * page) for n in [PICTURES] * whole + [rest] * (rest > 0)]
    with h5py.File(folder / "stack.h5", "w") as file:
        file.create_dataset("data", shape=(frames, side, side), dtype=np.float64, external=pages)
    return folder / "stack.h5"


@dataclass
class Memory:
    """Samples the resident memory of this process and of all it started; `peak` [MB] of each, and of all together."""

    peak: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def sampled(self) -> Iterator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.5):
                now = {"client_mb": _resident_mb(os.getpid()), "workers_mb": sum(map(_resident_mb, _descendants(os.getpid())))}
                for name, value in {**now, "together_mb": sum(now.values())}.items():
                    self.peak[name] = max(self.peak[name], value)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _descendants(process: int) -> list[int]:
    """Return the processes that `process` started, theirs included (Linux)."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            children = [int(word) for word in (task / "children").read_text().split()]
        except OSError:  # ended meanwhile
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _cpu_s(process: int) -> float:
    """Return the CPU seconds of a process so far (Linux)."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


@contextmanager
def workers_of_one_thread(n: int, models: Models) -> Iterator[Any]:
    """Give a pool of `n` local workers, each with one thread for everything, however many cores there are."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set(LOCAL),
        LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=":0") as started,
        cluster(started.scheduler_address, models) as pool,
    ):
        yield pool


def measure_stack(
    folder: Path, frames: int, side: int, workers: int, model: str | None = None, pixel_size: float = 0.2
) -> dict[str, float]:
    """Analyse a stack in this process, or on workers of one thread each; wall time without the start of the workers, CPU time with it."""
    import stemzoo.io.hdf5

    stemzoo.io.hdf5.EAGER_BYTES = 1  # type: ignore[attr-defined]  # short stacks too are read lazily, as long ones are
    options = replace(OPTIONS, model=model, pixel_size=pixel_size)
    request = Request(str(make_stack(folder, frames, side, pixel_size)), folder / "out", "analyze", options)
    models = Models.load(options, "analyze")
    outcomes: list[Outcome] = []
    memory, laps = Memory(), list[tuple[int, float]]()

    def failed(request: Request, error: Exception) -> None:
        raise error

    def progress(_: str, done: int, total: int) -> None:
        laps.append((done, time.perf_counter()))
        cpu = sum(map(_cpu_s, [os.getpid(), *_descendants(os.getpid())])) - spent
        peak = ", ".join(f"{name} {value:.0f}" for name, value in memory.peak.items())
        print(f"{done} of {total} frames after {laps[-1][1] - begun:.0f} s, {cpu:.1f} of CPU; {peak}", file=sys.stderr, flush=True)

    spent = time.process_time()
    with memory.sampled():
        if not workers:
            begun = time.perf_counter()
            run([request], Here(models), outcomes.append, failed, progress=progress)
            wall = time.perf_counter() - begun
        else:
            with workers_of_one_thread(workers, models) as pool:
                begun = time.perf_counter()
                run([request], pool, outcomes.append, failed, progress=progress)
                wall = time.perf_counter() - begun
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = time.process_time() - spent + children.ru_utime + children.ru_stime
    # Begin and finish are one worker's work; the batches between are all workers'.
    return {
        "columns": outcomes[0].summary.columns,
        "wall_s": wall,
        "batches_s": laps[-1][1] - laps[0][1],
        "cpu_s": spent,
        "per_frame_ms": 1000 * spent / frames,
        **memory.peak,
    }


def measure_write(folder: Path, frames: int, columns: int) -> dict[str, float]:
    """Put the parts of `frames` frames of `columns` columns together; the parts are made up, the way is that of every stack."""
    path = folder / "stack.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(frames, 64, 64))[0] = np.arange(64)  # sparse
    models = Models.load(OPTIONS, "analyze")
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


def apart(name: str, **options: float | str | None) -> dict[str, float]:
    """Measure in a process of its own; return what it found and its peak of resident memory [MB]."""
    words = [sys.executable, __file__, "--measure", name, "--with", json.dumps(options)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(title: str, **numbers: float) -> None:
    print(f"{title:<44}" + "  ".join(f"{name} {value:,.4g}" for name, value in numbers.items()), flush=True)


MEASURES: dict[str, Callable[..., dict[str, float]]] = {"stack": measure_stack, "write": measure_write, "task": measure_task}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["stack", "pixels", "write", "columns", "workers", "task"], help="only this one")
    parser.add_argument("--frames", type=int, nargs="+")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--model", help="segmenter; the zoo's default where not said")
    parser.add_argument("--pixel-size", type=float, default=0.2, help="Å/px of `stack`; a cell of 4 Å holds a column")
    parser.add_argument("--workers", type=int, default=0, help="of `stack`; 0 is this process alone")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--with", dest="numbers", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        with tempfile.TemporaryDirectory() as folder:
            found = MEASURES[arguments.measure](Path(folder), **arguments.numbers)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    side, model = arguments.side, arguments.model
    parts = [arguments.part] if arguments.part else ["stack", "pixels", "write", "columns", "workers", "task"]
    if "stack" in parts:
        for frames in arguments.frames or (4, 16, 64):
            words = {"side": side, "workers": arguments.workers, "model": model, "pixel_size": arguments.pixel_size}
            show(f"analyse {frames} frames of {side}²", **apart("stack", frames=frames, **words))
    if "pixels" in parts:
        for extent in (128, 256, 512):
            show(f"analyse 8 frames of {extent}²", **apart("stack", frames=8, side=extent, workers=0, model=model))
    if "write" in parts:
        for frames in arguments.frames or (100, 1000):
            show(f"write {frames} frames of 770 columns", **apart("write", frames=frames, columns=770))
    if "columns" in parts:
        for columns in (100, 1000, 10000):
            show(f"write 100 frames of {columns} columns", **apart("write", frames=100, columns=columns))
    if "workers" in parts:
        frames = (arguments.frames or [96])[0]
        on = {n: apart("stack", frames=frames, side=side, workers=n, model=model) for n in (1, 2)}
        for n, numbers in on.items():
            show(f"analyse {frames} frames of {side}² on {n} worker{'s' * (n > 1)}", **numbers)
        show("two workers over one", **{name: on[1][name] / on[2][name] for name in ("wall_s", "batches_s", "cpu_s")})
    if "task" in parts:
        show("send 1000 empty tasks", **apart("task", tasks=1000))


if __name__ == "__main__":
    main()
