"""One table over many inputs: columns.h5, the rows of every input's columns.csv with the number of their file. Owns its layout.

/entry/columns   NXcollection: `file`, then what columns.csv holds, one dataset a quantity; `species` is a number, its `classes` say of what
/entry/files     NXcollection: `path`, `sha256`, `first_row`, `rows` and `error` of every input, in the order in which they were named

Written some rows at a time, so that the number of inputs does not matter. Called by the commands, after the last input.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stemzoo.errors import TableError, storable
from stemzoo.io.outputs import need_room, new_file
from stemzoo.io.results import UNITS

FILE = "columns.h5"
ROWS = 1 << 16  # that are held before they are written, and the length of a chunk
WHOLE = ("frame", "column", "species", "fit_ok")  # quantities that are whole numbers, and never empty


@dataclass(frozen=True, slots=True)
class Input:
    """One input and where its results are. sha256: of its bytes. error: why it has none; None where all went well."""

    path: str
    folder: Path
    sha256: str = ""
    error: str | None = None


def write_joint(path: Path, inputs: Iterable[Input]) -> int:
    """Write one table of all inputs' columns; it appears whole or not at all. Return its number of rows.

    Raises: OutputError if it cannot be written; TableError if a columns.csv is not as stemzoo left it.
    """
    files: dict[str, list[Any]] = {name: [] for name in ("path", "sha256", "first_row", "rows", "error")}
    with new_file(path, "the results of each input are in its folder") as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "stemzoo"})
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        table = _Rows(entry.create_group("columns"))
        for number, one in enumerate(inputs):
            first = table.n
            if one.error is None:
                table.add(number, one.folder / "columns.csv")
            facts = (storable(one.path), one.sha256, first, table.n - first, storable(one.error or ""))
            for name, value in zip(files, facts, strict=True):
                files[name].append(value)
        table.close()
        group = entry.create_group("files")
        group.attrs["NX_class"] = "NXcollection"
        for name, values in files.items():
            group[name] = values
    return table.n


class _Rows:
    """A table of datasets that grow together; a quantity that some inputs lack is NaN there. n: rows so far."""

    def __init__(self, group: h5py.Group) -> None:
        self.group, self.n = group, 0
        self.group.attrs["NX_class"] = "NXcollection"
        self._classes: dict[str, int] = {}
        self._waiting: list[dict[str, np.ndarray]] = []
        self._written = 0

    def add(self, number: int, path: Path) -> None:
        """Append the rows of a columns.csv as those of file `number`. Raises: TableError, OSError."""
        with path.open(encoding="utf-8", newline="") as file:
            names = file.readline().strip().split(",")
            while lines := list(itertools.islice(file, ROWS)):
                try:
                    rows = self._parsed(names, lines)
                except ValueError as error:
                    raise TableError(f"{path}: is not as stemzoo wrote it ({error}); pass --again") from error
                self._waiting.append({"file": np.full(len(lines), number), **rows})
                self.n += len(lines)
                if self.n - self._written >= ROWS:
                    self._flush()

    def close(self) -> None:
        """Write what waits."""
        self._flush()
        if "species" in self.group:
            self.group["species"].attrs["classes"] = list(self._classes)

    def _parsed(self, names: Sequence[str], lines: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the lines' cells as one array a quantity. Raises: ValueError."""
        kinds = np.dtype([(name, np.int64 if name in WHOLE else np.float64) for name in names])
        converters: dict[int | str, Any] = {names.index("species"): lambda name: self._classes.setdefault(name, len(self._classes))}
        if any(",," in line or line.rstrip().endswith(",") for line in lines):  # empty cells, which are rare and slow
            converters |= {k: _number for k, name in enumerate(names) if name not in WHOLE}
        read = np.loadtxt(lines, kinds, delimiter=",", quotechar='"', comments=None, converters=converters, ndmin=1)
        return {name: read[name] for name in names}

    def _flush(self) -> None:
        need_room(Path(self.group.file.filename), sum(array.nbytes for rows in self._waiting for array in rows.values()))
        for name in dict.fromkeys(name for rows in self._waiting for name in rows):
            if name not in self.group:
                kind = np.int64 if name in ("file", *WHOLE) else np.float64
                empty = 0 if kind is np.int64 else np.nan
                settings = {"maxshape": (None,), "chunks": (ROWS,), "compression": "gzip", "compression_opts": 1, "shuffle": True}
                dataset = self.group.create_dataset(name, (self._written,), kind, fillvalue=empty, **settings)
                if name in UNITS or name == "angle_rad":
                    dataset.attrs["units"] = UNITS.get(name, "rad")
        for name, dataset in self.group.items():
            dataset.resize((self.n,))
            start = self._written
            for rows in self._waiting:
                stop = start + len(rows["file"])
                if name in rows:
                    dataset[start:stop] = rows[name]
                start = stop
        self._waiting, self._written = [], self.n


def _number(cell: str) -> float:
    return float(cell) if cell else float("nan")
