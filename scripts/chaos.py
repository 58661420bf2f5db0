"""Break everything while a cluster analyses files, and count what came out: every frame must be in a result or in a list of failures, once.

    python scripts/chaos.py --out chaos                       # 200 files and a stack of 2,000 frames: some minutes on two cores
    python scripts/chaos.py --out chaos --files 20 --frames 60

A scheduler and two workers are started as a batch system would, and started again when they die. Meanwhile workers are killed (-9), a file
is cut in half, a folder loses its permissions (root is not stopped by them: there it is moved away) and the scheduler is killed and started
anew. The folder comes back and the same run is made again: it must do only what is missing. Some results are held against one process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from stemzoo.analyze import NONE, AnalyzeOptions, Here, Models, Outcome, Request, run
from stemzoo.analyze.cluster import cluster

SIDE = 64
OPTIONS = AnalyzeOptions(encoder=NONE, pixel_size=0.2, report=False)


@dataclass
class Service:
    """A process that is started again whenever it dies."""

    words: list[str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def keep(self) -> None:
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(self.words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            self.starts += 1

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Chaos(threading.Thread):
    """Keeps the services up and breaks things, according to how many frames are done: on a busy machine it waits as long as it takes."""

    services: list[Service]
    inputs: Path
    total: int
    every: float
    done: int = 0
    log: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        scheduler, *workers = self.services
        events = [(0.15, self._truncate), (0.3, self._take_away), (0.45, scheduler.kill), (0.7, scheduler.kill)]
        last, victim = 0, 0
        while not self._over.wait(0.2):
            while events and self.done >= events[0][0] * self.total:
                share, event = events.pop(0)
                event()
                self.log.append(f"at {share:.0%}: {event.__name__.strip('_')} {'scheduler' if event == scheduler.kill else ''}".strip())
            if self.done >= last + self.every:
                workers[victim % len(workers)].kill()
                victim, last = victim + 1, self.done
                self.log.append("killed a worker")
            for service in self.services:
                service.keep()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _truncate(self) -> None:
        path = sorted((self.inputs / "a").glob("*.npy"))[-1]
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)

    def _take_away(self) -> None:
        if os.geteuid() == 0:  # permissions do not stop root
            (self.inputs / "b").rename(self.inputs / "b_gone")
        else:
            (self.inputs / "b").chmod(0)

    def give_back(self) -> None:
        if (self.inputs / "b_gone").exists():
            (self.inputs / "b_gone").rename(self.inputs / "b")
        else:
            (self.inputs / "b").chmod(0o755)


def make_inputs(folder: Path, n_files: int, n_frames: int) -> list[Path]:
    """Write `n_files` single frames into a/ and b/ and one stack; a column every 3 Å, moved a little in each frame."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    frames = np.empty((n_files + n_frames, SIDE, SIDE), dtype=np.uint16)
    for k in range(len(frames)):
        dy, dx = rng.uniform(0, 15, 2)
        wave = np.cos(2 * np.pi * (y - dy) / 15) + np.cos(2 * np.pi * (x - dx) / 15)
        frames[k] = rng.poisson(200 * np.exp(2 * (wave - 2)) + 10)
    paths = []
    for part in "ab":
        (folder / part).mkdir(parents=True)
    for k in range(n_files):
        paths.append(folder / "ab"[k % 2] / f"frame_{k:04d}.npy")
        np.save(paths[-1], frames[k])
    np.save(folder / "stack.npy", frames[n_files:])
    # The stack is opened early and lasts; the files of b/ that are still to come when it is taken away must fail.
    return [*paths[: n_files // 4], folder / "stack.npy", *paths[n_files // 4 :]]


def check(requests: list[Request], outcomes: dict[str, Outcome], errors: dict[str, str], n_frames: int) -> dict[str, int]:
    """Count frames in results and in failures. Raises: AssertionError where one is missing or there twice."""
    counts = {"files": 0, "failed files": 0, "frames": 0, "failed frames": 0}
    for request in requests:
        assert (request.path in outcomes) != (request.path in errors), f"{request.path}: neither or both of result and failure"
        if request.path in errors:
            counts["failed files"] += 1
            continue
        with h5py.File(request.out / "analysis.h5") as file:
            listed = [table["frame"] for table in json.loads(file["entry/columns/per_frame"].asstr()[()])]
            rows = file["entry/columns/frame"][()]
            pairs = np.stack([rows, file["entry/columns/column"][()]])
        expected = n_frames if request.path.endswith("stack.npy") else 1
        assert listed == list(range(expected)), f"{request.path}: frames {len(listed)} of {expected}"
        assert len(np.unique(pairs, axis=1).T) == len(rows), f"{request.path}: a column is there twice"
        failed = {failure.frame for failure in outcomes[request.path].failures}
        assert not failed & set(rows.tolist()), f"{request.path}: a failed frame has columns"
        counts["files"] += 1
        counts["frames"] += expected - len(failed)
        counts["failed frames"] += len(failed)
    assert not list(requests[0].out.parent.glob(".*.part")), "a half-written folder is left"
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--kill-every", type=int, default=100, metavar="N", help="frames between killed workers")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    inputs = arguments.out / "inputs"
    paths = make_inputs(inputs, arguments.files, arguments.frames)
    results = (arguments.out / "results").absolute()
    requests = [Request(str(path.absolute()), results / path.stem, "analyze", OPTIONS, unchanged=True) for path in paths]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    python = [sys.executable, "-m"]
    address = f"tcp://127.0.0.1:{port}"
    worker = [
        *python,
        "distributed.cli.dask_worker",
        address,
        "--nworkers",
        "1",
        "--nthreads",
        "1",
        "--no-dashboard",
        "--death-timeout",
        "60",
    ]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"]
    chaos = Chaos([Service(scheduler), Service(worker), Service(worker)], inputs, arguments.files + arguments.frames, arguments.kill_every)
    models = Models.load(OPTIONS, "analyze")
    outcomes: dict[str, Outcome] = {}
    errors: dict[str, str] = {}

    def done(outcome: Outcome) -> None:
        outcomes[outcome.input] = outcome
        errors.pop(outcome.input, None)

    def failed(request: Request, error: Exception) -> None:
        errors[request.path] = str(error)
        outcomes.pop(request.path, None)

    def progress(_: str, frames: int, total: int) -> None:
        chaos.done = frames

    chaos.start()
    begun = time.monotonic()
    try:
        with cluster(address, models) as pool:
            run(requests, pool, done, failed, retries=2, progress=progress)
        took = time.monotonic() - begun
        first = check(requests, outcomes, errors, arguments.frames)
        kills = chaos.log.count("killed a worker")
        print(f"first run, {took:.0f} s, {kills} workers killed, {chaos.services[0].starts - 1} schedulers restarted: {first}")
        print("  " + "; ".join(entry for entry in chaos.log if entry != "killed a worker"))
        for path, reason in list(errors.items())[:3]:
            print(f"  failed: {Path(path).name}: {reason[:140]}")
        chaos.every = float("inf")
        chaos.give_back()
        begun = time.monotonic()
        with cluster(address, models) as pool:
            run(requests, pool, done, failed, retries=2)
        second = check(requests, outcomes, errors, arguments.frames)
        unchanged = sum(outcome.unchanged for outcome in outcomes.values())
        print(f"second run, {time.monotonic() - begun:.0f} s, {unchanged} inputs unchanged: {second}")
    finally:
        chaos.stop()
        for service in chaos.services:
            service.kill()
    alone = [Request(r.path, results.parent / "alone" / r.out.name, "analyze", OPTIONS) for r in requests if r.path in outcomes][:20]
    run(alone, Here(models), lambda _: None, lambda request, error: sys.exit(f"{request.path}: {error}"), retries=0)
    for request in alone:
        same = (request.out / "columns.csv").read_bytes() == (results / request.out.name / "columns.csv").read_bytes()
        assert same, f"{request.path}: one process gives another table"
    print(f"{len(alone)} tables are the same to the byte from one process")


if __name__ == "__main__":
    main()
