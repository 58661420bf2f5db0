"""Small networks of either task, and the cards they would be published with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemzoo.export.bundle import write_bundle

SIDE = 16


class Blur(nn.Module):
    """A segmenter in miniature: local contrast, two scales, two classes. Height and width must be multiples of 4."""

    config: ClassVar[dict[str, Any]] = {"widths": [4]}

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = image - F.avg_pool2d(image, 9, 1, 4, count_include_pad=False)
        x = torch.asinh(x / 30)
        x = F.silu(self.norm(self.first(x)))
        y = F.interpolate(self.deep(F.max_pool2d(x, 4)), scale_factor=4.0, mode="bilinear", align_corners=False)
        return torch.sigmoid(self.head(torch.cat([x, y], dim=1)))


class Moments(nn.Module):
    """An encoder in miniature: direction of the first moment, two latents."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Linear(SIDE * SIDE, 2)
        axis = torch.arange(SIDE) - (SIDE - 1) / 2
        self.register_buffer("axis", axis)

    def forward(self, subimages: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = subimages / subimages.mean(dim=(1, 2), keepdim=True)
        right = (x * self.axis).sum(dim=(1, 2))
        up = -(x * self.axis[:, None]).sum(dim=(1, 2))
        sigma = 1 / (1 + right**2 + up**2)
        symmetry = torch.ones_like(right).to(torch.int64)
        return torch.atan2(up, right), sigma, symmetry, self.latents(x.flatten(1))


class Pattern(nn.Module):
    """A decoder in miniature."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, SIDE * SIDE)

    def forward(self, latents: Tensor, angle: Tensor) -> Tensor:
        turned = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
        return self.linear(torch.cat([latents, turned], dim=1)).unflatten(1, (SIDE, SIDE))


COMMON: dict[str, Any] = {
    "version": 1,
    "title": "A stand-in",
    "summary": "Shows the way from a network to a bundle.",
    "materials": ["Sr3Fe2O7"],
    "licence": "MIT",
    "citation": "Nobody, 2024",
    "sampling": {"min": 0.1, "max": 0.3, "nominal": 0.2},
    "normalisation": "local contrast, inside the graph",
}
SEGMENTER: dict[str, Any] = {
    "name": "blur",
    "task": "segmentation",
    "classes": ["A", "B"],
    "threshold": 0.5,
    "min_separation": 0.8,
    "receptive_px": 16,
    "stride_px": 4,
}


@pytest.fixture
def segmenter_draft() -> dict[str, Any]:
    return {**COMMON, **SEGMENTER}


@pytest.fixture
def encoder_draft() -> dict[str, Any]:
    extra = {"window": {"px": SIDE, "angstrom": SIDE * 0.2}, "latents": 2, "gauge": "moment to the right"}
    return {**COMMON, "name": "moments", "task": "encoding", **extra}


@pytest.fixture
def segmenter_modules() -> dict[str, nn.Module]:
    torch.manual_seed(1)
    return {"model": Blur()}


@pytest.fixture
def encoder_modules() -> dict[str, nn.Module]:
    torch.manual_seed(1)
    return {"model": Moments(), "decoder": Pattern()}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A bundle blur@1 in a zoo, and the network it was made from. Read only."""
    torch.manual_seed(1)
    network = Blur()
    folder = tmp_path_factory.mktemp("zoo") / "blur" / "v1"
    write_bundle(folder, {"model": network}, {**COMMON, **SEGMENTER})
    return folder, network
