"""A trained polar network as it is run: sub-images to angle, error, symmetry and latents. Called by nets.graphs.

The same mathematics as `nets.polar` and `nets.posterior` in fewer operations, for weights that no longer change:

- What is quadratic in a pattern (its own part of the posterior, and what the last step expects) follows from a few numbers (`nets.span`).
- Misfit and its coupling to an offset hang on the sub-image; what is known of the offset on the pattern alone, in orders 0, 4, 8 … alone.
- A sub-image whose column lies off the middle is moved and folded by one matrix from either side.

The network looks twice: once to see by how many whole pixels the column lies off the middle, then at the window cut anew around it. Where
the angle is sure, `nets.weighting` has the last word on it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stemzoo.nets.gauge import gauge_table, like, look_up, nearness
from stemzoo.nets.mirror import fold, fold_anew
from stemzoo.nets.polar import PAIRS, PolarRVAE, Templates
from stemzoo.nets.posterior import Peak, angle_sigma, between, offset_at, wrap
from stemzoo.nets.span import Span, corner_spectrum, corners, packed, pairs, span_of
from stemzoo.nets.waves import fourfold
from stemzoo.nets.weighting import FARTHEST, HARMONICS, SURE, Weighing

COUPLED = 3  # of nets.polar.PAIRS: misfit and its couplings come first, then what is known of an offset


class Drawn(NamedTuple):
    """A pattern. span: (N, R). cosine, sine: (N, 3, D / 2) coefficients of it and its derivatives, as sub-images are held against them.
    own: (N, 3, 2M), its part of misfit and coupling. known: (N, 3, Q), of an offset, in orders 0, 4, 8 …. expected: (N, 3, Q + 2), what
    `Weighing` expects of it."""

    span: Tensor
    cosine: Tensor
    sine: Tensor
    own: Tensor
    known: Tensor
    expected: Tensor


class Offset(NamedTuple):
    """At T angles, (N, T) each: the covariance of an offset along and across the pattern, and log |A| of its inverse A."""

    along: Tensor
    across: Tensor
    both: Tensor
    log_determinant: Tensor


class Seen(NamedTuple):
    """What a network sees in N sub-images: latents (N, Z), nearness to landmarks (N, L), coefficients (N, D), what it draws, the whole
    pixels (N, 2) by which sub-images were cut anew, the angle's posterior (N, T) up to a constant, and its peak."""

    latents: Tensor
    near: Tensor
    coefficients: Tensor
    drawn: Drawn
    step: Tensor
    log_likelihood: Tensor
    peak: Peak


