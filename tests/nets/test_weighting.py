"""The angle's last step: nearer to the truth where columns are displaced, still where nothing is amiss, and no worse at a missing edge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stemzoo.nets.condensed import Condensed
from stemzoo.nets.polar import PolarRVAE
from stemzoo.simulation.motifs import MOTIFS, Recorded, Recording, record

LAYERED, HEXAGONAL = 1, 2


def errors(net: PolarRVAE, motif: int, truth: Recorded) -> tuple[np.ndarray, np.ndarray]:
    """Errors [rad] before and after the step."""
    with torch.no_grad():
        condensed = Condensed(net)
        seen = condensed.look(torch.from_numpy(truth.images))
        turn = condensed.weighing(seen.coefficients, seen.drawn.span, seen.drawn.expected, seen.peak)
    fold = MOTIFS[motif].fold
    found = []
    for angle in (seen.peak.angle, seen.peak.angle + turn):
        vectors = np.exp(1j * fold * (angle.numpy() - truth.angle))
        found.append(np.angle(vectors / vectors.mean()) / fold)
    return found[0], found[1]


def shaken(net: PolarRVAE) -> PolarRVAE:
    """The network, told that almost all of the angle's variance is disorder's."""
    with torch.no_grad():
        net.inflation[2].bias.fill_(4.0)
    return net


@pytest.mark.parametrize("motif", [LAYERED, HEXAGONAL])
@pytest.mark.parametrize("offset_px", [0.0, 1.0])
def test_displaced_columns_weigh_alike(motif: int, offset_px: float, knows: Callable[..., PolarRVAE]) -> None:
    truth = record(300, 5, Recording(offset_px=offset_px), (MOTIFS[motif],))
    before, after = errors(shaken(knows(motif)), motif, truth)
    assert after.std() < 0.96 * before.std()


def test_where_noise_is_white_the_likelihood_had_it_right(knows: Callable[..., PolarRVAE]) -> None:
    truth = record(200, 6, Recording(disorder=0.0, offset_px=0.0), (MOTIFS[LAYERED],))
    before, after = errors(knows(LAYERED), LAYERED, truth)
    assert after.std() < 1.1 * before.std()


@pytest.mark.parametrize("told", [0.0, 4.0])
def test_one_step_takes_back_a_small_turn_and_no_shift(told: float, knows: Callable[..., PolarRVAE]) -> None:
    net = knows(LAYERED)
    truth = record(60, 7, Recording(disorder=0.0, offset_px=0.4, dose=1e6), (MOTIFS[LAYERED],))
    images = torch.from_numpy(truth.images / 1e6 * 200)
    with torch.no_grad():
        net.inflation[2].bias.fill_(told)
        condensed = Condensed(net)
        seen = condensed.look(images)
        given = seen.coefficients, seen.drawn.span, seen.drawn.expected
        still, turned = (condensed.weighing(*given, seen.peak._replace(angle=seen.peak.angle + by)) for by in (0.0, 0.01))
    assert np.degrees(still.abs().max().item()) < 0.25
    back = (turned - still).numpy() / -0.01
    assert back.mean() == pytest.approx(1, abs=0.15)
    assert ((back > 0.7) & (back < 1.1)).all()
