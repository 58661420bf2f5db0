"""A vicinity knows the pairs of points that move without looking for them each time."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.geometry import neighbours
from stemzoo.geometry.neighbours import Vicinity, nearest_distance, pairs_among


def test_pairs_of_points_that_move_are_those_of_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, searches = np.random.default_rng(0), []
    monkeypatch.setattr(neighbours, "pairs_among", lambda yx, radius: searches.append(radius) or pairs_among(yx, radius))
    points, vicinity = rng.uniform(0, 100, (400, 2)), Vicinity()
    for moved, radius in ((0.0, 6.0), (0.05, 6.0), (0.05, 6.0), (3.0, 6.0), (0.05, 8.0), (0.05, 5.0)):
        points = points + rng.normal(0, moved, points.shape)
        found, wanted = vicinity.among(points, radius), pairs_among(points, radius)
        assert set(zip(found.first, found.second, strict=True)) == set(zip(wanted.first, wanted.second, strict=True))
        assert (np.diff(found.first * 1000 + found.second) > 0).all()
        assert found.distance == pytest.approx(np.hypot(*(points[found.first] - points[found.second]).T))
    assert len(searches) == 3  # at first, after the long move and for the larger radius
    more = rng.uniform(0, 100, (401, 2))
    assert len(vicinity.among(more, 5.0).first) == len(pairs_among(more, 5.0).first)


def test_the_nearest_other_point_is_found_however_far_the_guess_is_off() -> None:
    points = np.random.default_rng(1).uniform(0, 100, (200, 2))
    apart = np.hypot(*(points[:, None] - points).transpose(2, 0, 1)) + np.diag(np.full(200, np.inf))
    for guess in (0.5, 7.0, 60.0):
        assert nearest_distance(points, guess) == pytest.approx(apart.min(axis=1))
    assert np.isinf(nearest_distance(points[:1], 5.0)).all()
