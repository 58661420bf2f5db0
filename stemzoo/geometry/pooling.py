"""A frame summed into larger pixels where its peaks are wide, since more pixels say little more of where they are. Owns the way there and
back; NumPy only. Called by refine.

Of Gaussian peaks of width σ, pixels of b × b keep σ² / (σ² + (b² − 1) / 12) of what single ones say of a position, and cost b² times less.
Peaks that overlap lose more, since widening makes them overlap more: their pixels stay smaller.
Source: W. F. Sheppard, Proc. London Math. Soc. 29, 353 (1898), for the variance that pixels add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np

WIDTH_PX = 1.35  # sigma of the mean peak in pooled pixels, or more: standard errors of isolated columns grow by 2 % at most
OVERLAPPING_PX = 2.5  # the same where columns overlap: standard errors two sigmas apart grow by 2 %
APART = 4.0  # sigmas from a column to its nearest, from which on it counts as isolated
USABLE = 0.99  # of the pixels: with more of them masked, pooling would lose too many good ones


@dataclass(frozen=True)
class Pooling:
    """How many pixels of the frame make one, along each axis; 1 leaves everything as it is."""

    fold: int = 1

    @classmethod
    def for_peaks(cls, sigma_px: float, apart_px: float, usable: np.ndarray) -> Pooling:
        """Return the pooling for peaks of `sigma_px`, hardly any of them nearer than `apart_px` to another; usable (H, W) bool."""
        fold = max(1, int(sigma_px / (WIDTH_PX if apart_px > APART * sigma_px else OVERLAPPING_PX)))
        return cls(fold if fold > 1 and np.count_nonzero(usable) >= USABLE * usable.size else 1)

    def image(self, image: np.ndarray, usable: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return the means (h, w) float32 of `image` (H, W), 0 where not usable, and where all that went into one was usable (h, w)."""
        if self.fold == 1:
            return image, usable
        shape = tuple(-(-side // self.fold) for side in image.shape)
        total, good = np.zeros(shape, np.float32), np.ones(shape, bool)
        for row in range(self.fold):
            for col in range(self.fold):
                part = image[row :: self.fold, col :: self.fold]
                here = slice(part.shape[0]), slice(part.shape[1])
                total[here] += part
                good[here] &= usable[row :: self.fold, col :: self.fold]
                good[part.shape[0] :], good[:, part.shape[1] :] = False, False  # of these the frame holds a part only
        total *= good
        total /= self.fold**2
        return total, good

    def width(self, sigma_px: float) -> float:
        """Return the sigma in pooled pixels of a peak of `sigma_px`."""
        return float(np.sqrt(sigma_px**2 + self._added)) / self.fold

    def yx(self, yx: np.ndarray) -> np.ndarray:
        """Return positions of the frame in pooled pixels."""
        return yx if self.fold == 1 else (yx + 0.5) / self.fold - 0.5

    def width_back(self, sigma: np.ndarray) -> np.ndarray:
        """Return the sigmas [px of the frame] of peaks whose sigmas in pooled pixels are given."""
        return sigma if self.fold == 1 else np.sqrt(np.maximum((sigma * self.fold) ** 2 - self._added, 0.01))

    def yx_back(self, yx: np.ndarray) -> np.ndarray:
        """Return positions in pooled pixels as positions of the frame."""
        return yx if self.fold == 1 else (yx + 0.5) * self.fold - 0.5

    @property
    def _added(self) -> float:
        """Variance that pooling adds to a peak [px²]: that of `fold` pixels side by side about their mean."""
        return (self.fold**2 - 1) / 12
