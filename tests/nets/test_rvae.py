"""The published rVAE: its decoder turns and shifts as it says, its divergences vanish at the prior, its capacity term pulls to a target."""

from __future__ import annotations

import math

import pytest
import torch

from stemzoo.nets.rvae import RVAE, Code, capacity_loss


@pytest.mark.parametrize("skip", [False, True])
def test_the_decoder_turns_counter_clockwise(skip):
    torch.manual_seed(0)
    net = RVAE(15, latents=2, skip=skip)
    code = torch.tensor([[0.3, 0.5, -1.0]])
    turned = code + torch.tensor([[math.pi / 2, 0.0, 0.0]])
    assert torch.allclose(net.draw(turned), torch.rot90(net.draw(code), 1, (1, 2)), atol=1e-5)


def test_the_offset_is_right_and_down():
    torch.manual_seed(0)
    net = RVAE(21, latents=1, translation=True)
    two_pixels = 2 / 10
    still, moved = net.draw(torch.zeros(1, 4)), net.draw(torch.tensor([[0.0, two_pixels, 0.0, 0.0]]))
    assert torch.allclose(moved[:, :, 2:], still[:, :, :-2], atol=1e-5)
    moved = net.draw(torch.tensor([[0.0, 0.0, two_pixels, 0.0]]))
    assert torch.allclose(moved[:, 2:], still[:, :-2], atol=1e-5)


def test_divergence_vanishes_at_the_prior_and_grows_beside_it():
    net = RVAE(9, latents=2, translation=True, rotation_sigma=0.2)
    prior = Code(torch.zeros(1, 5), net.prior_sigma.log()[None])
    rotation, content = net.divergence(prior)
    assert float(rotation) == pytest.approx(0, abs=1e-6) and float(content) == pytest.approx(0, abs=1e-6)
    wider = prior.log_sigma + torch.tensor([math.log(3), 0, 0, 0, 0])
    assert float(net.divergence(Code(prior.mean, wider))[0]) == pytest.approx(0.5 * (9 - 1) - math.log(3), rel=1e-5)
    free = RVAE(9, latents=2, translation=True, rotation_sigma=0.2, free_angle=True)
    for number, (about_zero, about_itself) in enumerate(((0.5 * 2**2, 0.0), (0.5 * 4**2, 0.5 * 4**2), (0.5 * 4**2, 0.5 * 4**2))):
        away = Code(0.4 * torch.eye(5)[number : number + 1], prior.log_sigma)
        assert float(net.divergence(away)[0]) == pytest.approx(about_zero, rel=1e-5)
        assert float(free.divergence(away)[0]) == pytest.approx(about_itself, rel=1e-5, abs=1e-6)


def test_capacity_loss_is_least_at_the_capacity():
    at = [float(capacity_loss(torch.tensor([value]), 3.0, 10.0)) for value in (2.0, 3.0, 5.0)]
    assert at == [10.0, 0.0, 20.0]


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 13), torch.linspace(-1, 1, 13), indexing="ij")
    images = torch.stack([torch.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.1) for a, b in ((0.5, 0.0), (0.0, -0.4), (-0.3, 0.3), (0.0, 0.0))])
    net = RVAE(13, latents=2, rotation_sigma=1.0)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(400):
        code = net.encode(images)
        loss = net.misfit(net.draw(code.mean), images).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
