"""The segmentation network: raw intensities to a probability of column at every pixel. Plain PyTorch; called by `training` and `export`.

The floor is arithmetic, so the network works at half the frame's sampling: pixels are folded two by two into channels at the stem and
unfolded at the head, which predicts all four pixels of a fold at once.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalContrast(nn.Module):
    """Intensities to local contrast: despiked, less their local mean, over their local spread, compressed.

    Gain, offset, thickness and the brightness of other parts of the frame drop out. A pixel beyond all of its eight neighbours is brought
    back to the outermost of them, so that no single pixel moves the statistics.

    Args:
        window: side of the window in units of eight pixels; odd.
    """

    def __init__(self, window: int = 7) -> None:
        super().__init__()
        self.window = window

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) in detector units, H and W multiples of 8 -> (B, 1, H, W) without unit, about unit spread."""
        x = image - image.mean(dim=(2, 3), keepdim=True)
        x = torch.minimum(x, _neighbours_max(x))
        x = torch.maximum(x, -_neighbours_max(-x))
        coarse = F.avg_pool2d(x, 8)
        mean = self._blur(coarse)
        # Spread about the local mean, in two steps so that a large offset does not drown it in rounding.
        x = x - F.interpolate(mean, scale_factor=8.0, mode="bilinear", align_corners=False)
        power = F.avg_pool2d(x * x, 8)
        floor = 1e-4 * power.mean(dim=(2, 3), keepdim=True) + 1e-30
        spread = torch.sqrt(self._blur(power) + floor)
        x = x / F.interpolate(spread, scale_factor=8.0, mode="bilinear", align_corners=False)
        return torch.asinh(x)

    def _blur(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.window, stride=1, padding=self.window // 2, count_include_pad=False)


def _neighbours_max(x: Tensor) -> Tensor:
    """Largest of each pixel's eight neighbours."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows = F.max_pool2d(padded, (1, 3), stride=1)
    sides = torch.maximum(padded[:, :, 1:-1, :-2], padded[:, :, 1:-1, 2:])
    return torch.maximum(torch.maximum(rows[:, :, :-2], rows[:, :, 2:]), sides)


class _Double(nn.Sequential):
    """Two 3×3 convolutions, each normalised and rectified."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """U-Net over local contrast with a folded stem and head.

    Args:
        n_classes: column classes, background left out.
        widths: channels at 1/2, 1/4, 1/8 … of the frame's sampling.

    Source: Ronneberger, Fischer & Brox, MICCAI 2015; folding after Shi et al., CVPR 2016 (sub-pixel convolution).
    """

    def __init__(self, n_classes: int = 1, widths: tuple[int, ...] = (24, 48, 72, 96)) -> None:
        super().__init__()
        self.n_classes, self.widths = n_classes, tuple(widths)
        self.stride_px = max(8, 2 ** len(widths))
        self.contrast = LocalContrast()
        self.down = nn.ModuleList([_Double(i, o) for i, o in zip((4, *widths[:-1]), widths, strict=True)])
        self.lift = nn.ModuleList([nn.Conv2d(o, i, 1) for i, o in itertools.pairwise(widths)])
        self.up = nn.ModuleList([_Double(i, i) for i in widths[:-1]])
        self.head = nn.Conv2d(widths[0], 4 * (n_classes + 1), 1)

    @property
    def receptive_px(self) -> int:
        """How far from a pixel, in pixels, the frame still bears on it with any weight that shows."""
        reach: int = 8 * self.contrast.window + 4 * (2 ** len(self.widths) - 1)
        return reach

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) float32 detector units, H and W multiples of `stride_px` -> (B, 1 + n_classes, H, W) logits, background first."""
        x = F.pixel_unshuffle(self.contrast(image), 2)
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            kept.append(x)
        for lift, block, skip in zip(reversed(self.lift), reversed(self.up), reversed(kept[:-1]), strict=True):
            x = block(F.interpolate(lift(x), scale_factor=2.0, mode="nearest") + skip)
        return F.pixel_shuffle(self.head(x), 2)


class SegmenterGraph(nn.Module):
    """What is exported: a network with its activation, (B, 1, H, W) -> probabilities (B, C, H, W), background left out."""

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Probability of each class of column at each pixel, in [0, 1]."""
        return torch.softmax(self.net(image), dim=1)[:, 1:]
