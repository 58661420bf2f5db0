"""Several segmenters alike but for their seed, trained one after the other or as the tasks of a job array, and collected into one model.

A run of an ensemble is a folder: `ensemble.json` and a run `member-<k>` each. Where its members disagree, no network of its kind should be
believed. Called by the CLI; `training.checkpoints` collects.
Source: B. Lakshminarayanan, A. Pritzel & C. Blundell, NIPS 2017.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from stemzoo.errors import ModelError, OutputError
from stemzoo.training.config import SegmenterConfig
from stemzoo.training.run import Run
from stemzoo.training.segmenter_run import train_segmenter

RECORD = "ensemble.json"


def train_ensemble(
    config: SegmenterConfig,
    out: str | Path,
    size: int,
    member: int | None = None,
    *,
    start: str | Path | None = None,
    progress: bool = True,
) -> list[Run]:
    """Train the members that are not finished yet, each with a seed of its own, and return their runs; broken ones are taken up again.

    Args:
        config: of member 0; member k has the seed `config.seed + k`.
        out: the ensemble's folder; made if missing.
        size: number of members, 2 or more.
        member: train this one alone (0 to size − 1), as a task of a job array does.
        start: weights that all members start from.
    Raises: ModelError for a size or member that cannot be, or if `out` is of another size; otherwise as `train_segmenter`.
    """
    if size < 2:
        raise ModelError(f"--ensemble is {size}; wanted 2 or more members")
    if member is not None and not 0 <= member < size:
        raise ModelError(f"--member is {member}; wanted 0 to {size - 1}, since members of --ensemble {size} count from 0")
    out = Path(out)
    _record(out, size)
    runs = []
    for k in range(size) if member is None else (member,):
        folder = member_folder(out, k)
        if _finished(folder):
            continue
        seeded = config.model_copy(update={"seed": config.seed + k})
        resume = folder if any((folder / "checkpoints").glob("*.ckpt")) else None
        runs.append(train_segmenter(seeded, folder, resume=resume, start=start, progress=progress))
        if runs[-1].interrupted:
            break
    return runs


def member_folder(out: Path, k: int) -> Path:
    """Return where the run of member k lies."""
    return out / f"member-{k}"


def members_of(run: Path) -> Sequence[Path]:
    """Return the finished members' runs of an ensemble, none if `run` is none. Raises: ModelError that names members which are missing."""
    try:
        size = int(json.loads((run / RECORD).read_text())["members"])
    except (FileNotFoundError, NotADirectoryError):
        return ()
    folders = [member_folder(run, k) for k in range(size)]
    missing = [str(k) for k, folder in enumerate(folders) if not _finished(folder)]
    if missing:
        raise ModelError(
            f"{run}: of {size} members {', '.join(missing)} are not trained to the end; run stemzoo train segmenter … --ensemble {size} "
            f"--out {run} again, which does what is missing"
        )
    return folders


def _record(out: Path, size: int) -> None:
    """Say in the folder how many members it is to hold; tasks of a job array may do so at once."""
    path = out / RECORD
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.exists() and (there := json.loads(path.read_text())["members"]) != size:
            raise ModelError(f"{out}: holds an ensemble of {there}; pass --ensemble {there}, or another --out")
        path.write_text(json.dumps({"members": size}) + "\n")
    except OSError as failure:
        raise OutputError(f"{out}: cannot be written ({failure.strerror}); choose another --out") from None


def _finished(folder: Path) -> bool:
    try:
        return json.loads((folder / "summary.json").read_text())["interrupted"] is False
    except (OSError, ValueError, KeyError):
        return False
