"""Angles modulo 2π/n: what comes back from a turn is the turn, whatever the branch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemzoo.geometry.angles import difference, mean, spread, wrap

turns = st.floats(-50, 50, allow_nan=False)
orders = st.integers(1, 6)


@given(turns, orders)
def test_wrapped_angles_lie_in_the_half_open_interval_and_differ_by_whole_periods(angle: float, symmetry: int) -> None:
    period = 2 * math.pi / symmetry
    wrapped = float(wrap(np.array(angle), symmetry))
    assert -period / 2 < wrapped <= period / 2 + 1e-12
    assert abs((angle - wrapped) / period - round((angle - wrapped) / period)) < 1e-9


def test_half_a_turn_is_positive() -> None:
    assert np.allclose(wrap(np.array([math.pi, -math.pi, 3 * math.pi])), math.pi)


@given(turns, st.floats(-0.4, 0.4), orders)
def test_a_small_turn_is_recovered_across_the_branch(angle: float, step: float, symmetry: int) -> None:
    step /= symmetry
    assert float(difference(np.array(angle + step), np.array(angle), symmetry)) == pytest.approx(step, abs=1e-9)


def test_symmetry_may_differ_from_angle_to_angle() -> None:
    assert np.allclose(wrap(np.full(3, 1.0), np.array([1, 2, 4])), [1.0, 1.0, 1.0 - math.pi / 2])


@pytest.mark.parametrize("symmetry", [1, 2, 3, 4, 6])
def test_mean_and_spread_of_noisy_angles_around_the_branch(symmetry: int) -> None:
    rng = np.random.default_rng(symmetry)
    true, sigma = math.pi / symmetry - 0.01, 0.1
    angles = true + rng.normal(0, sigma, 4000) + rng.integers(0, symmetry, 4000) * 2 * math.pi / symmetry
    assert abs(float(difference(np.array(mean(angles, symmetry)), np.array(true), symmetry))) < 0.01
    assert spread(angles, symmetry) == pytest.approx(sigma, rel=0.05)


def test_weights_and_the_absence_of_a_direction() -> None:
    assert mean(np.array([0.0, 1.0]), weights=np.array([1.0, 0.0])) == pytest.approx(0.0)
    assert math.isnan(mean(np.array([0.0, math.pi])))
    assert math.isnan(mean(np.zeros(0)))
    assert math.isinf(spread(np.zeros(0)))
