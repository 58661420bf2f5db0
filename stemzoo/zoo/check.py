"""What a card claims of the files beside it, checked: sizes, hashes, the card inside the graph, the number of parameters. No torch, no
onnxruntime.

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

WEIGHTS_FILE = "weights.safetensors"
MAX_HEADER = 100_000_000  # bytes; the safetensors format's own limit
NEEDED_FILES = ("golden.npz", "model.onnx", WEIGHTS_FILE)


def check_files(card: Card, folder: Path) -> None:
    """Check that every file of the bundle is listed, present and unchanged, and that the weights have as many parameters as the card says.

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
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if (digest, path.stat().st_size) != (file.sha256, file.size):
            raise CardError(
                f"{path}: {path.stat().st_size} bytes with sha256 {digest}; the card of {card.id} lists {file.size} bytes "
                f"with {file.sha256}; pull or copy the bundle again"
            )
    unlisted = sorted(
        path.name for path in folder.iterdir() if path.suffix in (".onnx", ".npz", ".safetensors") and path.name not in listed
    )
    if unlisted:
        raise CardError(f"{folder}: holds {', '.join(unlisted)}, which the card of {card.id} does not list; remove it or export again")
    parameters = count_parameters(folder / WEIGHTS_FILE)
    if parameters != card.parameters:
        raise CardError(f"{folder / WEIGHTS_FILE}: {parameters} parameters; the card of {card.id} says {card.parameters}")


def check_metadata(card: Card, metadata: dict[str, Any], where: str) -> None:
    """Check that the card inside a graph says what README.md says. Raises: CardError naming the first key that differs."""
    wanted = json.loads(card.to_metadata())
    for key in sorted(wanted.keys() | metadata.keys()):
        if wanted.get(key) != metadata.get(key):
            raise CardError(
                f"{where}: the card inside the graph has {key} {metadata.get(key)!r}, README.md has {wanted.get(key)!r}; export the model "
                "again"
            )


def count_parameters(path: Path) -> int:
    """Return the number of learned values in a safetensors file: all tensors but the buffers that its metadata names.

    Reads the header only. Raises: CardError if the file is not safetensors.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= MAX_HEADER:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        buffers = set(json.loads(metadata.get("buffers", "[]")))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name not in buffers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CardError(f"{path}: not a safetensors file ({error}); export the model again") from error
