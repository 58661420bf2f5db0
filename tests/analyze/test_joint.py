"""One table over many inputs: every row of every columns.csv, once, in order, with its file; failures are listed beside it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stemzoo.analyze import joint
from stemzoo.analyze.joint import FILE, Input, write_joint
from stemzoo.errors import OutputError, TableError


def _csv(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "columns.csv").write_text(text)
    return folder


def test_several_inputs_leave_one_table(run: Callable[..., Any], frame: Path, stack: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.npy"
    bad.write_bytes(b"")
    ran = run("locate", frame, bad, stack, "--pixel-size", 0.2, "--out", tmp_path / "many", "--json")
    assert ran.json["table"] == str(tmp_path / "many" / "columns.h5")
    with h5py.File(ran.json["table"]) as file:
        table = {name: values[()] for name, values in file["entry/columns"].items()}
        classes = list(file["entry/columns/species"].attrs["classes"])
        files = {name: values[()] for name, values in file["entry/files"].items()}
    assert [Path(path.decode()).name for path in files["path"]] == ["lattice.tif", "bad.npy", "stack.npy"]
    assert [bool(error) for error in files["error"]] == [False, True, False] and b"is empty" in files["error"][1]
    assert files["rows"][1] == 0 and (table["file"] == np.repeat([0, 2], files["rows"][[0, 2]])).all()
    for number, name in ((0, "lattice"), (2, "stack")):
        rows = list(csv.DictReader((tmp_path / "many" / name / "columns.csv").read_text().splitlines()))
        mine = slice(files["first_row"][number], files["first_row"][number] + files["rows"][number])
        assert len(rows) == files["rows"][number] > 10
        assert [classes[k] for k in table["species"][mine]] == [row["species"] for row in rows]
        for key in ("frame", "column", "y_px", "x_A", "sigma_x_px", "confidence", "fit_ok"):
            assert np.array_equal(table[key][mine], [float(row[key]) for row in rows]), key
    again = run("locate", frame, bad, stack, "--pixel-size", 0.2, "--out", tmp_path / "many", "--json")
    assert all(result["unchanged"] for result in again.json["results"])
    with h5py.File(again.json["table"]) as file:
        assert np.array_equal(file["entry/columns/y_px"][()], table["y_px"])


def test_empty_cells_and_missing_quantities_are_nan_whatever_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "ROWS", 2)
    short = _csv(tmp_path / "short", 'frame,column,y_A,species,fit_ok\n0,0,1.5,A,1\n0,1,,"B,C",0\n1,0,2.5,A,1\n')
    none = _csv(tmp_path / "none", "frame,column,y_A,species,fit_ok\n")
    long = _csv(tmp_path / "long", "frame,column,y_A,species,fit_ok,angle_rad,z1\n0,0,3.5,D,1,0.25,\n")
    inputs = [Input(folder.name, folder) for folder in (short, none, long)]
    assert write_joint(tmp_path / "columns.h5", iter(inputs)) == 4
    with h5py.File(tmp_path / "columns.h5") as file:
        table = file["entry/columns"]
        assert list(table["file"][()]) == [0, 0, 0, 2] and list(table["species"][()]) == [0, 1, 0, 2]
        assert list(table["species"].attrs["classes"]) == ["A", "B,C", "D"]
        assert np.array_equal(table["y_A"][()], [1.5, np.nan, 2.5, 3.5], equal_nan=True)
        assert np.array_equal(table["angle_rad"][()], [np.nan] * 3 + [0.25], equal_nan=True) and np.isnan(table["z1"][()]).all()
        assert table["angle_rad"].attrs["units"] == "rad" and table["y_A"].attrs["units"] == "angstrom"
        assert list(file["entry/files/rows"][()]) == [3, 0, 1]


def test_what_cannot_be_read_or_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    spoiled = _csv(tmp_path / "spoiled", "frame,column,y_A,species,fit_ok\n0,0,near,A,1\n")
    with pytest.raises(TableError, match=r"spoiled/columns\.csv: is not as stemzoo wrote it"):
        write_joint(tmp_path / "columns.h5", [Input("a", spoiled)])
    with pytest.raises(OutputError, match=r"columns\.h5: cannot be written"):
        write_joint(tmp_path / "columns.h5", [Input("a", tmp_path / "nowhere")])
    assert not [path for path in tmp_path.iterdir() if FILE in path.name]
