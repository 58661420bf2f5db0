"""What batches of frames gave, kept on disk until the whole file is written, so that a run that was broken off goes on where it was.

Owns the layout of a part and the hidden folder that holds them beside the results. A part appears whole or not at all, and making it twice
makes the same part, so it does not matter how often or by whom a batch is computed. Called by analyze.plan, analyze.batch and
analyze.pieces.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.errors import OutputError, ReadError
from stemzoo.io.outputs import new_file
from stemzoo.types import COLUMN_FIELDS, ENCODING_FIELDS, Columns, Encoding, Quality


@dataclass(frozen=True, slots=True)
class Failure:
    """A frame that gave no columns, and why.

    Args: frame: its number in the file. lasting: whether trying again is in vain, as with a blank frame; a lost worker may come back.
    """

    frame: int
    reason: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What one batch of frames gave.

    Args:
        columns: one a frame, in order, with the frame's number in the file; empty where the frame failed.
        encoding: of each frame, in the same order; empty before encoding.
        failures: the frames that failed. seconds: wall time by stage.
        probability: (h, w) of the batch's first frame that did not fail, where it was asked for.
        quality: of each frame, in the same order; empty for columns that came from a table.
    """

    columns: tuple[Columns, ...]
    encoding: tuple[Encoding, ...] = ()
    failures: tuple[Failure, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    probability: np.ndarray | None = None
    quality: tuple[Quality, ...] = ()


class Journal:
    """The hidden folder of one file's parts; `key` says which input, models and options they belong to."""

    def __init__(self, out: Path) -> None:
        self.folder = out.parent / f".{out.name}.parts"

    def begin(self, key: str) -> None:
        """Make the folder; parts that belong to another key go away. Raises: OutputError."""
        try:
            if self._key() != key:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            with new_file(self.folder / "key.json") as path:
                path.write_text(json.dumps(key), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be made: {error.strerror or error}; choose another --out") from error

    def path(self, stage: str, batch: int) -> Path:
        """Where the part of a batch lies after a stage."""
        return self.folder / f"{stage}-{batch:06d}.npz"

    def has(self, stage: str, batch: int) -> bool:
        """Whether the part is there and can be read; a damaged one goes away, to be computed anew."""
        try:
            self.load(stage, batch)
        except ReadError:
            self.drop(stage, [batch])
            return False
        return True

    def save(self, stage: str, batch: int, part: Part) -> None:
        """Keep a part. Raises: OutputError if the disk refuses."""
        facts = {
            "per_frame": [{"n": len(c), "frame": c.frame, "classes": list(c.classes), "pixel_size": c.pixel_size} for c in part.columns],
            "failures": [asdict(failure) for failure in part.failures],
            "seconds": dict(part.seconds),
            "quality": [asdict(quality) for quality in part.quality],
        }
        arrays = {name: np.concatenate([getattr(c, name) for c in part.columns]) for name in COLUMN_FIELDS}
        if part.encoding:
            arrays |= {f"encoding_{name}": np.concatenate([getattr(e, name) for e in part.encoding]) for name in ENCODING_FIELDS}
        if part.probability is not None:
            arrays["probability"] = part.probability
        with new_file(self.path(stage, batch), "free some space or choose another --out") as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8), **arrays)

    def facts(self, stage: str, batch: int) -> dict[str, Any]:
        """Return counts, failures and seconds of a part, without its numbers. Raises: ReadError for a damaged one."""
        with self._reading(stage, batch) as path, np.load(path, allow_pickle=False) as stored:
            return dict(json.loads(stored["facts"].tobytes()))

    def load(self, stage: str, batch: int) -> Part:
        """Return a part. Raises: ReadError for a damaged one."""
        with self._reading(stage, batch) as path:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return _part(arrays)

    @contextmanager
    def _reading(self, stage: str, batch: int) -> Iterator[Path]:
        path = self.path(stage, batch)
        try:
            yield path
        except Exception as error:  # zipfile, zlib, NumPy and JSON each have their own for a damaged file
            why = " ".join(str(error).split())[:120] or type(error).__name__
            raise ReadError(f"{path}: a part of the results is missing or damaged ({why}); run the command again") from error

    def drop(self, stage: str, batches: Sequence[int]) -> None:
        """Forget some parts."""
        for batch in batches:
            self.path(stage, batch).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder with all it holds."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _key(self) -> str | None:
        try:
            return str(json.loads((self.folder / "key.json").read_text()))
        except (OSError, ValueError):
            return None


def _part(arrays: dict[str, np.ndarray]) -> Part:
    """Return the part that `Journal.save` stored as these arrays."""
    facts = json.loads(arrays.pop("facts").tobytes())
    ends = np.cumsum([0, *(table["n"] for table in facts["per_frame"])])
    spans = [slice(a, b) for a, b in itertools.pairwise(ends.tolist())]
    columns = tuple(
        Columns(
            **{name: arrays[name][rows] for name in COLUMN_FIELDS},
            classes=tuple(table["classes"]),
            pixel_size=table["pixel_size"],
            frame=table["frame"],
        )
        for table, rows in zip(facts["per_frame"], spans, strict=True)
    )
    encoding: tuple[Encoding, ...] = ()
    if "encoding_angle" in arrays:
        encoding = tuple(Encoding(**{name: arrays[f"encoding_{name}"][rows] for name in ENCODING_FIELDS}) for rows in spans)
    failures = tuple(Failure(**failure) for failure in facts["failures"])
    quality = tuple(Quality(**signs) for signs in facts["quality"])
    return Part(columns, encoding, failures, facts["seconds"], arrays.get("probability"), quality)
