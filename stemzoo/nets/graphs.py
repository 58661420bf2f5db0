"""What is exported of an rVAE: sub-images to angle, its error, symmetry and latents; latents and angle to patterns. Called by export.

The forward methods are the ONNX contract of encoders, for either form. Normalisation is inside.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from stemzoo.nets.condensed import Condensed
from stemzoo.nets.gauge import gauge_table, look_up, nearness
from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.rvae import RVAE


class EncoderGraph(nn.Module):
    """Sub-images (N, S, S), raw intensities, to angle (N,), angle_sigma (N,), symmetry (N,) int64 and latents (N, Z).

    `cases` are inputs, by name, on which an export should be proved.
    """

    def __init__(self, net: PolarRVAE | RVAE) -> None:
        super().__init__()
        self.net = net
        self.cases = []
        if isinstance(net, PolarRVAE):
            self.condensed = Condensed(net)

    cases: list[dict[str, np.ndarray]]

    def forward(self, subimages: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return angle [rad], its standard error [rad], order of symmetry, latents."""
        net = self.net
        if isinstance(net, RVAE):
            return net.angle_and_latents(subimages)
        answer: tuple[Tensor, Tensor, Tensor, Tensor] = self.condensed(subimages)
        return answer


class DecoderGraph(nn.Module):
    """Latents (M, Z) and angle (M,) to patterns (M, S, S), normalised, turned counter-clockwise by angle from the reference."""

    def __init__(self, net: PolarRVAE | RVAE) -> None:
        super().__init__()
        self.net = net
        if isinstance(net, PolarRVAE):
            with torch.no_grad():
                self.register_buffer("table", gauge_table(net), persistent=False)

    table: Tensor

    def forward(self, latents: Tensor, angle: Tensor) -> Tensor:
        """Return the patterns."""
        if isinstance(self.net, RVAE):
            return self.net.decode(latents, angle)
        _, gauge = look_up(nearness(self.net, latents), self.table)
        return self.net.render(self.net.pattern(self.net.hidden(latents)), angle - gauge)
