"""A network that knows its pattern without training, for the tests of graphs and of the angle's last step."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from stemzoo.nets.polar import PolarRVAE
from stemzoo.simulation.motifs import MOTIFS, Recording, record


@pytest.fixture
def knows() -> Callable[..., PolarRVAE]:
    """(motif, dose=200.0, window_px=32) to a network whose decoder draws that motif whatever the latents."""
    return known_network


def known_network(motif: int, dose: float = 200.0, window_px: int = 32) -> PolarRVAE:
    """A network whose decoder draws one motif whatever the latents, and that knows the noise of `dose`."""
    how = Recording(window_px=window_px, disorder=0.0, offset_px=0.0, turn=math.pi, dose=1e5)
    torch.manual_seed(0)
    net = PolarRVAE(window_px).eval()
    truth = record(600, 0, how, (MOTIFS[motif],))
    with torch.no_grad():
        net.mean.fill_(truth.images.mean() / 1e5 * dose)
        net.std.fill_(truth.images.std() / 1e5 * dose)
        coefficients = net.coefficients(net.normalise(torch.from_numpy(truth.images / 1e5 * dose)))
        order = net.order_of
        phase = torch.from_numpy(truth.angle).float()[:, None] * order
        cosine, sine = phase.cos(), phase.sin()
        even, odd = coefficients[:, : net.n_half], coefficients[:, net.n_half :]
        # Averaged over turned views, as training does; the corners are seen by a share of them.
        pattern = torch.cat([(even * cosine + odd * sine).mean(0), (odd * cosine - even * sine).mean(0)]) / net.seen
        net.pattern.weight.zero_()
        net.pattern.bias.copy_(pattern)
        net.log_noise.fill_(math.log(dose * 0.45 / float(net.std) ** 2))
        for parameter in net.inflation[2].parameters():
            parameter.zero_()
    return net
