"""The noise model against noise of known gain, offset and readout."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import lattice, scene

from stemzoo.geometry.noise import _autocorrelation, fit_variance, flat
from stemzoo.geometry.refine import refine


@pytest.mark.parametrize(("gain", "readout", "offset"), [(1.0, 0.0, 0.0), (12.0, 30.0, -500.0), (0.02, 0.5, 100.0)])
def test_gain_and_readout_noise_are_recovered_whatever_the_zero_of_the_detector(gain: float, readout: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    counts = rng.uniform(5, 80, 60_000)
    expected = gain * counts + offset
    frame = gain * rng.poisson(counts) + offset + rng.normal(0, readout, counts.shape)
    model = fit_variance(expected, (frame - expected) ** 2, 1e-12)
    assert model(expected.copy()) == pytest.approx(gain**2 * counts + readout**2, rel=0.12)


def test_a_few_outliers_do_not_count_as_noise() -> None:
    rng = np.random.default_rng(1)
    expected = rng.uniform(0, 1, 20_000)
    squared = rng.normal(0, 0.1, expected.shape) ** 2
    squared[::100] = 50.0
    assert fit_variance(expected, squared, 1e-12)(np.array([0.2, 0.8])) == pytest.approx(0.01, rel=0.1)


def test_noiseless_and_tiny_samples_get_the_smallest_variance_or_a_flat_one() -> None:
    assert fit_variance(np.linspace(0, 1, 1000), np.zeros(1000), 1e-8)(np.array([0.5])) == pytest.approx(1e-8)
    assert fit_variance(np.ones(20), np.full(20, 4.0), 1e-8)(np.array([1.0, 7.0])) == pytest.approx(4.0)
    assert flat(2.0)(np.array([-5.0, 5.0])) == pytest.approx(2.0)


def test_windows_are_correlated_with_themselves_alone_and_not_around_their_edges() -> None:
    windows = np.random.default_rng(2).normal(0, 1, (3, 6, 6)).astype(np.float32)
    lags = np.mgrid[-2:3, -2:3].reshape(2, -1)
    expected = []
    for dy, dx in lags.T:
        one = windows[:, max(0, dy) : 6 + min(0, dy), max(0, dx) : 6 + min(0, dx)]
        other = windows[:, max(0, -dy) : 6 + min(0, -dy), max(0, -dx) : 6 + min(0, -dx)]
        expected.append((one * other).sum())
    assert _autocorrelation(windows, *lags) == pytest.approx(np.array(expected), abs=1e-4)


@pytest.mark.parametrize(("kind", "separation"), [("square", 7.0), ("perovskite", 5.5), ("honeycomb", 4.0)])
def test_independent_noise_widens_no_error(kind: str, separation: float) -> None:
    yx, amplitude = lattice(kind, 3 * separation, 300)
    truth = scene(yx, 50 * amplitude, 3.0, (300, 300), 10.0)
    scores = []
    for seed in range(6):
        fit = refine(truth.noisy(seed), truth.starts(seed, 0.25))
        scores.append(((fit.yx - yx) / fit.sigma)[fit.ok])
    assert 0.95 < np.concatenate(scores).std() < 1.05
