"""What a pattern says of itself: its order of symmetry and the angle at which it points. Owns the angle's gauge; called by nets.graphs.

A reference pattern has the phase of its n-th circular harmonic (integrated over the window) at 0, n being its order of symmetry. Two
trainings on the same kind of column hence agree on the angle. Between columns of different kinds the angle compares each with its own
reference. Where near and far neighbours cancel in the plain integral its phase would be a matter of chance; there it is weighted by a
power of the radius, the same one for all patterns of an order.

Where an order is sought, every pattern is taken for one of that order: columns that are 4-fold but for a slope of the intensity compare
with others that have none then.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.polar_grid import PolarGrid
from stemzoo.types import ORDERS

SYMMETRIC = 0.025  # share of its angular power that a pattern may lose when turned by 2π/n and still count as n-fold
NEAR = 0.4  # latent distance over which landmarks are averaged
BEYOND = 1.0
RADIAL = (0, 2, 4)  # powers of the radius by which harmonics may be weighted; the first that leaves phases clear is taken
CLEAR = 0.03  # share of a harmonic's power over the rings that its integral must keep …
MOST = 0.1  # … for all but this share of the patterns
INDISTINGUISHABLE = 9.0  # squared distance, in noise units, below which two orientations cannot be told apart in one sub-image


def symmetry_of(net: PolarRVAE, decoded: Tensor, log_inflation: Tensor) -> Tensor:
    """Return the order n (N,) of each pattern; 1 where it has no structure.

    A pattern is n-fold if turning it by 2π/n changes it by less than a small share of its angular power, or by less than one sub-image
    could tell; what a shift of the pattern would explain does not count.
    Only rings inside the window are asked: of the corners, a crystal in one orientation shows each ring at some angles alone.

    Args: decoded: (N, 3, D), pattern and derivatives as `decode` gives them.
    """
    half, seen = net.n_half, (net.moment > 0).to(decoded.dtype)
    cosine, sine = decoded[..., :half], decoded[..., half:]
    weighted_cosine, weighted_sine = cosine * seen, sine * seen
    # (N, 3, M): the pattern turned against itself, and against its gradients
    even = (weighted_cosine[:, :1] * cosine + weighted_sine[:, :1] * sine) @ net.ring_sum
    odd = (weighted_sine[:, :1] * cosine - weighted_cosine[:, :1] * sine) @ net.ring_sum
    a11, a22 = ((weighted_cosine[:, j] * cosine[:, j] + weighted_sine[:, j] * sine[:, j]).sum(1) + 1e-6 for j in (1, 2))
    a12 = (weighted_cosine[:, 1] * cosine[:, 2] + weighted_sine[:, 1] * sine[:, 2]).sum(1)
    determinant = (a11 * a22 - a12**2).clamp(min=1e-9)
    total = (even[:, 0] * (net.orders > 0)).sum(1)
    noise = net.noise * torch.exp(log_inflation)
    order = torch.ones_like(total)
    for n in ORDERS[1:]:
        turn = 2 * math.pi / n
        change = 2 * (even[:, 0] * (1 - torch.cos(turn * net.orders))).sum(1)
        b1, b2 = (even[:, 1:] * (1 - torch.cos(turn * net.orders)) + odd[:, 1:] * torch.sin(turn * net.orders)).sum(2).unbind(1)
        change = change - (a22 * b1**2 + a11 * b2**2 - 2 * a12 * b1 * b2) / determinant
        same = (change < 2 * SYMMETRIC * total) | (change < INDISTINGUISHABLE * noise)
        same = same & (total > 0.5 * INDISTINGUISHABLE * noise)
        order = torch.where(same, torch.full_like(order, n), order)
    return order


def gauge_of(net: PolarRVAE, pattern: Tensor, order: Tensor) -> Tensor:
    """Return the angle (N,) at which the n-th harmonic of each pattern (N, D) points, n its order (N,)."""
    grid, gauge = PolarGrid(net.window_px), torch.zeros_like(order)
    radius = pattern.new_tensor(grid.radii_px / grid.half_px)[grid.ring_and_order[0]]
    for n in ORDERS:
        mine, harmonic = order == n, (net.order_of == n) & (net.moment > 0)
        if not mine.any():
            continue
        cosine, sine = (half[mine][:, harmonic] for half in (pattern[:, : net.n_half], pattern[:, net.n_half :]))
        power, clearest = (cosine.square() + sine.square()).sum(1) + 1e-12, -1.0
        for exponent in RADIAL:
            weight = (net.moment * radius**exponent)[harmonic]
            right, up = cosine @ weight, sine @ weight
            clear = float(torch.quantile((right.square() + up.square()) / (weight.square().sum() * power), MOST))
            if clear > clearest:
                gauge[mine], clearest = torch.atan2(up, right + 1e-12) / n, clear
            if clear > CLEAR:
                break
    return gauge


def gauge_table(net: PolarRVAE) -> Tensor:
    """Return (LANDMARKS, 15): at each landmark the order as one of `ORDERS`, what `net` seeks or else the pattern's own, and cosine and
    sine of n times the gauge in its place."""
    decoded = net.decode(net.landmarks, net.fixed()).pattern
    if net.symmetry is None:
        order = symmetry_of(net, decoded, net.log_inflation(net.landmarks))
    else:
        order = decoded.new_full((len(decoded),), net.symmetry)
    gauge = gauge_of(net, decoded[:, 0], order)
    chosen = (order[:, None] == order.new_tensor(ORDERS)).to(order.dtype)
    return torch.cat([chosen, chosen * torch.cos(order * gauge)[:, None], chosen * torch.sin(order * gauge)[:, None]], 1)


def nearness(net: PolarRVAE, latents: Tensor) -> Tensor:
    """Return (N, L): the share of each landmark in what is averaged over the neighbourhood of latents (N, Z).

    Latents are taken no farther than `BEYOND` the landmarks: the distances are multiplied out and would lose digits.
    """
    marks = net.landmarks
    held = torch.minimum(torch.maximum(latents, marks.amin(0) - BEYOND), marks.amax(0) + BEYOND)
    return torch.softmax(torch.addmm(-marks.square().sum(1) / (2 * NEAR**2), held, marks.T / NEAR**2), 1)


def like(net: PolarRVAE, near: Tensor) -> Tensor:
    """Return latents (N, Z) averaged over half of `NEAR`, so that the pattern drawn of them does not follow one sub-image's noise.

    A Gaussian of half the width is the fourth power. Args: near: (N, L) as `nearness` gives it.
    """
    share = near.square().square()
    summed = share @ torch.cat([net.landmarks, torch.ones_like(net.landmarks[:, :1])], 1)
    return summed[:, : net.latents] / summed[:, net.latents :]


def look_up(near: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Return order and gauge (N,), averaged over the landmarks that are `near` (N, L).

    One sub-image's own pattern would do, were its latents free of noise; the average keeps that noise out of the angle.
    """
    votes, cosine, sine = torch.split(near @ table, len(ORDERS), 1)
    best = (votes == votes.amax(1, keepdim=True)).to(votes.dtype)
    best = best / best.sum(1, keepdim=True)
    order = (best @ votes.new_tensor(ORDERS)).round()
    return order, torch.atan2((best * sine).sum(1), (best * cosine).sum(1) + 1e-12) / order
