"""The angle once more, with each column's pixels weighed as one. Owns the last step of the angle; called by nets.condensed.

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
from stemzoo.nets.span import Span, corner_spectrum, corners
from stemzoo.nets.waves import fourfold

SHAKEN = 0.6  # β times the mean square of the gradient: displacement beside white noise; between 0.3 and 1 angles are alike
WIDER = 1.2  # width of K in widths of a column
POINTS = 48  # on a ring, where weights are worked out
QUARTERS = 8  # angles of a quarter turn at which they are
HARMONICS = 1  # of a quarter turn, which follow the window's corners; more change an error by a hundredth
RIDGE = 1e-3
SURE = 0.1  # rad; a peak wider than this is left as it is
FARTHEST = 0.05  # rad; one step goes no farther


class Weighing(nn.Module):
    """The last step for a trained network, all it draws in a `span`; a module so that its matrices travel with an exported graph.

    Coefficients come in the order of `place` (D / 2,), within cosines as within sines.

    expected_forms: (R, R, 3, Q + 2 · HARMONICS), bilinear forms in the numbers of the span to what w finds in the pattern and in its
    derivatives along x and y, as a series of `fourfold` waves of the angle.
    """

    def __init__(self, net: PolarRVAE, span: Span, place: Tensor) -> None:
        super().__init__()
        self.n_half, self.rank = net.n_half, len(span.drawing)
        few, many = fourfold(HARMONICS + 1), fourfold(net.n_orders // 4 + HARMONICS)
        orders = torch.arange(int(many.order.amax()) + 1)
        with torch.no_grad():
            drawn = net.decode(net.landmarks, net.fixed())
            weights = _weights(net, drawn).flatten(1)
            square = drawn.hidden.T @ drawn.hidden
            ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), device=square.device)
            of_hidden = torch.linalg.solve(square + ridge, drawn.hidden.T @ weights).double()
            filters = (span.back @ of_hidden).reshape(self.rank, len(few.order), -1)
            self.expected_forms = _expected(net, span, filters)
            held = {
                "filters": filters[..., torch.cat([place, net.n_half + place])].permute(2, 1, 0).flatten(1),
                "orders": orders,
                "few": few.among(orders),
                "many": many.among(orders),
                "spread": torch.cat([net.ring_sum[place], torch.zeros(net.n_half, len(orders) - net.n_orders)], 1).T,
            }
            for name, value in held.items():
                self.register_buffer(name, value.float(), persistent=False)

    filters: Tensor
    orders: Tensor
    few: Tensor
    many: Tensor
    spread: Tensor

    def forward(self, coefficients: Tensor, span: Tensor, expected: Tensor, peak: Peak) -> Tensor:
        """Return by how much to turn on (N,) [rad].

        Args: coefficients (N, D) of sub-images as cut around their column; what is drawn of them, span (N, R) and expected (N, 3, Q + 2),
            by `expected_forms`; and the peak of their posterior.
        """
        phase = peak.angle[:, None] * self.orders
        cosine, sine = phase.cos(), phase.sin()
        waves = torch.cat([cosine, sine], 1)
        along, across = cosine @ self.spread, sine @ self.spread
        even, odd = coefficients[:, : self.n_half], coefficients[:, self.n_half :]
        turned = torch.cat([even * along + odd * across, odd * along - even * across], 1)
        found = ((turned @ self.filters).reshape(-1, 2 * HARMONICS + 1, self.rank) * span[:, None]).sum(2)
        awaited = (expected * (waves @ self.many)[:, None]).sum(2)
        shift = torch.cat([torch.ones_like(peak.shift[:, :1]), peak.shift], 1)
        turn: Tensor = (found * (waves @ self.few)).sum(1) - (awaited * shift).sum(1)
        return turn


def _expected(net: PolarRVAE, span: Span, filters: Tensor) -> Tensor:
    """Return `Weighing.expected_forms` for filters (R, 2 · HARMONICS + 1, D)."""
    few, shown, many = (fourfold(count) for count in (HARMONICS + 1, net.n_orders // 4, net.n_orders // 4 + HARMONICS))
    angle = torch.arange(net.n_angles) * (2 * math.pi / net.n_angles)
    product = few.at(angle)[:, None] * shown.at(angle)
    mixed = product.double() @ torch.linalg.pinv(many.at(angle).double())  # (few, shown, many): a product of waves as waves
    inside = torch.einsum("ihd,jkd->ijkh", filters[..., net.inner_columns], span.drawing[..., net.inner_columns])
    outer, mask = filters[..., net.corner_columns] @ net.corner_values.double(), corner_spectrum(net)
    forms: Tensor = inside @ mixed[:, 0]
    for h in range(len(few.order)):
        forms += torch.einsum("ip,jkp,pm->ijkm", outer[:, h], corners(net, span), mask) @ mixed[h]
    return forms


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
