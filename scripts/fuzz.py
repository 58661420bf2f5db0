"""Throw damaged input at every reader, and keep what breaks it: a refusal must be a StemzooError, never another exception or a crash.

    python scripts/fuzz.py --minutes 60 --out fuzz            # mutates valid files; finds are kept in fuzz/
    python scripts/fuzz.py --minutes 60 --out fuzz --atheris  # coverage-guided, where atheris is installed (it is no dependency)

A crash, a hang and more than a gigabyte for a small file count as finds too. Targets: image files of each format that can be made here,
model cards, recipes, HDF5 datasets, analysis.h5, columns.csv, parts of batches and run.json. Each has an equal share of the minutes and a
process of its own, which is started again where a find ends it; how many inputs each took is printed, with its CPU seconds; `--out` in
memory (/dev/shm) leaves more of the minutes to those. A find goes to tests/data/bad/ once it is mended, where tests/test_bad_files.py reads
it for ever after.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from fuzz_seeds import seeds

from stemzoo.analyze.journal import Journal
from stemzoo.analyze.outcome import done_before
from stemzoo.errors import StemzooError
from stemzoo.io.datasets import Dataset
from stemzoo.io.read import read
from stemzoo.io.read_results import read_results
from stemzoo.runtime.tables import read_columns
from stemzoo.simulation import loading
from stemzoo.zoo.card import read_card

HANG_S = 5  # of CPU time
MOST_MB = 1000  # that reading one small file may take
RESTARTS = 20  # of a target whose process ends at a find


def open_image(path: Path) -> None:
    """Read an image and its first and last frame."""
    frames = read(path)
    for index in {0, len(frames) - 1}:
        frames.frame(index)


def open_card(path: Path) -> None:
    """Read the front matter of a model card."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "README.md").write_bytes(path.read_bytes())
        read_card(Path(folder))


def open_dataset(path: Path) -> None:
    """Read what training reads of a dataset."""
    dataset = Dataset(path)
    for index in range(min(len(dataset), 2)):
        dataset.attributes(index)
        dataset.columns(index)
        dataset.counts(index)
        dataset.window(index, (0, 0), (16, 16))
        dataset.content(index)
        dataset.image(index)


def open_part(path: Path) -> None:
    """Judge a part as a resumed analysis does: what `has` accepts must load."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "out")
        journal.begin("key")
        journal.path("analyze", 0).write_bytes(path.read_bytes())
        if journal.has("analyze", 0):
            journal.load("analyze", 0)


def open_run(path: Path) -> None:
    """Judge run.json as a repeated run does."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "run.json").write_bytes(path.read_bytes())
        done_before(Path(folder), "key")


TARGETS: dict[str, tuple[str, Callable[[Path], object]]] = {
    **{suffix[1:]: (suffix, open_image) for suffix in (".tif", ".npy", ".mrc", ".png", ".jpg", ".emd", ".hspy", ".h5", ".dm4", ".ser")},
    "card": (".md", open_card),
    "recipe": (".toml", loading.load),
    "dataset": (".h5", open_dataset),
    "results": (".h5", read_results),
    "table": (".csv", read_columns),
    "part": (".npz", open_part),
    "run": (".json", open_run),
}
"""Name → suffix of its files, and what reads one; it may raise StemzooError and nothing else."""


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return `data` damaged in one to eight ways: cut, bytes changed, filled, moved, repeated, or a number made extreme."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not body:
            break
        at = rng.randrange(len(body))
        n = min(rng.choice((1, 2, 4, 8, 64, 512)), len(body) - at)
        how = rng.randrange(7)
        if how == 0:
            del body[at:]
        elif how == 1:
            body[at : at + n] = bytes(rng.randrange(256) for _ in range(n))
        elif how == 2:
            body[at] ^= 1 << rng.randrange(8)
        elif how == 3:
            body[at : at + n] = bytes([rng.choice((0, 255, 127))]) * n
        elif how == 4:
            del body[at : at + n]
        elif how == 5:
            body[at:at] = body[at : at + n]
        else:
            other = rng.randrange(len(body))
            body[at : at + n] = body[other : other + n]
    return bytes(body)


class HungError(BaseException):
    """A reader took more than `HANG_S` of CPU time. No Exception, which a reader would take for what is wrong with the file."""


class HungryError(Exception):
    """A reader took more than `MOST_MB` of memory."""


def _alarm(number: int, frame: FrameType | None) -> None:
    raise HungError


def attempt(name: str, data: bytes, folder: Path) -> BaseException | None:
    """Return what a target raised beyond a refusal."""
    suffix, reader = TARGETS[name]
    path = folder / f"input{suffix}"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 3 * HANG_S, most))  # a library's endless loop hears no Python
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader(path)
    except StemzooError:
        pass
    except (Exception, HungError) as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    took_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return HungryError(f"took {took_mb:.0f} MB") if took_mb > MOST_MB else None


