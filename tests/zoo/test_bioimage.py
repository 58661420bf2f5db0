"""Packages for bioimage.io: whole, true to the bundle, and accepted and run by the format's own library where that is at hand."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from stemzoo.errors import OutputError
from stemzoo.runtime.bundle import Bundle
from stemzoo.zoo.bioimage import RDF, export_bioimage
from stemzoo.zoo.catalog import own_root, versions

FOLDERS = [folder for _, _, folder in versions(own_root())]
VALIDATE = """
import sys
from bioimageio.core import test_model
summary = test_model(sys.argv[1])
print(summary.status)
for detail in summary.details:
    for error in detail.errors:
        print(detail.name, error.loc, error.msg)
"""


@pytest.mark.parametrize("folder", FOLDERS[:1] + FOLDERS[-1:], ids=lambda folder: folder.parent.name)
def test_a_package_replays(folder: Path, tmp_path: Path) -> None:
    """Hashes hold, and the packaged graph gives the packaged outputs for the packaged inputs, in the order that is described."""
    package = export_bioimage(folder, tmp_path / "package")
    described = yaml.safe_load((package / RDF).read_text())
    sources = [described["weights"]["onnx"], *(tensor["test_tensor"] for tensor in (*described["inputs"], *described["outputs"]))]
    for source in sources:
        assert hashlib.sha256((package / source["source"]).read_bytes()).hexdigest() == source["sha256"]
    (package / "README.md").write_bytes((folder / "README.md").read_bytes())
    session = Bundle.load(package).session
    assert [tensor["id"] for tensor in described["inputs"]] == list(session.inputs)
    assert [tensor["id"] for tensor in described["outputs"]] == list(session.outputs)
    found = session.run({tensor["id"]: np.load(package / tensor["test_tensor"]["source"]) for tensor in described["inputs"]})
    for tensor in described["outputs"]:
        wanted = np.load(package / tensor["test_tensor"]["source"])
        assert len(tensor["axes"]) == wanted.ndim and str(wanted.dtype) == tensor["data"]["type"]
        if tensor["id"] != "angle":  # an angle is known modulo its symmetry; zoo verify compares it so
            np.testing.assert_allclose(found[tensor["id"]], wanted, atol=1e-4, rtol=1e-4)


def test_an_archive(tmp_path: Path) -> None:
    path = export_bioimage(FOLDERS[0], tmp_path / "package.zip")
    with zipfile.ZipFile(path) as archive:
        assert {RDF, "model.onnx", "documentation.md"} <= set(archive.namelist())
    with pytest.raises(OutputError, match=r"package\.zip: already there"):
        export_bioimage(FOLDERS[0], path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["package.zip"]


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_the_formats_own_library_runs_it(folder: Path, tmp_path: Path) -> None:
    """bioimageio.core runs beside no pydantic from 2.14 on, so STEMZOO_BIOIMAGEIO names a Python that has it and an older one."""
    python = os.environ.get("STEMZOO_BIOIMAGEIO")
    if not python:
        pytest.skip("STEMZOO_BIOIMAGEIO names no Python with bioimageio.core")
    package = export_bioimage(folder, tmp_path / "package.zip")
    done = subprocess.run([python, "-W", "ignore", "-c", VALIDATE, str(package)], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["passed"], done.stdout + done.stderr[-2000:]
