"""Print where the seconds of `stemzoo analyze` on one frame go, and how soon other commands answer.

    python scripts/bench_report.py [FRAME …] [--beside TREE] [--repeats 5]

Every run is a fresh process with the results in a folder that is thrown away; the first run of each, which finds nothing in the system's
cache, is not counted. With --beside, another checkout does the same, run in turn, so that a machine whose speed drifts treats both alike.
Rows are medians: `analysis` the stages that run.json names, `report` the figures and the page, libraries that they load among it, `rest`
everything else from the start of the interpreter to its end: imports, models, the choice of an encoder, tables. `imports` is the sum that
`python -X importtime` gives, in a run of its own. FRAME is a file that knows its pixel size; without, the demo's and one of 1024 x 1024.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import tifffile

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "scripts")]

DEMO = REPOSITORY / "stemzoo" / "demo" / "sr3fe2o7_100.tif"
COMMANDS = (("--help",), ("analyze", "--help"), ("zoo", "list"))
PARTS = ("analysis", "report", "rest", "whole", "processor", "imports")


def run(tree: Path, words: tuple[str, ...], *options: str) -> tuple[float, float, str]:
    """Return wall and processor seconds of a command of `tree`, and what it said on stderr."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as said:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *options, "-m", "stemzoo", *words], env=environment, stdout=subprocess.DEVNULL, stderr=said, cwd=tree
        )
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise SystemExit(f"{tree}: stemzoo {' '.join(words)} ended with {process.returncode}: {text[-500:]}")
    return took, used.ru_utime + used.ru_stime, text


def analysed(tree: Path, frame: Path) -> dict[str, float]:
    """Return seconds by part of one analysis, imports aside."""
    with tempfile.TemporaryDirectory() as folder:
        whole, processor, _ = run(tree, ("analyze", str(frame), "--out", folder, "--force"))
        seconds = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))["seconds"]
    report = seconds.pop("report")
    analysis = sum(seconds.values())
    return {"analysis": analysis, "report": report, "rest": whole - analysis - report, "whole": whole, "processor": processor}


def imported(tree: Path, frame: Path) -> float:
    """Return the seconds that all imports of an analysis take."""
    with tempfile.TemporaryDirectory() as folder:
        said = run(tree, ("analyze", str(frame), "--out", folder, "--force"), "-X", "importtime")[2]
    return sum(int(own) for own in re.findall(r"^import time:\s+(\d+) \|", said, re.MULTILINE)) / 1e6


def show(title: str, rows: dict[str, list[float]]) -> None:
    """Print a row a name: the seconds of each tree, and the last's over the first's."""
    print(title)
    for name, seconds in rows.items():
        beside = f"  {seconds[-1] / seconds[0]:5.2f} x" if len(seconds) > 1 else ""
        print(f"    {name:18s}" + "".join(f"{each:8.2f} s" for each in seconds) + beside)


def write_large(folder: Path) -> Path:
    """Write a simulated frame of 1024 x 1024 with its pixel size, and return its path."""
    from bench_locate import PIXEL_SIZE, make

    path, per_cm = folder / "simulated_1024.tif", 1e8 / PIXEL_SIZE
    image = make(1024, 100, 77).noisy(0).astype(np.float32)
    tifffile.imwrite(path, image, imagej=True, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")
    return path


def main() -> None:
    """Read the options, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", nargs="*", type=Path, metavar="FRAME")
    parser.add_argument("--beside", type=Path, metavar="TREE", help="another checkout")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    trees = [REPOSITORY, *([options.beside.resolve()] if options.beside else [])]
    with tempfile.TemporaryDirectory() as folder:
        for frame in [path.resolve() for path in options.frames] or [DEMO, write_large(Path(folder))]:
            each: list[list[dict[str, float]]] = [[] for _ in trees]
            for _ in range(options.repeats + 1):
                for tree, runs in zip(trees, each, strict=True):
                    runs.append(analysed(tree, frame))
            rows = {part: [median(run[part] for run in runs[1:]) for runs in each] for part in PARTS[:-1]}
            show(f"analyze {frame.name}", rows | {PARTS[-1]: [imported(tree, frame) for tree in trees]})
    answers: dict[str, list[list[float]]] = {" ".join(words): [[] for _ in trees] for words in COMMANDS}
    for _ in range(options.repeats + 1):
        for words in COMMANDS:
            for tree, taken in zip(trees, answers[" ".join(words)], strict=True):
                taken.append(run(tree, words)[0])
    show("stemzoo …", {name: [median(taken[1:]) for taken in each] for name, each in answers.items()})


if __name__ == "__main__":
    main()