def _kept(name: str, data: bytes, error: BaseException, out: Path, known: set[str]) -> None:
    """Keep a find, one for each place where a target breaks."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        if "/stemzoo/" in trace.tb_frame.f_code.co_filename:
            where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    mark = f"{name} {type(error).__name__} {where}"
    if mark in known:
        return
    known.add(mark)
    path = out / f"{name}-{hashlib.sha256(data).hexdigest()[:10]}{TARGETS[name][0]}"
    path.write_bytes(data)
    print(f"{path.name}: {type(error).__name__} at {where}: {' '.join(str(error).split())[:160]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="of running, for all targets together")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(TARGETS), nargs="+", help="these, each in a process of its own")
    parser.add_argument("--target", choices=list(TARGETS), help="only this one, in this process")
    parser.add_argument("--atheris", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.target is None:
        sys.exit(_all(arguments))
    signal.signal(signal.SIGPROF, _alarm)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        examples = seeds(folder)[arguments.target]
        report = _Report(arguments.target, arguments.out, 60 * arguments.minutes)
        folder = report.folder  # what was tried last outlives a crash there
        if arguments.atheris:
            _guided(examples, arguments, folder, report)
        rng = random.Random(arguments.seed)
        while report.take(mutate(rng.choice(examples), rng), folder):
            pass


class _Report:
    """Counts what one target took, in a file that is there whenever the process ends, and keeps what broke it.

    seconds: how long it may run; time that the process was stopped or starved does not count.
    """

    def __init__(self, name: str, out: Path, seconds: float) -> None:
        self.name, self.out, self.seconds, self.known, self.tries = name, out, seconds, set[str](), 0
        self.folder = out / "last" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ran, self.now, self.written = 0.0, time.monotonic(), 0.0
        self.write()

    def take(self, data: bytes, folder: Path) -> bool:
        """Try one input; return whether there is time for more."""
        self.tries += 1
        if (error := attempt(self.name, data, folder)) is not None:
            _kept(self.name, data, error, self.out, self.known)
        before, self.now = self.now, time.monotonic()
        self.ran += min(self.now - before, 1.0)
        if self.ran > self.written + 1 or self.ran > self.seconds:
            self.write()
        return self.ran <= self.seconds

    def write(self) -> None:
        """Write the counts."""
        self.written = self.ran
        counts = {"inputs": self.tries, "finds": len(self.known), "seconds": self.ran, "cpu_s": time.process_time()}
        (self.folder / "counts.json").write_text(json.dumps(counts))


def _all(arguments: argparse.Namespace) -> int:
    """Run every target that has a valid file to start from; return 1 where any broke."""
    with tempfile.TemporaryDirectory() as scratch:
        names = [name for name, examples in seeds(Path(scratch)).items() if examples and name in (arguments.only or TARGETS)]
    total, share = defaultdict[str, float](float), 60 * arguments.minutes / len(names)
    for name in names:
        counts, seed = defaultdict[str, float](float), arguments.seed
        while counts["seconds"] < share and seed < arguments.seed + RESTARTS:
            _one(name, seed, (share - counts["seconds"]) / 60, arguments, counts)
            seed += 1
        print(f"{name}: " + ", ".join(f"{value:,.0f} {key}" for key, value in counts.items()), flush=True)
        for key, value in counts.items():
            total[key] += value
    print("all: " + ", ".join(f"{value:,.0f} {key}" for key, value in total.items()), flush=True)
    return int(total["finds"] > 0)


def _one(name: str, seed: int, minutes: float, arguments: argparse.Namespace, counts: dict[str, float]) -> None:
    """Run one target until its time or its process ends, and add to the counts."""
    folder = arguments.out / "last" / name
    shutil.rmtree(folder, ignore_errors=True)
    words = [sys.executable, __file__, "--out", str(arguments.out), "--target", name, "--seed", str(seed), "--minutes", str(minutes)]
    log = arguments.out / f"{name}-{seed}.log"
    with log.open("w") as file:
        ended = subprocess.run(words + ["--atheris"] * arguments.atheris, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    for key, value in json.loads((folder / "counts.json").read_text()).items():
        counts[key] += value
    if ended:
        counts["finds"] += 1
        (folder / f"input{TARGETS[name][0]}").replace(arguments.out / f"{name}-ended{seed}{TARGETS[name][0]}")
        print(f"{name}: ended with {ended}; {log} says more", flush=True)


def _guided(examples: list[bytes], arguments: argparse.Namespace, folder: Path, report: _Report) -> None:
    """Let atheris choose what to damage further, half of the time by `mutate`; it ends the process."""
    import atheris

    start = arguments.out / "corpus" / report.name
    start.mkdir(parents=True, exist_ok=True)
    for data in examples:
        (start / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def one(data: bytes) -> None:
        if not report.take(data, folder):
            sys.stdout.flush()
            os._exit(0)  # libFuzzer's own limit goes by the clock

    def changed(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        return mutate(data, rng)[:most] if rng.random() < 0.5 else atheris.Mutate(data, most)

    words = [sys.argv[0], f"-seed={arguments.seed + 1}", "-max_len=200000", "-timeout=1800", "-rss_limit_mb=4096"]
    words += [f"-artifact_prefix={arguments.out}/", str(start)]
    for module in [module for name, module in sys.modules.items() if name.startswith("stemzoo.")]:  # all of Python would take minutes
        for function in [item for item in vars(module).values() if inspect.isfunction(item) and item.__module__ == module.__name__]:
            atheris.instrument_func(function)
    atheris.Setup(words, one, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
