"""A folder that fills, analysed as it fills: every image file once it is at rest, oldest first, one at a time.

Owns the loop, what is tried again and when, and the command run after each result. Returns a Tally; every file
seen ends in the ledger as done, failed or gone. `stemzoo.cli.live` calls it with the function that analyses one file.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemzoo.errors import OutputError, ReadError, StemzooError
from stemzoo.live.folder import Folder, Found, Version, why_not_open
from stemzoo.live.ledger import NAME, Ledger
from stemzoo.live.output import SLOWEST_S, Output, Say

Analyse = Callable[[Path, Path], Mapping[str, Any]]
CRASHES = 3  # a file during which the process died so often is given up
LISTING_SHARE = 4.0  # a folder that takes long to list is polled so seldom that listing takes at most a fifth of the time


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How a folder is watched.

    Args:
        settle_s: how long a file's size and mtime must stay as they are; poll_s: between two looks at the folder.
        recursive: look into folders below. once: end when everything there is has been dealt with.
        retries: how often a file that cannot be read is tried again, after 1, 2, 4 … times `retry_s`.
        max_mb: a larger file is refused. on_result: a command, run without a shell; {input} and {out} in it are replaced.
        hook_s: the longest that command may take.
    """

    settle_s: float = 1.0
    poll_s: float = 0.5
    recursive: bool = False
    once: bool = False
    retries: int = 4
    retry_s: float = 1.0
    max_mb: float = 4096.0
    on_result: str | None = None
    hook_s: float = 60.0

    def __post_init__(self) -> None:
        options = {"settle_s": "--settle", "poll_s": "--poll", "max_mb": "--max-mb"}
        for name in ("settle_s", "poll_s", "retry_s", "max_mb", "hook_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise OutputError(f"{options.get(name, name)} is {getattr(self, name)}; wanted a positive number")
        if self.retries < 0:
            raise OutputError(f"--retries is {self.retries}; wanted 0 or more")
        if self.on_result is not None:
            words_of(self.on_result)


def words_of(command: str, windows: bool = os.name == "nt") -> list[str]:
    """Return the words of a command line; on Windows backslashes are those of paths. Raises: OutputError where there are none.

    >>> words_of(r'"C:\\Program Files\\tell.exe" {out}', windows=True)
    ['C:\\\\Program Files\\\\tell.exe', '{out}']
    """
    try:
        words = shlex.split(command, posix=not windows)
    except ValueError as error:
        raise OutputError(f"--on-result {command!r}: {str(error).lower()}; wanted a program and its arguments") from None
    if windows:  # the quotes stay there, and the program would be sought by a name that has them
        words = [word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"" else word for word in words]
    if not words or not words[0]:
        raise OutputError(f"--on-result {command!r}: names no program; wanted one and its arguments")
    return words


@dataclass(slots=True)
class Tally:
    """How many files ended how since the start, and why the failed ones did."""

    done: int = 0
    gone: int = 0
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Delay:
    """A file that is to be tried again."""

    version: Version
    tries: int
    after: float
    why: str
    held: bool = False


class Watcher:
    """Watches `folder` and puts the results of each file into a folder of its own below `out`.

    Args:
        analyse: called as analyse(source, folder); writes the results whole or not at all and returns facts for the ledger, as JSON types.
        say: called with every line of the ledger, and with what is said while a full disk keeps the ledger from being written.
    Raises: ReadError if `folder` is none; OutputError if `out` cannot be written, or if another process watches into it.
    """

    def __init__(self, folder: Path, out: Path, analyse: Analyse, options: WatchOptions | None = None, say: Say | None = None) -> None:
        if not folder.is_dir():
            raise ReadError(f"{folder}: no such folder; wanted the one that the microscope writes to")
        self.options = options or WatchOptions()
        self.tally = Tally()
        self._analyse = analyse
        self._say = say or (lambda record: None)
        self._root = folder
        self._out = out
        self._output = Output(out, self._say)
        self._ledger = Ledger(out / NAME)
        self._folder = Folder(folder, self.options.settle_s, self.options.recursive, skip=out)
        self._delayed: dict[str, _Delay] = {}
        self._told: set[str] = set()
        self._listing_s = 0.0

    def run(self, again: bool = False) -> Tally:
        """Watch until interrupted or, with `once`, until nothing is left to do.

        Args: again: also take up the files that failed earlier.
        """
        self._folder.expect(self._ledger.unfinished(), time.monotonic())
        retaken = self._ledger.forget_failures() if again else 0
        self._write("start", folder=str(self._root), known=len(self._ledger.entries), damaged_lines=self._ledger.damaged, again=retaken)
        try:
            while True:
                began = time.monotonic()
                waiting = self._round()
                if self.options.once and not waiting:
                    break
                time.sleep(max(0.0, began + self._pause() - time.monotonic()))
        finally:
            self._write("stop", patient=False, done=self.tally.done, failed=len(self.tally.failed), gone=self.tally.gone)
            self._ledger.close()
            self._output.close()
        return self.tally

    def _pause(self) -> float:
        """Return the seconds between two looks at the folder."""
        return max(self.options.poll_s, LISTING_SHARE * self._listing_s)

    def _round(self) -> bool:
        """Look at the folder once and deal with what is at rest, for about as long as the pause; say whether anything is still to come."""
        began = time.monotonic()
        try:
            rest, gone, moving = self._folder.scan(began)
        except OSError as error:
            self._once("away", f"{self._root} cannot be listed ({error.strerror}); is the share connected?")
            self._listing_s = 0.0
            return True
        self._listing_s = time.monotonic() - began
        self._told.discard("away")
        for suffix, count in self._folder.other.items():
            self._once(f"other{suffix}", f"files with suffix {suffix or '(none)'} are not read", files=count, event="ignored")
        for found in gone:
            self._lose(found)
        waiting = moving > 0
        for found in rest:
            if not self._ledger.finished(found.file, found.version):
                waiting = not self._take(found) or waiting
                if time.monotonic() - began > self._pause():
                    return True  # look again: older files may be due for another try, others may have gone
        return waiting

    def _take(self, found: Found) -> bool:
        """Deal with one file, unless it must still wait; say whether it is finished."""
        delay = self._delayed.get(found.file)
        if delay is not None and delay.version == found.version and time.monotonic() < delay.after:
            return False
        path, version = self._root / found.file, self._folder.version(found.file)
        if version is None or version != found.version:
            return False  # it changed or went away while others were dealt with; the next scan says which
        if (entry := self._ledger.entries.get(found.file)) and entry.version == version and entry.begun >= CRASHES:
            return self._fail(found, f"the process ended {entry.begun} times while it analysed this file")
        if version.size > self.options.max_mb * 1e6:
            return self._fail(found, f"has {version.size / 1e6:.0f} MB; --max-mb is {self.options.max_mb:g}")
        if (why := why_not_open(path)) is not None:
            return self._wait(found, why, held=True)
        self._output.wait_for_room()
        out = self._ledger.folder_for(found.file)
        self._write("begin", found, out=out)
        began = time.monotonic()
        while True:
            try:
                facts = self._analyse(path, self._out / out)
                break
            except (StemzooError, OSError, MemoryError) as error:
                if self._output.blocked(error):
                    self._output.wait_for_room(str(error))
                    continue
                why = str(error) if isinstance(error, StemzooError) else f"{type(error).__name__}: {error}"
            except Exception as error:
                why = f"unexpected {type(error).__name__}: {error}"
            return self._wait(found, " ".join(why.split())[:500])
        told = self._tell(path, self._out / out, facts)
        late = max(0.0, time.time() - version.mtime_ns / 1e9)
        took = round(time.monotonic() - began, 3)
        self._delayed.pop(found.file, None)
        self.tally.done += 1
        self.tally.failed.pop(found.file, None)
        self._write("done", found, out=out, **facts, took_s=took, late_s=round(late, 3), **told)
        return True

    def _wait(self, found: Found, why: str, held: bool = False) -> bool:
        """Set the file aside to be tried again, or give it up; say whether it is finished."""
        if self._folder.version(found.file) is None:
            self._write("retry", found, why=why, in_s=0.0)
            return False  # gone by now, which the next scan finds
        delay = self._delayed.get(found.file)
        if delay is None or delay.version != found.version:
            delay = self._delayed[found.file] = _Delay(found.version, 0, 0.0, "")
        first = delay.why != why
        delay.tries, delay.why, delay.held = delay.tries + 1, why, held
        if delay.tries > self.options.retries and (not held or self.options.once):
            return self._fail(found, why)
        pause = self.options.retry_s * 2.0 ** min(delay.tries - 1, 10)
        pause = min(pause, SLOWEST_S) if held else pause
        delay.after = time.monotonic() + pause
        if first or not held:
            self._write("retry", found, why=why, in_s=round(pause, 3))
        return False

    def _fail(self, found: Found, why: str) -> bool:
        self._delayed.pop(found.file, None)
        self.tally.failed[found.file] = why
        self._write("failed", found, why=why)
        return True

    def _lose(self, found: Found) -> None:
        """Note a file that went away before it was finished; a finished one may go."""
        self._delayed.pop(found.file, None)
        if not self._ledger.finished(found.file, found.version):
            self.tally.gone += 1
            self._write("gone", found, why="went away, or got another name, before it was analysed")

    def _tell(self, path: Path, out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Run the user's command on a result and return what it said of itself."""
        if self.options.on_result is None:
            return {}
        command = [word.replace("{input}", str(path)).replace("{out}", str(out)) for word in words_of(self.options.on_result)]
        line = json.dumps({"input": str(path), "out": str(out), **facts}, ensure_ascii=False) + "\n"
        try:
            done = subprocess.run(
                command, input=line.encode(errors="backslashreplace"), timeout=self.options.hook_s, stdout=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return {"on_result": f"killed after {self.options.hook_s:g} s"}
        except OSError as error:
            return {"on_result": f"cannot be run ({error.strerror or error}): {command[0]}"}
        return {"on_result": done.returncode}

    def _write(self, event: str, found: Found | None = None, patient: bool = True, **facts: Any) -> None:
        """Put a line into the ledger and say it; with `patient`, try until the disk takes it."""
        pause = 0.25
        while True:
            try:
                record = self._ledger.write(event, found.file if found else "", found.version if found else None, **facts)
                break
            except OSError as error:
                self._say({"event": "blocked", "why": f"the ledger cannot be written ({error.strerror}); trying again"})
                if not patient:
                    return
                time.sleep(pause)
                pause = min(2 * pause, SLOWEST_S)
        self._say(record)

    def _once(self, key: str, why: str, event: str = "wait", **facts: Any) -> None:
        if key not in self._told:
            self._told.add(key)
            self._write(event, why=why, **facts)
