"""How much wider the angle's error is than white noise would make it. Owns the estimate; called by training.encoding while a polar rVAE
learns.

Columns sit a little off their ideal places, so the pixels of one column err together. The angle's likelihood knows only white noise, and
its curvature promises too much, by a factor that differs from pattern to pattern. The factor is estimated without truth by a jackknife:
the window is divided into sectors wide enough to hold a column each, the angle is fitted again without each sector in turn, and how much
it moves says how uncertain it is, however the pixels within a sector hang together.

Source: delete-one-group jackknife, B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans (SIAM 1982), ch. 3; as variance of
clustered residuals (CR3): R. M. Bell, D. F. McCaffrey, Survey Methodology 28 (2002) 169.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.polar_grid import PolarGrid
from stemzoo.nets.posterior import Posterior

# Fewer hold a column more surely, more say more of each; six is within 10 % of the truth on motifs of one- to fourfold symmetry.
SECTORS = 6
TURNS = 60  # angles on which a ring is looked at; a multiple of the sectors


class Jackknife:
    """Ratio of the angle's variance to what white noise would give, from how sectors of the window disagree.

    Args:
        net: the network whose patterns are judged; only its grid is used here.
    """

    def __init__(self, net: PolarRVAE) -> None:
        grid = PolarGrid(net.window_px)
        self.values = torch.tensor(grid.synthesis(TURNS, np.arange(len(grid.radii_px))), dtype=torch.float32, device=net.mean.device)
        self.mask = torch.tensor(grid.mask(TURNS).ravel(), dtype=torch.float32, device=net.mean.device)
        self.weight = torch.tensor(np.repeat(grid.area_px / TURNS, TURNS), dtype=torch.float32, device=net.mean.device)

    @torch.no_grad()
    def ratios(self, net: PolarRVAE, coefficients: Tensor, posterior: Posterior, angle: Tensor, first_turn: int) -> Tensor:
        """Return (N,): the ratio for sub-images whose best angle (N,) is known; sectors begin at `first_turn` of `TURNS`."""
        half, order = net.n_half, net.order_of
        cosine, sine = torch.cos(angle[:, None] * order)[:, None], torch.sin(angle[:, None] * order)[:, None]
        even, odd = posterior.pattern[..., :half], posterior.pattern[..., half:]
        turned = torch.cat([even * cosine - odd * sine, odd * cosine + even * sine], 2)
        slope = torch.cat([-order * turned[:, 0, half:], order * turned[:, 0, :half]], 1)
        pattern, right, up, slope = (torch.cat([turned, slope[:, None]], 1) @ self.values).unbind(1)
        directions = torch.stack([slope, -right, -up], 1)  # (N, 3, P): what turning and shifting the pattern changes
        noise = net.noise
        prior = torch.diag(directions.new_tensor([0.0, 1.0, 1.0])) * net.prior * noise
        sectors = self._sectors(self.weight * self.mask * directions, first_turn).transpose(2, 3) @ self._sectors(directions, first_turn)
        information = sectors.sum(1) + prior
        residual = self.weight * (coefficients @ self.values - self.mask * pattern)
        fit = torch.linalg.solve(information + _ridge(information), (directions @ residual[..., None]))
        residual = residual - self.weight * self.mask * (fit.transpose(1, 2) @ directions)[:, 0]
        scores = (self._sectors(directions, first_turn).transpose(2, 3) @ self._sectors(residual[:, None], first_turn))[..., 0]
        without = information[:, None] - sectors
        moves = torch.linalg.solve(without + _ridge(without), scores)[..., 0]
        variance = (SECTORS - 1) / SECTORS * moves.square().sum(1)
        expected = noise * torch.linalg.inv(information + _ridge(information))[:, 0, 0]
        ratio: Tensor = variance / expected
        return ratio.clamp(1e-2, 1e4)

    def _sectors(self, values: Tensor, first_turn: int) -> Tensor:
        """Return (N, SECTORS, P / SECTORS, K) from (N, K, P)."""
        n, k, _ = values.shape
        split = values.reshape(n, k, -1, TURNS).roll(first_turn, dims=3).reshape(n, k, -1, SECTORS, TURNS // SECTORS)
        return split.permute(0, 3, 2, 4, 1).reshape(n, SECTORS, -1, k)


def _ridge(matrix: Tensor) -> Tensor:
    """Return a trifle on the diagonal, so that a pattern without angle can be solved for."""
    scale = matrix.diagonal(dim1=-2, dim2=-1).clamp(min=1e-6) * 1e-5
    return torch.diag_embed(scale)


def deviance(log_inflation: Tensor, ratios: Tensor) -> Tensor:
    """Return the loss whose minimum is the logarithm of the ratios' local mean (gamma deviance), averaged over sub-images."""
    return (ratios * torch.exp(-log_inflation) + log_inflation).mean()
