"""Rescaling keeps columns where they are."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import lattice, scene

from stemzoo.errors import ShapeError
from stemzoo.geometry.peaks import find_peaks
from stemzoo.geometry.resample import rescale, to_original, to_rescaled


@pytest.mark.parametrize("factor", [0.37, 0.5, 0.8, 1.0, 1.3, 2.6])
def test_columns_come_back_to_their_pixels_after_rescaling(factor: float) -> None:
    yx, amplitude = lattice("perovskite", 18, 220, margin_px=16)
    frame = scene(yx, amplitude, 4.0, (220, 240)).expected
    resampled, factors = rescale(frame, factor)
    assert resampled.dtype == np.float32
    assert resampled.shape == (round(220 * factor), round(240 * factor))
    found = to_original(find_peaks(resampled[None], 0.2, 3).yx, factors)
    assert len(found) == len(yx)
    nearest = np.linalg.norm(found[:, None] - yx[None], axis=-1).min(axis=1)
    assert np.sqrt((nearest**2).mean()) < 0.03
    assert to_rescaled(to_original(yx, factors), factors) == pytest.approx(yx)


def test_shrinking_averages_instead_of_aliasing() -> None:
    checkerboard = np.indices((128, 128)).sum(axis=0) % 2 * 2.0 - 1
    shrunk, _ = rescale(checkerboard + 5, 0.45)
    assert np.abs(shrunk - 5).max() < 0.1
    noise = np.random.default_rng(0).normal(0, 1, (256, 256))
    assert rescale(noise, 0.25)[0].std() < 0.3


def test_a_constant_and_a_ramp_survive() -> None:
    y = np.arange(100.0)[:, None] + np.zeros((1, 90))
    for factor in (0.6, 1.7):
        resampled, (fy, _) = rescale(y, factor)
        inner = slice(8, -8)
        rows = (np.arange(resampled.shape[0]) + 0.5) / fy - 0.5
        assert resampled[inner] == pytest.approx(np.broadcast_to(rows[inner, None], resampled[inner].shape), abs=1e-3)
        assert rescale(np.full((40, 50), 7.0), factor)[0] == pytest.approx(7.0, abs=1e-5)


def test_a_factor_of_nothing_is_refused() -> None:
    with pytest.raises(ShapeError, match="factor 0"):
        rescale(np.zeros((20, 20)), 0)
