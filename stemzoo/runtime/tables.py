"""columns.csv: an Analysis to a table and a table back to Columns. Owns the header, the digits and what an empty cell means.

One row a column, in the order frame, column; angle and latents follow where columns were encoded. An unknown number is an empty cell: Å
where the pixel size is unknown, angle and latents where the window reaches over the edge of the frame. Called by the CLI and the `.pyz`.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Dict, List, Mapping, Optional, Sequence, TextIO, Tuple, Type

import numpy as np

from stemzoo.errors import OutputError, TableError
from stemzoo.types import Analysis, Columns, Encoding, Frames

HEADER = ("frame", "column", "y_px", "x_px", "y_A", "x_A", "sigma_y_px", "sigma_x_px", "species", "intensity", "confidence", "fit_ok")
ANGLE = "angle_rad"
MOST_FRAMES = 100_000
"""Frames that a table read without its stack may name: a longer series is none that the table was made of, but a damaged number."""


@dataclass(frozen=True)
class Table:
    """A table as read.

    Args:
        columns: one Columns per frame, from frame 0 to the last that the table or the caller names; sorted by y then x.
        row: for each frame, which row of the file (from 0, without the header) each column came from.
        angle: (N,) rad over all columns, in the order of `columns`; None where the table ends at `fit_ok`.
        latents: (N, Z); None like `angle`.
    """

    columns: Tuple[Columns, ...]
    row: Tuple[np.ndarray, ...]
    angle: Optional[np.ndarray] = None
    latents: Optional[np.ndarray] = None


class ColumnsWriter:
    """Writes columns.csv frame by frame; the file appears under its name when the `with` block ends without an error.

    Positions and errors have six digits after the point, intensity, confidence and latents eight significant ones.

    Args: latents: how many an encoding has; None where the table ends at `fit_ok`.
    Raises: OutputError if the file cannot be written where it was asked for.
    """

    def __init__(self, path: Path, latents: Optional[int] = None) -> None:
        self.path = Path(path)
        self._latents = latents
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._file: Optional[TextIO] = None

    def __enter__(self) -> ColumnsWriter:
        more = [] if self._latents is None else [ANGLE] + [f"z{k + 1}" for k in range(self._latents)]
        try:
            self._file = self._temporary.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise self._refused(error) from error
        self._put(",".join((*HEADER, *more)) + "\n")
        return self

    def add(self, columns: Columns, encoding: Optional[Encoding] = None) -> None:
        """Append one frame: its columns and, where they are encoded, the encoding's rows that belong to them."""
        n = len(columns)
        if not n:
            return
        angstrom = columns.yx * (columns.pixel_size or np.nan)
        names = [_quoted(name) for name in columns.classes]
        lengths = (columns.yx, angstrom, columns.sigma)
        cells = [
            [str(columns.frame)] * n,
            list(map(str, range(n))),
            *(_format("%.6f", values[:, axis]) for values in lengths for axis in (0, 1)),
            [names[index] for index in columns.species],
            _format("%.8g", columns.intensity),
            _format("%.8g", columns.confidence),
            _format("%d", columns.fit_ok),
        ]
        if self._latents is not None and encoding is not None:
            cells.append(_format("%.6f", encoding.folded))
            cells.extend(_format("%.8g", encoding.latents[:, k]) for k in range(self._latents))
        self._put("\n".join(map(",".join, zip(*cells))) + "\n")

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
            if kind is None:
                os.replace(str(self._temporary), str(self.path))
        except OSError as failure:
            raise self._refused(failure) from failure
        finally:
            if self._temporary.exists():
                self._temporary.unlink()

    def _put(self, text: str) -> None:
        assert self._file is not None, "outside of `with`"
        try:
            self._file.write(text)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({error.strerror or error}); pass another --out")


def write_columns(path: Path, analysis: Analysis) -> None:
    """Write columns.csv; the file appears whole or not at all. Raises: OutputError as `ColumnsWriter`."""
    encoding, first = analysis.encoding, 0
    with ColumnsWriter(path, None if encoding is None else encoding.latents.shape[1]) as writer:
        for columns in analysis.columns:
            rows = slice(first, first + len(columns))
            writer.add(columns, None if encoding is None else encoding.rows(rows))
            first = rows.stop


def read_columns(path: Path, n_frames: Optional[int] = None, pixel_size: Optional[float] = None) -> Table:
    """Read a table of columns, our own or anyone's: `y_px` and `x_px` are enough, any other known field is used, others are ignored.

    Args:
        path: a CSV file with a header line.
        n_frames: number of frames in the stack; a row that names a later frame is refused. None: up to the last frame named, which may
            be number `MOST_FRAMES` − 1.
        pixel_size: Å/px of the frames, kept in the Columns.
    Returns: a Table; errors, intensities and confidences that are missing are NaN: unknown. A missing fit_ok is true, a missing species
        `column`.
    Raises: TableError that names the line and the field.
    """
    header, rows = _read_rows(Path(path))
    fields = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    numbers = {name: _numbers(path, name, fields[name]) for name in header if name != "species" and _is_known(name)}
    for name in ("y_px", "x_px"):
        _require_finite(path, name, numbers[name])
    count = len(rows)
    frame = numbers.get("frame", np.zeros(count))
    _require_finite(path, "frame", frame)
    most = MOST_FRAMES if n_frames is None else n_frames
    wrong = np.flatnonzero((frame < 0) | (frame != np.round(frame)) | (frame >= most))
    if len(wrong):
        got = fields["frame"][wrong[0]]
        raise TableError(f"{path}, line {wrong[0] + 2}: frame is {got}; wanted 0 to {most - 1}")
    total = n_frames if n_frames is not None else (int(frame.max()) + 1 if count else 1)
    names = fields.get("species", ["column"] * count)
    classes = tuple(dict.fromkeys(names)) or ("column",)
    index = {name: i for i, name in enumerate(classes)}
    species = np.array([index[name] for name in names], dtype=np.int64)
    order = np.lexsort((numbers["x_px"], numbers["y_px"], frame))
    bounds = np.searchsorted(frame[order], np.arange(total + 1))
    row = tuple(order[bounds[t] : bounds[t + 1]] for t in range(total))
    none = Columns.empty(classes, pixel_size)
    columns = tuple(
        _columns(numbers, species, own, classes, pixel_size, t) if len(own) else replace(none, frame=t) for t, own in enumerate(row)
    )
    angle, latents = numbers.get(ANGLE), [numbers[name] for name in _latent_names(header)]
    return Table(
        columns=columns,
        row=row,
        angle=None if angle is None else angle[order],
        latents=np.stack(latents, axis=1)[order].astype(np.float32) if latents else None,
    )