class Condensed(nn.Module):
    """Raw sub-images (N, S, S) to angle (N,), its error, symmetry (N,) int64 and latents (N, Z), for a trained network."""

    def __init__(self, net: PolarRVAE) -> None:
        super().__init__()
        self.net, self.n_half = net, net.n_half
        with torch.no_grad():
            span, place = span_of(net), _place(net)
            self.weighing = Weighing(net, span, place)
            expected = self.weighing.expected_forms
            drawing = span.drawing * (net.cross_sign / net.noise)
            cosine, sine = drawing[..., : self.n_half], drawing[..., self.n_half :]
            lift = fourfold(net.n_orders // 4).among(net.orders).T
            prior = torch.zeros(len(PAIRS), len(lift))
            prior[COUPLED : COUPLED + 2, 0] = net.prior
            first, second = pairs(len(span.drawing))
            held = {
                **net.templates()._asdict(),
                "sums": net.ring_sum[place],
                "table": gauge_table(net),
                "span_weight": span.weight[:-1],
                "span_bias": span.weight[-1],
                "cosine": cosine[..., place].flatten(1),
                "sine": sine[..., place].flatten(1),
                "first": first,
                "second": second,
                "forms": torch.cat([packed(_own_forms(net, span)).flatten(1), packed(expected).flatten(1)], 1),
                "forms_bias": torch.cat([prior.flatten(), torch.zeros(expected[0, 0].numel())]),
                "lift": lift,
                "fourfold_waves": lift @ net.waves,
                "derivatives": _derivatives(net.orders),
                "offset_prior": net.prior * net.offset_prior[:3].reshape(3, len(PAIRS), -1)[:, :COUPLED].flatten(1),
            }
            self.even = len(net.get_buffer("drawing_0"))
            parts = place[: self.even], place[self.even :] - self.even
            for block, reading in enumerate(net.blocks("reading")):
                held[f"reading_{block}"] = reading[:, parts[block % 2]]
            for name, value in held.items():
                self.register_buffer(name, value.float(), persistent=False)

    fourfold: Tensor
    twofold: Tensor
    odd: Tensor
    across: Tensor
    sums: Tensor
    table: Tensor
    span_weight: Tensor
    span_bias: Tensor
    cosine: Tensor
    sine: Tensor
    first: Tensor
    second: Tensor
    forms: Tensor
    forms_bias: Tensor
    lift: Tensor
    fourfold_waves: Tensor
    derivatives: Tensor
    offset_prior: Tensor

    def forward(self, subimages: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return angle [rad], its standard error [rad], order of symmetry, latents."""
        seen = self.look(subimages)
        symmetry, gauge = look_up(seen.near, self.table)
        sigma = angle_sigma(seen.peak, seen.log_likelihood, self.net.log_inflation(seen.latents), symmetry)
        turn = self.weighing(seen.coefficients, seen.drawn.span, seen.drawn.expected, seen.peak).clamp(-FARTHEST, FARTHEST)
        angle = seen.peak.angle + torch.where(sigma < SURE, turn, torch.zeros_like(turn))
        # of a pattern that is only taken for n-fold, one of n turns alone lies on the sub-image
        period = 2 * math.pi / (symmetry if self.net.symmetry is None else torch.ones_like(symmetry))
        return wrap(angle + gauge, period), sigma, symmetry.to(torch.int64), seen.latents

    def look(self, subimages: Tensor) -> Seen:
        """Return what is seen in raw sub-images; those whose column is off the middle are cut anew around it and looked at again."""
        net = self.net
        images = net.normalise(subimages)
        coefficients = self.read(fold(images))
        latents = self.encode(coefficients)
        near = nearness(net, latents)
        drawn = self.draw(near)
        offset = self.offset(drawn)
        step = self.step(self.held_against(coefficients, drawn), offset)
        moved = step.abs().sum(1)
        rows = torch.cat([torch.ones_like(moved[:1]), moved[1:]]).nonzero()[:, 0]  # never an empty batch
        anew = self.read(fold_anew(images.index_select(0, rows), step.index_select(0, rows)))
        coefficients = coefficients.index_put((rows,), anew)
        # The prior is on the whole offset, of which the step is already taken: its mean turns with the angle, a term of order 1.
        prior = torch.cat([step.square().sum(1, keepdim=True), step], 1) @ self.offset_prior
        spectrum = self.held_against(coefficients, drawn) + prior.reshape(-1, COUPLED, 2 * net.n_orders)
        log_likelihood = self.tabulate(spectrum, offset)[0]
        peak = self.peak(spectrum, drawn, log_likelihood)
        return Seen(latents, near, coefficients, drawn, step, log_likelihood, peak)

    def read(self, folded: list[Tensor]) -> Tensor:
        """Return (N, D) coefficients, those compared with templates first, of normalised sub-images that were folded."""
        return torch.cat([part @ self.get_buffer(f"reading_{block}") for block, part in enumerate(folded)], 1)

    def encode(self, coefficients: Tensor) -> Tensor:
        """Return latents (N, Z)."""
        groups = []
        for compared, first in ((self.fourfold, 0), (self.twofold, len(self.fourfold) // 2), (self.odd, self.even)):
            last = first + len(compared) // 2
            groups.append(torch.cat([coefficients[:, first:last], coefficients[:, self.n_half + first : self.n_half + last]], 1))
        templates = Templates(self.fourfold, self.twofold, self.odd, self.across)
        return self.net.encode(groups[0], groups[1], groups[2], templates)[0]

    def draw(self, near: Tensor) -> Drawn:
        """Return the pattern that belongs to sub-images at their nearness to landmarks."""
        hidden = self.net.hidden(like(self.net, near))
        span = torch.addmm(self.span_bias, hidden, self.span_weight)
        formed = torch.addmm(self.forms_bias, (span @ self.first) * (span @ self.second), self.forms)
        waves, more = len(self.lift), len(self.lift) + 2 * HARMONICS
        own, known, expected = torch.split(formed, [COUPLED * waves, COUPLED * waves, COUPLED * more], 1)
        own, known, expected = own.reshape(-1, COUPLED, waves), known.reshape(-1, COUPLED, waves), expected.reshape(-1, COUPLED, more)
        cosine, sine = ((span @ half).reshape(-1, COUPLED, self.n_half) for half in (self.cosine, self.sine))
        return Drawn(span, cosine, sine, own @ self.lift, known, expected)

    def offset(self, drawn: Drawn) -> Offset:
        """Return what is known of an offset at the angles of the grid."""
        along, across, both = (drawn.known @ self.fourfold_waves).unbind(1)
        determinant = (along * across - both * both).clamp(min=self.net.prior**2)
        return Offset(across / determinant, along / determinant, both / determinant, determinant.log())

    def held_against(self, coefficients: Tensor, drawn: Drawn) -> Tensor:
        """Return misfit and its couplings to an offset (N, 3, 2M), as cosines and sines, of sub-images and patterns."""
        even, odd = coefficients[:, None, : self.n_half], coefficients[:, None, self.n_half :]
        here = (even * drawn.cosine + odd * drawn.sine) @ self.sums
        return torch.cat([here, (odd * drawn.cosine - even * drawn.sine) @ self.sums], 2) + drawn.own

    def tabulate(self, spectrum: Tensor, offset: Offset) -> tuple[Tensor, Tensor, Tensor]:
        """Return, (N, T) each, the posterior at the angles of the grid up to a constant, and the offset that fits best there, along and
        across the pattern, negative."""
        q, b1, b2 = (spectrum @ self.net.waves).unbind(1)
        along, across = offset.along * b1 - offset.both * b2, offset.across * b2 - offset.both * b1
        return 0.5 * (b1 * along + b2 * across - (q + offset.log_determinant)), along, across

    def step(self, spectrum: Tensor, offset: Offset) -> Tensor:
        """Return by how many whole pixels (N, 2), right and down, columns lie off the middle: -1, 0 or 1."""
        log_likelihood, along, across = self.tabulate(spectrum, offset)
        best = log_likelihood.argmax(1, keepdim=True)
        angle = best[:, 0].to(along.dtype) * (2 * math.pi / self.net.n_angles)
        return offset_at(angle, along.gather(1, best)[:, 0], across.gather(1, best)[:, 0]).round().clamp(-1, 1)

    def peak(self, spectrum: Tensor, drawn: Drawn, log_likelihood: Tensor) -> Peak:
        """Return the highest peak, found on the grid and refined between its angles by one step of Newton's on the Fourier sums."""
        best, spacing = log_likelihood.argmax(1), 2 * math.pi / self.net.n_angles
        angle = (best.to(spectrum.dtype) + between(log_likelihood, best)) * spacing
        phase = angle[:, None] * self.net.orders
        waves = torch.cat([phase.cos(), phase.sin()], 1)
        # value, slope and curvature, (N, 3) each, of misfit and couplings; and the offset's covariance, whose slope counts for little
        q, b1, b2 = (spectrum @ (waves @ self.derivatives).reshape(-1, 2 * self.net.n_orders, 3)).unbind(1)
        a11, a22, a12 = (drawn.known @ (waves @ self.lift.T)[..., None]).unbind(1)
        determinant = (a11 * a22 - a12 * a12).clamp(min=self.net.prior**2)
        along, across = (a22 * b1 - a12 * b2) / determinant, (a11 * b2 - a12 * b1) / determinant
        turned = (b1 * along + b2 * across)[:, 1]
        rest = along[:, :1] * b1 + across[:, :1] * b2 - 0.5 * q
        value, gradient, curvature = rest.unbind(1)
        information = -curvature - turned
        on = (gradient / information.clamp(min=1e-2)).clamp(-spacing / 2, spacing / 2)
        height = value - 0.5 * (along[:, 0] * b1[:, 0] + across[:, 0] * b2[:, 0] + determinant[:, 0].log() - gradient * on)
        return Peak(angle + on, information.clamp(min=1e-6), height, torch.cat([along[:, :1], across[:, :1]], 1))


def _place(net: PolarRVAE) -> Tensor:
    """Return (D / 2,): the order of cosines, and of sines, in which what is compared with templates lies together."""
    groups = [columns[: len(columns) // 2] for columns in (net.fourfold_columns, net.twofold_columns, net.odd_columns)]
    every, even = torch.arange(net.n_half), len(net.get_buffer("drawing_0"))
    rest = every[~torch.isin(every, torch.cat(groups))]
    return torch.cat([*groups[:2], rest[rest < even], groups[2], rest[rest >= even]])


def _own_forms(net: PolarRVAE, span: Span) -> Tensor:
    """Return (R, R, 6, Q): bilinear forms of a pattern's own part of the posterior, as `fourfold` waves."""
    inner, corner, spectrum = span.drawing[..., net.inner_columns], corners(net, span), corner_spectrum(net)
    forms = torch.stack([torch.einsum("ip,jp,pq->ijq", corner[:, a], corner[:, b], spectrum) for a, b in PAIRS], 2)
    forms[..., 0] += torch.stack([inner[:, a] @ inner[:, b].T for a, b in PAIRS], 2)
    return forms * (net.own_sign / net.noise)


def _derivatives(orders: Tensor) -> Tensor:
    """Return (2M, 2M · 3), cosines and sines at an angle to the value of each wave there, its slope and its curvature."""
    here, count = torch.eye(2 * len(orders)), len(orders)
    order = torch.cat([orders, orders])
    slope = torch.cat([-here[count:], here[:count]]) * order[:, None]
    return torch.stack([here, slope, -here * order.square()[:, None]], 2).transpose(0, 1).flatten(1)
