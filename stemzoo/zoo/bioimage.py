"""A bundle as a package for bioimage.io: its graph, its golden tensors as test tensors, and what the card says in that format's words.

Writes the specification's files without its library; that the library accepts and runs them is tested. Called by `stemzoo zoo export`.

Source: model specification 0.5, bioimage-io.github.io/spec-bioimage-io.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import stemzoo
from stemzoo.errors import CardError, OutputError
from stemzoo.zoo.card import CARD_FILE, Card, read_card
from stemzoo.zoo.catalog import MODEL_FILE
from stemzoo.zoo.check import check_files, sha256_of
from stemzoo.zoo.whole import whole_file, whole_folder

FORMAT = "0.5.5"
RDF = "rdf.yaml"
DOCUMENTATION = "documentation.md"
SPDX = {name.lower(): name for name in ("MIT", "Apache-2.0", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "GPL-3.0-or-later")}


def export_bioimage(folder: Path, out: Path) -> Path:
    """Return the package written to `out`: a folder, or an archive if the name ends in .zip; its graph, test tensors and description.

    Raises: CardError for a damaged bundle; OutputError if `out` exists or cannot be written.
    """
    card, prose = read_card(folder)
    check_files(card, folder)
    if out.exists():
        raise OutputError(f"{out}: already there; name another --out")
    if out.suffix != ".zip":
        with whole_folder(out) as package:
            _fill(package, card, prose, folder)
        return out
    with tempfile.TemporaryDirectory() as work:
        package = Path(work)
        _fill(package, card, prose, folder)
        with whole_file(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(package.iterdir()):
                archive.write(path, path.name)
    return out


def _fill(package: Path, card: Card, prose: str, folder: Path) -> None:
    """Write the files of the package into an empty folder."""
    shutil.copyfile(folder / MODEL_FILE, package / MODEL_FILE)
    shutil.copyfile(folder / CARD_FILE, package / "card.md")
    (package / DOCUMENTATION).write_text(prose, encoding="utf-8")
    tensors = _tensors(card, folder, package)
    description = _description(card, package, *tensors)
    (package / RDF).write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")


def _tensors(card: Card, folder: Path, package: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write the first golden case as test tensors and return the descriptions of inputs and outputs."""
    with np.load(folder / card.golden.file, allow_pickle=False) as golden:
        cases = {name: golden[name] for name in golden.files if name.endswith("_0") and name.startswith(("input_", "output_"))}
    described: dict[str, list[dict[str, Any]]] = {"input": [], "output": []}
    for key, array in cases.items():
        direction, name = key.removesuffix("_0").split("_", 1)
        np.save(package / f"{key}.npy", array)
        axes = _axes(card, direction, name, array)
        test = {"source": f"{key}.npy", "sha256": sha256_of(package / f"{key}.npy")}
        described[direction].append(
            {"id": name, "description": _WORDS[name], "axes": axes, "test_tensor": test, "data": {"type": str(array.dtype)}}
        )
    if not all(described.values()):
        raise CardError(f"{folder / card.golden.file}: holds no golden case 0; export the model again")
    order = {name: number for number, name in enumerate(_WORDS)}
    return tuple(sorted(part, key=lambda tensor: order[tensor["id"]]) for part in described.values())  # type: ignore[return-value]


_WORDS = {
    "image": "annular dark-field frame, raw intensities",
    "subimages": "square sub-images around columns, raw intensities",
    "probability": "probability of each class of column at each pixel",
    "angle": "counter-clockwise angle [rad]",
    "angle_sigma": "standard error of the angle [rad]",
    "symmetry": "order of the rotational symmetry that the angle is known up to",
    "latents": "latents of the local structure",
}
"""The tensors of our graphs, in the graphs' order."""


def _axes(card: Card, direction: str, name: str, array: np.ndarray) -> list[dict[str, Any]]:
    """Return an array's axes: batch first, channels where there are classes or latents, then y and x."""
    axes: list[dict[str, Any]] = [{"type": "batch"}]
    if name in ("image", "probability"):
        names = ["intensity"] if name == "image" else list(card.classes)
        axes.append({"type": "channel", "channel_names": names})
    elif name == "latents":
        axes.append({"type": "channel", "channel_names": [f"z{number + 1}" for number in range(array.shape[1])]})
    for axis in "yx" if array.ndim >= 3 else "":
        if name == "image":
            stride = card.stride_px or 1
            least = -(-48 // stride) * stride
            size: Any = {"min": least, "step": stride}
        else:
            size = {"tensor_id": "image", "axis_id": axis} if name == "probability" else int(array.shape[-1])
        axes.append({"type": "space", "id": axis, "size": size})
    return axes


def _description(card: Card, package: Path, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rdf.yaml."""
    licence = SPDX.get(card.licence.lower(), card.licence)
    author = card.citation.split(",")[0].strip()
    sampling = f"{card.sampling.min:g}–{card.sampling.max:g} Å/px"
    # The format lets an absolute tolerance be a hundredth of an output's largest value at most; for the others its own holds.
    largest = {tensor["id"]: np.load(package / tensor["test_tensor"]["source"]).max() for tensor in outputs}
    stated = [name for name, value in largest.items() if card.golden.atol <= 0.01 * value]
    tolerance = {"output_ids": stated, "relative_tolerance": card.golden.rtol, "absolute_tolerance": card.golden.atol}
    return {
        "type": "model",
        "format_version": FORMAT,
        "name": _plain_name(card.title),
        "description": f"{card.summary} Trained at {sampling}; bring other frames there first."[:1024],
        "version": str(card.version),
        "timestamp": f"{card.created.isoformat()}T00:00:00+00:00",
        "authors": [{"name": author}],
        "cite": [{"text": card.citation, "url": "https://pypi.org/project/stemzoo/"}],
        "license": licence,
        "tags": ["stem", "electron-microscopy", "materials-science", card.task, "onnx"],
        "documentation": DOCUMENTATION,
        "inputs": inputs,
        "outputs": outputs,
        "weights": {"onnx": {"source": MODEL_FILE, "sha256": sha256_of(package / MODEL_FILE), "opset_version": 18}},
        "config": {
            "bioimageio": {"reproducibility_tolerance": [tolerance] if stated else []},
            "stemzoo": {"id": card.id, "version": stemzoo.__version__},
        },
    }


def _plain_name(title: str) -> str:
    """Return a title in the characters that the format allows, in 5 to 128 of them."""
    kept = "".join(character if character.isalnum() or character in " _+-()" else " " for character in title)
    return " ".join(kept.split())[:128].ljust(5, "-")
