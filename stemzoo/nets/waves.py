"""Cosines and sines of multiples of an angle, by order. Called by nets.weighting and nets.condensed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Waves(NamedTuple):
    """Waves of the angle: order (Q,) and whether each is a sine."""

    order: Tensor
    is_sine: Tensor

    def at(self, angle: Tensor) -> Tensor:
        """Return (Q, T) their values at T angles."""
        phase = self.order[:, None] * angle
        return torch.where(self.is_sine[:, None], phase.sin(), phase.cos())

    def among(self, orders: Tensor) -> Tensor:
        """Return (2M, Q), which of all cosines, then all sines, of `orders` (M,) they are."""
        same = orders[:, None] == self.order
        return torch.cat([same & ~self.is_sine, same & self.is_sine]).float()


def fourfold(count: int) -> Waves:
    """Return the waves that a quarter turn leaves as they are: cosines of order 0, 4, 8 …, then sines of order 4, 8 …, up to order
    4 (count - 1)."""
    every = 4 * torch.arange(count)
    return Waves(torch.cat([every, every[1:]]), torch.arange(2 * count - 1) >= count)