def is_ours(path: Path) -> bool:
    """Return whether the first line of a table names y_px and x_px, as `read_columns` wants; False for one that cannot be read."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return {"y_px", "x_px"} <= {name.strip() for name in header}


def require_inside(path: Path, yx: np.ndarray, frames: Frames) -> None:
    """Refuse positions (n, 2) px from the table at `path` that lie outside the frames they were named in. Raises: TableError."""
    outside = ((yx < -0.5) | (yx > np.array(frames.shape) - 0.5)).any(axis=1)
    if outside.any():
        y, x = yx[outside][0]
        raise TableError(
            f"{path}: column at y {y:.1f}, x {x:.1f} px lies outside the {frames.shape[0]}×{frames.shape[1]} px of {frames.path}; "
            "are y and x exchanged, in another unit, or is it another frame's table?"
        )


def _columns(
    numbers: Mapping[str, np.ndarray],
    species: np.ndarray,
    rows: np.ndarray,
    classes: Tuple[str, ...],
    pixel_size: Optional[float],
    frame: int,
) -> Columns:
    """Return the Columns of one frame; a field that the table lacks gets its default."""

    def field(name: str) -> np.ndarray:
        values = numbers[name][rows] if name in numbers else np.full(len(rows), np.nan)
        return np.where(np.isfinite(values), values, np.nan)

    return Columns(
        yx=np.stack([numbers["y_px"][rows], numbers["x_px"][rows]], axis=1),
        sigma=np.stack([field("sigma_y_px"), field("sigma_x_px")], axis=1),
        species=species[rows],
        intensity=field("intensity"),
        confidence=field("confidence"),
        fit_ok=field("fit_ok") != 0,
        classes=classes,
        pixel_size=pixel_size,
        frame=frame,
    )


def _read_rows(path: Path) -> Tuple[List[str], List[List[str]]]:
    """Return the header and the rows, every row as long as the header. Blank lines at the end are dropped."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror or error}); name a CSV file with the fields y_px and x_px") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: not a CSV table ({error}); wanted text with the fields y_px and x_px") from error
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows:
        raise TableError(f"{path}: empty; wanted a header line with the fields y_px and x_px")
    header = rows[0]
    for name in ("y_px", "x_px"):
        if name not in header:
            raise TableError(
                f"{path}, line 1: the field {name} is missing; the header has {', '.join(header)[:200]}; separate fields by commas"
            )
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise TableError(f"{path}, line 1: the field {sorted(repeated)[0]} stands twice")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise TableError(f"{path}, line {number}: {len(row)} cells; the header has {len(header)} fields")
    return header, rows[1:]


def _is_known(name: str) -> bool:
    return name in HEADER or name == ANGLE or (name[:1] == "z" and name[1:].isdigit())


def _latent_names(header: Sequence[str]) -> List[str]:
    """Return z1, z2, … as far as they stand in the header without a gap."""
    names: List[str] = []
    while f"z{len(names) + 1}" in header:
        names.append(f"z{len(names) + 1}")
    return names


_WORDS: Dict[str, str] = {"": "nan", "true": "1", "false": "0"}


def _numbers(path: Path, name: str, cells: Sequence[str]) -> np.ndarray:
    """Return the cells of one field as float64, an empty one as NaN. Raises: TableError naming line and field."""
    try:
        return np.array(cells, dtype=np.str_).astype(np.float64) if all(cells) else _one_by_one(cells)
    except ValueError:
        pass
    try:
        return _one_by_one(cells)
    except ValueError:
        for number, cell in enumerate(cells, start=2):
            try:
                float(_WORDS.get(cell.lower(), cell))
            except ValueError:
                raise TableError(f"{path}, line {number}: {name} is {cell!r}; wanted a number or an empty cell") from None
        raise


def _one_by_one(cells: Sequence[str]) -> np.ndarray:
    return np.array([float(_WORDS.get(cell.lower(), cell)) for cell in cells], dtype=np.float64)


def _require_finite(path: Path, name: str, values: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise TableError(f"{path}, line {bad[0] + 2}: {name} is empty or not finite; wanted a number")


def _format(template: str, values: np.ndarray) -> List[str]:
    """Return one text per value, NaN as an empty text; one call of % for all of them, which is what makes 200,000 rows quick."""
    if not len(values):
        return []
    text = "\n".join([template] * len(values)) % tuple(values.tolist())
    return text.replace("nan", "").split("\n")


def _quoted(name: str) -> str:
    """Return `name` as a CSV cell."""
    return '"' + name.replace('"', '""') + '"' if any(mark in name for mark in ',"\n\r') else name
