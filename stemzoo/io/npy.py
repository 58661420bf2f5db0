"""NumPy files to Raw. Owns nothing beyond `numpy.load`: no pickles, large stacks stay on disk. Called by io.read."""

from __future__ import annotations

import numpy as np

from stemzoo.errors import ReadError
from stemzoo.io.raw import EAGER_BYTES, OnDisk, Raw


def read_npy(path: str, wanted: str | None) -> Raw:
    """Return the array of a .npy file; it holds no pixel size."""
    if wanted is not None:
        raise ReadError(f"{path}: a .npy file holds one array; leave out ::{wanted}")
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ReadError(f"{path}: is not a .npy file; save the image with numpy.save")
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise ReadError(f"{path}: holds pickled Python objects, not numbers; save the image alone with numpy.save") from error
        raise
    if data.nbytes <= EAGER_BYTES:
        return Raw(np.array(data))
    return Raw(OnDisk(path, data.offset, data.shape, data.dtype) if data.flags.c_contiguous and data.ndim == 3 else data)
