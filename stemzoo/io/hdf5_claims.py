"""What an HDF5 file says that its parts take, held against the bytes it has, before HDF5 makes room for them.

HDF5 believes a length before it looks: a text of a few letters whose damaged length says 4 GB takes 4 GB before it is refused, and a heap
with a free space of no length is searched for ever. Owns the check of arrays, of attributes and of the heaps that hold their texts, and how
an attribute of variable length is found in the file, for which HDF5 has no call. Called by the readers of HDF5 in this package.
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
_HEAP = struct.Struct("<4s4xQ")  # the beginning of a heap: signature and size
_OBJECT = struct.Struct("<H6xQ")  # and of an object in it: number and size
_SIGNATURE, _SUPERBLOCK = b"\x89HDF\r\n\x1a\n", 60
_NAMES = b"HEAP\0\0\0\0"  # how a heap of names begins
_NAMES_HEAD = struct.Struct("<8xQQQ")  # size of its data, where in it the free space begins, where the data lie
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
    if kind.get_class() in (h5t.VLEN, h5t.REFERENCE):
        raise ValueError(f"{dataset.name} holds lists or references; wanted numbers or a text")
    if _is_long(kind):
        where = dataset.id.get_offset()
        if dataset.size != 1 or where is None:
            raise ValueError(f"{dataset.name} is {dataset.size} texts, or packed; wanted one, stored plainly")
        with Path(os.fsdecode(h5f.get_name(dataset.id))).open("rb") as raw:
            raw.seek(where)
            claimed = _longest_of(raw, raw.read(_REFERENCE.size), 1, _start(dataset))
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

    Raises: ValueError if one claims more bytes than the file has, or than MOST_BYTES, or is no number or text: no reader wants such,
        and HDF5 is easily led astray by them.
    """
    names = list(item.attrs if names is None else names)
    size = _file_size(item)
    long: dict[bytes, int] = {}
    claims: dict[str, int] = {}
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"an attribute of {item.name} has a name that is no text: {name!r}")
        stored = h5a.open(item.id, name.encode())
        kind = stored.get_type()
        claims[name] = stored.get_storage_size()
        if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING):
            raise ValueError(f"attribute {name!r} of {item.name} holds neither numbers nor texts")
        if _is_long(kind):
            long[name.encode()] = stored.get_space().get_simple_extent_npoints()
    for key, length in _longest(item, long, size).items() if long else ():
        claims[key.decode()] = max(claims[key.decode()], length)
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


def _is_long(kind: h5t.TypeID) -> bool:
    """Return whether texts of a type are of variable length, and so lie in a heap."""
    return kind.get_class() == h5t.STRING and bool(kind.is_variable_str())


def _longest(item: h5py.Group | h5py.Dataset, wanted: dict[bytes, int], size: int) -> dict[bytes, int]:
    """Return what the longest element of each attribute of variable length says how long it is; none for one in the heaps of a large file.

    Args:
        wanted: how many elements each attribute has.

    Raises: ValueError for one that HDF5 sees and nobody else, or whose heap HDF5 could not get through.
    """
    found: dict[bytes, int] = {}
    start = _start(item)
    with Path(os.fsdecode(h5f.get_name(item.id))).open("rb") as raw:
        for kind, body in _messages(raw, h5o.get_info(item.id).addr, start):
            name, value = _value(body) if kind == _ATTRIBUTE else (b"", b"")
            if name in wanted:
                found[name] = _longest_of(raw, value, wanted[name], start)
        for name in wanted.keys() - found.keys() if size <= SCANNED_BYTES else ():
            values = list(_scanned(raw, name, wanted[name]))
            if not values:
                raise ValueError(f"attribute {name.decode()!r} of {item.name} cannot be found in the file")
            found[name] = max(_longest_of(raw, value, wanted[name], start) for value in values)
    return found


