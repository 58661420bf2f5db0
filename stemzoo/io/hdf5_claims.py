"""What an HDF5 file says that its parts take, held against the bytes it has, before HDF5 makes room for them.

HDF5 believes a length before it looks: a text of a few letters whose damaged length says 4 GB takes 4 GB before it is refused. Owns the
check of arrays and of attributes, and how an attribute of variable length is found in the file, for which HDF5 has no call. Called by the
readers of HDF5 in this package.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
from h5py import h5a, h5f, h5i, h5o, h5t

DEFLATE = 1100  # how much smaller gzip can make anything
MOST_BYTES = 64 * 1024**2
"""Of an attribute, in however large a file."""
SCANNED_BYTES = 64 * 1024**2
"""Files up to this size are searched for an attribute that is not in its object's header; in larger ones it is taken as it is."""
_CONTINUED, _ATTRIBUTE = 0x10, 0x0C  # numbers of messages in an object's header
_REFERENCE = struct.Struct("<IQI")  # to a text of variable length: how long, and where
_MOST_PIECES = 4096  # of a header


def check_array(dataset: h5py.Dataset, spare: int = 0, n_bytes: int | None = None) -> None:
    """Return if what will be read of a dataset can lie in a file of this size.

    Args:
        spare: bytes that may be claimed in any case, for arrays of which little was ever written.
        n_bytes: how many will be read; None for all. A chunk of which a part is wanted counts whole.

    Raises: ValueError. Arrays that lie in other files, or are made up of others, are taken as they are.
    """
    if dataset.is_virtual or dataset.external:
        return
    size = _file_size(dataset)
    kind = dataset.id.get_type()
    if _is_variable(kind):
        where = dataset.id.get_offset()
        if dataset.size != 1 or where is None:
            raise ValueError(f"{dataset.name} is {dataset.size} texts, or packed; wanted one, stored plainly")
        with Path(os.fsdecode(h5f.get_name(dataset.id))).open("rb") as raw:
            raw.seek(where)
            claimed = int.from_bytes(raw.read(4), "little") * _unit(kind)
    else:
        chunk = dataset.chunks or ()
        claimed = max(dataset.nbytes if n_bytes is None else n_bytes, _product(chunk) * dataset.dtype.itemsize if chunk else 0)
        if dataset.id.get_create_plist().get_nfilters():
            claimed //= DEFLATE
    if claimed > max(size, spare):
        raise ValueError(f"{dataset.name} claims {claimed} bytes in a file of {size}")


def attribute(item: h5py.Group | h5py.Dataset, name: str, default: Any = None) -> Any:
    """Return an attribute, or `default` where there is none. Raises: ValueError as `attributes` does."""
    return attributes(item, (name,))[name] if name in item.attrs else default


