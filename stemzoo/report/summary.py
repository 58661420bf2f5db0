"""An analysis in a dozen numbers. Owns what the report's head, the printed line and `--json` say; NumPy only.

Called by `report.html`, `report.plots` and the commands of `stemzoo.cli`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stemzoo.geometry.neighbours import nearest_distance
from stemzoo.runtime.doubts import doubts_of
from stemzoo.runtime.headline import PM_PER_ANGSTROM, headline, median_error
from stemzoo.types import Analysis, Columns


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and medians over all frames of an analysis; a number that is unknown is None.

    Args:
        frames: number of frames; `height_px`, `width_px`: of each.
        columns: number of columns; `by_class`: how many of each class.
        failed: number of columns whose fit failed; they keep the network's position.
        sigma_px, sigma_pm: median standard error per axis over the columns whose fit held.
        confidence: median probability that a column is there.
        spacing_px, spacing_angstrom: median distance to the nearest neighbour in the same frame.
        angle_symmetry: most common order n of the sub-images' symmetry.
        doubts: reasons not to trust the result, one sentence each; empty where there are none.
    """

    frames: int
    height_px: int
    width_px: int
    columns: int
    by_class: dict[str, int]
    failed: int
    pixel_size: float | None
    pixel_size_source: str
    sigma_px: float | None
    sigma_pm: float | None
    confidence: float | None
    spacing_px: float | None
    spacing_angstrom: float | None
    latents: int
    angle_symmetry: int | None
    doubts: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON-serialisable values."""
        return asdict(self)

    def headline(self) -> list[str]:
        """Return the parts of the line that stands for all of it."""
        return headline(self.columns, self.sigma_px, self.pixel_size, self.failed, self.frames, self.by_class)


def pixel_size_of(analysis: Analysis) -> float | None:
    """Return the Å/px that the columns are reported with, or None where unknown."""
    for columns in analysis.columns:
        if columns.pixel_size is not None:
            return columns.pixel_size
    return analysis.frames.pixel_size


def nearest_distances(yx: np.ndarray) -> np.ndarray:
    """Return the distance of each of (n, 2) positions to its nearest neighbour, in the unit given; empty below two positions."""
    if len(yx) < 2:
        return np.zeros(0)
    height, width = np.ptp(yx, axis=0) + 1e-9
    distances = nearest_distance(yx, max(height * width / len(yx), 1e-9 + (height**2 + width**2) / len(yx) ** 2) ** 0.5)
    return np.asarray(distances[np.isfinite(distances)])


def summarise(analysis: Analysis) -> Summary:
    """Return the numbers at the head of the report."""
    columns = analysis.columns
    total = sum(len(c) for c in columns)
    size = pixel_size_of(analysis)
    confidence = _joined(columns, "confidence")
    held = _joined(columns, "fit_ok").astype(bool)
    sigma_px = median_error(columns)
    spacing = np.concatenate([nearest_distances(c.yx) for c in columns])
    spacing_px = float(np.median(spacing)) if len(spacing) else None
    encoding = analysis.encoding
    known = np.isfinite(encoding.angle) if encoding is not None else np.zeros(0, dtype=bool)
    symmetry = None
    if encoding is not None and known.any():
        symmetry = int(np.bincount(np.asarray(encoding.symmetry, dtype=np.int64)[known]).argmax())
    failed = int((~held).sum())
    median_confidence = _known_median(confidence)
    return Summary(
        frames=len(analysis.frames),
        height_px=analysis.frames.shape[0],
        width_px=analysis.frames.shape[1],
        columns=total,
        by_class=_by_class(columns),
        failed=failed,
        pixel_size=size,
        pixel_size_source=analysis.frames.pixel_size_source,
        sigma_px=sigma_px,
        sigma_pm=sigma_px * size * PM_PER_ANGSTROM if sigma_px is not None and size is not None else None,
        confidence=median_confidence,
        spacing_px=spacing_px,
        spacing_angstrom=spacing_px * size if spacing_px is not None and size is not None else None,
        latents=0 if encoding is None else int(encoding.latents.shape[1]),
        angle_symmetry=symmetry,
        doubts=doubts_of(analysis),
    )


def thousands(number: int) -> str:
    """Return `number` with thin spaces between thousands.

    >>> thousands(12345)
    '12\\u2009345'
    """
    return f"{number:,}".replace(",", "\u2009")


def _joined(columns: tuple[Columns, ...], name: str) -> np.ndarray:
    return np.concatenate([getattr(c, name) for c in columns])


def _by_class(columns: tuple[Columns, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for table in columns:
        for name, count in zip(table.classes, np.bincount(table.species, minlength=len(table.classes)), strict=True):
            counts[name] = counts.get(name, 0) + int(count)
    return counts


def _known_median(values: np.ndarray) -> float | None:
    """Return the median of the finite values, None without any."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None
