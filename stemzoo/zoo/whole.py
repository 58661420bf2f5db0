"""A folder that appears whole or not at all. Called by whatever writes a bundle, a microscope's folder or a package."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stemzoo.errors import OutputError


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder`, readable for all, if all goes well and vanishes otherwise.

    Args: folder: missing or empty. Raises: OutputError if it cannot be made, filled or moved.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); name another --out") from error
    try:
        yield work
        for path in work.rglob("*"):
            if path.is_file():
                path.chmod(path.stat().st_mode | 0o644)
        work.chmod(0o755)  # mkdtemp's own is for nobody else; a web server is somebody else
        if folder.is_dir():
            folder.rmdir()
        os.replace(work, folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); name another --out") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
