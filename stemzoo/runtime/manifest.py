"""MANIFEST, the sha256 of every file of a folder for the microscope: a witness beside the models' own cards, which could go missing.

Reads one `<sha256>  <path>` a line, as `sha256sum -c` does and zoo.microscope writes it. Called by runtime.app.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from stemzoo.errors import ModelError
from stemzoo.runtime.bundle import sha256_of

MANIFEST_FILE = "MANIFEST"
SHOWN = 5  # so many faults are named


def read_manifest(folder: Path) -> Dict[str, str]:
    """Return the listed sha256 of each file, by its path below `folder`. Raises: ModelError if there is no readable list."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ModelError(f"{path}: missing, so nothing says what the files here should be; copy the folder again, whole")
    listed = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise ModelError(f"{path}: a line of it is {line[:40]!r}; wanted a sha256 and a path; copy the folder again")
        listed[name] = digest
    if not listed:
        raise ModelError(f"{path}: lists no file; copy the folder again")
    return listed


def check_manifest(folder: Path) -> int:
    """Return how many files are listed, all there and as they were made; others may lie beside. Raises: ModelError naming the faults."""
    listed = read_manifest(folder)
    faults = []
    for name, digest in listed.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif sha256_of(path) != digest:
            faults.append(f"{name} has changed")
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ModelError(f"{len(faults)} of {len(listed)} files are not as made: {', '.join(faults[:SHOWN])}{more}; copy it again")
    return len(listed)


def check_vouched(folder: Path, path: Path, digest: str) -> None:
    """Raise ModelError where `folder` lists the file at `path` with another sha256 than `digest`; what it does not list may be anything."""
    if not (folder / MANIFEST_FILE).is_file():
        return
    try:
        name = path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return
    if read_manifest(folder).get(name, digest) != digest:
        raise ModelError(f"{path}: its sha256 is {digest}, and {MANIFEST_FILE} lists another; the file has changed: copy it again")
