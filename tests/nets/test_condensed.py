"""The network as it is run says what the network as it is trained says, in fewer operations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stemzoo.nets.condensed import Condensed
from stemzoo.nets.gauge import like, nearness
from stemzoo.nets.looking import look
from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.polar_grid import PolarGrid
from stemzoo.nets.polar_matrices import TURNS
from stemzoo.nets.span import SPARED, packed, pairs, span_of
from stemzoo.simulation.motifs import MOTIFS, Recording, record


def varied(knows: Callable[..., PolarRVAE], window_px: int, per_image: bool = False, motif: int = 1) -> PolarRVAE:
    """A network that knows a motif and draws it a little differently for every latent."""
    known = knows(motif, window_px=window_px)
    net = PolarRVAE(window_px, per_image=per_image).eval()
    net.load_state_dict(known.state_dict())
    with torch.no_grad():
        net.pattern.weight.normal_(std=0.05 * float(net.pattern.bias.std()))
        net.landmarks.normal_()
        net.inflation[2].bias.fill_(1.0)
    return net


@pytest.mark.parametrize(("window_px", "per_image"), [(32, False), (32, True), (40, True), (21, False)])
def test_the_posterior_is_the_same(knows: Callable[..., PolarRVAE], window_px: int, per_image: bool) -> None:
    net = varied(knows, window_px, per_image)
    images = torch.from_numpy(record(60, 8, Recording(window_px=window_px), (MOTIFS[1],)).images)
    with torch.no_grad():
        plain, found = look(net, net.normalise(images), net.fixed()), Condensed(net).look(images)
        peak = net.peak(plain.posterior, plain.table)
    assert found.latents.numpy() == pytest.approx(plain.latents.numpy(), abs=1e-5)
    assert (found.step == plain.step).all()
    assert len(plain.step.unique(dim=0)) > 4
    weight, wanted = (torch.softmax(table, 1).numpy() for table in (found.log_likelihood, plain.table.log_likelihood))
    assert weight == pytest.approx(wanted, abs=0.01)
    sure = peak.information > 1e3
    assert sure.float().mean() > 0.9
    assert (found.peak.angle - peak.angle)[sure].numpy() * peak.information[sure].sqrt().numpy() == pytest.approx(0, abs=0.02)
    assert (found.peak.information / peak.information)[sure].numpy() == pytest.approx(1, abs=0.01)
    assert found.peak.offset[sure].numpy() == pytest.approx(peak.offset[sure].numpy(), abs=1e-3)
    height = (found.peak.value - found.log_likelihood.amax(1)).numpy()
    assert height[sure] == pytest.approx((peak.value - plain.table.log_likelihood.amax(1)).numpy()[sure], abs=0.02)


@pytest.mark.parametrize("window_px", [21, 32, 40])
def test_templates_are_compared_at_every_angle(window_px: int) -> None:
    torch.manual_seed(0)
    net, grid = PolarRVAE(window_px).eval(), PolarGrid(window_px)
    ring, order = grid.ring_and_order
    compared = (ring < grid.n_inner) & (order < TURNS // 2)
    coefficients = torch.randn(5, grid.size)
    scale = np.where(order == 0, 1, np.sqrt(2)) / np.sqrt(grid.area_px[ring])
    template = np.zeros((2, len(order), 64))
    template[:, compared & (order % 2 == 0)], template[:, compared & (order % 2 == 1)] = (
        net.template_even.detach(),
        net.template_odd.detach(),
    )
    seen = (coefficients[:, : len(order)] - 1j * coefficients[:, len(order) :]).numpy()
    complex_template = template[0] - 1j * template[1]
    with torch.no_grad():
        net.threshold.normal_()
        found = torch.cat([*net.compared(coefficients)], 1)
        assert found.shape[1] == 2 * compared.sum()
        pooled = []
        for turn in np.arange(TURNS) * 2 * np.pi / TURNS:
            answer = ((seen * np.exp(1j * order * turn) * scale) @ complex_template.conj()).real + net.threshold.numpy()
            pooled.append(np.maximum(answer, 0))
        wanted = np.concatenate([np.mean(pooled, 0), np.mean(np.square(pooled), 0)], 1)
        latents = net.head(torch.tensor(wanted, dtype=torch.float32))[:, : net.latents]
        assert net.encode(*net.compared(coefficients), net.templates())[0].numpy() == pytest.approx(latents.numpy(), abs=1e-4)


def test_a_span_leaves_out_less_than_noise_could_tell(knows: Callable[..., PolarRVAE]) -> None:
    net = varied(knows, 32)
    with torch.no_grad():
        span, fixed = span_of(net), net.fixed()
        hidden = net.decode(like(net, nearness(net, torch.randn(500, 2))), fixed).hidden.double()
        drawn = hidden @ fixed.drawing.double()
        left_out = (drawn - hidden @ span.weight @ span.drawing.flatten(1)).square().sum(1)
    assert 1 < len(span.drawing) < 40
    assert left_out.max() < 3 * SPARED * net.noise


def test_forms_of_pairs_are_bilinear_forms() -> None:
    numbers, forms = torch.randn(4, 7), torch.randn(7, 7, 3)
    first, second = pairs(7)
    found = (numbers @ first * (numbers @ second)) @ packed(forms)
    assert found.numpy() == pytest.approx(torch.einsum("ni,nj,ijk->nk", numbers, numbers, forms).numpy(), abs=1e-4)
