"""Tables of columns that other programs wrote, as positions in pixels: atomap, StatSTEM, ImageJ, anything with recognisable names.

Owns what other programs call the fields, their units and where they count from. Called by `stemzoo.label` and `analyze.source`; the
package's own `columns.csv` is read by `runtime.tables`.

- atomap: rows of numbers without names, `x, y, sigma_x, sigma_y, ellipticity`, each over all columns (what its guide saves with
  `np.savetxt`), or the same with a line a column; px, the centre of the first pixel is 0.
- StatSTEM: `output.coordinates`, a line `x, y, type` a column; Å, the centre of the first pixel is at one pixel size.
- ImageJ and others: a line of names; px unless a name states another unit, as `x (nm)` does. ImageJ's `Slice` counts from 1, and is 0 for
  an image that is no stack.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from stemzoo.errors import PixelSizeError, TableError, storable
from stemzoo.types import Frames

Program = Literal["atomap", "statstem", "imagej"]

NAMES: dict[str, tuple[str, ...]] = {
    "y": ("y", "y_position", "position_y", "pos_y", "ypos", "pixel_y", "row", "y_coordinate", "y_centre", "y_center", "coordinates_2"),
    "x": ("x", "x_position", "position_x", "pos_x", "xpos", "pixel_x", "col", "x_coordinate", "x_centre", "x_center", "coordinates_1"),
    "species": ("species", "type", "types", "element", "sublattice", "class", "atom_type", "column_type", "symbol", "coordinates_3"),
    "frame": ("frame", "slice", "image", "frame_index"),
}
"""Field → what programs call it, without its unit, in small letters and with `_` for spaces."""

UNITS = {"px": 0.0, "pixel": 0.0, "pixels": 0.0, "å": 1.0, "a": 1.0, "angstrom": 1.0, "ångström": 1.0, "nm": 10.0, "pm": 0.01}
"""Unit → Å; 0 stands for a pixel."""

_WITH_UNIT = re.compile(rf"(?P<name>.+?)[_(\[]+(?P<unit>{'|'.join(UNITS)})[)\]]*")
_MOST_TYPES = 20  # a third column of small whole numbers is StatSTEM's type of column


@dataclass(frozen=True)
class Labels:
    """Columns as some program named them.

    Args:
        yx: (n, 2) float64, px.
        species: name of each.
        frame: (n,) int64, frame of a stack.
        understood: how the table was read, for the user to check.
    """

    yx: np.ndarray
    species: tuple[str, ...]
    frame: np.ndarray
    understood: str


def read_labels(path: str | Path, pixel_size: float | None, program: Program | None = None) -> Labels:
    """Return the columns in another program's table.

    Args:
        path: text; cells are separated by commas, semicolons, tabs or spaces.
        pixel_size: Å/px of the frame; needed where the table is in Å or nm.
        program: what wrote the table. None finds out by names and shape, and refuses where that leaves a doubt.
    Raises: TableError naming the line, the cell and what was wanted; PixelSizeError for lengths without a pixel size.
    """
    path = Path(path)
    lines = _lines(path)
    named = not all(_is_number(cell) for cell in lines[0])
    names, body, program = (lines[0], lines[1:], program) if named else _name(path, lines, program)
    for number, line in enumerate(body, start=1 + named):
        if len(line) != len(names):
            raise TableError(f"{path}, line {number}: {len(line)} cells; line 1 has {len(names)}")
    fields = _fields(path, names)
    if program is None and any(name.lower().startswith("coordinates_") for name in names):
        program = "statstem"
    unit = fields["y"][1] or ("å" if program == "statstem" else "px")
    if (fields["x"][1] or unit) != unit:
        raise TableError(f"{path}, line 1: y is in {unit} and x in {fields['x'][1]}; export both in px")

    def numbers(field: str) -> np.ndarray:
        place = fields[field][0]
        return np.array([_number(path, k, line[place], names[place]) for k, line in enumerate(body, start=1 + named)], dtype=np.float64)

    yx = np.stack([numbers("y"), numbers("x")], axis=1)
    if UNITS[unit]:
        if pixel_size is None:
            raise PixelSizeError(f"{path}: positions in {unit}, but the frame has no pixel size; pass --pixel-size Å (e.g. 0.12)")
        yx = yx * UNITS[unit] / pixel_size
    if program == "statstem":
        yx = yx - 1.0
    frame = numbers("frame") if "frame" in fields else np.zeros(len(body))
    slices = "frame" in fields and names[fields["frame"][0]].strip().lower() == "slice" and bool((frame >= 1).all())
    frame -= slices
    species = tuple(_species(line[fields["species"][0]]) for line in body) if "species" in fields else ("column",) * len(body)
    used = ", ".join(f"{field} is {names[place]}" for field, (place, _) in fields.items()) + (" less 1" if slices else "")
    origin = "the first pixel at 1" if program == "statstem" else "the first pixel at 0"
    return Labels(yx, species, np.round(frame).astype(np.int64), f"{storable(path.name)}: {len(body)} columns; {used}; in {unit}, {origin}")


def require_frames(path: Path, frame: np.ndarray, frames: Frames) -> None:
    """Refuse columns of the table at `path` whose frame (n,) int is none of `frames`. Raises: TableError."""
    wrong = frame[(frame < 0) | (frame >= len(frames))]
    if len(wrong):
        raise TableError(f"{path}: a column of frame {wrong[0]}; {frames.path} has the frames 0 to {len(frames) - 1}")


def _lines(path: Path) -> list[list[str]]:
    """Return the cells of each line that is not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig").lstrip("#% \n")
    except OSError as failure:
        raise TableError(f"{path}: cannot be read ({failure.strerror or failure}); name a table of columns") from None
    except UnicodeDecodeError:
        raise TableError(f"{path}: not text; export the positions as CSV, in MATLAB by writematrix(output.coordinates, 'c.csv')") from None
    first = text.split("\n", 1)[0]
    delimiter = next((mark for mark in ";\t," if mark in first), None)
    if delimiter is None:
        lines = [line.split() for line in text.splitlines()]
    else:
        lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text), delimiter=delimiter)]
    if delimiter == ";":  # written where the comma is the decimal sign
        lines = [[re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell) for cell in line] for line in lines]
    lines = [line for line in lines if any(line)]
    if not lines:
        raise TableError(f"{path}: empty; wanted the positions of columns")
    return lines