def _longest_of(raw: BinaryIO, value: bytes, n: int, start: int) -> int:
    """Return what the longest of `n` references says how long it is. Raises: ValueError for a heap that HDF5 could not get through."""
    end = min(n, len(value) // _REFERENCE.size) * _REFERENCE.size
    references = list(_REFERENCE.iter_unpack(value[:end]))
    for address in {address for length, address, _ in references if length}:
        _check_heap(raw, start + address)
    return max((length for length, _, _ in references), default=0)


def _check_heap(raw: BinaryIO, at: int) -> None:
    """Raise ValueError for a global heap that claims more than the file has, or whose objects do not lead on to its end.

    Source: HDF5 File Format Specification 3.0, III.E, "Disk Format: Level 1E - Global Heap".
    """
    size = os.fstat(raw.fileno()).st_size
    if at + _HEAP.size > size:
        return  # HDF5 refuses it
    raw.seek(at)
    signature, claimed = _HEAP.unpack(raw.read(_HEAP.size))
    if signature != b"GCOL":
        return
    if at + claimed > size:
        raise ValueError(f"the heap at byte {at} claims {claimed} bytes in a file of {size}")
    whole = raw.read(claimed - _HEAP.size)
    here = 0
    while here + _OBJECT.size <= len(whole):
        number, length = _OBJECT.unpack_from(whole, here)
        step = _OBJECT.size + -(-length // 8) * 8 if number else length  # the free space, number 0, counts its own header
        if step < _OBJECT.size:
            raise ValueError(f"the heap at byte {at} has a free space of {length} bytes")
        if here + step > len(whole):
            raise ValueError(f"the heap at byte {at} holds {claimed} bytes, and an object of {length} in them")
        here += step


def check_file(path: str | Path) -> None:
    """Return if HDF5 may open a file: it names no driver's block, and free space in the heaps of its names is listed to an end.

    HDF5 would take as much memory as such a block claims, and follow such a list for ever. Lists are looked for in the first SCANNED_BYTES.
    Raises: ValueError.

    Source: HDF5 File Format Specification 3.0, II.A, "Disk Format: Level 0A - Format Signature and Superblock", and III.D, "Local Heaps".
    """
    with Path(path).open("rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        if not size:
            return
        start = 0
        while raw.seek(start) == start and (first := raw.read(_SUPERBLOCK)) and first[:8] != _SIGNATURE:  # a userblock goes before
            start = max(512, 2 * start)
        if len(first) == _SUPERBLOCK and first[8] < 2 and first[13] == 8:
            at = 48 + 4 * first[8]
            if first[at : at + 8] != b"\xff" * 8:
                raise ValueError("it says that its driver keeps a block in it, as files in several pieces do, or is damaged")
        with mmap.mmap(raw.fileno(), min(size, SCANNED_BYTES), access=mmap.ACCESS_READ) as whole:
            at = whole.find(_NAMES)
            while at >= 0:
                if at + _NAMES_HEAD.size <= len(whole):
                    _check_list(raw, at, start, *_NAMES_HEAD.unpack_from(whole, at))
                at = whole.find(_NAMES, at + 1)


def _check_list(raw: BinaryIO, at: int, start: int, held: int, first: int, where: int) -> None:
    """Raise ValueError where the list of free space from `first` in the `held` bytes at `where` comes back to itself."""
    seen = set[int]()
    while first not in seen:
        if first == 1 or first + 16 > held:  # the end, or what HDF5 refuses
            return
        seen.add(first)
        raw.seek(start + where + first)
        first = int.from_bytes(raw.read(8), "little")
    raise ValueError(f"the list of free space in the heap of names at byte {at} comes back to itself")


def _start(item: h5py.Group | h5py.Dataset) -> int:
    """Return the byte of the file from which HDF5 counts."""
    return int(h5i.get_file_id(item.id).get_create_plist().get_userblock())


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
    return body[at : at + sizes[0] - 1].split(b"\0")[0], body[begin:]  # the last byte is taken for the end, whatever it is


def _scanned(raw: BinaryIO, name: bytes, n: int) -> Iterator[bytes]:
    """Give the values of all attributes of this name that lie in heaps, as where an object has many of them."""
    with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        at = whole.find(name + b"\0")
        while at >= 0:
            body = whole[max(0, at - 9) : at + len(name) + 1024 + n * _REFERENCE.size]
            if at >= 9 and body[0] == 3 and _value(body)[0] == name:
                yield _value(body)[1]
            at = whole.find(name + b"\0", at + 1)
