"""The folder for the microscope: runs by itself, gives the package's table, fails loudly when a model is damaged."""

import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemzoo.errors import ModelError, OutputError
from stemzoo.io.read import read
from stemzoo.runtime import Bundle, Encoder, Segmenter, analyze, write_columns
from stemzoo.runtime.app import main
from stemzoo.runtime.tables import ANGLE, HEADER
from stemzoo.simulation import draw_frames
from stemzoo.zoo import resolve
from stemzoo.zoo.microscope import make_folder

ROOT = Path(__file__).parents[2]
MODELS = ("adf-unet@1", "rvae-sr3fe2o7@1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("usb") / "microscope"
    make_folder(MODELS, place)
    return place


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("frame") / "frame.npy"
    np.save(path, tifffile.imread(ROOT / "stemzoo" / "demo" / "sr3fe2o7_100.tif")[:224, :240])
    return path


def test_application_alone_gives_the_table_of_the_package(folder, frame, tmp_path):
    command = [
        sys.executable,
        "-I",
        str(folder / "stemzoo.pyz"),
        "analyze",
        str(frame),
        "--pixel-size",
        "0.2",
        "--out",
        str(tmp_path / "alone"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    segmenter, encoder = (Bundle.load(resolve(name)) for name in MODELS)
    write_columns(tmp_path / "package.csv", analyze(read(frame, 0.2), Segmenter(segmenter), Encoder(encoder)))
    assert (tmp_path / "alone" / "columns.csv").read_text() == (tmp_path / "package.csv").read_text()


def test_application_prints_on_a_console_that_lacks_its_characters(folder, frame, tmp_path):
    """A Japanese Windows has no Å in its code page, one of western Europe no σ."""
    (tmp_path / "σ.npy").write_bytes(frame.read_bytes())
    for encoding, words in (("cp932", ["analyze", "--help"]), ("cp1252", ["analyze", "σ.npy", "--out", "results"])):
        command = [sys.executable, str(folder / "stemzoo.pyz"), *words]
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\\u03c3.npy: ")


def test_application_says_what_speaks_against_its_result(folder, frame, tmp_path, capsys):
    """An encoder of Sr3Fe2O7 gives MoS2 angles as it gives any; the operator must hear that they mean nothing."""
    drawn = next(draw_frames(ROOT / "datasets" / "mos2.toml", 1, 31, {"frame.size_px": 256, "frame.sampling": 0.2, "defects": []}))
    np.save(tmp_path / "mos2.npy", drawn.image)
    warned = []
    for path in (frame, tmp_path / "mos2.npy"):
        assert main(["analyze", str(path), "--pixel-size", "0.2", "--out", str(tmp_path / path.stem)], folder) == 0
        doubts = json.loads((tmp_path / path.stem / "run.json").read_text())["doubts"]
        assert all(f"warning: {doubt}" in capsys.readouterr().err for doubt in doubts[:1])
        warned.append(any("rvae-sr3fe2o7@1 explains" in doubt and "pass --encoder none" in doubt for doubt in doubts))
    assert warned == [False, True]
    blank = np.random.default_rng(0).poisson(9, (96, 96)).astype(np.float32)
    np.save(tmp_path / "blank.npy", blank)
    assert main(["locate", str(tmp_path / "blank.npy"), "--pixel-size", "0.2", "--out", str(tmp_path / "blank")], folder) == 0
    assert "the frame may show no atomic contrast" in capsys.readouterr().err


def test_each_of_several_frames_gets_a_folder_and_none_ends_the_others(folder, frame, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = np.load(frame)
    for name in ("scan 1", "scan 3"):
        np.save(f"{name}.npy", data)
    Path("scan 2.npy").write_bytes(Path("scan 1.npy").read_bytes()[:9000])
    assert main(["locate", "scan*.npy", "--pixel-size", "0.2"], folder) == 1, "the shell of Windows leaves patterns to programs"
    printed = capsys.readouterr()
    assert "scan 2.npy: not a NumPy file, or cut short" in printed.err and "1 of 3 frames failed" in printed.err
    for name in ("scan 1", "scan 3"):
        assert json.loads(Path(f"{name}_stemzoo", "run.json").read_text())["input"] == f"{name}.npy"
        rows = Path(f"{name}_stemzoo", "columns.csv").read_text().splitlines()[1:]
        assert f"{name}.npy: {len(rows)} columns, median error " in printed.out and " pm, " in printed.out
    assert not Path("scan 2_stemzoo").exists()
    Path("later").mkdir()
    np.save("later/scan 1.npy", data[:128])
    assert main(["locate", "scan 1.npy", "later/scan 1.npy", "--out", "all"], folder) == 1
    assert "would replace those of scan 1.npy" in capsys.readouterr().err and not Path("all").exists()
    assert main(["locate", "scan 1.npy", "scan 3.npy", "--out", "all"], folder) == 0
    assert sorted(path.name for path in Path("all").iterdir()) == ["scan 1", "scan 3"]


def test_results_that_cannot_be_written_are_refused_and_the_old_ones_stay(folder, frame, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("other.npy", np.load(frame)[:128])
    for blocked in ("run.json", "columns.csv"):
        (tmp_path / blocked / blocked / "in the way").mkdir(parents=True)
        assert main(["locate", "other.npy", "--pixel-size", "0.2", "--out", blocked], folder) == 1
        assert "cannot be written" in (said := capsys.readouterr().err) and len(said.strip().splitlines()) == 1
    assert main(["locate", str(frame), "--pixel-size", "0.2", "--out", "out"], folder) == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    monkeypatch.setattr("stemzoo.runtime.tables.os.replace", no_room)
    assert main(["locate", "other.npy", "--pixel-size", "0.2", "--out", "out"], folder) == 1
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before, "a table and a run.json of different frames"


def no_room(*names):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_page_for_the_operator_explains_every_column_of_the_table(folder):
    text = (folder / "README.txt").read_bytes()
    assert text.count(b"\r\n") == text.count(b"\n") > 30, "old Notepads know no other ends of lines"
    assert all(name in text.decode() for name in (*HEADER, ANGLE, "z1", "warning:", "--encoder none"))


def test_application_holds_source_of_the_layer_and_nothing_else(folder):
    names = zipfile.ZipFile(folder / "stemzoo.pyz").namelist()
    assert {name.split("/")[1] for name in names if "/" in name} == {"__init__.py", "types", "errors.py", "geometry", "runtime"}
    assert all(name.endswith(".py") for name in names)


def test_verify_passes_here_and_fails_with_one_flipped_bit(folder, tmp_path, capsys):
    assert main(["verify"], folder) == 0
    said = capsys.readouterr().out
    assert said.count("CPU") == len(MODELS) and "FAILED" not in said
    files = sum(path.is_file() for path in folder.rglob("*")) - 1
    assert f"MANIFEST: {files} files are as they were made" in said
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    path = damaged / "models" / "adf-unet" / "v1" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert main(["verify"], damaged) == 1
    said = capsys.readouterr().out
    assert "adf-unet@1: FAILED" in said and "models/adf-unet/v1/model.onnx has changed" in said


def test_a_flipped_bit_is_seen_without_the_card_and_a_missing_file_is_a_fault(folder, frame, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    place = damaged / "models" / "rvae-sr3fe2o7" / "v1"
    (place / "README.md").unlink()
    assert main(["verify"], damaged) == 1
    assert "1 of " in (said := capsys.readouterr().out) and "models/rvae-sr3fe2o7/v1/README.md is missing" in said
    data = bytearray((place / "model.onnx").read_bytes())
    at = data.index(b"stemzoo_card") - 40  # in the last weights: the graph still loads, and gives what it gave within tolerance
    data[at] ^= 1
    (place / "model.onnx").write_bytes(data)
    assert main(["verify"], damaged) == 1
    assert "README.md is missing" in (said := capsys.readouterr().out) and "models/rvae-sr3fe2o7/v1/model.onnx has changed" in said
    assert main(["analyze", str(frame), "--pixel-size", "0.2", "--out", str(tmp_path / "x")], damaged) == 1
    assert "MANIFEST lists another" in capsys.readouterr().err and not (tmp_path / "x").exists()
    (damaged / "MANIFEST").unlink()
    assert main(["verify"], damaged) == 1
    assert "MANIFEST: missing" in capsys.readouterr().out


def test_the_manifest_lists_what_sha256sum_reads(folder):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    assert subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "MANIFEST"], cwd=folder).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["analyze", "none.npy", "--out", "x"], "no such file"),
        (["analyze", "text.npy", "--out", "x"], "not a NumPy file"),
        (["locate", "line.npy", "--out", "x"], "wanted real numbers"),
        (["locate", "frame.npy", "--model", "nix", "--out", "x"], "unknown model 'nix'; here are adf-unet@1"),
        (["locate", "frame.npy", "--pixel-size", "-1", "--out", "x"], "not a positive number"),
    ],
)
def test_refusals_are_one_line(folder, frame, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    shutil.copy(frame, "frame.npy")
    Path("text.npy").write_text("no")
    np.save("line.npy", np.zeros(50))
    assert main(words, folder) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("x").exists()


def test_a_folder_needs_a_segmenter_and_an_empty_place(tmp_path):
    with pytest.raises(ModelError, match="none finds columns"):
        make_folder(["rvae-sr3fe2o7"], tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("")
    with pytest.raises(OutputError, match="already there"):
        make_folder(["adf-unet"], tmp_path / "b")
    assert not (tmp_path / "a").exists()
