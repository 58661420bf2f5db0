"""The few numbers that hold all that a trained decoder draws. Owns that reduction, and forms in those numbers; called by nets.condensed.

A decoder's last hidden layer has as many numbers as it is wide, but over all latents that an encoder can give they lie in a space of some
twenty dimensions. In coordinates s of that space a pattern is a product with a small matrix, and whatever is quadratic in it (its energy
under the mask at any angle, what it expects of a weighing) is a product of the pairs s_i s_j with one matrix, worked out once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stemzoo.nets.gauge import like, nearness
from stemzoo.nets.polar import PolarRVAE

SPARED = 1e-3  # of the noise in one coefficient: the most energy of any pattern and its derivatives that may be left out
BETWEEN = (1, 5, 25, 125)  # landmarks apart, whose middles are drawn as well


class Span(NamedTuple):
    """weight (W + 1, R): last hidden layer, and a 1, to R numbers s. back (R, W + 1): and back. drawing (R, 3, D): s to a pattern and its
    derivatives along x and y. All float64."""

    weight: Tensor
    back: Tensor
    drawing: Tensor


def span_of(net: PolarRVAE) -> Span:
    """Return the space in which all lies that a trained network draws."""
    marks = net.landmarks
    middles = [(marks + marks.roll(by, 0)) / 2 for by in BETWEEN]
    fixed = net.fixed()
    hidden = net.decode(like(net, nearness(net, torch.cat([marks, *middles]))), fixed).hidden.double()
    drawing = fixed.drawing.double()
    orthogonal, triangle = torch.linalg.qr(hidden)
    left, size, right = torch.linalg.svd(triangle @ drawing, full_matrices=False)
    energy = (orthogonal @ left * size).square()
    left_out = energy.flip(1).cumsum(1).flip(1).amax(0)  # by any pattern, were the space to end before the k-th direction
    rank = max(1, int((left_out > SPARED * net.noise).sum()))
    basis = right[:rank]
    weight = drawing @ basis.T
    return Span(weight, torch.linalg.lstsq(hidden @ weight, hidden, driver="gelsd").solution, basis.reshape(rank, 3, -1))


def pairs(rank: int) -> tuple[Tensor, Tensor]:
    """Return two (R, P) of zeros and ones: (s @ first) * (s @ second) are the products of s (N, R), each pair once."""
    first, second = torch.triu_indices(rank, rank)
    return torch.nn.functional.one_hot(first, rank).T.float(), torch.nn.functional.one_hot(second, rank).T.float()


def packed(forms: Tensor) -> Tensor:
    """Return (P, …), what to multiply the products of `pairs` with, from bilinear forms (R, R, …)."""
    first, second = torch.triu_indices(len(forms), len(forms))
    both = forms + forms.transpose(0, 1)
    return both[first, second] * torch.where(first == second, 0.5, 1.0).reshape(-1, *[1] * (forms.ndim - 2)).to(forms)


def corners(net: PolarRVAE, span: Span) -> Tensor:
    """Return (R, 3, P): what each number of a span draws on the outer rings, with its derivatives."""
    return span.drawing[..., net.corner_columns] @ net.corner_values.double()


def corner_spectrum(net: PolarRVAE) -> Tensor:
    """Return (P, Q): values on the outer rings to their sum under the mask, as `fourfold` waves of the pattern's angle."""
    count = net.n_orders // 4
    return torch.cat([net.corner_spectrum[:, :count], net.corner_spectrum[:, count + 1 :]], 1).double()
