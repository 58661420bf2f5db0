"""What a polar network sees of sub-images, step by step as it is trained. Owns the two looks; called by training's validation, and what
`nets.condensed` does in fewer operations is held against it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from stemzoo.nets.gauge import like, nearness
from stemzoo.nets.polar import Drawn, Fixed, PolarRVAE
from stemzoo.nets.posterior import Posterior, Table
from stemzoo.nets.recut import recut


class Look(NamedTuple):
    """latents and their log standard deviations (N, Z), coefficients (N, D), what is drawn of them, the angle's posterior and its table,
    and the whole pixels (N, 2) by which sub-images were cut anew."""

    latents: Tensor
    log_sigma: Tensor
    coefficients: Tensor
    drawn: Drawn
    posterior: Posterior
    table: Table
    step: Tensor


def look(net: PolarRVAE, images: Tensor, fixed: Fixed) -> Look:
    """Return what the network sees in normalised sub-images (N, S, S), cut anew around their column and looked at again."""
    coefficients = net.coefficients(images)
    latents, log_sigma = net.encode(*net.compared(coefficients), fixed.templates)
    drawn = net.decode(like(net, nearness(net, latents)), fixed)
    step = net.coarse(net.tabulate(net.posterior(coefficients, drawn)))[1].round().clamp(-1, 1)
    coefficients = net.coefficients(recut(images, step))
    posterior = net.posterior(coefficients, drawn, step)
    return Look(latents, log_sigma, coefficients, drawn, posterior, net.tabulate(posterior), step)
