"""Segmentation networks in the forms that AtomAI and, before it, AICrystallographer published, so that their weights run here.

The names of the parameters are theirs, and a network is built after the names and shapes that a file holds: channels, depth, normalisation
and dropout need not be stated. Dropout, which does nothing once trained, only keeps its place. Called by export.atomai.

Source: M. Ziatdinov, A. Ghosh, C. Y. Wong & S. V. Kalinin, Nat. Mach. Intell. 4, 1101 (2022); O. Ronneberger et al., MICCAI 2015.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemzoo.errors import ModelError

State = Mapping[str, Tensor]
SLOPE = 0.01


class Convolutions(nn.Module):
    """Convolutions in a row, each rectified and, where the weights have it, normalised; dilated by 2, 4, 6 … and summed if `dilated`."""

    def __init__(self, state: State, prefix: str, *, dilated: bool = False, dropout: bool = False) -> None:
        super().__init__()
        attribute = "atrous_module" if dilated else "block"
        start = f"{prefix}.{attribute}."
        weights = {
            int(name[len(start) :].split(".")[0]): state[name] for name in state if name.startswith(start) and name.endswith("weight")
        }
        places = sorted(place for place, weight in weights.items() if weight.ndim == 4)
        if not places:
            raise ModelError(f"the weights hold no {start}0.weight")
        ends = [*places[1:], None]
        layers: list[nn.Module] = []
        for number, (place, end) in enumerate(zip(places, ends, strict=True), start=1):
            normalised = next((other for other in weights if place < other < (end or place + 4) and weights[other].ndim == 1), None)
            if end is None:  # the last one: as far as its normalisation, or as long as those before it
                before = places[-1] - places[-2] if len(places) > 1 else 2 + dropout
                length = before if normalised is None else normalised - place + 1
            else:
                length = end - place
            reach = 2 * number if dilated else 1
            outputs, inputs = weights[place].shape[:2]
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=reach, dilation=reach))
            layers += [nn.Identity() for _ in range(length - 2 - (normalised is not None))]
            layers.append(nn.LeakyReLU(SLOPE))
            layers += [nn.BatchNorm2d(outputs)] if normalised is not None else []
        setattr(self, attribute, nn.Sequential(*layers))
        self.layers: list[nn.Module] = layers
        self.dilated = dilated
        self.reach = sum(range(2, 2 * len(places) + 1, 2)) if dilated else len(places)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        total = None
        for layer in self.layers:
            x = layer(x)
            total = x if total is None else total + x
        return total if self.dilated and total is not None else x


class Residuals(nn.Module):
    """Residual blocks in a row."""

    def __init__(self, state: State, prefix: str) -> None:
        super().__init__()
        count = len({match[1] for name in state if (match := re.match(rf"{re.escape(prefix)}\.res_module\.(\d+)\.", name))})
        self.res_module = nn.Sequential(*(_Residual(state, f"{prefix}.res_module.{number}") for number in range(count)))
        self.reach = 2 * count

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        result: Tensor = self.res_module(x)
        return result


class _Residual(nn.Module):
    def __init__(self, state: State, prefix: str) -> None:
        super().__init__()
        outputs, inputs = _weight(state, f"{prefix}.c0").shape[:2]
        self.c0 = nn.Conv2d(inputs, outputs, 1)
        self.c1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.c2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn1, self.bn2 = (nn.BatchNorm2d(outputs) if f"{prefix}.{name}.weight" in state else None for name in ("bn1", "bn2"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.c0(x)
        y = self.c1(x)
        y = F.leaky_relu(y if self.bn1 is None else self.bn1(y), SLOPE)
        y = self.c2(y)
        return F.leaky_relu((y if self.bn2 is None else self.bn2(y)) + x, SLOPE)


class _Up(nn.Module):
    """Twice the height and width, then a mixing of channels."""

    def __init__(self, state: State, prefix: str, mode: str) -> None:
        super().__init__()
        outputs, inputs = _weight(state, f"{prefix}.conv").shape[:2]
        self.mode = mode
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(F.interpolate(x, scale_factor=2, mode=self.mode))
        return result


class PublishedNet(nn.Module):
    """A network in a published form, with its weights.

    Args:
        state: the weights, by AtomAI's names.
        form: `Unet`, `dilnet`, `SegResNet` or `ResHedNet`.
        upsampling: `bilinear` or `nearest`; the weights do not tell.
        dropout: whether layers for dropout keep their places where the weights do not tell.
    Raises: ModelError naming the weights that are missing or left over.
    """

    def __init__(self, state: State, form: str, *, upsampling: str = "bilinear", dropout: bool = False) -> None:
        super().__init__()
        if form not in FORMS or upsampling not in ("bilinear", "nearest"):
            raise ModelError(f"a network {form!r} with {upsampling!r} upsampling; known are {', '.join(FORMS)} with bilinear or nearest")
        self.form, self.upsampling = form, upsampling
        self.config: dict[str, Any] = {"form": form, "upsampling": upsampling, "dropout": dropout, "from": "atomai"}
        levels, self.stride_px = FORMS[form]
        self.receptive_px = 0
        for name, (kind, scale) in levels.items():
            if kind == "up":
                module: nn.Module = _Up(state, name, upsampling)
                self.receptive_px += scale
            elif kind == "residual":
                module = Residuals(state, name)
            else:
                dilated = f"{name}.atrous_module.0.weight" in state
                module = Convolutions(state, name, dilated=dilated, dropout=dropout)
            self.receptive_px += scale * int(getattr(module, "reach", 0))
            self._put(name, module)
        heads = ("net1score", "net2score", "net3score") if form == "ResHedNet" else ()
        for name in heads:
            outputs, inputs = _weight(state, f"{name}.0").shape[:2]
            self.add_module(name, nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs)))
        last = "out" if heads else "px"
        self.n_channels, inputs = _weight(state, last).shape[:2]
        self.add_module(last, nn.Conv2d(inputs, self.n_channels, 1))
        self._load(state)

    # Which of these there are depends on the form.
    at1: nn.Module
    at2: nn.Module
    bn: nn.Module
    c1: nn.Module
    c2: nn.Module
    c3: nn.Module
    c4: nn.Module
    c5: nn.Module
    c6: nn.Module
    net1: nn.Module
    net1score: nn.Module
    net2: nn.Module
    net2score: nn.Module
    net3: nn.Module
    net3score: nn.Module
    out: nn.Module
    px: nn.Module
    up1: nn.Module
    upsample_block1: nn.Module
    upsample_block2: nn.Module
    upsample_block3: nn.Module

    def _put(self, name: str, module: nn.Module) -> None:
        """Add a module under a name such as net2.1, whose place 0 is a pooling without parameters."""
        parent, _, place = name.partition(".")
        self.add_module(parent, nn.Sequential(nn.Identity(), module) if place else module)

    def _load(self, state: State) -> None:
        try:
            missing, unexpected = self.load_state_dict(dict(state), strict=False)
        except RuntimeError as error:
            raise ModelError(f"the weights do not fit a {self.form}: {' '.join(str(error).split())[:300]}") from None
        left = [name for name in unexpected if ".conv_t." not in name]  # AICrystallographer kept transposed convolutions it did not use
        if missing or left:
            named = [*(f"no {name}" for name in missing), *(f"{name} has no place" for name in left)]
            raise ModelError(f"the weights do not fit a {self.form}: {', '.join(named[:6])}{' …' if len(named) > 6 else ''}")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) between 0 and 1, H and W multiples of `stride_px` -> (B, n_channels, H, W) logits."""
        result: Tensor = getattr(self, f"_{self.form.lower()}")(x)
        return result

    def _unet(self, x: Tensor) -> Any:
        c1 = self.c1(x)
        c2 = self.c2(F.max_pool2d(c1, 2))
        c3 = self.c3(F.max_pool2d(c2, 2))
        x = self.bn(F.max_pool2d(c3, 2))
        x = self.c4(torch.cat([c3, self.upsample_block1(x)], 1))
        x = self.c5(torch.cat([c2, self.upsample_block2(x)], 1))
        return self.px(self.c6(torch.cat([c1, self.upsample_block3(x)], 1)))

    def _dilnet(self, x: Tensor) -> Any:
        c1 = self.c1(x)
        x = self.at2(self.at1(F.max_pool2d(c1, 2)))
        return self.px(self.c2(torch.cat([c1, self.up1(x)], 1)))

    def _segresnet(self, x: Tensor) -> Any:
        c1 = self.c1(x)
        c2 = self.c2(F.max_pool2d(c1, 2))
        x = self.bn(F.max_pool2d(c2, 2))
        x = self.c3(torch.cat([c2, self.upsample_block1(x)], 1))
        return self.px(self.c4(torch.cat([c1, self.upsample_block2(x)], 1)))

    def _reshednet(self, x: Tensor) -> Any:
        first = self.net1(x)
        second = self.net2(F.max_pool2d(first, 2))
        third = self.net3(F.max_pool2d(second, 2))
        scores = [self.net1score(first)]
        scores.append(F.interpolate(self.net2score(second), scale_factor=2, mode=self.upsampling))
        scores.append(F.interpolate(self.net3score(third), scale_factor=4, mode=self.upsampling))
        return self.out(torch.cat(scores, 1))


