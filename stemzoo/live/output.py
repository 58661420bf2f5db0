"""The folder that a watcher's results go to: who may write there, whether there is room, what a killed process left behind.

Called by live.watch.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stemzoo.errors import OutputError

Say = Callable[[Mapping[str, Any]], None]
RESERVE_BYTES = 8 << 20  # so much stays free for the ledger; below it the disk counts as full
SLOWEST_S = 10.0  # longest pause between two looks at a full disk
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
AWAY = {getattr(errno, name) for name in ("EIO", "EROFS", "ESTALE", "ENODEV", "ENOTCONN", "EHOSTDOWN") if hasattr(errno, name)}


class Output:
    """The folder, held by this process alone until `close`.

    Args: folder: made if missing; what a killed watcher left half-written in it is removed. say: told while there is no room.
    Raises: OutputError if it cannot be made or written, or if another process watches into it.
    """

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder = folder
        self._say = say
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"--out {folder} cannot be made ({error.strerror}); name a folder you may write to") from error
        self._lock = _lock(folder)
        for path in folder.rglob(".*.part"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def wait_for_room(self, why: str = "") -> None:
        """Return once results can be written; say so while they cannot. Nothing is dropped meanwhile: files wait in their folder."""
        pause, told = 0.25, False
        while why or self.free() < RESERVE_BYTES:
            if not told:
                said = why or f"{self.free() / 1e6:.1f} MB are free below {self.folder}; wanted {RESERVE_BYTES / 1e6:.0f}"
                self._say({"event": "blocked", "why": f"{said}; waiting until there is room"})
                told = True
            time.sleep(pause)
            pause, why = min(2 * pause, SLOWEST_S), ""
        if told:
            self._say({"event": "unblocked", "why": f"results are written again below {self.folder}"})

    def blocked(self, error: BaseException) -> bool:
        """Say whether an analysis failed because of the place that results go to, which is no fault of the file."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and (cause.errno in FULL or (isinstance(error, OutputError) and cause.errno in AWAY)):
                return True
            cause = cause.__cause__ or cause.__context__
        return self.free() < RESERVE_BYTES

    def free(self) -> int:
        """Return the free bytes below the output folder; as good as none while a share is away."""
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return 0

    def close(self) -> None:
        """Let another watcher in."""
        self._lock.close()


def _lock(out: Path) -> Any:
    """Return an open file that keeps a second watcher away from `out`; the system gives it up when the process ends, however it ends.

    Raises: OutputError if another process holds it.
    """
    path = out / ".watch.lock"
    try:
        file = open(path, "a+b")  # noqa: SIM115 - stays open as long as the watcher lives
    except OSError as error:
        raise OutputError(f"--out {out} cannot be written ({error.strerror}); name a folder you may write to") from error
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OutputError(f"--out {out}: another stemzoo watch writes there; stop it or name another --out") from error
    return file
