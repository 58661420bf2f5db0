"""What is inside a bundle's files, looked at before any library opens them. Owns which kinds of file a bundle may hold and what is refused.

A graph that reaches for data outside its own file, a pickle under any name, an archive that unpacks to more than it should: each is refused
by reading headers only, without onnx, onnxruntime or torch. Called by zoo.check whenever a model is pulled,
published or verified, by zoo.index and zoo.illustrate.
"""

from __future__ import annotations

import json
import math
import mmap
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stemzoo.errors import CardError

MAX_HEADER = 100_000_000  # bytes; the safetensors format's own limit
MAX_UNPACKED = 512_000_000  # bytes; golden tensors are small on purpose
MAX_DEPTH = 32  # graphs within graphs; networks have two or three

# Which fields of an ONNX message hold which messages. Source: onnx.proto, github.com/onnx/onnx, IR 8 to 13.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 14: "entry", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "entry": {},
}
_EXTERNAL_DATA, _DATA_LOCATION, _IR_VERSION, _GRAPH = 13, 14, 1, 7
_MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff"}
SUFFIXES = (".onnx", ".safetensors", ".npz", *_MAGIC, ".csv", ".json", ".txt")


def check_content(path: Path) -> None:
    """Check that a file is what its name says, and harmless. Raises: CardError naming the file and what was found."""
    if path.suffix == ".onnx":
        graph_metadata(path)
    elif path.suffix == ".safetensors":
        tensor_header(path)
    elif path.suffix == ".npz":
        check_archive(path)
    elif path.suffix in _MAGIC:
        with path.open("rb") as file:
            if not file.read(16).startswith(_MAGIC[path.suffix]):
                raise CardError(f"{path}: not a {path.suffix[1:]} picture; a bundle's files are what their names say")
    elif path.suffix in SUFFIXES:
        try:
            path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CardError(f"{path}: not text ({error}); a bundle's files are what their names say") from None
    else:
        raise CardError(f"{path}: a {path.suffix or 'nameless kind of'} file; a bundle holds {', '.join(SUFFIXES)}, never a pickle")


def graph_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX graph, which must keep all its tensors in its own file.

    Raises: CardError if the file is not ONNX, or if any tensor, however deep, lies outside it.
    """
    found: dict[str, str] = {}
    seen: set[int] = set()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for kind, number, start, end in _walk(data, "model", 0, len(data), 0):
                if kind == "model":
                    seen.add(number)
                    if number == 14:
                        key, value = _entry(data, start, end)
                        found[key] = value
                elif kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and end == 1)):
                    raise CardError(f"{path}: keeps tensors in a file outside itself; a bundle's graph is one file: export the model again")
    except (OSError, ValueError, IndexError) as error:
        raise CardError(f"{path}: not an ONNX graph ({error}); pull or export the model again") from None
    if not {_IR_VERSION, _GRAPH} <= seen:
        raise CardError(f"{path}: not an ONNX graph (no IR version or no graph in it); pull or export the model again")
    return found


def _walk(data: mmap.mmap, kind: str, position: int, end: int, depth: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield (message, field number, start, end) of each field of an ONNX message and of those inside; a plain number's value is `end`.

    Raises: ValueError for what is not protobuf. Source: protobuf's wire format, protobuf.dev/programming-guides/encoding.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"graphs nested more than {MAX_DEPTH} deep")
    while position < end:
        tag, position = _varint(data, position, end)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position, end)
            yield kind, number, position, value
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        elif wire == 2:
            length, position = _varint(data, position, end)
            if length > end - position:
                raise ValueError(f"a field of {length} bytes where {end - position} are left")
            yield kind, number, position, position + length
            inner = _MESSAGES[kind].get(number)
            if inner is not None:
                yield from _walk(data, inner, position, position + length, depth + 1)
            position += length
        else:
            raise ValueError(f"a field of wire type {wire}")
        if number == 0 or position > end:
            raise ValueError("a field out of place")


def _varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            return value, position
    raise ValueError("a number without end")


def _entry(data: mmap.mmap, start: int, end: int) -> tuple[str, str]:
    """Return key and value of a StringStringEntryProto."""
    texts = {number: data[first:last].decode("utf-8") for _, number, first, last in _walk(data, "entry", start, end, 0)}
    return texts.get(1, ""), texts.get(2, "")


def tensor_header(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors' entries and the metadata of a safetensors file whose data fill it to the byte.

    Raises: CardError if the file is not safetensors.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= MAX_HEADER:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        position = 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            first, last = entry["data_offsets"]
            if first != position or last < first or math.prod(entry["shape"]) < 0:
                raise ValueError(f"tensor {name} does not follow the one before it")
            position = last
        if 8 + length + position != path.stat().st_size:
            raise ValueError(f"{path.stat().st_size} bytes where its header says {8 + length + position}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CardError(f"{path}: not a safetensors file ({error}); export the model again") from None
    return header, metadata


def check_archive(path: Path) -> None:
    """Check that an npz holds plain arrays, no objects, and unpacks to what it says and no more than `MAX_UNPACKED`. Raises: CardError."""
    import numpy as np  # late, so that a listing need not wait for it

    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > MAX_UNPACKED:
                raise CardError(f"{path}: unpacks to {unpacked:,} bytes; wanted at most {MAX_UNPACKED:,} of golden tensors")
            for member in members:
                if not re.fullmatch(r"[A-Za-z0-9_]+\.npy", member.filename):
                    raise ValueError(f"it holds {member.filename!r}")
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(file)
                    if dtype.hasobject:
                        raise CardError(f"{path}: {member.filename} holds pickled objects; wanted numbers")
                    if file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                        raise ValueError(f"{member.filename} is not as long as its header says")
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise CardError(f"{path}: not an archive of NumPy arrays ({error}); pull or export the model again") from None
