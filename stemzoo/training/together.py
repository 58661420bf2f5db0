"""What several processes put together at a step, so that they train as one would with the batch of all: sums, rows and random numbers.

Of a batch, process r of n holds rows r, r + n, r + 2n …; alone, each of these functions gives back what it got. Gradients flow through sums
and rows. Called by training.sharednorm and training.encoding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_world() -> tuple[int, int]:
    """Which process this is, and of how many."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def own_of_first(n: int) -> int:
    """Return how many of the whole batch's first `n` rows are this process's."""
    rank, world = rank_and_world()
    return len(range(rank, n, world))


def total(values: Tensor) -> Tensor:
    """Return the sum over all processes."""
    if rank_and_world()[1] == 1:
        return values
    result: Tensor = _Sum.apply(values)
    return result


def rows_of_all(rows: Tensor) -> Tensor:
    """Return the rows of all processes in the order of the whole batch; every process has as many."""
    rank, world = rank_and_world()
    if world == 1:
        return rows
    # As a sum, since a gathering through which gradients flow comes with one kind of device only.
    whole = rows.new_zeros(len(rows), world, *rows.shape[1:])
    whole[:, rank] = rows
    return total(whole).flatten(0, 1)


def noise_like(rows: Tensor) -> Tensor:
    """Return standard normal numbers for this process's rows, as one process would draw them for all: random states must be alike."""
    rank, world = rank_and_world()
    if world == 1:
        return torch.randn_like(rows)
    return torch.randn(world * len(rows), *rows.shape[1:], dtype=rows.dtype, device=rows.device)[rank::world]


class _Sum(torch.autograd.Function):
    """The sum over all processes, forth and back; torch's own is on its way out."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        """Add up."""
        result = values.clone()
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Each process's value is in each one's sum."""
        result = gradient.clone()
        dist.all_reduce(result)
        return result
