"""Probability maps whose maxima were placed at known sub-pixel positions."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import lattice, scene

from stemzoo.errors import ShapeError
from stemzoo.geometry.matching import scores
from stemzoo.geometry.peaks import agreement, find_peaks


def _heat(yx: np.ndarray, height: np.ndarray, sigma: float = 1.75, size: int = 128) -> np.ndarray:
    return scene(yx, height, sigma, (size, size)).expected.astype(np.float32)


def test_isolated_maxima_are_found_to_a_thousandth_of_a_pixel() -> None:
    yx, _ = lattice("square", 12, 128)
    found = find_peaks(_heat(yx, np.full(len(yx), 0.9))[None], 0.5, 4)
    result = scores(found.yx, yx, 1.0)
    assert result.f1 == 1.0
    assert result.rmse_px < 0.002
    assert found.confidence == pytest.approx(0.9, abs=0.09)
    assert (np.diff(found.yx[:, 0]) >= 0).all()


def test_species_is_the_channel_that_is_highest_at_the_maximum_and_confidence_is_the_sum() -> None:
    yx = np.array([[30.2, 40.7], [80.4, 90.1], [60.0, 20.0]])
    bright, faint = _heat(yx, np.array([0.7, 0.2, 0.5])), _heat(yx, np.array([0.2, 0.6, 0.5]) * [1, 1, 0.8])
    found = find_peaks(np.stack([bright, faint]), 0.3, 4)
    assert found.species.tolist() == [0, 0, 1]
    assert found.confidence[0] == pytest.approx(0.9, abs=0.03)


def test_of_two_within_the_separation_the_higher_stays() -> None:
    yx = np.array([[50.0, 50.0], [50.0, 56.0]])
    heat = _heat(yx, np.array([0.6, 0.9]), sigma=1.2)
    assert len(find_peaks(heat[None], 0.3, 5).yx) == 2
    kept = find_peaks(heat[None], 0.3, 7).yx
    assert kept == pytest.approx(np.array([[50.0, 56.0]]), abs=0.02)


def test_a_chain_of_close_maxima_keeps_every_second() -> None:
    x = 20 + 5.0 * np.arange(5)
    heights = np.array([0.9, 0.5, 0.8, 0.4, 0.7])
    kept = find_peaks(_heat(np.stack([np.full(5, 64.0), x], 1), heights, sigma=1.0)[None], 0.3, 6).yx
    assert kept[:, 1] == pytest.approx(x[::2], abs=0.05)


def test_a_saturated_plateau_gives_its_middle_once() -> None:
    heat = np.minimum(_heat(np.array([[40.3, 60.6]]), np.array([3.0])), 1.0)
    found = find_peaks(heat[None], 0.5, 6)
    assert len(found.yx) == 1
    assert np.abs(found.yx - [40.3, 60.6]).max() < 0.5


def test_the_rim_is_searched_and_noise_below_the_threshold_is_not() -> None:
    heat = _heat(np.array([[0.0, 64.0], [127.0, 127.0]]), np.array([0.8, 0.8]))
    heat += np.random.default_rng(0).uniform(0, 0.1, heat.shape).astype(np.float32)
    assert len(find_peaks(heat[None], 0.4, 4).yx) == 2
    assert len(find_peaks(np.zeros((2, 32, 32), np.float32), 0.0, 3).yx) == 0


def test_a_map_without_channels_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(32, 32\).*\(C, H, W\)"):
        find_peaks(np.zeros((32, 32)), 0.5, 3)


def test_a_network_agrees_if_its_own_map_is_high_there_or_beside_it() -> None:
    members = np.zeros((4, 20, 20), np.float32)
    members[0, 5, 5] = members[1, 6, 5] = members[2, 9, 5] = 0.9  # here, beside it, elsewhere, nowhere
    members[3, 19, 19] = 0.9
    np.testing.assert_allclose(agreement(members, np.array([[5.2, 4.9], [19.4, 19.0]]), 0.5), [0.5, 0.25])
