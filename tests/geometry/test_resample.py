"""Rescaling keeps columns where they are; cleaning takes hot pixels and leaves columns."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import lattice, scene

from stemzoo.errors import ShapeError
from stemzoo.geometry.peaks import find_peaks
from stemzoo.geometry.resample import clean, rescale, to_original, to_rescaled


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


@pytest.mark.parametrize("counts", [0.02, 0.1, 1, 10, 1000])
def test_poisson_noise_of_any_dose_is_left_alone(counts: float) -> None:
    rng = np.random.default_rng(1)
    yx, amplitude = lattice("perovskite", 12, 256)
    columns = scene(yx, amplitude, 2.0, (256, 256), 0.3).expected
    for frame in (rng.poisson(counts, (256, 256)), rng.poisson(counts * columns)):
        cleaned, touched = clean(frame)
        assert touched.sum() <= 1
        assert np.array_equal(cleaned[~touched], frame.astype(np.float32)[~touched])


@pytest.mark.parametrize("sigma_px", [0.8, 1.1, 1.5])
@pytest.mark.parametrize("counts", [3, 300, 0])
def test_sharp_bright_columns_at_coarse_sampling_are_left_alone(sigma_px: float, counts: int) -> None:
    yx, _ = lattice("square", 9, 200)
    peak = np.where(np.arange(len(yx)) % 40 == 0, 20.0, 1.0)  # a few heavy atoms among light ones
    expected = scene(yx, peak, sigma_px, (200, 200), 0.2).expected
    frame = np.random.default_rng(2).poisson(counts * expected) if counts else expected
    assert clean(frame)[1].sum() <= 1


@pytest.mark.parametrize("counts", [2, 50, 5000, 0])
def test_two_hundred_hot_pixels_go_and_nothing_else(counts: int) -> None:
    rng = np.random.default_rng(3)
    yx, amplitude = lattice("perovskite", 12, 256)
    expected = scene(yx, amplitude, 2.0, (256, 256), 0.3).expected
    frame = (rng.poisson(counts * expected) if counts else expected).astype(np.float32)
    hot = np.zeros(frame.shape, bool)
    hot.ravel()[rng.choice(hot.size, 200, replace=False)] = True
    cleaned, touched = clean(np.where(hot, 5 * frame.max(), frame))
    assert touched[hot].mean() > 0.97
    assert touched[~hot].sum() <= 2
    assert cleaned[touched].max() <= frame.max()


def test_holes_of_any_size_are_filled_from_around_them() -> None:
    frame = np.full((90, 110), 3.0)
    frame[20:50, 30:80] = np.nan
    frame[0, 0] = np.inf
    frame[70, 70] = np.nan
    cleaned, touched = clean(frame)
    assert cleaned == pytest.approx(3.0)
    assert touched.sum() == 30 * 50 + 2
    blind, every = clean(np.full((20, 20), np.nan))
    assert every.all()
    assert np.isfinite(blind).all()
