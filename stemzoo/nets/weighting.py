"""The angle once more, with each column's pixels weighed as one. Owns the last step of the angle; called by nets.graphs.

Disorder moves columns, so the pixels on a column's flanks err together, and by as much as the column is bright. The likelihood of white
noise, on which the search over all angles rests, lets the brightest columns decide. Here one linear step follows from the angle it found:

    turn = w · (x - y),    w ∝ g / (1 + β K |∇y|²),    K a Gaussian as wide as a column.

x is the sub-image, y the pattern drawn at the angle and the offset found, g what a turn changes of it. So a column counts by its lever arm,
hardly by its brightness. w is made blind to shifts and worth one for a turn; whatever it is, the step is then consistent, and only how well
it is chosen decides how far the error falls. It follows from the pattern and from which corners the window shows, so it is worked out once,
for the landmarks and a few angles of a quarter turn, and drawn like the pattern itself from the decoder's hidden layer. β is 0 where
training found the angle's error to be that of white noise. The angle's error is left as the search states it: what the step gains is no
more than what patterns that are not quite right cost.

Source: estimation with instruments: A. W. van der Vaart, Asymptotic Statistics (1998), ch. 5; weights for clustered errors: K.-Y. Liang,
S. L. Zeger, Biometrika 73 (1986) 13.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from stemzoo.nets.polar import Drawn, PolarRVAE
from stemzoo.nets.polar_grid import PolarGrid
from stemzoo.nets.posterior import Peak

SHAKEN = 0.6  # β times the mean square of the gradient: displacement beside white noise; between 0.3 and 1 angles are alike
WIDER = 1.2  # width of K in widths of a column
POINTS = 48  # on a ring, where weights are worked out
QUARTERS = 8  # angles of a quarter turn at which they are
HARMONICS = 1  # of a quarter turn, which follow the window's corners; more change an error by a hundredth
RIDGE = 1e-3
SURE = 0.1  # rad; a peak wider than this is left as it is
FARTHEST = 0.05  # rad; one step goes no farther


class Weighing(nn.Module):
    """The last step for a trained network; a module so that its matrices travel with an exported graph."""

    def __init__(self, net: PolarRVAE) -> None:
        super().__init__()
        self.n_half = net.n_half
        half_orders = torch.arange(HARMONICS + 1) * 4
        inner = torch.zeros(2 * net.n_half)
        inner[net.inner_columns.cpu()] = 1
        with torch.no_grad():
            drawn = net.decode(net.landmarks, net.fixed())
            weights = _weights(net, drawn).flatten(1)
            square = drawn.hidden.T @ drawn.hidden
            ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), device=square.device)
            filters = torch.linalg.solve(square + ridge, drawn.hidden.T @ weights)
        one_hot = (net.orders[:, None] == half_orders.to(net.orders)).float()
        none = torch.zeros_like(one_hot)
        both = torch.cat([torch.cat([one_hot, none], 1), torch.cat([none, one_hot], 1)])
        chosen = torch.cat([both[:, : HARMONICS + 1], both[:, HARMONICS + 2 :]], 1)  # without the sine of 0
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("chosen", chosen, persistent=False)
        self.register_buffer("inner", inner, persistent=False)
        self.register_buffer("orders", net.orders.clone(), persistent=False)
        self.register_buffer("spread", net.ring_sum.T.clone(), persistent=False)
        columns = net.corner_columns.cpu().numpy()
        self.blocks = [(int(run[0]), int(run[-1]) + 1) for run in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)]
        self.register_buffer("corner_values", net.corner_values.clone(), persistent=False)
        self.register_buffer("corner_mask", net.own_spectrum[:-1].T @ net.corner_spectrum.T, persistent=False)

    filters: Tensor
    chosen: Tensor
    inner: Tensor
    orders: Tensor
    spread: Tensor
    corner_values: Tensor
    corner_mask: Tensor

    def forward(self, coefficients: Tensor, drawn: Drawn, peak: Peak) -> Tensor:
        """Return by how much to turn on (N,) [rad]: coefficients (N, D) of sub-images as cut around their column, what is drawn of them,
        and the peak of their posterior."""
        half = self.n_half
        phase = peak.angle[:, None] * self.orders
        waves = torch.cat([phase.cos(), phase.sin()], 1)
        size = (-1, 2 * HARMONICS + 1, 2 * half)
        weight = ((drawn.hidden @ self.filters).reshape(size) * (waves @ self.chosen)[..., None]).sum(1)
        cosine, sine = waves[:, : len(self.spread)] @ self.spread, waves[:, len(self.spread) :] @ self.spread
        even, odd = coefficients[:, :half], coefficients[:, half:]
        seen = torch.cat([even * cosine + odd * sine, odd * cosine - even * sine], 1)
        along, across = peak.shift[:, :1], peak.shift[:, 1:]
        pattern, right, up = drawn.pattern.unbind(1)
        expected = pattern + along * right + across * up
        pattern, right, up = drawn.corner.unbind(1)
        corner = (pattern + along * right + across * up) * (waves @ self.corner_mask)
        outer = torch.cat([weight[:, first:last] for first, last in self.blocks], 1) @ self.corner_values
        turn: Tensor = (weight * (seen - expected * self.inner)).sum(1) - (outer * corner).sum(1)
        return turn


def _weights(net: PolarRVAE, drawn: Drawn) -> Tensor:
    """Return (L, 2 · HARMONICS + 1, D): the weights of L drawn patterns as series over the angle: mean, cosines and sines of 4hθ."""
    grid = PolarGrid(net.window_px)
    n_rings, place = len(grid.radii_px), np.arange(POINTS) * 2 * np.pi / POINTS
    values = torch.tensor(grid.synthesis(POINTS, np.arange(n_rings)), dtype=torch.float32)
    area = torch.tensor(np.repeat(grid.area_px / POINTS, POINTS), dtype=torch.float32)
    points = torch.tensor(
        np.concatenate([radius * np.stack([np.cos(place), np.sin(place)], 1) for radius in grid.radii_px]), dtype=torch.float32
    )
    half, order = net.n_half, net.order_of
    pattern = drawn.pattern[:, 0]
    turned = torch.cat([-order * pattern[:, half:], order * pattern[:, :half]], 1)
    changes = torch.stack([turned, drawn.pattern[:, 1], drawn.pattern[:, 2]], 1) @ values
    slope = changes[:, 1:].square().sum(1)
    width_px = ((pattern @ values).square() * area).sum().div((slope * area).sum().clamp(min=1e-9)).sqrt()  # a Gaussian's: its sigma
    reach = (WIDER * width_px).clamp(min=1.0, max=net.window_px / 4)
    kernel = torch.exp(-torch.cdist(points, points).square() / (2 * reach**2))
    inside = area * (torch.arange(n_rings) < grid.n_inner).repeat_interleave(POINTS)
    disorder = 1 - torch.exp(-net.log_inflation(net.landmarks).clamp(min=0))
    shaken = SHAKEN * disorder / ((slope * inside).sum(1) / inside.sum() + 1e-6)
    fine = grid.mask(4 * QUARTERS * POINTS)
    found = []
    for quarter in range(QUARTERS):
        shown = torch.tensor(fine[:, (np.arange(POINTS) * 4 * QUARTERS + quarter * POINTS) % fine.shape[1]].ravel(), dtype=torch.float32)
        weight = ((changes / (1 + shaken[:, None] * ((slope * area * shown) @ kernel))[:, None]) * area) @ values.T
        worth = (weight @ values * area * shown) @ changes.transpose(1, 2)
        ridge = 1e-6 * worth.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(3) + 1e-9 * torch.eye(3)
        found.append(torch.linalg.solve(worth + ridge, weight)[:, 0])
    angle = torch.arange(QUARTERS) * (math.pi / 2 / QUARTERS)
    series = [torch.ones(QUARTERS) / QUARTERS]
    series += [2 / QUARTERS * wave(4 * h * angle) for wave in (torch.cos, torch.sin) for h in range(1, HARMONICS + 1)]
    return torch.einsum("qld,hq->lhd", torch.stack(found), torch.stack(series))
