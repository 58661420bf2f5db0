"""The smooth background under the columns: what its equations weigh."""

import numpy as np

from stemzoo.geometry import background


def test_nodes_resist_bending_along_both_axes_and_nothing_else(monkeypatch):
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
