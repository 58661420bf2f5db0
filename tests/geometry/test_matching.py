"""Who is who among found and true columns: one to one, nearest first, as a slow loop would do it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemzoo.geometry.matching import match, scores
from stemzoo.geometry.neighbours import nearest_distance, pairs_among, pairs_within


def _pairs(pairs: list[tuple[float, int, int]], tolerance: float) -> set[tuple[int, int]]:
    chosen: set[tuple[int, int]] = set()
    for distance, i, j in pairs:
        if distance <= tolerance and all(i != a and j != b for a, b in chosen):
            chosen.add((i, j))
    return chosen


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 25), st.integers(0, 25))
def test_matches_are_those_of_a_one_by_one_greedy_pass(seed: int, n_found: int, n_true: int) -> None:
    rng = np.random.default_rng(seed)
    found, true = rng.uniform(0, 10, (n_found, 2)), rng.uniform(0, 10, (n_true, 2))
    pairs = match(found, true, 2.0)
    expected = _pairs(sorted((math.dist(f, t), i, j) for i, f in enumerate(found) for j, t in enumerate(true)), 2.0)
    assert set(zip(pairs.found.tolist(), pairs.truth.tolist(), strict=True)) == expected


def test_scores_of_a_known_case() -> None:
    true = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [30.0, 0.0]])
    found = np.array([[0.3, 0.4], [10.3, -0.4], [10.9, 0.0], [50.0, 0.0]])
    result = scores(found, true, 1.0)
    assert (result.precision, result.recall, result.f1) == (0.5, 0.5, 0.5)
    assert result.rmse_px == pytest.approx(math.sqrt((0.09 + 0.16) / 2))
    assert result.bias_px == pytest.approx([0.3, 0.0])


def test_empty_sides_give_no_match_and_no_number() -> None:
    none = np.zeros((0, 2))
    assert scores(none, none, 1.0).n_matched == 0
    assert math.isnan(scores(none, none, 1.0).f1)
    assert scores(none, np.zeros((3, 2)), 1.0).recall == 0
    assert scores(np.zeros((3, 2)), none, 1.0).precision == 0


def test_pairs_are_complete_against_brute_force() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.uniform(-50, 70, (200, 2)), rng.uniform(-20, 90, (150, 2))
    pairs = pairs_within(a, b, 7.5)
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == set(
        zip(*(i.tolist() for i in np.nonzero(distance <= 7.5)), strict=True)
    )
    assert np.allclose(pairs.distance, distance[pairs.first, pairs.second])


def test_nearest_distances_agree_with_brute_force_at_any_first_guess() -> None:
    rng = np.random.default_rng(4)
    points = rng.uniform(0, 300, (120, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(120) * 1e9
    for guess in (1.0, 20.0, 500.0):
        assert np.allclose(nearest_distance(points, guess), distance.min(axis=1))
    assert np.isinf(nearest_distance(points[:1], 5.0)).all()
    assert len(pairs_among(points, 30.0).first) == ((distance <= 30).sum())


def test_a_hundred_thousand_columns_match_in_a_moment() -> None:
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(np.arange(300), np.arange(300), indexing="ij"), axis=-1).reshape(-1, 2) * 9.0
    result = scores(grid + rng.normal(0, 0.3, grid.shape), grid, 3.0)
    assert result.f1 == 1.0
    assert result.rmse_px == pytest.approx(0.3, rel=0.02)
