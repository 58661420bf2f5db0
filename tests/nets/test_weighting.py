"""The angle's last step: nearer to the truth where columns are displaced, still where nothing is amiss, and no worse at a missing edge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stemzoo.nets.graphs import look
from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.weighting import Weighing, _bins
from stemzoo.simulation.motifs import MOTIFS, Recorded, Recording, record

LAYERED, HEXAGONAL = 1, 2


def errors(net: PolarRVAE, motif: int, truth: Recorded, disorder: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors [rad] before and after the step."""
    with torch.no_grad():
        seen = look(net, net.normalise(torch.from_numpy(truth.images)), net.fixed())
        turn = Weighing(net)(seen.images, seen.posterior.pattern, seen.peak.angle, seen.step, torch.full([len(truth.angle)], disorder))
    fold = MOTIFS[motif].fold
    found = []
    for angle in (seen.peak.angle, seen.peak.angle + turn):
        vectors = np.exp(1j * fold * (angle.numpy() - truth.angle))
        found.append(np.angle(vectors / vectors.mean()) / fold)
    return found[0], found[1]


@pytest.mark.parametrize("motif", [LAYERED, HEXAGONAL])
@pytest.mark.parametrize("offset_px", [0.0, 1.0])
def test_displaced_columns_weigh_alike(motif: int, offset_px: float, knows: Callable[..., PolarRVAE]) -> None:
    truth = record(300, 5, Recording(offset_px=offset_px), (MOTIFS[motif],))
    before, after = errors(knows(motif), motif, truth, 1.0)
    assert after.std() < 0.96 * before.std()


def test_where_noise_is_white_the_likelihood_had_it_right(knows: Callable[..., PolarRVAE]) -> None:
    truth = record(200, 6, Recording(disorder=0.0, offset_px=0.0), (MOTIFS[LAYERED],))
    before, after = errors(knows(LAYERED), LAYERED, truth, 0.0)
    assert after.std() < 1.1 * before.std()


def test_the_line_that_a_moved_sub_image_lacks_has_no_say(knows: Callable[..., PolarRVAE]) -> None:
    net = knows(LAYERED)
    truth = record(8, 7, Recording(offset_px=0.0), (MOTIFS[LAYERED],))
    with torch.no_grad():
        images = net.normalise(torch.from_numpy(truth.images))
        pattern = net.decode(torch.zeros(8, 2), net.fixed()).pattern
        angle, step = torch.from_numpy(truth.angle).float(), torch.tensor([[1.0, -1.0]]).repeat(8, 1)
        spoilt = images.clone()
        spoilt[:, :, -1] = 50.0
        spoilt[:, 0] = 50.0
        weigh, shaken = Weighing(net), torch.ones(8)
        assert torch.equal(weigh(images, pattern, angle, step, shaken), weigh(spoilt, pattern, angle, step, shaken))
        assert not torch.equal(weigh(images, pattern, angle, 0 * step, shaken), weigh(spoilt, pattern, angle, 0 * step, shaken))


@pytest.mark.parametrize("size", [8, 9, 20, 31, 32, 48, 128])
def test_merging_keeps_white_noise_white_and_the_edges_apart(size: int) -> None:
    bins = _bins(size)
    assert np.diag(bins @ bins.T) == pytest.approx(1)
    assert bins[0, 0] == bins[-1, -1] == pytest.approx(1)
    assert len(bins) <= 25
    assert bins**2 @ np.ones(size) == pytest.approx(1)
