"""MRC files to Raw: header, byte order, stack. Owns the layout; nothing but the file itself is opened. Called by io.read.

Source: the MRC2014 format, Cheng et al., J. Struct. Biol. 192 (2015) 146; rows are returned in the order they are stored.
"""

from __future__ import annotations

import os
import struct

import numpy as np

from stemzoo.errors import ReadError
from stemzoo.io.raw import EAGER_BYTES, OnDisk, Raw
from stemzoo.io.units import Axis

HEADER_BYTES = 1024
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}


def read_mrc(path: str, wanted: str | None) -> Raw:
    """Return an MRC image or stack with its voxel size [Å].

    Raises: ReadError if the header is not MRC's, the mode is complex or packed, or the file is shorter than the header says.
    """
    if wanted is not None:
        raise ReadError(f"{path}: an MRC file holds one stack; leave out ::{wanted}")
    with open(path, "rb") as file:
        header = file.read(HEADER_BYTES)
    order = next((o for o in "<>" if _fits(header, o)), None)
    if order is None:
        raise ReadError(f"{path}: its first {HEADER_BYTES} bytes are no MRC header; the file is damaged or of another format")
    nx, ny, nz, mode = struct.unpack_from(order + "4i", header, 0)
    if mode not in _DTYPES:
        raise ReadError(f"{path}: MRC mode {mode} is complex or packed; wanted real intensities (mode 0, 1, 2, 6 or 12)")
    low, high = struct.unpack_from(order + "2f", header, 76)
    dtype = np.dtype(order + _DTYPES[mode])
    if mode == 0 and low >= 0 and high > 127:
        dtype = np.dtype("u1")  # older programs wrote mode 0 unsigned, and their stated maximum shows it
    offset = HEADER_BYTES + struct.unpack_from(order + "i", header, 92)[0]
    needed = offset + nx * ny * nz * dtype.itemsize
    have = os.path.getsize(path)
    if have < needed:
        raise ReadError(f"{path}: is cut short: {have} bytes of the {needed} that its header announces; copy it again")
    data = OnDisk(path, offset, (nz, ny, nx), dtype)
    sampling = struct.unpack_from(order + "3i", header, 28)
    cell = struct.unpack_from(order + "3f", header, 40)
    axes = None
    if min(sampling[:2]) > 0 and min(cell[:2]) > 0:
        axes = (Axis(cell[1] / sampling[1], "Å"), Axis(cell[0] / sampling[0], "Å"))
    return Raw(data if data.nbytes > EAGER_BYTES else data[:], axes, {})


def _fits(header: bytes, order: str) -> bool:
    if len(header) < HEADER_BYTES:
        return False
    nx, ny, nz, mode = struct.unpack_from(order + "4i", header, 0)
    extended = struct.unpack_from(order + "i", header, 92)[0]
    return bool(0 < nx < 1 << 20 and 0 < ny < 1 << 20 and 0 < nz < 1 << 24 and 0 <= mode <= 101 and 0 <= extended < 1 << 31)
