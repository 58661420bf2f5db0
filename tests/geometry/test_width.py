"""Widths and spacings of columns that nobody has found yet."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import lattice, scene

from stemzoo.geometry.scale import scale_to_network
from stemzoo.geometry.width import find_spots, mean_width


@pytest.mark.parametrize("sigma", [1.2, 2.2, 4.5, 9.0])
@pytest.mark.parametrize("counts", [20, 1000])
def test_width_and_spacing_of_a_lattice(sigma: float, counts: float) -> None:
    size = int(max(200, 45 * sigma))
    yx, peak = lattice("perovskite", 6 * sigma, size, margin_px=-5)
    frame = scene(yx, peak * counts, sigma, (size, size), 0.3 * counts).noisy(0)
    spots = find_spots(frame)
    assert spots is not None
    assert spots.sigma_px == pytest.approx(sigma, rel=0.25)
    assert spots.spacing_px == pytest.approx(6 * sigma, rel=0.12)


@pytest.mark.parametrize("sigma", [1.5, 2.5, 4.0])
def test_width_of_single_atoms_on_uneven_carbon(sigma: float) -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:256, :256]
    carbon = 60 * (1 + 0.5 * np.sin(x / 30.0) * np.cos(y / 25.0))
    atoms = scene(rng.uniform(10, 246, (30, 2)), np.full(30, 120.0), sigma, (256, 256), carbon)
    spots = find_spots(atoms.noisy(2))
    assert spots is not None
    assert spots.sigma_px == pytest.approx(sigma, rel=0.25)


def test_noise_has_no_width() -> None:
    rng = np.random.default_rng(2)
    for counts in (5, 100):
        assert find_spots(rng.poisson(counts, (256, 256))) is None
    assert find_spots(np.ones((64, 64))) is None


def test_width_around_known_columns_is_good_enough_to_start_a_fit() -> None:
    for kind, spacing in (("square", 8.0), ("graphene", 3.6), ("dumbbell", 2.6)):
        yx, peak = lattice(kind, spacing * 2.5, 200)
        frame = scene(yx, peak * 100, 2.5, (200, 200), 30.0).noisy(0)
        near = yx + np.random.default_rng(0).normal(0, 0.3, yx.shape)
        assert mean_width(frame, np.ones(frame.shape, bool), near, spacing * 2.5) == pytest.approx(2.5, rel=0.35)


@pytest.mark.parametrize("pixel_size", [0.06, 0.1, 0.2, 0.3])
def test_a_perovskite_without_pixel_size_is_brought_near_to_the_networks_scale(pixel_size: float) -> None:
    size = 400
    yx, peak = lattice("perovskite", 2.76 / pixel_size, size, margin_px=-5)
    frame = scene(yx, peak * 100, 0.45 / pixel_size, (size, size), 30.0).noisy(0)
    scale = scale_to_network(frame, 0.2)
    assert scale is not None
    assert scale.source == "lattice"
    assert scale.factor == pytest.approx(pixel_size / 0.2, rel=0.25)


def test_single_atoms_are_brought_there_by_their_width_and_noise_nowhere() -> None:
    rng = np.random.default_rng(3)
    atoms = scene(rng.uniform(10, 246, (25, 2)), np.full(25, 200.0), 4.5, (256, 256), 50.0)
    scale = scale_to_network(atoms.noisy(0), 0.2)
    assert scale is not None
    assert scale.source == "width"
    assert scale.factor == pytest.approx(0.5, rel=0.25)
    assert scale_to_network(rng.poisson(50, (128, 128)), 0.2) is None


@pytest.mark.parametrize("pixel_size", [0.05, 0.08])
def test_single_counts_of_a_finely_scanned_lattice_are_no_columns(pixel_size: float) -> None:
    """At 300 electrons a column most pixels of such a frame are empty: single counts stand many standard deviations above their rest."""
    size, sigma = round(40 / pixel_size), 0.45 / pixel_size
    yx, peak = lattice("perovskite", 2.76 / pixel_size, size, margin_px=-5)
    counts = 300 / (2 * np.pi * sigma**2)
    frame = scene(yx, peak * counts, sigma, (size, size), 0.2 * counts).noisy(0)
    assert np.median(frame) == 0
    spots = find_spots(frame)
    assert spots is not None
    assert spots.sigma_px == pytest.approx(sigma, rel=0.25)
    assert spots.spacing_px == pytest.approx(2.76 / pixel_size, rel=0.12)


def test_a_hole_around_every_column_leaves_a_width_all_the_same() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    image = rng.poisson(5 + 80 * np.exp(-((y - 32) ** 2 + (x - 32) ** 2) / (2 * 4.0**2))).astype(np.float32)
    usable = np.hypot(y - 32, x - 32) > 3
    width = mean_width(image, usable, np.array([[32.0, 32.0]]), 24.0)
    assert 2.5 < width < 7.0
