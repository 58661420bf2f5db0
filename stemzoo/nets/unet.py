"""The segmentation network: raw intensities to a probability of column at every pixel. Plain PyTorch; called by `training`.

The floor is arithmetic, so the network works at a half or a quarter of the frame's sampling: pixels are folded two by two, or four by
four, into channels at the stem and unfolded at the head, which predicts all pixels of a fold at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemzoo.errors import ShapeError


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
        # arsinh, spelt out: as one operator onnxruntime takes a tenth of the whole network's time for it
        return torch.sign(x) * torch.log(x.abs() + torch.sqrt(x * x + 1))

    def _blur(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.window, stride=1, padding=self.window // 2, count_include_pad=False)


def _neighbours_max(x: Tensor) -> Tensor:
    """Largest of each pixel's eight neighbours."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows = F.max_pool2d(padded, (1, 3), stride=1)
    sides = torch.maximum(padded[:, :, 1:-1, :-2], padded[:, :, 1:-1, 2:])
    return torch.maximum(torch.maximum(rows[:, :, :-2], rows[:, :, 2:]), sides)


class _Convolutions(nn.Sequential):
    """`count` 3×3 convolutions, each normalised and rectified; `separable` ones first within each channel, then across them."""

    def __init__(self, inputs: int, outputs: int, count: int, separable: bool = False) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, *(count - 1) * [outputs]):
            if separable:
                layers.append(nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False))
            mixing = nn.Conv2d(channels, outputs, 1 if separable else 3, padding=0 if separable else 1, bias=False)
            layers += [mixing, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """U-Net over local contrast with a folded stem and head.

    Args:
        n_classes: column classes, background left out.
        widths: channels of each level; a level has half the sampling of the one before. onnxruntime computes 16 channels at a time.
        fold: pixels a side that are folded into channels at the stem, so that the first level is at 1 / fold of the frame's sampling.
        depths: convolutions of each level, on the way down and, but for the last, on the way up again; two everywhere if None.
        separable: convolve within each channel and then across them, with a seventh of the arithmetic.

    Source: Ronneberger, Fischer & Brox, MICCAI 2015; folding after Shi et al., CVPR 2016 (sub-pixel convolution).
    """

    def __init__(
        self,
        n_classes: int = 1,
        widths: tuple[int, ...] = (24, 48, 72, 96),
        fold: int = 2,
        depths: tuple[int, ...] | None = None,
        separable: bool = False,
    ) -> None:
        super().__init__()
        depths = depths or (2,) * len(widths)
        if len(depths) != len(widths):
            raise ShapeError(f"depths {depths} name {len(depths)} levels and widths {widths} {len(widths)}; wanted one of each a level")
        self.n_classes, self.widths, self.fold, self.depths, self.separable = n_classes, tuple(widths), fold, tuple(depths), separable
        self.stride_px = max(8, fold * 2 ** (len(widths) - 1))
        self.contrast = LocalContrast()
        steps = zip((fold * fold, *widths[:-1]), widths, depths, strict=True)
        self.down = nn.ModuleList([_Convolutions(i, o, count, separable) for i, o, count in steps])
        self.lift = nn.ModuleList([nn.Conv2d(o, i, 1) for i, o in itertools.pairwise(widths)])
        back = zip(widths[:-1], depths[:-1], strict=True)
        self.up = nn.ModuleList([_Convolutions(i, i, count, separable) for i, count in back])
        self.head = nn.Conv2d(widths[0], fold * fold * (n_classes + 1), 1)

    @property
    def receptive_px(self) -> int:
        """How far from a pixel, in pixels, the frame still bears on it with any weight that shows."""
        reach: int = 8 * self.contrast.window + 2 * self.fold * (2 ** len(self.widths) - 1)
        return reach

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) float32 detector units, H and W multiples of `stride_px` -> (B, 1 + n_classes, H, W) logits, background first."""
        x = F.pixel_unshuffle(self.contrast(image), self.fold)
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            kept.append(x)
        for lift, block, skip in zip(reversed(self.lift), reversed(self.up), reversed(kept[:-1]), strict=True):
            x = block(F.interpolate(lift(x), scale_factor=2.0, mode="nearest") + skip)
        return F.pixel_shuffle(self.head(x), self.fold)


class SegmenterGraph(nn.Module):
    """What is exported: a network with its activation, (B, 1, H, W) -> probabilities (B, C, H, W), background left out."""

    outputs = ("probability",)

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Probability of each class of column at each pixel, in [0, 1]."""
        logits = self.net(image)
        if logits.shape[1] == 2:  # the softmax of two, in a form that costs next to nothing
            return torch.sigmoid(logits[:, 1:] - logits[:, :1])
        return torch.softmax(logits, dim=1)[:, 1:]


class EnsembleGraph(nn.Module):
    """What is exported of several networks for the same classes: the mean of their probabilities (B, C, H, W), and of each its probability
    that a column of any class is there, (B, members, H, W)."""

    outputs = ("probability", "members")

    def __init__(self, nets: Sequence[UNet]) -> None:
        super().__init__()
        self.graphs = nn.ModuleList([SegmenterGraph(net) for net in nets])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean probability of each class, and each member's summed over classes."""
        each = torch.stack([graph(image) for graph in self.graphs], dim=1)
        return each.mean(dim=1), each.sum(dim=2)
