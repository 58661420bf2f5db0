"""Sub-images cut anew by a whole pixel, from themselves. Owns what stands in for the line that is then missing; called by nets.looking
and by training."""

from __future__ import annotations

import torch
from torch import Tensor


def recut(images: Tensor, step: Tensor) -> Tensor:
    """Return images (N, S, S) moved against `step` (N, 2), -1, 0 or 1 px to the right and down.

    What comes in is a mirror image.
    """
    size = images.shape[1]
    line = torch.arange(size, device=images.device) + step[:, 1:].to(torch.int64)
    line = (size - 1) - (size - 1 - line.abs()).abs()
    first = torch.arange(len(images), device=images.device)[:, None] * size
    moved = images.reshape(-1, size).index_select(0, (first + line).reshape(-1)).reshape(-1, size, size)
    ahead = torch.cat([moved[..., 1:], moved[..., -2:-1]], 2)
    behind = torch.cat([moved[..., 1:2], moved[..., :-1]], 2)
    right = step[:, 0, None, None]
    return torch.where(right > 0.5, ahead, torch.where(right < -0.5, behind, moved))
