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
    """The posterior's highest peak. angle, information = 1/variance, value: (N,). shift: (N, 2), A⁻¹ b, the column's offset in the
    pattern's own orientation, negative [px]."""

    angle: Tensor
    information: Tensor
    value: Tensor
    shift: Tensor

    @property
    def offset(self) -> Tensor:
        """(N, 2), of the column from the middle, right and down [px]."""
        return offset_at(self.angle, *self.shift.unbind(1))


class Table(NamedTuple):
    """The posterior at T angles. log_likelihood: (N, T), up to a constant. along, across: (N, T), A⁻¹ b, the offset that fits best there
    in the pattern's own orientation, negative."""

    log_likelihood: Tensor
    along: Tensor
    across: Tensor


def tabulate(spectrum: Tensor, waves: Tensor, prior: float) -> Table:
    """Return the posterior at the angles of `waves` (2M, T), cosines over sines of mθ."""
    q, b1, b2, a11, a22, a12 = (spectrum @ waves).unbind(1)
    determinant = (a11 * a22 - a12 * a12).clamp(min=prior**2)
    along, across = (a22 * b1 - a12 * b2) / determinant, (a11 * b2 - a12 * b1) / determinant
    return Table(0.5 * (b1 * along + b2 * across - q - determinant.log()), along, across)


def offset_at(angle: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """Return the column's offset (N, 2), right and down [px], from A⁻¹ b (N,) in the orientation of a pattern at `angle` (N,)."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([across * sine - along * cosine, along * sine + across * cosine], 1)


def find_peak(spectrum: Tensor, angle: Tensor, orders: Tensor, prior: float, newton_steps: int, limit: float) -> Peak:
    """Return the peak near `angle` (N,), refined by Newton's method on the Fourier sums by at most `limit` [rad] a step.

    Angle and height are one last step on from where information and shift were taken.
    """
    for _ in range(newton_steps + 1):
        phase = angle[:, None] * orders
        cosine, sine = phase.cos(), phase.sin()
        first, second = cosine * orders, sine * orders
        derivatives = torch.stack(
            [torch.cat([cosine, sine], 1), torch.cat([-second, first], 1), torch.cat([-first * orders, -second * orders], 1)], 2
        )
        # value, slope and curvature of the misfit and of b; and A, whose slope counts for little
        (q, dq, ddq, b1, db1, ddb1, b2, db2, ddb2, a11, _, _, a22, _, _, a12, _, _) = (spectrum @ derivatives).flatten(1).unbind(1)
        determinant = (a11 * a22 - a12 * a12).clamp(min=prior**2)
        along, across = (a22 * b1 - a12 * b2) / determinant, (a11 * b2 - a12 * b1) / determinant  # A⁻¹ b
        turned = (db1 * (a22 * db1 - a12 * db2) + db2 * (a11 * db2 - a12 * db1)) / determinant  # ∂b A⁻¹ ∂b
        gradient = along * db1 + across * db2 - 0.5 * dq
        information = 0.5 * ddq - along * ddb1 - across * ddb2 - turned
        on = (gradient / information.clamp(min=1e-2)).clamp(-limit, limit)
        angle = angle + on
    height = 0.5 * (along * b1 + across * b2 - q - determinant.log() + gradient * on)
    return Peak(angle, information.clamp(min=1e-6), height, torch.stack([along, across], 1))


def between(log_likelihood: Tensor, best: Tensor) -> Tensor:
    """Return (N,), in spacings of the grid, by how much the peak of a parabola lies beyond the best of T angles, `best` (N,) int64."""
    n_angles = int(log_likelihood.shape[1])  # a constant of an exported graph
    around = (best[:, None] + torch.arange(n_angles - 1, n_angles + 2, device=best.device)) % n_angles
    before, here, after = log_likelihood.gather(1, around).unbind(1)
    return 0.5 * (before - after) / (before + after - 2 * here).clamp(max=-1e-12)


def angle_sigma(peak: Peak, log_likelihood: Tensor, log_inflation: Tensor, symmetry: Tensor) -> Tensor:
    """Return the standard deviation (N,) [rad] of the angle's posterior, folded to one sector of 2π/n and widened by the fitted inflation.

    A peak narrower than the grid enters with its curvature, all beside it with its weight on the grid; a flat posterior gives π/(√3 n).
    """
    n_angles = int(log_likelihood.shape[1])  # a constant of an exported graph
    spacing = 2 * math.pi / n_angles
    grid = torch.arange(n_angles, device=peak.angle.device) * spacing
    sector = (2 * math.pi / symmetry)[:, None]
    inflation = torch.exp(log_inflation)
    away = wrap(grid - peak.angle[:, None], sector).square()
    weight = torch.exp(((log_likelihood - peak.value[:, None]) / inflation[:, None]).clamp(max=0))
    far = weight * (away >= (1.01 * spacing) ** 2)
    variance = inflation / peak.information
    mass = symmetry * (2 * math.pi * variance).sqrt() / spacing
    as_peak = (mass * variance + (far * away).sum(1)) / (mass + far.sum(1))
    as_table = (weight * away).sum(1) / weight.sum(1).clamp(min=1e-12)
    return torch.where(variance < (0.5 * spacing) ** 2, as_peak, as_table).sqrt()


def wrap(angle: Tensor, period: Tensor) -> Tensor:
    """Return angles in (-period/2, period/2]."""
    return period / 2 - torch.remainder(period / 2 - angle, period)
