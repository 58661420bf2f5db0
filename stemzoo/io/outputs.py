"""Folders and files that are whole or not there. Owns what may be replaced and how a new folder takes an old one's place.

Everything is written under a hidden name beside the one asked for, which is renamed at the end; on any failure, ^C included, it goes away
and what was there before still is. Called by `stemzoo.analyze`, simulation.draft and the commands that write folders.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stemzoo.errors import OutputError

OURS = re.compile(
    r"(columns|clusters|tracks)\.csv|analysis\.h5|report\.html|run\.json|encoder"
    r"|(frame|segmentation|angle|latent_\d+|latents|manifold|baseline|patterns|clusters|sigma|confidence|spacing|series|tracks)\.png"
)
STUDY = re.compile(r"study\.(png|csv)")  # what `stemzoo study` may replace, and an analysis may not
SPARE = 2_000_000  # bytes: what HDF5 writes of its own accord, and what others may take meanwhile


def need_room(path: Path, size: float) -> None:
    """Refuse to add `size` bytes to the file at `path` where its disk has not so many left, and a little more.

    HDF5 ends the process when a disk fills up under a file that it has open, so this is asked before. Raises: OutputError.
    """
    free = shutil.disk_usage(path.parent).free
    if free < size + SPARE:
        raise OutputError(
            f"{path}: cannot be written (no space left on device: {(size + SPARE) / 1e6:.1f} MB wanted, {free / 1e6:.1f} MB free); "
            "make room, or pass another --out"
        )


def check_folder(folder: Path, force: bool = False, ours: re.Pattern[str] = OURS) -> None:
    """Refuse, before anything is computed, a folder that cannot be written or must not be replaced.

    A missing or empty folder is fine, and so is one that holds nothing but an earlier result of the same kind, whose files have the names
    `ours`. With `force` that is replaced in any folder, and other files stay.
    Raises: OutputError naming what stands in the way.
    """
    folder = Path(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"--out {folder} is a file; name a folder that does not exist yet, or an earlier result")
        if folder.is_dir() and not force:
            foreign = sorted(entry.name for entry in folder.iterdir() if not ours.fullmatch(entry.name))
            if foreign:
                shown = ", ".join(foreign[:3]) + (" …" if len(foreign) > 3 else "")
                raise OutputError(
                    f"--out {folder} holds more than an earlier result ({shown}); name another, or pass --force to write beside that"
                )
        if folder.is_dir() and folder.resolve() in (Path.cwd().resolve(), *Path.cwd().resolve().parents):
            raise OutputError(f"--out {folder} is the folder you work in, which cannot be replaced; name a folder inside it")
        _try_writing(_existing_parent(folder))
    except OSError as error:
        raise OutputError(f"--out {folder} cannot be written: {error.strerror or error}; name a folder you may write to") from error


@contextmanager
def new_file(path: Path, way_out: str = "choose another --out") -> Iterator[Path]:
    """Give a path to write to; on leaving, what was written there becomes `path`.

    Raises: OutputError, with the way out as its end, if the disk refuses; what was written is then gone.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); {way_out}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path, force: bool = False, ours: re.Pattern[str] = OURS) -> Iterator[Path]:
    """Give an empty folder to write into; on leaving, it becomes `folder`, and an earlier one is removed once the new is in place.

    Raises: OutputError as `check_folder`, or if the disk refuses; the hidden folder is then gone.
    """
    folder = Path(folder)
    check_folder(folder, force, ours)
    made = _make_parents(folder.parent)
    temporary: Path | None = None
    finished = False
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        _swap(temporary, folder, ours)
        finished = True
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}; free some space or choose another --out") from error
    finally:
        if not finished:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            for parent in reversed(made):
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()


def stem_of(source: str) -> str:
    """Return the name of an input without folder and suffix; `FILE::NAME` keeps both parts.

    >>> stem_of("a/scan.h5::/entry/image"), stem_of("frame.dm4")
    ('scan_entry_image', 'frame')
    """
    file, _, signal = source.partition("::")
    named = re.sub(r"[^A-Za-z0-9.-]+", "_", signal).strip("_.")
    return Path(file).stem + (f"_{named}" if named else "")


def folders_for(sources: list[str], out: Path) -> list[Path]:
    """Return the folder of each input below `out`, by stem; equal stems get their suffix, then a number.

    >>> [p.name for p in folders_for(["a/x.tif", "b/x.dm4", "c/x.dm4", "y.npy"], Path("o"))]
    ['x_tif', 'x_dm4', 'x_dm4_2', 'y']
    """
    stems = [stem_of(source) for source in sources]
    names: list[str] = []
    for source, stem in zip(sources, stems, strict=True):
        base = stem if stems.count(stem) == 1 else f"{stem}_{Path(source.partition('::')[0]).suffix[1:]}"
        name, number = base, 2
        while name in names:
            name, number = f"{base}_{number}", number + 1
        names.append(name)
    return [out / name for name in names]


def _swap(temporary: Path, folder: Path, ours: re.Pattern[str]) -> None:
    """Put `temporary` in the place of `folder`; should that fail, the earlier folder comes back."""
    if not folder.exists():
        os.rename(temporary, folder)
        return
    earlier = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
    kept = earlier / "folder"
    os.rename(folder, kept)
    try:
        os.rename(temporary, folder)
    except BaseException:
        os.rename(kept, folder)
        earlier.rmdir()
        raise
    # Files that are not ours stay where they were, with `force` too: one of them may be the very frame that was analysed.
    for entry in kept.iterdir():
        if not ours.fullmatch(entry.name) and not (folder / entry.name).exists():
            os.rename(entry, folder / entry.name)
    shutil.rmtree(earlier, ignore_errors=True)


def _existing_parent(folder: Path) -> Path:
    for parent in folder.absolute().parents:
        if parent.exists():
            return parent
    return Path(folder.anchor or ".")


def _try_writing(parent: Path) -> None:
    with tempfile.TemporaryFile(dir=parent):
        pass


def _make_parents(parent: Path) -> list[Path]:
    """Make `parent` and return the folders that were made, outermost first."""
    missing = [p for p in (parent, *parent.parents) if not p.exists()][::-1]
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{parent} cannot be made: {error.strerror or error}; choose another --out") from error
    return missing


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
