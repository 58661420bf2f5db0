"""Which files of a folder are whole. Owns polling, settling, what a version of a file is, and the question whether a file can be opened.

The folder is polled: a network share reports no changes made by the microscope's PC, a local queue of notifications can overflow, and a
file that has come to rest gives no notification anyway. Times are this machine's monotonic clock; a file's own mtime only says that
something changed, since the clocks of a share's two ends disagree. What became of a file is the ledger's. Called by live.watch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stemzoo.io.read import FORMATS

PARTIAL = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".swp", ".lock")
BUSY = {errno.EACCES, errno.EPERM, errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EINTR}


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a file: what tells a finished file from one that grew or was written again."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str | Path) -> Version:
        """Return the version that is there now. Raises: OSError if none is."""
        # On Windows a listing's own sizes lag behind for a file that is still open, hence a stat of its own.
        status = os.stat(path)
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that has come to rest: its name relative to the folder, with `/`, and the version seen."""

    file: str
    version: Version


@dataclass(slots=True)
class _Sighting:
    version: Version
    since: float


class Folder:
    """A folder that is looked at again and again.

    Args:
        root: the folder. settle_s: how long size and mtime must stay as they are. recursive: look into folders below.
        skip: a folder that is not entered, such as the one that results go to.
    Attributes: other: suffixes met that are no images, with how many files have each, as of the last scan.
    """

    def __init__(self, root: Path, settle_s: float, recursive: bool = False, skip: Path | None = None) -> None:
        self.root = root
        self.settle_s = settle_s
        self.recursive = recursive
        self.skip = None if skip is None else skip.resolve()
        self.other: dict[str, int] = {}
        self._seen: dict[str, _Sighting] = {}

    def expect(self, files: Mapping[str, Version], now: float) -> None:
        """Take files as seen that an earlier watcher saw, so that those which are no longer there are found to be gone."""
        self._seen.update({file: _Sighting(version, now) for file, version in files.items()})

    def scan(self, now: float) -> tuple[list[Found], list[Found], int]:
        """Return (files at rest, oldest first; files that went away since the last scan; how many are still moving).

        Raises: OSError if the folder itself cannot be listed, as when a share is away.
        """
        self.other = {}
        present: dict[str, Version] = dict(self._files())
        gone = [Found(file, sighting.version) for file, sighting in self._seen.items() if file not in present]
        for found in gone:
            del self._seen[found.file]
        rest: list[Found] = []
        for file, version in present.items():
            sighting = self._seen.get(file)
            if sighting is None or sighting.version != version:
                self._seen[file] = _Sighting(version, now)
            elif now - sighting.since >= self.settle_s:
                rest.append(Found(file, version))
        rest.sort(key=lambda found: (found.version.mtime_ns, found.file))
        return rest, gone, len(present) - len(rest)

    def _files(self) -> Iterator[tuple[str, Version]]:
        """Yield each image file below the root, unsorted."""
        folders = [self.root]
        while folders:
            folder = folders.pop()
            try:
                entries = os.scandir(folder)
            except OSError:
                if folder == self.root:
                    raise
                continue
            with entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    try:
                        if entry.is_dir():
                            if self.recursive and not entry.is_symlink() and Path(entry.path).resolve() != self.skip:
                                folders.append(Path(entry.path))
                            continue
                        version = Version.of(entry.path)
                    except OSError:
                        continue
                    suffix = Path(entry.name).suffix.lower()
                    if suffix not in FORMATS:
                        if suffix not in PARTIAL:
                            self.other[suffix] = self.other.get(suffix, 0) + 1
                        continue
                    yield Path(entry.path).relative_to(self.root).as_posix(), version

    def version(self, file: str) -> Version | None:
        """Return the file's version now, None if it is gone."""
        try:
            return Version.of(self.root / file)
        except OSError:
            return None


def why_not_open(path: Path) -> str | None:
    """Return why another program keeps `path` to itself, None where it can be read.

    On Windows a file that is being written refuses to be opened; on Unix a writer that wants to be alone holds an flock.
    """
    try:
        with open(path, "rb") as file:
            try:
                import fcntl
            except ImportError:
                file.read(1)
                return None
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in BUSY or isinstance(error, PermissionError):
            return f"held by another program, or not permitted ({error.strerror})"
    return None
