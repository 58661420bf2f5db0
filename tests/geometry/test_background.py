"""The smooth background under the columns: what its equations weigh."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.geometry import background


def test_nodes_resist_bending_along_both_axes_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    surface = {}
    for name, roughness in (("stiff", background.ROUGHNESS), ("loose", 0.0)):
        monkeypatch.setattr(background, "ROUGHNESS", roughness)
        surface[name] = background.Background((90, 140), 12.0, 0.0)
        surface[name].weigh(np.ones((90, 140), np.float32))
    grid = np.random.default_rng(3).normal(size=surface["stiff"].count)
    second = [np.diff(grid, 2, axis=axis) for axis in (0, 1)]
    paid = surface["stiff"].stiff * sum(float((part**2).sum()) for part in second)
    vector = grid.ravel()
    difference = vector @ surface["stiff"].product(vector) - vector @ surface["loose"].product(vector)
    np.testing.assert_allclose(difference, paid, rtol=1e-9)
    unit = np.eye(grid.size)
    every = np.array([row @ surface["stiff"].product(row) for row in unit])
    np.testing.assert_allclose(surface["stiff"].diagonal(), every, rtol=1e-9)


def test_the_equations_are_those_of_every_pixel_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "ROUGHNESS", 0.0)
    monkeypatch.setattr(background, "BLOCK", 20)  # so that nodes meet across blocks
    surface = background.Background((50, 70), 12.0, 0.0)
    weight = np.random.default_rng(4).uniform(0.1, 1, (50, 70)).astype(np.float32)
    surface.weigh(weight)
    drawn = []
    for unit in np.eye(surface.values.size):
        surface.values = unit.reshape(surface.count)
        drawn.append(np.zeros((50, 70), np.float32))
        surface.draw(drawn[-1])
    expected = np.einsum("aij,ij,bij->ab", drawn, weight, drawn) * (1 + surface.damping)
    made = np.array([surface.product(unit) for unit in np.eye(surface.values.size)])
    np.testing.assert_allclose(made, expected, atol=1e-5 * expected.max())