def _name(path: Path, lines: list[list[str]], program: Program | None) -> tuple[list[str], list[list[str]], Program]:
    """Return names, one line a column, and the program, for numbers without names: told by the shape and, at three, by whole types."""
    width = len(lines[0])
    if program in (None, "atomap") and 2 <= len(lines) <= 5 < width:
        names = ["x", "y", "sigma_x", "sigma_y", "ellipticity"][: len(lines)]
        return names, [list(column) for column in zip(*lines, strict=False)], "atomap"
    typed = width == 3 and all(_is_number(line[-1]) and float(line[-1]) in range(1, _MOST_TYPES + 1) for line in lines)
    if program == "statstem" or (program is None and typed):
        return ["x", "y", "type", *[f"field {k}" for k in range(4, width + 1)]][:width], lines, "statstem"
    if program is not None or width in (2, 5):
        return ["x", "y", *[f"field {k}" for k in range(3, width + 1)]][:width], lines, program or "atomap"
    raise TableError(
        f"{path}: {width} numbers a line without names; say what they are in a first line (y_px, x_px, …), or which program wrote them "
        "with --program atomap, statstem or imagej (of stemzoo data label)"
    )


def _fields(path: Path, names: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return for each field its place in a line and the unit that its name states; of several the one in px."""
    found: dict[str, list[tuple[int, str]]] = {}
    for place, name in enumerate(names):
        plain = re.sub(r"\s+", "_", name.strip().lower())
        stated = _WITH_UNIT.fullmatch(plain)
        base, unit = (stated["name"].strip("_"), stated["unit"]) if stated else (plain, "")
        for field, known in NAMES.items():
            if base in known:
                found.setdefault(field, []).append((place, "px" if unit and not UNITS[unit] else unit))
    for field in ("y", "x"):
        if field not in found:
            raise TableError(
                f"{path}, line 1: no field for {field} among {', '.join(names)[:200]}; call it {field}_px, or {', '.join(NAMES[field])}"
            )
    chosen = {}
    for field, places in found.items():
        best = [place for place in places if place[1] == "px"] or places
        if len(best) > 1:
            raise TableError(f"{path}, line 1: {names[best[0][0]]!r} and {names[best[1][0]]!r} both name {field}; keep one of them")
        chosen[field] = best[0]
    return chosen


def _number(path: Path, line: int, cell: str, name: str) -> float:
    if not _is_number(cell) or not np.isfinite(float(cell)):
        raise TableError(f"{path}, line {line}: {name} is {cell!r}; wanted a number")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _species(cell: str) -> str:
    """The name of a species; a program that numbers its types gets `type 1`, `type 2`, …"""
    return f"type {float(cell):g}" if _is_number(cell) else cell or "column"
