"""analyze, locate and encode from the command line: what they write, print and refuse to overwrite."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stemzoo.io.datasets import Dataset
from stemzoo.io.outputs import OURS
from stemzoo.io.read_results import read_results

HEADER = "frame,column,y_px,x_px,y_A,x_A,sigma_y_px,sigma_x_px,species,intensity,confidence,fit_ok"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _yx(path: Path) -> np.ndarray:
    return np.array([[float(row["y_px"]), float(row["x_px"])] for row in _rows(path)])


def test_analyze_writes_the_promised_files_and_finds_the_columns(
    run: Callable[..., Any], frame: Path, truth: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = run("analyze", frame, "--pixel-size", 0.2, "--encoder", "dipole", "--out", out, "--json")
    assert ran.code == 0, ran.err
    result = ran.json["results"][0]
    assert result["summary"]["columns"] == len(truth) and result["summary"]["pixel_size_source"] == "user"
    assert result["segmenter"]["id"] == "blob@1" and result["encoder"]["id"] == "dipole@1"
    assert sorted(p.name for p in out.iterdir()) == result["files"]
    assert {"columns.csv", "analysis.h5", "report.html", "frame.png", "segmentation.png", "angle.png", "latent_1.png"} <= set(
        result["files"]
    )
    assert ran.json["results"][0]["seconds"]["report"] > 0.1, "drawing is most of what one waits for"
    assert (out / "columns.csv").read_text().splitlines()[0] == HEADER + ",angle_rad,z1,z2"
    found = _yx(out / "columns.csv")
    nearest = np.hypot(*(found[:, None] - truth[None]).transpose(2, 0, 1)).min(axis=1)
    assert np.sqrt((nearest**2).mean()) < 0.1
    assert np.allclose(read_results(out / "analysis.h5").columns[0].yx, found, atol=1e-5)


def test_locate_ends_at_fit_ok_and_encode_goes_on_from_there(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    assert run("locate", frame, "--pixel-size", 0.2, "--out", tmp_path / "half").code == 0
    assert sorted(p.name for p in (tmp_path / "half").iterdir()) == ["columns.csv", "run.json"]
    assert (tmp_path / "half" / "columns.csv").read_text().splitlines()[0] == HEADER
    table = tmp_path / "half" / "columns.csv"
    ran = run("encode", frame, "--columns", table, "--pixel-size", 0.2, "--encoder", "dipole", "--out", tmp_path / "whole", "--no-report")
    assert ran.code == 0, ran.err
    direct = run("analyze", frame, "--pixel-size", 0.2, "--encoder", "dipole", "--out", tmp_path / "direct", "--no-report", "--json")
    assert direct.code == 0 and "report" not in direct.json["results"][0]["seconds"]
    angles = [[row["angle_rad"] for row in _rows(tmp_path / name / "columns.csv")] for name in ("whole", "direct")]
    known = [(float(a), float(b)) for a, b in zip(*angles, strict=True) if a and b]
    assert len(known) > 10 and np.abs(np.diff(known)).max() < 0.02


def test_encode_takes_the_tables_that_data_label_takes(run: Callable[..., Any], frame: Path, truth: np.ndarray, tmp_path: Path) -> None:
    tables = {
        "ours.csv": "y_px,x_px\n" + "".join(f"{y},{x}\n" for y, x in truth),
        "imagej.csv": " ,X,Y\n" + "".join(f"{k},{x},{y}\n" for k, (y, x) in enumerate(truth, start=1)),
        "nm.txt": "x (nm);y (nm)\n" + "".join(f"{0.02 * x};{0.02 * y}\n" for y, x in truth),
        "shifted.csv": "X,Y\n" + "".join(f"{x},{y + 3}\n" for y, x in truth),
    }
    found, said = {}, {}
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
        options = ["--pixel-size", 0.2, "--encoder", "dipole", "--out", tmp_path / f"of {name}", "--no-report", "--json"]
        ran = run("encode", frame, "--columns", tmp_path / name, *options)
        assert ran.code == 0, ran.err
        found[name] = (tmp_path / f"of {name}" / "columns.csv").read_text()
        result = ran.json["results"][0]
        said[name] = [text for text in (*result["notices"], *result["summary"]["doubts"]) if text.startswith(name)]
    assert found["ours.csv"] == found["imagej.csv"] == found["nm.txt"] and sum(",,,\n" not in line for line in found["ours.csv"]) > 10
    assert said["ours.csv"] == [] and said["imagej.csv"] == [
        f"imagej.csv: {len(truth)} columns; x is X, y is Y; in px, the first pixel at 0"
    ]
    assert said["nm.txt"] == [f"nm.txt: {len(truth)} columns; x is x (nm), y is y (nm); in nm, the first pixel at 0"]
    assert "the intensity lies -3.0 px in y" in said["shifted.csv"][1], "a table that does not lie on the frame is told of"
    (tmp_path / "far.csv").write_text("X,Y\n500,3\n")
    refused = run("encode", frame, "--columns", tmp_path / "far.csv", "--encoder", "dipole", "--out", tmp_path / "none")
    assert refused.code == 1 and "column at y 3.0, x 500.0 px lies outside the 96×112 px" in refused.err


def test_several_inputs_get_a_folder_each_and_a_bad_one_does_not_stop_them(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.npy"
    bad.write_bytes(b"")
    ran = run("locate", frame, bad, frame, "--pixel-size", 0.2, "--out", tmp_path / "many", "--json")
    assert ran.code == 1
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == ["columns.h5", "lattice_tif", "lattice_tif_2"]
    assert [failure["input"] for failure in ran.json["failures"]] == [str(bad)] and len(ran.json["results"]) == 2
    assert "1 of 3 inputs failed" in ran.err and str(bad) in ran.err


def test_default_folder_is_named_after_the_frame(run: Callable[..., Any], frame: Path) -> None:
    assert run("locate", frame, "--pixel-size", 0.2).code == 0
    assert (Path.cwd() / "lattice_stemzoo" / "columns.csv").exists()


def test_an_earlier_result_is_replaced_but_foreign_files_are_not(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("analyze", frame, "--pixel-size", 0.2, "--out", out, "--no-report").code == 0
    assert run("locate", frame, "--pixel-size", 0.2, "--out", out).code == 0
    assert sorted(p.name for p in out.iterdir()) == ["columns.csv", "run.json"]
    (out / "notes.txt").write_text("mine")
    ran = run("locate", frame, "--pixel-size", 0.2, "--out", out)
    assert ran.code == 1 and "notes.txt" in ran.err and "--force" in ran.err
    assert (out / "notes.txt").read_text() == "mine"
    assert run("locate", frame, "--pixel-size", 0.2, "--out", out, "--force").code == 0
    assert (out / "notes.txt").read_text() == "mine"  # may be the user's only copy


def test_frames_of_a_stack_keep_their_numbers(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    import tifffile

    stack = np.repeat(tifffile.imread(frame)[None], 4, axis=0)
    np.save(tmp_path / "stack.npy", stack)
    ran = run("analyze", tmp_path / "stack.npy", "--pixel-size", 0.2, "--frames", "1:3", "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert {row["frame"] for row in _rows(tmp_path / "out" / "columns.csv")} == {"1", "2"}
    assert "Frames 1 to 2 of 4 were analysed, counted from 0, as in the tables" in ran.json["results"][0]["notices"]
    assert (tmp_path / "out" / "series.png").exists()
    assert all(OURS.fullmatch(name) for name in ran.json["results"][0]["files"])  # else a second run would be refused
    assert "Frame 3 of 4 was analysed" in run("locate", tmp_path / "stack.npy", "--frames", "3:", "--out", tmp_path / "last").err
    ran = run("locate", tmp_path / "stack.npy", "--frames", "4:9", "--out", tmp_path / "none")
    assert ran.code == 1 and "--frames '4:9' chooses no frame of 4" in ran.err


def test_a_window_in_angstrom_reaches_the_encoder(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    window = ["--encoder", "dipole", "--window", "5Å"]
    ran = run("analyze", frame, "--pixel-size", 0.2, *window, "--no-report", "--out", tmp_path / "out", "--json")
    assert ran.json["results"][0]["window_px"] == pytest.approx(25)


def test_an_encoder_that_cannot_draw_what_it_sees_is_not_taken_unasked(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    ran = run("analyze", frame, "--pixel-size", 0.2, "--no-report", "--out", tmp_path / "out", "--json")
    (result,) = ran.json["results"]
    assert ran.code == 0 and result["encoder"] is None
    (said,) = [text for text in result["notices"] if text.startswith("No encoder of the zoo fits")]
    assert "dipole@1 0%" in said and "--fit-encoder" in said
    table = tmp_path / "out" / "columns.csv"
    assert "angle_rad" not in _rows(table)[0]
    refused = run("encode", frame, "--columns", table, "--pixel-size", 0.2, "--out", tmp_path / "none")
    assert refused.code == 1 and "no encoder of the zoo fits" in refused.err and not (tmp_path / "none").exists()


def test_encoder_none_gives_no_angles(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    ran = run("analyze", frame, "--pixel-size", 0.2, "--encoder", "none", "--no-report", "--out", tmp_path / "out", "--json")
    assert ran.code == 0 and ran.json["results"][0]["encoder"] is None
    assert (tmp_path / "out" / "columns.csv").read_text().splitlines()[0] == HEADER


def test_a_doubt_is_told_from_a_remark(run: Callable[..., Any], tmp_path: Path) -> None:
    np.save(tmp_path / "blank.npy", np.random.default_rng(0).poisson(9, (96, 96)).astype(np.float32))
    done = run("analyze", tmp_path / "blank.npy", "--encoder", "none", "--no-report", "--out", tmp_path / "out")
    assert done.code == 0 and "warning: No column was found" in done.err
    assert "note: the file stores no pixel size" in done.err


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="their file systems hold Unicode alone")
def test_a_name_in_an_older_encoding_is_analysed_and_kept_escaped(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    """As on a stick or a share from before Unicode: bytes that are no UTF-8, which no file of text can hold as they are."""
    old = tmp_path / os.fsdecode(b"Gr\xf6\xdfe.tif")
    shutil.copy(frame, old)
    out, many = tmp_path / "out", tmp_path / "many"
    ran = run("analyze", old, "--pixel-size", 0.2, "--encoder", "none", "--out", out)
    assert ran.code == 0, ran.err
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["input"] == str(old)
    assert read_results(out / "analysis.h5").frames.path.endswith("Gr\\udcf6\\udcdfe.tif")
    assert "Gr\\udcf6\\udcdfe.tif" in (out / "report.html").read_text(encoding="utf-8")
    ran = run("locate", old, frame, "--pixel-size", 0.2, "--out", many)
    assert ran.code == 0, ran.err
    with h5py.File(many / "columns.h5") as file:
        assert file["entry/files/path"].asstr()[0].endswith("Gr\\udcf6\\udcdfe.tif")
    again = run("locate", old, frame, "--pixel-size", 0.2, "--out", many, "--json").json["results"]
    assert [result["unchanged"] for result in again] == [True, True], "run.json is read back"


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="their file systems hold Unicode alone")
def test_a_table_named_in_an_older_encoding_is_taken(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    old, table = tmp_path / os.fsdecode(b"Gr\xf6\xdfe.tif"), tmp_path / os.fsdecode(b"Pl\xe4tze.csv")
    shutil.copy(frame, old)
    table.write_text("x,y\n" + "".join(f"{x},{y}\n" for x in range(20, 90, 9) for y in range(20, 90, 9)))
    ran = run("encode", old, "--columns", table, "--pixel-size", 0.2, "--encoder", "dipole", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert read_results(tmp_path / "out" / "analysis.h5").segmenter.id == "table Pl\\udce4tze.csv"
    assert "Pl\\udce4tze.csv: 64 columns" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    ran = run("data", "label", old, table, "--pixel-size", 0.2, "--out", tmp_path / "labelled.h5")
    assert ran.code == 0, ran.err
    attributes = Dataset(tmp_path / "labelled.h5").attributes(0)
    assert (attributes["source"], attributes["labels"]) == ("Gr\\udcf6\\udcdfe.tif", "Pl\\udce4tze.csv")
