"""Folding an image by its mirror symmetries loses nothing: matrices split by parity give what whole ones give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stemzoo.nets.mirror import fold, fold_anew, parts, split_drawing, split_form, split_reading, unfold
from stemzoo.nets.polar_grid import PolarGrid
from stemzoo.nets.recut import recut

SIZES = [20, 21]


@pytest.mark.parametrize("size", SIZES)
def test_four_small_matrices_read_what_a_large_one_reads(size):
    grid = PolarGrid(size)
    images, columns = torch.randn(3, size, size, dtype=torch.double), parts(grid.ring_and_order[1])
    assert sorted(np.concatenate(columns).tolist()) == list(range(grid.size))
    wanted = images.flatten(1).numpy() @ grid.projection
    for folded, matrix, chosen in zip(fold(images), split_reading(grid.projection, size, columns), columns, strict=True):
        assert folded.numpy() @ matrix == pytest.approx(wanted[:, chosen], abs=1e-10)


@pytest.mark.parametrize("size", SIZES)
def test_four_small_matrices_draw_what_a_large_one_draws(size):
    grid = PolarGrid(size)
    pattern, rows = np.random.default_rng(0).normal(size=(2, grid.size)), parts(grid.ring_and_order[1])
    quadrants = [
        torch.from_numpy(pattern[:, chosen] @ matrix)
        for chosen, matrix in zip(rows, split_drawing(grid.rendering, size, rows), strict=True)
    ]
    assert unfold(quadrants, size).reshape(2, -1).numpy() == pytest.approx(pattern @ grid.rendering, abs=1e-10)


@pytest.mark.parametrize("size", SIZES)
def test_a_sum_of_squares_over_a_symmetric_set_of_points_is_kept(size):
    grid = PolarGrid(size)
    points = grid.samples(np.arange(grid.n_inner, len(grid.radii_px)), 64).reshape(-1, size * size).T
    images = torch.randn(2, size, size, dtype=torch.double)
    wanted = ((images.flatten(1).numpy() @ points) ** 2).sum(axis=1)
    found = sum(((folded.numpy() @ root) ** 2).sum(axis=1) for folded, root in zip(fold(images), split_form(points, size), strict=True))
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_moving_and_folding_at_once_is_folding_what_was_cut_anew(size):
    step = torch.tensor([[right, down] for right in (-1, 0, 1) for down in (-1, 0, 1)])
    images = torch.randn(len(step), size, size)
    for found, wanted in zip(fold_anew(images, step), fold(recut(images, step)), strict=True):
        assert found.numpy() == pytest.approx(wanted.numpy(), abs=1e-5)
