"""A result in one line: how many columns there are and how well they are known. Owns that line and the median error in it; NumPy only.

Called by runtime.app, by the report's summary and by the commands.
"""

from __future__ import annotations

from typing import List, Mapping, Optional, Sequence

import numpy as np

from stemzoo.types import Columns

PM_PER_ANGSTROM = 100.0


def median_error(columns: Sequence[Columns]) -> Optional[float]:
    """Return the median standard error per axis [px] over the columns of all frames whose fit held; None where none did."""
    sigma = np.concatenate([table.sigma[np.asarray(table.fit_ok, dtype=bool)].ravel() for table in columns])
    finite = sigma[np.isfinite(sigma)]
    return float(np.median(finite)) if finite.size else None


def headline(
    columns: int,
    error_px: Optional[float],
    pixel_size: Optional[float],
    failed: int,
    frames: int = 1,
    by_class: Optional[Mapping[str, int]] = None,
) -> List[str]:
    """Return the parts of the line, to be joined by commas.

    Args: columns: in all frames; `by_class`: how many of each. error_px: as `median_error`. pixel_size: Å/px. failed: fits.
    >>> headline(974, 0.2286, 0.12, 48)
    ['974 columns', 'median error 2.74 pm', '48 fits failed']
    """
    parts = [f"{columns} columns" + (f" in {frames} frames" if frames > 1 else "")]
    if by_class and len(by_class) > 1:
        parts[0] += " (" + ", ".join(f"{count} {name}" for name, count in by_class.items()) + ")"
    if error_px is not None:
        size = "px" if pixel_size is None else "pm"
        parts.append(f"median error {error_px if pixel_size is None else error_px * pixel_size * PM_PER_ANGSTROM:.3g} {size}")
    if failed:
        parts.append(f"{failed} {'fit' if failed == 1 else 'fits'} failed")
    if pixel_size is None:
        parts.append("pixel size unknown")
    return parts
