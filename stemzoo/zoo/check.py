"""What a card claims of the files beside it, checked: sizes, hashes, contents, the card inside the graph, the number of parameters.

No torch, no onnxruntime.

The golden replay is runtime.bundle's; `stemzoo zoo verify` and the test over every card do both.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from stemzoo.errors import CardError
from stemzoo.zoo.card import Card
from stemzoo.zoo.catalog import MODEL_FILE
from stemzoo.zoo.contents import check_content, graph_metadata, tensor_header

WEIGHTS_FILE = "weights.safetensors"
NEEDED_FILES = ("golden.npz", MODEL_FILE, WEIGHTS_FILE)
METADATA_KEY = "stemzoo_card"


def check_files(card: Card, folder: Path) -> None:
    """Check that every file of the bundle is listed, present, unchanged and what its name says, and that the card's parameters are counted
    right.

    Raises: CardError that names the file, what was found and what the card says.
    """
    listed = {file.name for file in card.files}
    missing = [name for name in NEEDED_FILES if name not in listed]
    if missing:
        raise CardError(f"{folder}: the card of {card.id} lists no {', '.join(missing)}; export the model again")
    for file in card.files:
        path = folder / file.name
        if not path.is_file():
            raise CardError(f"{path}: missing; the card of {card.id} lists it; pull or copy the bundle again")
        digest = sha256_of(path)
        if (digest, path.stat().st_size) != (file.sha256, file.size):
            raise CardError(
                f"{path}: {path.stat().st_size} bytes with sha256 {digest}; the card of {card.id} lists {file.size} bytes "
                f"with {file.sha256}; pull or copy the bundle again"
            )
        check_content(path)
    harmless = (".png", ".jpg", ".csv", ".json", ".txt", ".md")
    unlisted = sorted(
        path.name for path in folder.iterdir() if path.name not in listed and path.suffix not in harmless and not path.name.startswith(".")
    )
    if unlisted:
        raise CardError(f"{folder}: holds {', '.join(unlisted)}, which the card of {card.id} does not list; remove it or export again")
    parameters = count_parameters(folder / WEIGHTS_FILE)
    if parameters != card.parameters:
        raise CardError(f"{folder / WEIGHTS_FILE}: {parameters} parameters; the card of {card.id} says {card.parameters}")


def check_graphs(card: Card, folder: Path) -> None:
    """Check that the card inside each of the bundle's graphs says what README.md says. Raises: CardError as `check_metadata`."""
    for file in card.files:
        if not file.name.endswith(".onnx"):
            continue
        path = folder / file.name
        text = graph_metadata(path).get(METADATA_KEY)
        if text is None:
            raise CardError(f"{path}: carries no {METADATA_KEY}; wanted a graph that stemzoo export wrote")
        try:
            metadata = json.loads(text)
            if not isinstance(metadata, dict):
                raise ValueError(f"a {type(metadata).__name__}")
        except ValueError as error:
            raise CardError(f"{path}: its {METADATA_KEY} is not a JSON object ({error}); export the model again") from None
        check_metadata(card, metadata, str(path))


def check_metadata(card: Card, metadata: dict[str, Any], where: str) -> None:
    """Check that the card inside a graph says what README.md says. Raises: CardError naming the first key that differs."""
    wanted = json.loads(card.to_metadata())
    for key in sorted(wanted.keys() | metadata.keys()):
        if wanted.get(key) != metadata.get(key):
            raise CardError(
                f"{where}: the card inside the graph has {key} {metadata.get(key)!r}, README.md has {wanted.get(key)!r}; export the model "
                "again"
            )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_parameters(path: Path) -> int:
    """Return the number of learned values in a safetensors file: all tensors but the buffers that its metadata names.

    Reads the header only. Raises: CardError if the file is not safetensors.
    """
    header, metadata = tensor_header(path)
    try:
        buffers = set(json.loads(metadata.get("buffers", "[]")))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name not in buffers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CardError(f"{path}: not a safetensors file ({error}); export the model again") from error
