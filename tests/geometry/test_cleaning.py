"""Cleaning takes hot pixels and fills holes; it leaves columns and noise."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import lattice, scene

from stemzoo.geometry.cleaning import clean


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


def lone_pixels(frame: np.ndarray) -> np.ndarray:
    """The rule of `clean`, pixel by pixel: (H, W) mask of hot and dead ones."""
    found = np.zeros(frame.shape, bool)
    for signed in (np.pad(frame, 1, mode="reflect"), -np.pad(frame, 1, mode="reflect")):
        centre = signed[1:-1, 1:-1]
        views = [signed[1 + dy :, 1 + dx :][: frame.shape[0], : frame.shape[1]] for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
        around = np.sort(views, axis=0)
        usual = (centre - around[-1])[centre > around[-1]]
        if len(usual) == 0:
            continue
        median, high = np.percentile(usual, (50, 95))
        limit = 5.0 * min(high, 4.3 * median)
        found |= (centre - around[-2] > limit) & (centre - around[-2] > 3.0 * (around[-2] - around[0]))
    return found


@pytest.mark.parametrize("sigma_px", [0.6, 2.0, 6.0])
@pytest.mark.parametrize("counts", [0.1, 20, 2000, 0])
def test_every_pixel_is_judged_by_its_eight_neighbours(counts: float, sigma_px: float) -> None:
    rng = np.random.default_rng(5)
    yx, amplitude = lattice("perovskite", 14, 190)
    expected = scene(yx, amplitude, sigma_px, (170, 190), 0.2).expected
    frame = (rng.poisson(counts * expected) if counts else 100 * expected).astype(np.float32)
    top = frame.max()
    frame.ravel()[rng.choice(frame.size, 150, replace=False)] = rng.uniform(-2 * top, 3 * top, 150)
    rim = [(0, 0), (0, 60), (60, 0), (-1, 90), (90, -1), (-1, -1)]  # beyond an edge lies what is within
    pairs = [(40, 40), (40, 41), (70, 70), (71, 69)]
    for place in rim + pairs:
        frame[place] = 60 * top
    frame[100, 100:103] = 60 * top  # three in a row
    touched = clean(frame)[1]
    assert np.array_equal(touched, lone_pixels(frame))
    assert all(touched[place] for place in rim + pairs) and not touched[100, 101]


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
