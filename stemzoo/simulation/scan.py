"""What the scan does to a frame, other than to single rows at random: drift, shear, flyback, hum, jumps and missing rows.

Owns where a point of the specimen appears, so that the truth goes with the image. Called by `simulation.frame`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stemzoo.simulation.recipe import Scan, draw


@dataclass(frozen=True)
class ScanPath:
    """One scan.

    Args:
        drift: (2,) steady, and changing: (2,) quadratic drift over the frame [Å].
        shear: relative.
        flyback: stretch at the beginning of a row [Å]. flyback_share: share of a row in which it decays by e.
        hum: amplitude [Å], hum_rows: rows a period, hum_phase [rad].
        jumps: (row as a share of the frame, step to the right [Å]) of sudden steps.
        skips: (row, number of rows missing there).
    """

    drift: np.ndarray
    changing: np.ndarray
    shear: float
    flyback: float
    flyback_share: float
    hum: float
    hum_rows: float
    hum_phase: float
    jumps: tuple[tuple[float, float], ...]
    skips: tuple[tuple[int, int], ...]

    @property
    def n_missing(self) -> int:
        """Rows that the specimen has more than the frame."""
        return sum(rows for _, rows in self.skips)

    def seen(self, yx: np.ndarray, extent: float) -> np.ndarray:
        """Where points of the specimen appear: (n, 2) Å from the centre of the field of side `extent`, to the same."""
        time = yx[:, :1] / extent
        across = np.clip(yx[:, 1] / extent + 0.5, 0, None)
        sideways = self.shear * yx[:, 0] + self.flyback * np.exp(-across / self.flyback_share)
        moved = yx + time * self.drift + (time**2 - 0.25) * self.changing
        moved[:, 1] += sideways
        return np.asarray(moved)

    @property
    def shifts_rows(self) -> bool:
        """Whether `row_shift` is ever other than 0."""
        return self.hum != 0 or bool(self.jumps)

    def row_shift(self, rows: np.ndarray, n_rows: int, pixel_size: float) -> np.ndarray:
        """Shift (n,) of the rows numbered `rows` (n,) to the right [px] by hum and jumps, in a scan of `n_rows`; `pixel_size` in Å."""
        shift = self.hum * np.sin(2 * np.pi * rows / self.hum_rows + self.hum_phase)
        for place, step in self.jumps:
            shift = shift + step * (rows >= place * n_rows)
        return np.asarray(shift / pixel_size)

    def skipped(self, image: np.ndarray, yx_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (H + n_missing, W) without the missing rows, and where (n, 2) px positions have gone."""
        if not self.skips:
            return image, yx_px
        keep = np.ones(len(image), dtype=bool)
        for row, count in self.skips:
            keep[row : row + count] = False
        row = np.interp(yx_px[:, 0], np.arange(len(image)), np.cumsum(keep) - 1.0, left=-1e3, right=1e6)
        return image[keep], np.stack([row, yx_px[:, 1]], axis=1)


def draw_scan(scan: Scan, n_rows: int, rng: np.random.Generator) -> ScanPath:
    """Return one scan drawn from a recipe's table for a frame of `n_rows`."""
    jumps = tuple((float(rng.random()), draw(scan.jump, rng) * float(rng.choice([-1, 1]))) for _ in range(rng.poisson(scan.jumps)))
    count = min(int(rng.poisson(scan.line_skips)), 8) if scan.line_skips else 0
    places = np.sort(rng.choice(np.arange(4, n_rows - 4), count, replace=False)) if count else np.zeros(0, dtype=int)
    skips, missing = [], 0
    for place in places:
        rows = int(rng.integers(1, 4))
        skips.append((int(place) + missing, rows))
        missing += rows
    return ScanPath(
        drift=draw(scan.drift, rng) * _unit(rng),
        changing=draw(scan.drift, rng) * _unit(rng),
        shear=draw(scan.shear, rng),
        flyback=draw(scan.flyback, rng),
        flyback_share=draw(scan.flyback_share, rng),
        hum=draw(scan.hum, rng),
        hum_rows=draw(scan.hum_rows, rng),
        hum_phase=rng.uniform(0, 2 * math.pi),
        jumps=jumps,
        skips=tuple(skips),
    )


def _unit(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([math.cos(angle), math.sin(angle)])
