"""What is exported of an rVAE: sub-images to angle, its error, symmetry and latents; latents and angle to patterns. Called by export.

The forward methods are the ONNX contract of encoders, for either form. Normalisation is inside.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stemzoo.nets.gauge import gauge_table, look_up, nearness
from stemzoo.nets.polar import Drawn, Fixed, PolarRVAE
from stemzoo.nets.posterior import Peak, Posterior, Table, angle_sigma, wrap
from stemzoo.nets.recut import recut
from stemzoo.nets.rvae import RVAE
from stemzoo.nets.weighting import FARTHEST, SURE, Weighing

LIKE = 0.2  # latent distance over which latents are averaged before their pattern is drawn: it should not follow one sub-image's noise


class EncoderGraph(nn.Module):
    """Sub-images (N, S, S), raw intensities, to angle (N,), angle_sigma (N,), symmetry (N,) int64 and latents (N, Z).

    The polar form looks twice: once to see by how many whole pixels the column lies off the middle, then at the window cut anew around it.
    Where the angle is sure, `nets.weighting` has the last word on it.
    `cases` are inputs, by name, on which an export should be proved.
    """

    def __init__(self, net: PolarRVAE | RVAE) -> None:
        super().__init__()
        self.net = net
        self.cases = []
        if isinstance(net, PolarRVAE):
            with torch.no_grad():
                self.register_buffer("table", gauge_table(net), persistent=False)
                for name, value in net.fixed()._asdict().items():
                    self.register_buffer(name, value, persistent=False)
                self.weighing = Weighing(net)

    table: Tensor
    cases: list[dict[str, np.ndarray]]

    def forward(self, subimages: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return angle [rad], its standard error [rad], order of symmetry, latents."""
        net = self.net
        if isinstance(net, RVAE):
            return net.angle_and_latents(subimages)
        seen = look(net, net.normalise(subimages), Fixed(*(self.get_buffer(name) for name in Fixed._fields)))
        symmetry, gauge = look_up(nearness(net, seen.latents), self.table)
        log_inflation = net.log_inflation(seen.latents)
        sigma = angle_sigma(seen.peak, seen.table, log_inflation, symmetry)
        turn = self.weighing(seen.coefficients, seen.drawn, seen.peak).clamp(-FARTHEST, FARTHEST)
        angle = seen.peak.angle + torch.where(sigma < SURE, turn, torch.zeros_like(turn))
        return wrap(angle + gauge, 2 * math.pi / symmetry), sigma, symmetry.to(torch.int64), seen.latents


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


class Look(NamedTuple):
    """What a network sees in N sub-images: latents and their log standard deviations (N, Z), coefficients (N, D), what it draws, its
    posterior, tabulated and its peak, and the whole pixels (N, 2) by which sub-images were cut anew."""

    latents: Tensor
    log_sigma: Tensor
    coefficients: Tensor
    drawn: Drawn
    posterior: Posterior
    table: Table
    peak: Peak
    step: Tensor


def look(net: PolarRVAE, images: Tensor, fixed: Fixed) -> Look:
    """Return what the network sees in normalised sub-images; those whose column is off the middle are cut anew around it and looked at
    again."""
    coefficients = net.coefficients(images)
    latents, log_sigma = net.encode(coefficients, fixed)
    drawn = net.decode(nearness(net, latents, LIKE) @ net.landmarks, fixed)
    posterior = net.posterior(coefficients, drawn)
    step = net.coarse(net.tabulate(posterior))[1].round().clamp(-1, 1)
    moved = step.abs().sum(1)
    rows = torch.cat([torch.ones_like(moved[:1]), moved[1:]]).nonzero()[:, 0]  # never an empty batch
    anew = net.coefficients(recut(images, step.index_select(0, rows), rows))
    coefficients = coefficients.index_put((rows,), anew)
    posterior = net.posterior(coefficients, drawn, step)
    table = net.tabulate(posterior)
    return Look(latents, log_sigma, coefficients, drawn, posterior, table, net.peak(posterior, table), step)
