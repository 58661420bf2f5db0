"""Zarr arrays and groups to Raw: an array (T, H, W), or the one image in a group. Frames are read when asked for. Called by io.read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stemzoo.errors import ReadError, needs_extra
from stemzoo.io.raw import EAGER_BYTES, Raw, Signal, Stack, choose, problem
from stemzoo.io.units import Axis


@dataclass(frozen=True)
class Chunks(Stack):
    """Frames (T, H, W) of a Zarr array; several are read at once, as one chunk may hold parts of many."""

    path: str
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """Return frame `index` (H, W), or several (n, H, W)."""
        array = _open(self.path)
        return np.asarray((array[self.name] if self.name else array)[index])


def read_zarr(path: str, wanted: str | None) -> Raw:
    """Return the image or stack of a Zarr store; `pixel_size` [Å/px] among an array's attributes is its pixel size.

    Raises: ReadError if zarr is not installed, if the store is damaged, or if it holds no image or several.
    """
    root = _open(path)
    import zarr

    if isinstance(root, zarr.Array):
        named = {"": root}
    else:
        named = {str(name): item for name, item in root.members(max_depth=None) if isinstance(item, zarr.Array)}
    arrays = {name: item for name, item in named.items() if min(item.shape, default=0) and item.ndim >= 2}
    signals = [Signal(name or path, item.shape, problem(item.shape, item.dtype)) for name, item in arrays.items()]
    index, notices = choose(path, signals, wanted)
    name, array = list(arrays.items())[index]
    size: Any = array.attrs.get("pixel_size")
    axes = None if size is None else (Axis(float(size), "Å"), Axis(float(size), "Å"))
    if array.ndim == 3 and array.nbytes > EAGER_BYTES:
        frames, height, width = array.shape
        return Raw(Chunks(path, name, (frames, height, width), array.dtype), axes, {}, notices)
    return Raw(np.asarray(array[...]), axes, {}, notices)


def _open(path: str) -> Any:
    with needs_extra("dask", f"{path}: reading Zarr", ReadError):
        import zarr
    return zarr.open(path, mode="r")
