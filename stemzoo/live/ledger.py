"""What became of every file, so that nothing is lost and nothing is done twice. Owns `watch.jsonl`, one JSON object a line.

Each line is on the disk (fsync) before the watcher goes on. A line that a crash cut short is dropped on the next start; the file it spoke
of is then simply taken up again. The same lines are the log for the microscope's scripts. Called by live.watch.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemzoo.errors import OutputError
from stemzoo.live.folder import Version

NAME = "watch.jsonl"
OPEN, DONE, FAILED, GONE = "open", "done", "failed", "gone"
_STATE_AFTER = {"begin": OPEN, "retry": OPEN, "done": DONE, "failed": FAILED, "gone": GONE}


@dataclass(slots=True)
class Entry:
    """What the ledger knows of a file: its last version, what became of that, and where its results are.

    `begun` counts how often its analysis was begun without an end in the ledger: more than a few, and the file kills the process.
    """

    version: Version
    state: str
    out: str = ""
    begun: int = 0


class Ledger:
    """The open ledger of one output folder.

    Args: path: of `watch.jsonl`; made if missing.
    Attributes: entries: by path relative to the watched folder. damaged: number of lines that could not be read.
    Raises: OutputError if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.damaged = 0
        self._outs: dict[str, str] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        except OSError as error:
            raise OutputError(f"{path}: cannot be opened ({error.strerror}); name another --out") from error
        self._end = self._replay()

    def _replay(self) -> int:
        """Read every whole line and return where the last of them ends; what follows was cut short and is overwritten."""
        end = 0
        with open(self.path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    self.damaged += 1
                    break
                end += len(line)
                try:
                    record = json.loads(line)
                    self._apply(record)
                except (ValueError, KeyError, TypeError, AttributeError):
                    self.damaged += 1
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        return end

    def _apply(self, record: dict[str, Any]) -> None:
        state = _STATE_AFTER.get(record["event"])
        if state is None:
            return
        file, version = record["file"], Version(record["size"], record["mtime_ns"])
        entry = self.entries.get(file)
        if entry is None or entry.version != version:
            entry = self.entries[file] = Entry(version, state, entry.out if entry else "")
        entry.state = state
        entry.out = record.get("out") or entry.out
        entry.begun = entry.begun + 1 if record["event"] == "begin" else 0
        if entry.out:
            self._outs[entry.out] = file

    def write(self, event: str, file: str = "", version: Version | None = None, **facts: Any) -> dict[str, Any]:
        """Append one line, wait until it is on the disk, and return it.

        Raises: OSError if the disk refuses; the ledger is then as it was before.
        """
        record: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event}
        if version is not None:
            record |= {"file": file, "size": version.size, "mtime_ns": version.mtime_ns}
        record |= facts
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            os.lseek(self._file, self._end, os.SEEK_SET)
            raise
        self._end += len(line)
        self._apply(record)
        return record

    def folder_for(self, file: str) -> str:
        """Return where the results of `file` go, relative to the output folder: by stem, with the suffix where two files share one.

        The same file always gets the same folder, over restarts too.
        """
        known = self.entries.get(file)
        if known is not None and known.out:
            return known.out
        path = Path(file)
        whole = path.with_name(f"{path.stem}_{path.suffix[1:]}").as_posix()
        numbered = (f"{whole}_{number}" for number in itertools.count(2))
        return next(
            name for name in itertools.chain((path.with_suffix("").as_posix(), whole), numbered) if name != NAME and name not in self._outs
        )

    def finished(self, file: str, version: Version) -> bool:
        """Say whether this version of the file needs nothing more."""
        entry = self.entries.get(file)
        return entry is not None and entry.version == version and entry.state in (DONE, FAILED)

    def unfinished(self) -> dict[str, Version]:
        """Return the files that were begun or put off and have not ended, by name: those that a stopped or killed watcher left."""
        return {file: entry.version for file, entry in self.entries.items() if entry.state == OPEN}

    def forget_failures(self) -> int:
        """Take every failed file up again; return how many there are."""
        failed = [file for file, entry in self.entries.items() if entry.state == FAILED]
        for file in failed:
            self.entries[file].state = OPEN
        return len(failed)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