def attributes(item: h5py.Group | h5py.Dataset, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the attributes of these names, or all, in the order of the names.

    Raises: ValueError if one claims more bytes than the file has, or than MOST_BYTES, or is of a kind whose claims cannot be told.
    """
    names = list(item.attrs if names is None else names)
    size = _file_size(item)
    variable: dict[bytes, tuple[int, int]] = {}
    claims: dict[str, int] = {}
    for name in names:
        stored = h5a.open(item.id, name.encode())
        kind = stored.get_type()
        claims[name] = stored.get_storage_size()
        if _is_variable(kind):
            variable[name.encode()] = (_unit(kind), stored.get_space().get_simple_extent_npoints())
        elif kind.get_class() in (h5t.COMPOUND, h5t.ARRAY) and kind.detect_class(h5t.VLEN):
            raise ValueError(f"attribute {name!r} of {item.name} is a record of parts of variable length; wanted a number or a text")
    if variable:
        for key, length in _longest(item, {key: n for key, (_, n) in variable.items()}, size).items():
            claims[key.decode()] = max(claims[key.decode()], variable[key][0] * length)
    for name, claimed in claims.items():
        if claimed > min(size, MOST_BYTES):
            raise ValueError(f"attribute {name!r} of {item.name} claims {claimed} bytes in a file of {size}")
    return {name: item.attrs[name] for name in names}


def _file_size(item: h5py.Group | h5py.Dataset) -> int:
    return os.path.getsize(os.fsdecode(h5f.get_name(item.id)))


def _product(sides: tuple[int, ...]) -> int:
    whole = 1
    for side in sides:
        whole *= side
    return whole


def _is_variable(kind: h5t.TypeID) -> bool:
    return kind.get_class() == h5t.VLEN or (kind.get_class() == h5t.STRING and bool(kind.is_variable_str()))


def _unit(kind: h5t.TypeID) -> int:
    """Bytes of one element of a variable length. Raises: ValueError where those are of variable length themselves."""
    if kind.get_class() == h5t.STRING:
        return 1
    part = kind.get_super()
    if _is_variable(part) or part.get_class() in (h5t.COMPOUND, h5t.ARRAY):
        raise ValueError("is a list of lists; wanted a number or a text")
    return int(part.get_size())


def _longest(item: h5py.Group | h5py.Dataset, wanted: dict[bytes, int], size: int) -> dict[bytes, int]:
    """Return what the longest element of each attribute of variable length says how long it is; none for one that cannot be found.

    Args:
        wanted: how many elements each attribute has.
    """
    found: dict[bytes, int] = {}
    with Path(os.fsdecode(h5f.get_name(item.id))).open("rb") as raw:
        for kind, body in _messages(raw, h5o.get_info(item.id).addr, h5i.get_file_id(item.id).get_create_plist().get_userblock()):
            name, value = _value(body) if kind == _ATTRIBUTE else (b"", b"")
            if name in wanted:
                found[name] = _longest_of(value, wanted[name])
        for name in wanted.keys() - found.keys() if size <= SCANNED_BYTES else ():
            found[name] = max((_longest_of(value, wanted[name]) for value in _scanned(raw, name, wanted[name])), default=0)
    return found


def _longest_of(value: bytes, n: int) -> int:
    end = min(n, len(value) // _REFERENCE.size) * _REFERENCE.size
    return max((length for length, _, _ in _REFERENCE.iter_unpack(value[:end])), default=0)


def _messages(raw: BinaryIO, address: int, start: int) -> Iterator[tuple[int, bytes]]:
    """Give number and body of each message in an object's header, wherever its pieces lie; nothing where it is not understood.

    Source: HDF5 File Format Specification 3.0, IV.A.1, "Data Object Header Prefix".
    """
    raw.seek(start + address)
    prefix = raw.read(34)
    if prefix[:4] == b"OHDR":
        flags = prefix[5]
        width = 1 << (flags & 3)
        begin = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        head, skip = struct.Struct("<BHBH" if flags & 4 else "<BHB"), 4
        pieces = [(address + begin + width, int.from_bytes(prefix[begin : begin + width], "little"))]
    elif prefix[:1] == b"\x01":
        head, skip = struct.Struct("<HHBxxx"), 0
        pieces = [(address + 16, int.from_bytes(prefix[8:12], "little"))]
    else:
        return
    for number, (where, length) in enumerate(pieces):
        if number == _MOST_PIECES:
            return
        raw.seek(start + where + (skip if number else 0))
        piece = raw.read(max(0, min(length - (2 * skip if number else 0), SCANNED_BYTES)))
        at = 0
        while at + head.size <= len(piece):
            kind, n_bytes = head.unpack_from(piece, at)[:2]
            body = piece[at + head.size : at + head.size + n_bytes]
            at += head.size + n_bytes
            if kind == _CONTINUED and len(body) >= 16:
                pieces.append(struct.unpack_from("<QQ", body))
            yield kind, body


def _value(body: bytes) -> tuple[bytes, bytes]:
    """Return name and stored value in an attribute's message; no name where the message is shared and lies elsewhere.

    Source: HDF5 File Format Specification 3.0, IV.A.2.m, "The Attribute Message".
    """
    if len(body) < 9 or body[0] not in (1, 2, 3):
        return b"", b""
    sizes, at = struct.unpack_from("<HHH", body, 2), 9 if body[0] == 3 else 8
    begin = at + sum(-(-part // 8) * 8 if body[0] == 1 else part for part in sizes)
    return body[at : at + sizes[0]].split(b"\0")[0], body[begin:]


def _scanned(raw: BinaryIO, name: bytes, n: int) -> Iterator[bytes]:
    """Give the values of all attributes of this name that lie in heaps, as where an object has many of them."""
    with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        at = whole.find(name + b"\0")
        while at >= 0:
            body = whole[max(0, at - 9) : at + len(name) + 1024 + n * _REFERENCE.size]
            if at >= 9 and body[0] == 3 and _value(body)[0] == name:
                yield _value(body)[1]
            at = whole.find(name + b"\0", at + 1)
