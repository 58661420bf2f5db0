"""The polar grid: sums over pixels survive, turning is a phase, gradients are gradients, for odd and even windows of any size."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.nets.polar_grid import PolarGrid


def blobs(size: int, turn: float = 0.0, right: float = 0.0, up: float = 0.0) -> np.ndarray:
    """(size²,) smooth asymmetric pattern well inside the window, turned counter-clockwise, then shifted [px]."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    image = np.zeros((size, size))
    for u, v, height in ((0.22, 0.08, 1.0), (-0.1, 0.24, 0.7), (-0.05, -0.2, 0.4), (0.0, 0.0, 1.0)):
        a, b = np.cos(turn) * u - np.sin(turn) * v, np.sin(turn) * u + np.cos(turn) * v
        distance = (x - right - a * size) ** 2 + (-y - up - b * size) ** 2
        image += height * np.exp(-distance / (2 * max(0.07 * size, 1.8) ** 2))
    return image.ravel()


@pytest.mark.parametrize("size", [16, 21, 32, 33, 64])
def test_dot_products_of_images_are_those_of_coefficients(size):
    grid = PolarGrid(size)
    one, two = blobs(size) @ grid.projection, blobs(size, 0.7) @ grid.projection
    assert one @ two == pytest.approx(blobs(size) @ blobs(size, 0.7), rel=0.03)


@pytest.mark.parametrize("size", [21, 32, 64])
def test_turning_counter_clockwise_multiplies_order_m_by_a_phase(size):
    grid = PolarGrid(size)
    ring, order = grid.ring_and_order
    half = len(ring)
    before, after = blobs(size) @ grid.projection, blobs(size, 0.5) @ grid.projection
    turned = (before[:half] - 1j * before[half:]) * np.exp(-0.5j * order)
    error = turned - (after[:half] - 1j * after[half:])
    inner = ring < grid.n_inner
    assert np.linalg.norm(error[inner]) < 0.02 * np.linalg.norm(after)


def test_gradient_predicts_a_small_shift():
    grid = PolarGrid(32)
    here = blobs(32) @ grid.projection
    along_x, along_y = np.split(here @ grid.gradient, 2)
    seen = np.tile(grid.ring_and_order[0] < grid.n_inner - 1, 2)
    moved = (blobs(32, right=0.2, up=-0.1) @ grid.projection - here)[seen]
    predicted = (-0.2 * along_x + 0.1 * along_y)[seen]
    assert np.linalg.norm(moved - predicted) < 0.15 * np.linalg.norm(moved)


def test_rendering_brings_the_image_back():
    grid = PolarGrid(32)
    image = blobs(32)
    y, x = np.mgrid[:32, :32] - 15.5
    disc = np.hypot(y, x).ravel() < 15
    assert np.abs((image @ grid.projection) @ grid.rendering - image)[disc].max() < 0.05


def test_white_noise_stays_white():
    grid = PolarGrid(32)
    variance = (grid.projection**2).sum(axis=0)
    ring = np.tile(grid.ring_and_order[0], 2)
    used = variance[(ring > 1) & (ring < grid.n_inner) & (variance > 0)]
    assert 0.5 < np.median(used) < 1.5


@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_mask_is_nowhere_negative_and_holds_only_the_orders_that_are_kept(size):
    grid = PolarGrid(size)
    mask = grid.mask(256)
    assert mask.min() >= 0 and mask.max() <= 1
    spectrum = np.abs(np.fft.rfft(mask, axis=1)) / 256
    kept = np.arange(0, grid.n_orders, 4)
    assert np.delete(spectrum, kept, axis=1).max() < 1e-3
    assert mask[: grid.n_inner - 1] == pytest.approx(1)
