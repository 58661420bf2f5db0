"""columns.csv: an Analysis to a table and a table back to Columns. Owns the header, the digits and what an empty cell means.

One row a column, in the order frame, column; angle and latents follow where columns were encoded. An unknown number is an empty cell: Å
where the pixel size is unknown, angle and latents where the window reaches over the edge of the frame. Called by the CLI and the `.pyz`.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from stemzoo.errors import OutputError, TableError
from stemzoo.types import Analysis, Columns

HEADER = ("frame", "column", "y_px", "x_px", "y_A", "x_A", "sigma_y_px", "sigma_x_px", "species", "intensity", "confidence", "fit_ok")
ANGLE = "angle_rad"


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


def write_columns(path: Path, analysis: Analysis) -> None:
    """Write columns.csv; the file appears whole or not at all.

    Positions and errors have six digits after the point, intensity, confidence and latents eight significant ones.
    Raises: OutputError if the file cannot be written where it was asked for.
    """
    tables, classes = analysis.columns, tuple(columns.classes for columns in analysis.columns)
    yx = np.concatenate([columns.yx for columns in tables])
    angstrom = np.concatenate([columns.yx * (columns.pixel_size or np.nan) for columns in tables])
    sigma = np.concatenate([columns.sigma for columns in tables])
    species = [_quoted(classes[i][index]) for i, columns in enumerate(tables) for index in columns.species]
    header = list(HEADER)
    cells = [
        _format("%d", np.concatenate([np.full(len(columns), columns.frame) for columns in tables])),
        _format("%d", np.concatenate([np.arange(len(columns)) for columns in tables])),
        *(_format("%.6f", values) for values in (yx[:, 0], yx[:, 1], angstrom[:, 0], angstrom[:, 1], sigma[:, 0], sigma[:, 1])),
        species,
        _format("%.8g", np.concatenate([columns.intensity for columns in tables])),
        _format("%.8g", np.concatenate([columns.confidence for columns in tables])),
        _format("%d", np.concatenate([columns.fit_ok for columns in tables])),
    ]
    if analysis.encoding is not None:
        encoding = analysis.encoding
        header += [ANGLE] + [f"z{k + 1}" for k in range(encoding.latents.shape[1])]
        cells.append(_format("%.6f", encoding.angle))
        cells.extend(_format("%.8g", encoding.latents[:, k]) for k in range(encoding.latents.shape[1]))
    lines = [",".join(header), *map(",".join, zip(*cells)), ""]
    _write_whole(Path(path), "\n".join(lines))


def read_columns(path: Path, n_frames: Optional[int] = None, pixel_size: Optional[float] = None) -> Table:
    """Read a table of columns, our own or anyone's: `y_px` and `x_px` are enough, any other known field is used, others are ignored.

    Args:
        path: a CSV file with a header line.
        n_frames: number of frames in the stack; a row that names a later frame is refused. None: up to the last frame named.
        pixel_size: Å/px of the frames, kept in the Columns.
    Returns: a Table; missing errors become NaN-free defaults (σ 0.5 px, confidence 1, fit_ok true, intensity 0, species `column`).
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
    if count and (frame.min() < 0 or (frame != np.round(frame)).any() or (n_frames is not None and frame.max() >= n_frames)):
        bad = int(np.flatnonzero((frame < 0) | (frame != np.round(frame)) | (frame >= (n_frames or np.inf)))[0])
        wanted = f"0 to {n_frames - 1}" if n_frames is not None else "a whole number from 0"
        raise TableError(f"{path}, line {bad + 2}: frame is {fields['frame'][bad]}; wanted {wanted}")
    total = n_frames if n_frames is not None else (int(frame.max()) + 1 if count else 1)
    names = fields.get("species", ["column"] * count)
    classes = tuple(dict.fromkeys(names)) or ("column",)
    index = {name: i for i, name in enumerate(classes)}
    species = np.array([index[name] for name in names], dtype=np.int64)
    order = np.lexsort((numbers["x_px"], numbers["y_px"], frame))
    bounds = np.searchsorted(frame[order], np.arange(total + 1))
    row = tuple(order[bounds[t] : bounds[t + 1]] for t in range(total))
    columns = tuple(_columns(numbers, species, rows_of, classes, pixel_size, t) for t, rows_of in enumerate(row))
    angle, latents = numbers.get(ANGLE), [numbers[name] for name in _latent_names(header)]
    return Table(
        columns=columns,
        row=row,
        angle=None if angle is None else angle[order],
        latents=np.stack(latents, axis=1)[order].astype(np.float32) if latents else None,
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

    def field(name: str, default: float) -> np.ndarray:
        values = numbers[name][rows] if name in numbers else np.full(len(rows), np.nan)
        return np.where(np.isfinite(values), values, default)

    return Columns(
        yx=np.stack([numbers["y_px"][rows], numbers["x_px"][rows]], axis=1),
        sigma=np.stack([field("sigma_y_px", 0.5), field("sigma_x_px", 0.5)], axis=1),
        species=species[rows],
        intensity=field("intensity", 0.0),
        confidence=field("confidence", 1.0),
        fit_ok=field("fit_ok", 1.0) != 0,
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


def _write_whole(path: Path, text: str) -> None:
    """Write `text` under a temporary name beside `path`, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(str(temporary), str(path))
    except OSError as error:
        if temporary.exists():
            temporary.unlink()
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); pass another --out") from error
