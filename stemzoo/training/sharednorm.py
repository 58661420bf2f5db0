"""Batch normalisation over the batches of all processes, on any device; torch's own knows GPUs alone. Called by training.segmentation.

With it, several processes train as one would with their batches put together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemzoo.training.together import rank_and_world, total


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance, while training, are those of all processes' batches; every process has as many samples."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C, h, w)."""
        world = rank_and_world()[1]
        if not self.training or world == 1:
            return super().forward(x)
        values = x.float()
        mean = total(values.mean((0, 2, 3))) / world
        centred = values - mean[:, None, None]
        variance = total(centred.square().mean((0, 2, 3))) / world
        with torch.no_grad():
            n = world * x.numel() / x.shape[1]
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (n / (n - 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        result: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return result.to(x.dtype)


def share_norms(net: nn.Module) -> None:
    """Let every BatchNorm2d of a network normalise over all processes; its weights stay where they are."""
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
