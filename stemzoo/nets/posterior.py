"""The angle's posterior as Fourier sums, and its highest peak. Owns the algebra of angle and offset together; called by nets.polar.

With x the sub-image, y the pattern turned by θ and g its gradient, noise of variance v and a Gaussian prior on the column's offset d, the
offset is integrated out in closed form: -2 log p = |x - y|² / v - bᵀ A⁻¹ b + log |A| + const, with b = g·(x - y) / v and
A = g·g / v + prior. Misfit, b and A are each a sum over a few orders m of cosines and sines of mθ.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Posterior(NamedTuple):
    """Log-posterior of the angle as spectra over orders, and what it was computed from.

    spectrum: (N, 6, 2M) cosine then sine coefficients of: misfit q, its coupling to an offset b1, b2, and that offset's information A11,
    A22, A12. pattern: (N, 3, D) decoded pattern, and its derivatives along x and y.
    """

    spectrum: Tensor
    pattern: Tensor


class Peak(NamedTuple):
    """The posterior's highest peak. angle, information = 1/variance, value: (N,). offset: (N, 2) of the column, right and down [px]."""

    angle: Tensor
    information: Tensor
    value: Tensor
    offset: Tensor


def log_likelihood(spectrum: Tensor, waves: Tensor, prior: float) -> Tensor:
    """Return (N, T): log p(sub-image | angle) at the angles of `waves` (2M, T), cosines over sines of mθ, up to a constant."""
    q, b1, b2, a11, a22, a12 = (spectrum @ waves).unbind(1)
    determinant = (a11 * a22 - a12**2).clamp(min=prior**2)
    gain = (a22 * b1**2 + a11 * b2**2 - 2 * a12 * b1 * b2) / determinant
    return -0.5 * (q - gain + determinant.log())


def find_peak(spectrum: Tensor, angle: Tensor, orders: Tensor, prior: float, newton_steps: int, limit: float) -> Peak:
    """Return the peak near `angle` (N,), refined by Newton's method on the Fourier sums by at most `limit` [rad] a step."""
    for step in range(newton_steps + 1):
        phase = angle[:, None] * orders
        cosine, sine = phase.cos(), phase.sin()
        first, second = cosine * orders, sine * orders
        derivatives = torch.stack(
            [torch.cat([cosine, sine], 1), torch.cat([-second, first], 1), torch.cat([-first * orders, -second * orders], 1)], 2
        )
        found = spectrum @ derivatives  # (N, 6, 3): value, slope and curvature of each
        misfit, coupling, across = found[:, 0], found[:, 1:3], found[:, 5:, :1]
        own = found[:, 3:5, :1]
        determinant = (own[:, :1] * own[:, 1:] - across**2).clamp(min=prior**2)
        shift, turned = ((own.flip(1) * coupling - across * coupling.flip(1)) / determinant)[..., :2].unbind(2)  # A⁻¹ b and A⁻¹ ∂b
        gradient = -0.5 * misfit[:, 1] + (shift * coupling[..., 1]).sum(1)
        hessian = -0.5 * misfit[:, 2] + (shift * coupling[..., 2] + turned * coupling[..., 1]).sum(1)
        if step < newton_steps:
            angle = angle + (gradient / (-hessian).clamp(min=1e-2)).clamp(-limit, limit)
    height = -0.5 * (misfit[:, 0] - (shift * coupling[..., 0]).sum(1) + determinant[:, 0, 0].log())
    along, across = (-shift).unbind(1)
    cosine, sine = angle.cos(), angle.sin()
    offset = torch.stack([along * cosine - across * sine, -(along * sine + across * cosine)], 1)
    return Peak(angle, (-hessian).clamp(min=1e-6), height, offset)


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
