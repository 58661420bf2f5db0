"""Let `stemzoo watch` run for as long as you like on a folder where everything goes wrong, and prove that no frame is lost.

    python scripts/soak_watch.py --minutes 60 --work /tmp/soak [--tmpfs-mb 96] [-- --model NAME --threads 1 …]

Writes one 512² frame of about 700 columns a second, in pieces or under another name first, as acquisition programs do. Among them are
truncated, late-completed, locked, huge, empty and garbage files, files renamed while they are written and files taken away at once. The
watcher is killed (SIGKILL) and started again several times in the first half, its output disk (a tmpfs where one may be mounted) is filled
up twice. At the end every file must have ended as it should, once; printed are counts, delays and the watcher's resident memory over time.
Results are counted, compared with the number of columns drawn and removed as they come, since an hour of them takes 6 GB. Where all of it
is stopped from outside for a while (a suspended machine, SIGSTOP), the gap is told and counts neither as time fed nor as delay.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from soak_clock import Clock

REPOSITORY = Path(__file__).resolve().parents[1]
PIXEL_SIZE, SPACING_PX, WIDTH_PX, MAX_MB = 0.12, 19.0, 3.0, 20.0
PATIENCE_S = 900.0  # on a machine that others use, a watcher that fell behind may take long over a file
FAULTS = {  # every so many frames, this instead of a plain frame: what it should end as
    "truncated": (31, {"failed"}),
    "completed_late": (23, {"done"}),
    "locked": (29, {"done"}),
    "huge": (47, {"failed"}),
    "empty": (53, {"failed"}),
    "garbage": (41, {"failed"}),
    "renamed": (19, {"done"}),
    "taken_away": (37, {"gone", "unseen"}),
}


@dataclass
class Feed:
    """What was put into the folder: the fate that each name should meet; names that a rename left behind may have been seen or not."""

    fate: dict[str, set[str]] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    put_at: dict[str, float] = field(default_factory=dict)  # seconds since 1970
    faults: Counter[str] = field(default_factory=Counter)


def frames(size: int) -> list[np.ndarray]:
    """Return some frames (H, W) uint16 of the same lattice with different noise."""
    rng = np.random.default_rng(0)
    at = np.arange(0.7 * SPACING_PX, size - 0.6 * SPACING_PX, SPACING_PX)
    profile = np.exp(-((np.arange(size)[:, None] - at) ** 2) / (2 * WIDTH_PX**2)).sum(axis=1)
    expected = 40 + 400 * profile[:, None] * profile
    return [rng.poisson(expected).astype(np.uint16) for _ in range(8)]


def columns_of(size: int) -> int:
    """Return how many columns a frame shows."""
    return len(np.arange(0.7 * SPACING_PX, size - 0.6 * SPACING_PX, SPACING_PX)) ** 2


def put(folder: Path, number: int, image: np.ndarray, feed: Feed) -> None:
    """Write frame `number` as some acquisition program might, or as one that fails would; returns at once where it takes a while."""
    buffer = io.BytesIO()
    np.save(buffer, image)
    data = buffer.getvalue()
    kind = next((name for name, (every, _) in FAULTS.items() if number % every == every - 1), "plain")
    name = f"frame_{number:05d}.tif" if kind == "garbage" else f"frame_{number:05d}.npy"
    path = folder / name
    feed.faults[kind] += 1
    feed.fate[name] = FAULTS[kind][1] if kind in FAULTS else {"done"}
    feed.put_at[name] = time.time()

    def later(seconds: float, action: Callable[[], object]) -> None:
        threading.Timer(seconds, action).start()

    def finish(file: BinaryIO, rest: bytes) -> None:
        with file:
            file.write(rest)

    if kind == "plain" and number % 2:
        path.with_suffix(".tmp").write_bytes(data)
        os.replace(path.with_suffix(".tmp"), path)
    elif kind == "plain":
        with path.open("wb") as file:
            for first in range(0, len(data), 1 << 17):
                file.write(data[first : first + (1 << 17)])
                file.flush()
                time.sleep(0.02)
    elif kind in ("truncated", "completed_late"):
        path.write_bytes(data[: len(data) // 2])
        if kind == "completed_late":
            later(4.0, lambda: path.write_bytes(data))
    elif kind == "locked":
        file = path.open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(data[:1000])
        file.flush()
        later(6.0, lambda: finish(file, data[1000:]))
    elif kind == "huge":
        with path.open("wb") as file:
            file.write(data)
            file.truncate(int(40 * MAX_MB * 1e6))
    elif kind == "empty":
        path.touch()
    elif kind == "garbage":
        path.write_bytes(np.random.default_rng(number).bytes(200_000))
    elif kind == "renamed":
        old = path.with_name(f"unnamed_{number:05d}.npy")
        feed.left.add(old.name)
        file = old.open("wb")
        file.write(data[:4000])
        file.flush()
        later(0.7, lambda: os.replace(old, path))
        later(1.2, lambda: finish(file, data[4000:]))
    elif kind == "taken_away":
        path.write_bytes(data)
        later(0.8, lambda: path.unlink(missing_ok=True))


class Watch:
    """The watcher as a process, its memory and its results looked at while it runs."""

    def __init__(self, folder: Path, out: Path, columns: int, log: Path, more: list[str], clock: Clock) -> None:
        self._words = [sys.executable, "-m", "stemzoo", "watch", str(folder), "--out", str(out), "--pixel-size", str(PIXEL_SIZE)]
        self._words += ["--max-mb", str(MAX_MB), "--retries", "3", "--json", *more]
        self._clock = clock
        self._out, self._columns, self._log = out, columns, log.open("ab")
        self.memory: list[tuple[float, float, int]] = []
        self.wrong: list[str] = []
        self.checked = 0
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(self._words, stdout=self._log, stderr=self._log, env=environment)

    def look(self) -> None:
        """Note the resident memory; count, check and remove the results of all frames that are done."""
        try:
            text = Path(f"/proc/{self.process.pid}/status").read_text()
            kb = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
            self.memory.append((self._clock.now(), kb / 1024, self.process.pid))
        except (OSError, StopIteration):
            pass
        for table in self._out.glob("[!.]*/columns.csv"):  # hidden folders are still being written
            rows = table.read_bytes().count(b"\n") - 1
            if abs(rows - self._columns) > 0.03 * self._columns:
                self.wrong.append(f"{table.parent.name}: {rows} columns, {self._columns} drawn")
            self.checked += 1
            shutil.rmtree(table.parent)

    def tell(self, frames: int) -> None:
        """Print how it goes."""
        at, mb, _ = self.memory[-1]
        print(f"{at / 60:5.1f} min: {frames} frames put, {self.checked} results, {mb:.0f} MB resident", flush=True)


def fill(out: Path, seconds: float) -> None:
    """Take all the room there is on the output disk for a while."""
    filler = out / ".filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
    time.sleep(seconds)
    filler.unlink()


def left(ledger: Path, feed: Feed) -> int:
    """Return how many of the files that stay have not ended yet."""
    ended: set[str] = set()
    for line in ledger.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "file" in record:
            (ended.add if record["event"] in ("done", "failed", "gone") else ended.discard)(record["file"])
    return sum(name not in ended for name, fate in feed.fate.items() if "unseen" not in fate)


def judge(ledger: Path, feed: Feed, clock: Clock) -> tuple[list[str], list[float], Counter[str]]:
    """Return what went wrong, the delays of the finished files [s] and the events in the ledger."""
    ends: dict[str, str] = {}
    done: Counter[tuple[str, int, int]] = Counter()
    events: Counter[str] = Counter()
    late, wrong = [], []
    for line in ledger.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        events[record["event"]] += 1
        if "file" in record:  # a file that was begun or put off must have ended, too
            ends[record["file"]] = record["event"]
        if record["event"] == "done":
            done[record["file"], record["size"], record["mtime_ns"]] += 1
            written = record["mtime_ns"] / 1e9
            late.append(record["late_s"] - clock.stopped(written, written + record["late_s"]))
    wrong += [f"{key[0]} was done {count} times" for key, count in done.items() if count > 1]
    for name, fate in feed.fate.items():
        end = ends.pop(name, "unseen")
        if "gone" in fate and clock.stopped(feed.put_at[name] - 1, feed.put_at[name] + 3):
            fate = fate | {"done"}  # it was to go before it could be taken up, and stayed for as long as everything stood still
        if end not in fate:
            wrong.append(f"{name} ended as {end}; wanted {' or '.join(sorted(fate))}")
    wrong += [f"{name} ended as {end}, but was never written" for name, end in ends.items() if name not in feed.left]
    return wrong, late, events


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--work", type=Path, required=True, help="an empty or missing folder")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--period", type=float, default=1.0, help="seconds between two frames")
    parser.add_argument("--tmpfs-mb", type=int, default=96, help="size of the output disk, where one may be mounted")
    parser.add_argument("more", nargs="*", help="further words for stemzoo watch, after --")
    options = parser.parse_args()
    folder, out = options.work / "in", options.work / "out"
    folder.mkdir(parents=True)
    out.mkdir()
    own_disk = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={options.tmpfs_mb}m", "tmpfs", str(out)], capture_output=True).returncode == 0
    )
    images, feed = frames(options.size), Feed()
    clock = Clock()
    watch = Watch(folder, out, columns_of(options.size), options.work / "watch.log", options.more, clock)
    total = round(60 * options.minutes / options.period)
    kills = {round(total * share) for share in (0.08, 0.17, 0.29, 0.41)}
    fills = {round(total * share) for share in (0.23, 0.55)} if own_disk else set()
    began = clock.now()
    try:
        for number in range(total):
            put(folder, number, images[number % len(images)], feed)
            if number in kills:
                watch.process.kill()
                watch.process.wait()
                watch.start()
            if number in fills:
                threading.Thread(target=fill, args=(out, 15.0)).start()
            if number % 5 == 0:
                watch.look()
            if number % 300 == 299:
                watch.tell(number + 1)
            clock.sleep_until(began + (number + 1) * options.period)
        fed = clock.now() - began
        quiet, seen, told = clock.now(), -1, clock.now()
        while clock.now() - quiet < (PATIENCE_S if left(out / "watch.jsonl", feed) else 30):
            watch.look()
            size = (out / "watch.jsonl").stat().st_size
            if size != seen:
                quiet, seen = clock.now(), size
            if clock.now() - told > 300:
                told = clock.now()
                watch.tell(total)
            time.sleep(5)
        drained = clock.now() - began - fed
        watch.look()
        watch.process.terminate()
        end = clock.now() + 30
        while (code := watch.process.poll()) is None and clock.now() < end:
            time.sleep(0.2)
        shutil.copy(out / "watch.jsonl", options.work / "watch.jsonl")
    finally:
        watch.process.kill()
        if own_disk:
            subprocess.run(["umount", "-l", str(out)], check=False)
    disk = "its disk filled" if own_disk else "no tmpfs, its disk filled"
    print(f"watcher killed {len(kills)} times, {disk} {len(fills)} times; it ended with {code}")
    print(f"after the last file it went on for {drained / 60:.1f} min")
    return report(watch, feed, fed, clock, options.work / "watch.jsonl")


def report(watch: Watch, feed: Feed, fed: float, clock: Clock, ledger: Path) -> int:
    """Print what came of it; return 0 where every frame is accounted for."""
    wrong, late, events = judge(ledger, feed, clock)
    wrong += watch.wrong
    last = [(at, mb) for at, mb, pid in watch.memory if pid == watch.process.pid]
    at, mb = np.array(last).T
    settled = at > at[0] + 60
    slope = np.polyfit(at[settled] / 3600, mb[settled], 1)[0] if settled.sum() > 10 else float("nan")
    fifth = max(len(mb) // 5, 1)
    print(f"{len(feed.fate)} files in {fed / 60:.1f} min: {dict(feed.faults)}")
    print(f"stopped from outside {len(clock.gaps)} times, {clock.stopped():.0f} s in all, not counted here")
    print(f"ledger: {dict(events)}")
    print(f"results checked against the drawn columns: {watch.checked}; wrong: {len(watch.wrong)}")
    print(f"from the last write to the result [s]: median {np.median(late):.1f}, 95 % {np.percentile(late, 95):.1f}, worst {max(late):.1f}")
    print(
        f"resident memory of the last process, {(at[-1] - at[0]) / 60:.0f} min [MB]: first fifth {np.median(mb[:fifth]):.0f}, "
        f"last fifth {np.median(mb[-fifth:]):.0f}, peak {max(mb for _, mb, _ in watch.memory):.0f}, slope {slope:+.1f} MB/h"
    )
    for line in wrong[:40]:
        print("WRONG", line)
    print("every frame is accounted for" if not wrong else f"{len(wrong)} things went wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
