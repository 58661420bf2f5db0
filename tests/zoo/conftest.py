"""A zoo of stand-in bundles: real cards, hashes and safetensors headers around bytes that no network ever sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stemzoo.zoo.card import dump_card, make_card

SEGMENTER: dict[str, Any] = {
    "task": "segmentation",
    "title": "A stand-in",
    "summary": "Finds nothing.",
    "materials": ["Sr3Fe2O7", "MoS2"],
    "licence": "MIT",
    "citation": "Nobody, 2024",
    "created": "2024-02-29",
    "sampling": {"min": 0.1, "max": 0.3, "nominal": 0.2},
    "classes": ["A", "B"],
    "threshold": 0.5,
    "min_separation": 0.8,
    "receptive_px": 32,
    "stride_px": 8,
    "normalisation": "local contrast",
    "parameters": 10,
}
ENCODER: dict[str, Any] = {
    **{
        key: value for key, value in SEGMENTER.items() if key not in ("classes", "threshold", "min_separation", "receptive_px", "stride_px")
    },
    "task": "encoding",
    "window": {"px": 33, "angstrom": 6.6},
    "latents": 2,
    "gauge": "the largest moment points right",
}


def safetensors(parameters: int) -> bytes:
    """Return a safetensors file with that many parameters and a buffer of three values."""
    header = {
        "__metadata__": {"format": "pt", "buffers": json.dumps(["norm.running_mean"])},
        "conv.weight": {"dtype": "F32", "shape": [parameters], "data_offsets": [0, 4 * parameters]},
        "norm.running_mean": {"dtype": "F32", "shape": [3], "data_offsets": [4 * parameters, 4 * parameters + 12]},
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4 * parameters + 12)


def write_model(root: Path, name: str, version: int, **changes: Any) -> Path:
    """Write `<root>/<name>/v<version>` and return it."""
    folder = root / name / f"v{version}"
    folder.mkdir(parents=True)
    contents = {"model.onnx": f"{name} {version}".encode(), "golden.npz": b"golden", "weights.safetensors": safetensors(10)}
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    files = [{"name": file, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for file, content in contents.items()]
    base = ENCODER if changes.get("task") == "encoding" else SEGMENTER
    data = {**base, "id": f"{name}@{version}", "name": name, "version": version, "files": files, **changes}
    (folder / "README.md").write_text(dump_card(make_card(data, "test"), "# Title\n\nProse with --- in it.\n"), encoding="utf-8")
    return folder


@pytest.fixture
def model() -> Callable[..., Path]:
    return write_model


@pytest.fixture
def draft() -> dict[str, Any]:
    return {**SEGMENTER, "id": "blob@1", "name": "blob", "version": 1}


@pytest.fixture
def encoder_draft() -> dict[str, Any]:
    return {**ENCODER, "id": "dipole@1", "name": "dipole", "version": 1}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo with blob@1, blob@2, blob@10 and dipole@1; the only one that names are looked up in."""
    root = tmp_path / "zoo"
    for version in (1, 2, 10):
        write_model(root, "blob", version, default=version == 2)
    write_model(root, "dipole", 1, task="encoding", default=True)
    monkeypatch.setenv("STEMZOO_ZOO", str(root))
    monkeypatch.setenv("STEMZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("stemzoo.zoo.catalog.own_root", lambda: tmp_path / "none")
    return root
