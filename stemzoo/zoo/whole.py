"""A folder or a file that appears whole or not at all. Called by whatever writes a bundle, a zoo, or a folder for the microscope."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stemzoo.errors import OutputError


@contextmanager
def whole_folder(folder: Path, option: str = "--out") -> Iterator[Path]:
    """Yield an empty folder that becomes `folder`, readable for all, if all goes well and vanishes otherwise.

    Args: folder: missing or empty. option: by which the user named it, for the message.
    Raises: OutputError if it cannot be made, filled or moved.
    """
    with _beside(folder, option) as work:
        place = work / "folder"
        place.mkdir()
        yield place
        for path in place.rglob("*"):
            if path.is_file():
                path.chmod(path.stat().st_mode | 0o644)
        place.chmod(0o755)  # a web server is somebody else
        if folder.is_dir():
            folder.rmdir()
        os.replace(place, folder)


@contextmanager
def whole_file(path: Path, option: str = "--out") -> Iterator[Path]:
    """Yield the path of a file to write, which becomes `path`, readable for all, if all goes well and vanishes otherwise.

    Args: option: by which the user named it, for the message. Raises: OutputError if it cannot be written or moved.
    """
    with _beside(path, option) as work:
        yield work / path.name
        (work / path.name).chmod(0o644)
        os.replace(work / path.name, path)


@contextmanager
def _beside(path: Path, option: str) -> Iterator[Path]:
    """Yield a hidden folder beside `path`, where a rename into place is one step, and remove it. Raises: OutputError for an OSError."""
    work: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        yield work
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); name another {option}") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
