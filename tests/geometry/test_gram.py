"""Sums over windows seen from another point are as if taken there, and normal equations those of the model's own derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.geometry.columnmodel import State, normal_equations, pair_blocks, render
from stemzoo.geometry.gram import as_gram, basis, moved, recentred, uneven_moved, whitening
from stemzoo.geometry.neighbours import pairs_among
from stemzoo.geometry.windows import Windows

SHAPE = np.array([[7.0, 1.5], [1.5, 5.0]])


@pytest.fixture
def window() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets of a window's pixels and weights for three columns."""
    dy, dx = (axis.ravel() for axis in np.mgrid[-5:6, -4:5])
    return dy, dx, np.random.default_rng(0).uniform(0.1, 1, (3, dy.size))


def test_in_its_own_sigmas_a_peak_is_round(window: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    dy, dx, _ = window
    apart = np.stack([dy, dx])
    r = basis(dy, dx, whitening(SHAPE)).values[3]
    assert r == pytest.approx(np.einsum("im,ij,jm->m", apart, np.linalg.inv(SHAPE), apart), rel=1e-5)


def test_sums_move_as_if_they_had_been_taken_elsewhere(window: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    dy, dx, weight = window
    at = basis(dy, dx, np.eye(2))
    here, there = np.random.default_rng(1).uniform(-1, 1, (2, 2, 3))

    def about(point: np.ndarray) -> np.ndarray:
        u, v = dy[:, None] - point[0], dx[:, None] - point[1]
        return np.stack([u, v, np.ones_like(u), u * u + v * v])

    gram = recentred(as_gram(weight @ at.products), here, there)
    assert gram == pytest.approx(np.einsum("amn,nm,bmn->abn", about(here), weight, about(there)), rel=1e-5, abs=1e-3)
    sums, uneven = np.split((weight @ at.pulling).T, [4])
    assert moved(sums, here) == pytest.approx(np.einsum("amn,nm->an", about(here), weight), rel=1e-5, abs=1e-3)
    u, v = about(here)[:2]
    expected = np.stack([np.einsum("mn,nm->n", part, weight) for part in (u * u - v * v, u * v)])
    assert uneven_moved(uneven, sums, here) == pytest.approx(expected, rel=1e-5, abs=1e-3)


def test_normal_equations_are_those_of_the_models_numerical_derivatives() -> None:
    yx = np.array([[20.3, 21.1], [24.2, 30.7]])
    state = State(yx, np.array([1.0, 0.6]), np.array([0.05, -0.1]), SHAPE)
    rng = np.random.default_rng(2)
    windows = Windows(rng.normal(0, 1, (48, 52)).astype(np.float32), np.ones((48, 52), bool), yx, 2.4)
    weight = (rng.uniform(0.5, 1.5, windows.image.shape) * windows.covered).astype(np.float32)
    residual = windows.image * windows.covered
    normal = normal_equations(state, windows, residual, weight)
    root, size = np.linalg.cholesky(SHAPE), 1e-2

    def derivative(column: int, parameter: int) -> np.ndarray:
        """Of the padded frame by a column's place in sigmas, amplitude or log width."""
        drawn = []
        for sign in (1, -1):
            parts = [np.array(array, dtype=float) for array in (state.yx, state.amplitude, state.log_width)]
            if parameter < 2:
                parts[0][column] += sign * size * root[:, parameter]
            else:
                parts[parameter - 1][column] += sign * size
            frame = np.empty_like(windows.image)
            render(State(*parts, SHAPE), windows, frame)
            drawn.append(frame.astype(float))
        return (drawn[0] - drawn[1]) / (2 * size)

    masks, slopes = [], []
    for column in range(2):
        mask = np.zeros(windows.image.size, bool)
        mask[windows.flat_index(slice(column, column + 1), windows.fit_y, windows.fit_x)] = True
        masks.append(mask.reshape(windows.image.shape))
        slopes.append([derivative(column, parameter) for parameter in range(4)])
        expected = np.array([[(masks[-1] * weight * a * b).sum() for a in slopes[-1]] for b in slopes[-1]])
        assert normal.own[:, :, column] == pytest.approx(expected, rel=2e-3, abs=2e-3 * expected.max())
        gradient = [(masks[-1] * weight * residual * slope).sum() for slope in slopes[-1]]
        assert normal.gradient[:, column] == pytest.approx(gradient, abs=2e-3 * np.abs(gradient).max())
    pairs = pairs_among(yx, 20.0)
    blocks = pair_blocks(state, windows, weight, pairs)
    for k, (first, second) in enumerate(zip(pairs.first, pairs.second, strict=True)):
        both = masks[0] & masks[1]
        expected = np.array([[(both * weight * a * b).sum() for b in slopes[second]] for a in slopes[first]])
        assert blocks[:, :, k] == pytest.approx(expected, abs=4e-3 * np.abs(expected).max())
