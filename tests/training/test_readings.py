"""Readings that are kept are those that would be made anew, to the last bit, and are made anew where a sub-image is cut otherwise."""

from __future__ import annotations

import pytest
import torch

from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.recut import recut
from stemzoo.training.readings import Readings

N = 60


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(N, 20, 20, generator=torch.Generator().manual_seed(3))


def test_kept_or_read_the_numbers_are_the_same(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    net = PolarRVAE(20)
    keeping, reading = Readings(net, N, 100), Readings(net, N, 0)
    assert keeping.keeps and not reading.keeps
    generator = torch.Generator().manual_seed(5)
    step = torch.zeros(N, 2, dtype=torch.int8)
    for epoch in range(4):
        number = torch.randperm(N, generator=generator)[:40]
        step[number[: 10 * epoch]] = torch.randint(-1, 2, (10 * epoch, 2), generator=generator, dtype=torch.int8)
        for kept, read in zip(
            keeping.read(images[number], number, step[number]), reading.read(images[number], number, step[number]), strict=True
        ):
            assert torch.equal(kept, read)


def test_what_is_known_is_not_read_again(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    net, rows = PolarRVAE(20), []
    readings = Readings(net, N, 100)
    once = PolarRVAE.coefficients
    monkeypatch.setattr(PolarRVAE, "coefficients", lambda self, x: rows.append(len(x)) or once(self, x))
    number, step = torch.arange(N), torch.zeros(N, 2, dtype=torch.int8)
    readings.read(images, number, step)
    readings.read(images, number, step)
    assert rows == [N]
    step[7] = 1
    moved = readings.read(images, number, step).coefficients[7]
    assert rows == [N, 32]
    assert torch.allclose(moved, once(net, recut(net.normalise(images[7:8]), step[7:8].float()))[0], atol=1e-5)
