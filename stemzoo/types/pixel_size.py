"""The pixel size [Å/px]: where it may come from, which values are none, how it is printed."""

from __future__ import annotations

import math
from typing import Optional

from stemzoo.errors import PixelSizeError

PIXEL_SIZE_SOURCES = ("file", "user", "lattice", "unknown")


def check_pixel_size(value: Optional[float], what: str) -> Optional[float]:
    """Return `value` [Å/px] if it is None or a positive finite number, else raise PixelSizeError naming `what`."""
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise PixelSizeError(f"{what}: pixel size {value!r} Å/px is not a positive number; pass --pixel-size Å (e.g. --pixel-size 0.12)")
    return number


def per_px(pixel_size: Optional[float]) -> str:
    """Return the pixel size [Å/px] as the things here print it."""
    return "pixel size unknown" if pixel_size is None else f"{pixel_size:.4g} Å/px"
