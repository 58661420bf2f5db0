"""Wheels for a PC without network: what pip is asked for, what the operator is told, and that a failure leaves nothing behind."""

import subprocess
from pathlib import Path

import pytest

from stemzoo.errors import OutputError
from stemzoo.zoo import wheels
from stemzoo.zoo.microscope import make_folder


@pytest.fixture
def pip(monkeypatch):
    """Stands for pip: writes two wheels where it is told to, unless `fail` says what to complain of."""
    asked = []

    def run(command, **_):
        asked.append(command)
        if pip.fail:
            return subprocess.CompletedProcess(command, 1, "", f"WARNING: x\n{pip.fail}\n")
        folder = Path(command[command.index("--dest") + 1])
        for name in wheels.PACKAGES:
            (folder / f"{name}-1.0-cp38-none-any.whl").write_bytes(b"wheel")
        return subprocess.CompletedProcess(command, 0, "", "")

    pip.fail, pip.asked = "", asked
    monkeypatch.setattr(wheels.subprocess, "run", run)
    return pip


def test_the_folder_gets_wheels_of_each_platform_and_the_line_to_type(pip, tmp_path):
    make_folder(["adf-unet@1"], tmp_path / "usb", ["windows-3.8", "linux-3.10"])
    assert len(list((tmp_path / "usb" / "wheels" / "windows-3.8").glob("*.whl"))) == 2
    text = (tmp_path / "usb" / "README.txt").read_text()
    for name in ("windows-3.8", "linux-3.10"):
        assert f"pip install --no-index --no-deps --find-links wheels/{name} numpy onnxruntime" in text
    words = pip.asked[0]
    assert words[words.index("--platform") + 1] == "win_amd64" and words[words.index("--python-version") + 1] == "3.8"
    assert "--no-deps" in words and "--only-binary=:all:" in words
    assert "manylinux2014_x86_64" in pip.asked[1]


def test_without_wheels_nothing_is_asked_or_said(pip, tmp_path):
    make_folder(["adf-unet@1"], tmp_path / "usb")
    assert pip.asked == [] and "wheels" not in (tmp_path / "usb" / "README.txt").read_text()


def test_a_failure_says_why_and_leaves_nothing(pip, tmp_path):
    pip.fail = "ERROR: No matching distribution found for onnxruntime"
    with pytest.raises(OutputError, match="No matching distribution"):
        make_folder(["adf-unet@1"], tmp_path / "usb", ["linux-3.14"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["windows", "windows-3.7", "amiga-3.8", "windows-2.7", "", "linux-3.8; rm"])
def test_no_platform_is_refused_before_anything_is_done(pip, tmp_path, text):
    with pytest.raises(OutputError, match=r"windows-3\.8"):
        make_folder(["adf-unet@1"], tmp_path / "usb", [text])
    assert pip.asked == []
