"""Frames freed of hot, dead and non-finite pixels as they are read, and which columns those pixels surround.

Called by runtime.pipeline and by whoever locates and then encodes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Tuple

import numpy as np

from stemzoo.geometry.cleaning import clean
from stemzoo.types import Frames

MOST_REPLACED = 0.05  # share of a window's pixels; hot pixels come to less, the edge of a hole to more


class Cleaned:
    """Cleaned frames of a stack, one at a time; the last one is remembered, since it is located and then encoded.

    Args: source: frames as they were recorded.
    """

    def __init__(self, source: Frames) -> None:
        self._source = source
        self._last: Optional[Tuple[int, np.ndarray, np.ndarray]] = None
        self.shape = (len(source), *source.shape)
        self.dtype = np.dtype(np.float32)

    def clean(self, index: int, raw: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return frame `index` as cleaning.clean gives it, (H, W) each: image and mask of the pixels that were replaced."""
        image, touched = clean(raw)
        self._last = (index, image, touched)
        return image, touched

    def __getitem__(self, index: int) -> np.ndarray:
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        return self.clean(index, self._source.frame(index))[0]

    def unmeasured(self, index: int, yx: np.ndarray, window_px: float) -> np.ndarray:
        """Return (n,) bool: of which columns of frame `index`, at yx (n, 2), the window holds too many pixels that were replaced."""
        if not len(yx):
            return np.zeros(0, dtype=bool)
        if self._last is None or self._last[0] != index:
            self.clean(index, self._source.frame(index))
        assert self._last is not None, "it was just cleaned"
        touched = self._last[2]
        height, width = touched.shape
        top, bottom = (np.clip(np.rint(yx[:, 0] + side * window_px / 2 + 0.5).astype(int), 0, height) for side in (-1, 1))
        left, right = (np.clip(np.rint(yx[:, 1] + side * window_px / 2 + 0.5).astype(int), 0, width) for side in (-1, 1))
        most = MOST_REPLACED * np.maximum((bottom - top) * (right - left), 1)
        if np.count_nonzero(touched) <= most.min():  # single pixels: the rule
            return np.zeros(len(yx), dtype=bool)
        sums = np.zeros((height + 1, width + 1), np.int32)
        np.cumsum(touched, axis=0, dtype=np.int32, out=sums[1:, 1:])
        np.cumsum(sums, axis=1, out=sums)
        count = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return np.asarray(count > most)

    def frames(self) -> Frames:
        """Return the same frames with cleaned pixels."""
        data: Any = self
        return replace(self._source, data=data)
