"""Kill -9 a short training at random moments, resume it each time, and hold the final weights against those of an unbroken run.

    python scripts/chaos_training.py DATASET.h5 --kills 20

Each run is a process of its own on one thread, forked from one that has imported what all need. A moment is drawn from the time that the
unbroken run took.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["stemzoo.cli", "stemzoo.training.segmenter_run", "stemzoo.training.segmentation"])
SETTINGS = "widths = [8, 16, 16]\nvalidation_patches = 4\nworkers = 1\npatch_px = 64\nsteps_per_epoch = 2\nbatch = 4\n"


def _train(words: list[str]) -> None:
    """What each process runs: the command."""
    os.setsid()  # so that a kill takes the processes that load data as well
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    from stemzoo.cli import main

    sys.argv = ["stemzoo", *words]
    sys.exit(main())


def train(dataset: str, out: Path, steps: int) -> BaseProcess:
    """Start a training, or go on with the one in `out`."""
    settings = out.parent / "settings.toml"
    settings.write_text(SETTINGS, encoding="utf-8")
    words = ["train", "segmenter", dataset, "--out", str(out), "--config", str(settings), "--steps", str(steps), "--devices", "1"]
    if any((out / "checkpoints").glob("*.ckpt")):
        words += ["--resume", str(out)]
    process = CONTEXT.Process(target=_train, args=(words,))
    process.start()
    return process


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the network's final weights."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {key: value for key, value in state.items() if key.startswith("net.")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    same = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        begun = time.monotonic()
        whole = train(arguments.dataset, folder / "whole", arguments.steps)
        whole.join()
        if whole.exitcode:
            sys.exit("the unbroken run failed")
        took = time.monotonic() - begun
        truth = weights(folder / "whole")
        for number in range(arguments.kills):
            out = folder / f"killed{number}"
            process = train(arguments.dataset, out, arguments.steps)
            moment = rng.uniform(0.1, 1.0) * took
            process.join(moment)
            if process.is_alive() and process.pid is not None:
                os.killpg(process.pid, signal.SIGKILL)
                process.join()
            kept = sorted(path.name for path in (out / "checkpoints").glob("*.ckpt"))
            if process.exitcode:
                again = train(arguments.dataset, out, arguments.steps)
                again.join()
                if again.exitcode:
                    sys.exit(f"kill {number}: the resumed run failed")
            found = weights(out)
            equal = all(torch.equal(found[key], truth[key]) for key in truth)
            same += equal
            print(
                f"kill {number} after {moment:.1f} s, with {', '.join(kept) or 'no checkpoint'}: {'same' if equal else 'OTHER'}", flush=True
            )
    print(f"{same} of {arguments.kills} runs end at the weights of the unbroken one")
    sys.exit(same != arguments.kills)


if __name__ == "__main__":
    main()
