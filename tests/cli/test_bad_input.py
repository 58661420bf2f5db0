"""Bad input to analyze: one message that names object, value, wanted and next step; exit 1; nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

REPOSITORY = Path(__file__).resolve().parents[2]


def _missing(folder: Path) -> Path:
    return folder / "missing.dm3"


def _empty(folder: Path) -> Path:
    (folder / "empty.tif").write_bytes(b"")
    return folder / "empty.tif"


def _text(folder: Path) -> Path:
    (folder / "text.tif").write_text("This was never an image.\n" * 50)
    return folder / "text.tif"


def _one_dimensional(folder: Path) -> Path:
    np.save(folder / "line.npy", np.arange(100.0))
    return folder / "line.npy"


def _four_dimensional(folder: Path) -> Path:
    np.save(folder / "cube.npy", np.random.default_rng(0).random((4, 4, 20, 20)))
    return folder / "cube.npy"


def _nan(folder: Path) -> Path:
    tifffile.imwrite(folder / "nan.tif", np.full((64, 64), np.nan, np.float32))
    return folder / "nan.tif"


def _constant(folder: Path) -> Path:
    np.save(folder / "flat.npy", np.full((64, 64), 7.0, np.float32))
    return folder / "flat.npy"


def _tiny(folder: Path) -> Path:
    np.save(folder / "tiny.npy", np.random.default_rng(0).random((8, 8)))
    return folder / "tiny.npy"


def _unknown_suffix(folder: Path) -> Path:
    (folder / "frame.docx").write_bytes(b"PK")
    return folder / "frame.docx"


CASES = [
    (_missing, ["missing.dm3"]),
    (_empty, ["empty.tif", "empty"]),
    (_text, ["text.tif", "export"]),
    (_one_dimensional, ["line.npy", "1-D (100)"]),
    (_four_dimensional, ["cube.npy", "4-D (4×4×20×20)"]),
    (_nan, ["nan.tif", "no finite pixel"]),
    (_constant, ["flat.npy", "constant (7)"]),
    (_tiny, ["tiny.npy", "8×8", "16×16"]),
    (_unknown_suffix, ["frame.docx", ".docx"]),
]


def _one_message(ran: Any, said: list[str]) -> None:
    assert ran.code == 1 and ran.out == ""
    assert ran.err.startswith("error: ") and ran.err.count("\n") == 1 and "Traceback" not in ran.err
    for part in said:
        assert part in ran.err


@pytest.mark.parametrize(("make", "said"), CASES, ids=[make.__name__[1:] for make, _ in CASES])
def test_bad_files(run: Callable[..., Any], tmp_path: Path, make: Callable[[Path], Path], said: list[str]) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    _one_message(run("analyze", path, "--out", tmp_path / "new" / "out"), said)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.real
def test_a_dm3_cut_short(run: Callable[..., Any], tmp_path: Path, real_dir: Path) -> None:
    whole = (real_dir / "layered_oxide_survey.dm3").read_bytes()
    for share in (0.0005, 0.3, 0.9):
        path = tmp_path / "cut.dm3"
        path.write_bytes(whole[: int(len(whole) * share)])
        _one_message(run("analyze", path, "--out", tmp_path / "out"), ["cut.dm3"])
        assert not (tmp_path / "out").exists()


def test_unknown_models_are_answered_with_the_near_names(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    _one_message(run("analyze", frame, "--model", "blobb", "--out", tmp_path / "out"), ["'blobb'", "blob", "zoo list"])
    _one_message(run("analyze", frame, "--encoder", "dipol", "--out", tmp_path / "out"), ["'dipol'", "dipole"])
    _one_message(run("analyze", frame, "--model", "blob@7", "--out", tmp_path / "out"), ["blob@7", "blob@1"])
    _one_message(run("analyze", frame, "--model", "dipole", "--out", tmp_path / "out"), ["dipole", "segmentation"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pixel-size", "-1"], ["--pixel-size", "-1", "positive"]),
        (["--window", "12"], ["'12'", "12Å", "48px"]),
        (["--frames", "3:1"], ["'3:1'", "a:b"]),
        (["--latents", "0"], ["0", "1 to 16"]),
        (["--fit-encoder", "--encoder", "dipole"], ["--fit-encoder", "dipole names a finished one"]),
        (["--fit-encoder", "--encoder", "none"], ["--fit-encoder", "none wants none", "pass one of the two"]),
        (["--threshold", "2"], ["threshold", "2", "between 0 and 1"]),
    ],
)
def test_options_out_of_range(run: Callable[..., Any], frame: Path, tmp_path: Path, words: list[str], said: list[str]) -> None:
    _one_message(run("analyze", frame, "--out", tmp_path / "out", *words), said)
    assert not (tmp_path / "out").exists()


def test_window_in_angstrom_needs_a_pixel_size(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    ran = run("analyze", frame, "--window", "5Å", "--out", tmp_path / "out")
    _one_message(ran, ["--window", "--pixel-size"])
    assert not (tmp_path / "out").exists()


def test_no_permission_is_said_before_computing(
    run: Callable[..., Any], frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed before the output was checked")

    monkeypatch.setattr("stemzoo.runtime.pipeline.locate", never)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/stemzoo")):
        _one_message(run("analyze", frame, "--out", out), [str(out), "--out"])


def test_table_that_is_none(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    _one_message(run("encode", frame, "--columns", table, "--out", tmp_path / "out"), ["table.csv", "y_px"])
    table.write_text("y_px,x_px\n10,oops\n")
    _one_message(run("encode", frame, "--columns", table, "--out", tmp_path / "out"), ["line 2", "x_px", "oops"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(zoo_root: Path, tmp_path: Path, number: signal.Signals) -> None:
    """^C (and a polite kill) in the middle of a long stack: exit 1, one line, the folder as it was."""
    stack = np.random.default_rng(0).poisson(40, (400, 256, 256)).astype(np.float32)
    np.save(tmp_path / "stack.npy", stack)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "STEMZOO_ZOO": str(zoo_root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "stemzoo", "analyze", str(tmp_path / "stack.npy"), "--out", str(tmp_path / "out")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell starts background jobs with ^C ignored, which a child inherits: the test must not depend on who runs it.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, preexec_fn=heed, **pipes)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".out.*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1, err
    assert out == "" and err.strip().splitlines() == ["interrupted; nothing half-written was left behind"]
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("stack.npy", "work")] == []
