"""What one input gave, in a few numbers: returned to whoever asked, kept as run.json beside the results, read again by a later run.

Small enough to travel from any worker. Called by analyze.plan, analyze.finish and the commands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stemzoo.analyze.journal import Failure
from stemzoo.report.summary import Summary
from stemzoo.types import ModelId

RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one input gave.

    Args:
        input: as named by the user. sha256: of its bytes. folder: where the results are. files: their names.
        key: stands for bytes, models and options; equal keys mean equal results.
        summary: the numbers. segmenter, encoder: the models. window_px, sampling_factor: as in Analysis.
        notices: what was decided, one sentence each. seconds: wall time by stage. version: of stemzoo.
        failures: frames of a stack that gave nothing. unchanged: nothing had to be done; these are the results of an earlier run.
    """

    input: str
    sha256: str
    folder: Path
    files: tuple[str, ...]
    key: str
    summary: Summary
    segmenter: ModelId
    encoder: ModelId | None
    window_px: float | None
    sampling_factor: float
    notices: tuple[str, ...]
    seconds: Mapping[str, float]
    version: str
    failures: tuple[Failure, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    unchanged: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values, as `--json` prints them."""
        return {
            "input": self.input,
            "sha256": self.sha256,
            "out": str(self.folder),
            "files": list(self.files),
            "summary": self.summary.as_dict(),
            "segmenter": asdict(self.segmenter),
            "encoder": None if self.encoder is None else asdict(self.encoder),
            "window_px": self.window_px,
            "sampling_factor": self.sampling_factor,
            "notices": list(self.notices),
            "failed_frames": [asdict(failure) for failure in self.failures],
            "seconds": dict(self.seconds),
            "version": self.version,
            "unchanged": self.unchanged,
        }


def write_run(folder: Path, outcome: Outcome) -> None:
    """Write run.json into a folder of results."""
    facts = {**outcome.as_dict(), "key": outcome.key, "options": dict(outcome.options)}
    del facts["unchanged"]
    (folder / RUN_FILE).write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", errors="backslashreplace")


def read_run(folder: Path) -> Outcome:
    """Return what run.json in a folder of results says. Raises: OSError, ValueError, KeyError or TypeError where it is damaged."""
    facts = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    summary = facts["summary"]
    return Outcome(
        input=facts["input"],
        sha256=facts["sha256"],
        folder=folder,
        files=tuple(facts["files"]),
        key=facts["key"],
        summary=Summary(**{**summary, "doubts": tuple(summary["doubts"])}),
        segmenter=ModelId(**facts["segmenter"]),
        encoder=None if facts["encoder"] is None else ModelId(**facts["encoder"]),
        window_px=facts["window_px"],
        sampling_factor=facts["sampling_factor"],
        notices=tuple(facts["notices"]),
        seconds=facts["seconds"],
        version=facts["version"],
        failures=tuple(Failure(**failure) for failure in facts["failed_frames"]),
        options=facts["options"],
    )


def done_before(folder: Path, key: str) -> Outcome | None:
    """Return what an earlier run left in `folder`, if it belongs to `key`, lacks no file and no frame that may still succeed."""
    try:
        outcome = read_run(folder)
        if outcome.key != key or not all((folder / name).exists() for name in outcome.files):
            return None
        lasting = all(failure.lasting for failure in outcome.failures)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return outcome if lasting else None
