"""The angle's zero: where a pattern's own harmonic points, and clear where near and far neighbours cancel in its plain integral."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stemzoo.nets.gauge import gauge_of
from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.polar_grid import PolarGrid


def lopsided(net: PolarRVAE, rings: dict[int, float], direction: float, order: int, noise: float) -> Tensor:
    """(30, D) patterns whose harmonic of one order has these integrals on some rings, all in one direction, and noise on every ring."""
    torch.manual_seed(0)
    ring, orders = PolarGrid(net.window_px).ring_and_order
    pattern = noise * torch.randn(30, 2 * net.n_half)
    for number, integral in rings.items():
        place = int(((ring == number) & (orders == order)).argmax())
        pattern[:, place] += integral / net.moment[place] * math.cos(order * direction)
        pattern[:, net.n_half + place] += integral / net.moment[place] * math.sin(order * direction)
    return pattern


@pytest.mark.parametrize(("order", "rings"), [(1, {3: 1.0}), (2, {3: 1.0, 7: 0.5}), (4, {8: 1.0, 4: -0.3})])
def test_a_reference_points_where_its_harmonic_does(order: int, rings: dict[int, float]) -> None:
    net = PolarRVAE(32)
    found = gauge_of(net, lopsided(net, rings, 0.3, order, 3e-5), torch.full((30,), float(order)))
    assert found.numpy() == pytest.approx(0.3, abs=math.radians(0.5))


@pytest.mark.parametrize("order", [1, 2])
def test_neighbours_that_cancel_do_not_leave_the_zero_to_chance(order: int) -> None:
    net = PolarRVAE(32)
    patterns = lopsided(net, {4: 1.0, 8: -1.0}, 0.3, order, 1e-3)
    found = order * gauge_of(net, patterns, torch.full((30,), float(order)))
    mean = torch.atan2(found.sin().mean(), found.cos().mean())
    away = torch.remainder(found - mean + math.pi, 2 * math.pi) - math.pi
    assert math.degrees(away.abs().max()) / order < 5
    assert math.sin(float(mean) - order * 0.3) == pytest.approx(0, abs=0.02)  # along the pattern's own axis, to either side


def test_orders_have_a_weight_each() -> None:
    net = PolarRVAE(32)
    clear, cancelling = lopsided(net, {3: 1.0}, 0.5, 2, 1e-4), lopsided(net, {4: 1.0, 8: -1.0}, 0.3, 1, 1e-4)
    order = torch.cat([torch.full((30,), 2.0), torch.ones(30)])
    both, alone = gauge_of(net, torch.cat([clear, cancelling]), order), gauge_of(net, clear, order[:30])
    assert both[:30].numpy() == pytest.approx(alone.numpy())
