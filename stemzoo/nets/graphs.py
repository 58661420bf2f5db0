"""What is exported of an rVAE: sub-images to angle, its error, symmetry and latents; latents and angle to patterns. Called by export.

The forward methods are the ONNX contract of encoders, for either form. Normalisation is inside.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from stemzoo.nets.polar import Peak, PolarRVAE, Posterior
from stemzoo.nets.rvae import RVAE


class EncoderGraph(nn.Module):
    """Sub-images (N, S, S), raw intensities, to angle (N,), angle_sigma (N,), symmetry (N,) int64 and latents (N, Z).

    The polar form looks twice: once to see by how many whole pixels the column lies off the middle, then at the window cut anew around it.
    `cases` are inputs, by name, on which an export should be proved.
    """

    def __init__(self, net: PolarRVAE | RVAE) -> None:
        super().__init__()
        self.net = net
        self.cases = []
        if isinstance(net, PolarRVAE):
            with torch.no_grad():
                self.register_buffer("table", net.gauge_table(), persistent=False)

    table: Tensor
    cases: list[dict[str, np.ndarray]]

    def forward(self, subimages: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return angle [rad], its standard error [rad], order of symmetry, latents."""
        net = self.net
        if isinstance(net, RVAE):
            return net.angle_and_latents(subimages)
        _, latents, _, log_likelihood, peak, _ = look(net, net.normalise(subimages))
        symmetry, gauge = net.look_up(latents, self.table)
        sigma = angle_sigma(peak, log_likelihood, net.log_inflation(latents), symmetry)
        return wrap(peak.angle + gauge, 2 * math.pi / symmetry), sigma, symmetry.to(torch.int64), latents


class DecoderGraph(nn.Module):
    """Latents (M, Z) and angle (M,) to patterns (M, S, S), normalised, turned counter-clockwise by angle from the reference."""

    def __init__(self, net: PolarRVAE | RVAE) -> None:
        super().__init__()
        self.net = net
        if isinstance(net, PolarRVAE):
            with torch.no_grad():
                self.register_buffer("table", net.gauge_table(), persistent=False)

    table: Tensor

    def forward(self, latents: Tensor, angle: Tensor) -> Tensor:
        """Return the patterns."""
        if isinstance(self.net, RVAE):
            return self.net.decode(latents, angle)
        _, gauge = self.net.look_up(latents, self.table)
        return self.net.render(self.net.decode(latents)[:, 0], angle - gauge)


def look(net: PolarRVAE, images: Tensor) -> tuple[Tensor, Tensor, Posterior, Tensor, Peak, Tensor]:
    """Return what the network sees in normalised sub-images, cut anew where the column is off the middle.

    That is: coefficients, mean latents, posterior, log-likelihood (N, T), its peak and the whole pixels (N, 2) of the new cut.
    """
    step = torch.zeros_like(images[:, 0, :2])
    coefficients = net.coefficients(images)
    for newton_steps in (1, 3):
        latents, _ = net.encode(coefficients)
        posterior = net.posterior(coefficients, latents, step)
        log_likelihood = net.log_likelihood(posterior)
        peak = net.peak(posterior, log_likelihood, newton_steps)
        if newton_steps == 1:
            step = peak.offset.round().clamp(-1, 1)
            coefficients = net.coefficients(images, step)
    return coefficients, latents, posterior, log_likelihood, peak, step


def angle_sigma(peak: Peak, log_likelihood: Tensor, log_inflation: Tensor, symmetry: Tensor) -> Tensor:
    """Return the standard deviation (N,) [rad] of the angle's posterior, folded to one sector of 2π/n and widened by the fitted inflation.

    A peak narrower than the grid enters with its curvature, all beside it with its weight on the grid; a flat posterior gives π/(√3 n).
    """
    n_angles = log_likelihood.shape[1]
    spacing = 2 * math.pi / n_angles
    grid = torch.arange(n_angles, device=log_likelihood.device) * spacing
    sector = (2 * math.pi / symmetry)[:, None]
    inflation = torch.exp(log_inflation)
    away = wrap(grid - peak.angle[:, None], sector).square()
    weight = torch.exp(((log_likelihood - peak.value[:, None]) / inflation[:, None]).clamp(max=0))
    near = (away < (1.01 * spacing) ** 2).to(weight.dtype)
    variance = inflation / peak.information
    narrow = variance < (0.5 * spacing) ** 2
    mass = symmetry * (2 * math.pi * variance).sqrt() / spacing
    beside, second = (weight * (1 - near)).sum(1), (weight * away * (1 - near)).sum(1)
    as_peak = (mass * variance + second) / (mass + beside)
    as_table = (weight * away).sum(1) / weight.sum(1).clamp(min=1e-12)
    return torch.where(narrow, as_peak, as_table).sqrt()


def wrap(angle: Tensor, period: Tensor) -> Tensor:
    """Return angles in (-period/2, period/2]."""
    return -(torch.remainder(-angle + period / 2, period) - period / 2)
