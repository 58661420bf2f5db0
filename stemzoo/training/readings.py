"""What sub-images read as on the polar grid, kept from epoch to epoch. Owns the cache; called by training.encoding.

Reading pixels into coefficients learns nothing, so it is done once for a sub-image, and again where it is cut anew by another step. What
would not fit the memory is read each time. Kept or read, the numbers are the same to the last bit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.recut import recut

FEWEST = 32  # rows read at a time: matrix products of fewer are rounded otherwise, and a resumed run should not differ


class Reading(NamedTuple):
    """coefficients: (N, D) of normalised sub-images. energy: (N,) their sum of squares as the window sees it."""

    coefficients: Tensor
    energy: Tensor


class Readings:
    """Coefficients of sub-images by their number within the training set, for one way of cutting them.

    Args: n: how many there are. memory_mb: nothing is kept where all would need more.
    """

    def __init__(self, net: PolarRVAE, n: int, memory_mb: float) -> None:
        self.net = net
        size = 2 * net.n_half
        self.keeps = n * (size + 1) * 4 <= memory_mb * 2**20
        n = n if self.keeps else 0
        device = net.mean.device
        self.step = torch.full((n, 2), 100, dtype=torch.int8, device=device)  # no step: not read yet
        self.kept = Reading(torch.empty(n, size, device=device), torch.empty(n, device=device))

    @torch.no_grad()
    def read(self, images: Tensor, number: Tensor, step: Tensor | None = None) -> Reading:
        """Return the reading of raw `images` (N, S, S) called `number` (N,), cut anew by `step` (N, 2) int8."""
        if not self.keeps:
            return self._read(images, step)
        wanted = torch.zeros_like(self.step[number]) if step is None else step
        missing = (self.step[number] != wanted).any(1)
        n_missing = int(missing.sum())
        if n_missing:
            rows = torch.argsort(missing.to(torch.int8), descending=True, stable=True)[: max(n_missing, FEWEST)]
            found = self._read(images[rows], None if step is None else step[rows])
            for kept, value in zip(self.kept, found, strict=True):
                kept[number[rows]] = value
            self.step[number[rows]] = wanted[rows]
        return Reading(*(kept[number] for kept in self.kept))

    def _read(self, images: Tensor, step: Tensor | None) -> Reading:
        images = self.net.normalise(images)
        if step is not None:
            images = recut(images, step.to(images.dtype))
        coefficients = self.net.coefficients(images)
        return Reading(coefficients, self.net.energy(images, coefficients))
