"""Frames freed of hot, dead and non-finite pixels as they are read. Called by runtime.pipeline and by whoever locates and then encodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Tuple

import numpy as np

from stemzoo.geometry.resample import clean
from stemzoo.types import Frames


class Cleaned:
    """Cleaned frames of a stack, one at a time; the last one is remembered, since it is located and then encoded.

    Args: source: frames as they were recorded; threads: that the work is divided among.
    """

    def __init__(self, source: Frames, threads: int = 1) -> None:
        self._source, self._threads = source, threads
        self._last: Optional[Tuple[int, np.ndarray]] = None
        self.shape = (len(source), *source.shape)
        self.dtype = np.dtype(np.float32)

    def clean(self, index: int, raw: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return frame `index` as resample.clean gives it, (H, W) each: image and mask of the pixels that were replaced."""
        image, touched = clean(raw, self._threads)
        self._last = (index, image)
        return image, touched

    def __getitem__(self, index: int) -> np.ndarray:
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        return self.clean(index, self._source.frame(index))[0]

    def frames(self) -> Frames:
        """Return the same frames with cleaned pixels."""
        data: Any = self
        return replace(self._source, data=data)