FORMS: dict[str, tuple[dict[str, tuple[str, int]], int]] = {
    "Unet": (
        {
            **{"c1": ("block", 1), "c2": ("block", 2), "c3": ("block", 4), "bn": ("block", 8), "upsample_block1": ("up", 4)},
            **{"c4": ("block", 4), "upsample_block2": ("up", 2), "c5": ("block", 2), "upsample_block3": ("up", 1), "c6": ("block", 1)},
        },
        8,
    ),
    "dilnet": ({"c1": ("block", 1), "at1": ("block", 2), "at2": ("block", 2), "up1": ("up", 1), "c2": ("block", 1)}, 2),
    "SegResNet": (
        {
            **{"c1": ("block", 1), "c2": ("residual", 2), "bn": ("residual", 4), "upsample_block1": ("up", 2)},
            **{"c3": ("residual", 2), "upsample_block2": ("up", 1), "c4": ("block", 1)},
        },
        4,
    ),
    "ResHedNet": ({"net1": ("residual", 1), "net2.1": ("residual", 2), "net3.1": ("residual", 4)}, 4),
}
"""Each form's blocks, in order, with their kind and how many pixels of the frame one of theirs is; and what H and W must be multiples
of."""


class PublishedSegmenterGraph(nn.Module):
    """What is exported: frames as AtomAI normalises them, through a published network, to probabilities without background."""

    def __init__(self, net: PublishedNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) raw intensities -> (B, C, H, W) in [0, 1]. AtomAI's last class of several is the background."""
        low = image.amin(dim=(2, 3), keepdim=True)
        spread = (image.amax(dim=(2, 3), keepdim=True) - low).clamp(min=1e-12)
        logits = self.net((image - low) / spread)
        return torch.sigmoid(logits) if self.net.n_channels == 1 else torch.softmax(logits, dim=1)[:, :-1]


def _weight(state: State, name: str) -> Tensor:
    if f"{name}.weight" not in state:
        raise ModelError(f"the weights hold no {name}.weight")
    return state[f"{name}.weight"]
