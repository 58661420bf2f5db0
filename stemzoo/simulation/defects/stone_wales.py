"""Bonds turned by a quarter: two pentagons and two heptagons in a honeycomb."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.simulation.network import relaxed
from stemzoo.simulation.scene import Scene

_REACH = 9.0
"""Atoms up to this far from the turned bond give way [Å]."""


def stone_wales(scene: Scene, rng: np.random.Generator, *, number: float = 1.0) -> Scene:
    """Turn about `number` bonds of a network of three bonds an atom by 90°, and let the surroundings relax.

    A structure whose columns have other than three nearest neighbours is left alone.
    Source: Stone & Wales, Chem. Phys. Lett. 128 (1986) 501.
    """
    for _ in range(max(round(number), 1)):
        inner = np.flatnonzero(scene.of(None) & (np.abs(scene.yx) < 0.45 * scene.extent).all(axis=1))
        if len(inner):
            scene = _turned(scene, int(rng.choice(inner)), rng)
    return scene


def _turned(scene: Scene, first: int, rng: np.random.Generator) -> Scene:
    local = np.flatnonzero(np.linalg.norm(scene.yx - scene.yx[first], axis=1) < 2 * _REACH)
    yx = scene.yx[local]
    tree = cKDTree(yx)
    length = float(np.median(tree.query(yx, k=2)[0][:, 1]))
    bonds = tree.query_pairs(1.3 * length, output_type="ndarray")
    i = int(np.flatnonzero(local == first)[0])
    around_i = _around(bonds, i)
    if len(around_i) != 3:
        return scene
    j = int(rng.choice(around_i))
    around_j = _around(bonds, j)
    if len(around_j) != 3:
        return scene
    middle, half = (yx[i] + yx[j]) / 2, (yx[i] - yx[j]) / 2
    half = np.array([-half[1], half[0]])
    yx[i], yx[j] = middle + half, middle - half
    outer = [k for k in (*around_i, *around_j) if k not in (i, j)]
    to_i = sorted(outer, key=lambda k: float(np.linalg.norm(yx[k] - yx[i]) - np.linalg.norm(yx[k] - yx[j])))[:2]
    kept = bonds[~(np.isin(bonds, [i, j]).any(axis=1))]
    new = [(i, j), *((i, k) for k in to_i), *((j, k) for k in outer if k not in to_i)]
    free = np.linalg.norm(yx - middle, axis=1) < _REACH
    moved = scene.yx.copy()
    moved[local] = relaxed(yx, np.concatenate([kept, np.array(new)]), free, length)
    return replace(scene, yx=moved)


def _around(bonds: np.ndarray, index: int) -> np.ndarray:
    return np.asarray(bonds[(bonds == index).any(axis=1)].sum(axis=1) - index)
