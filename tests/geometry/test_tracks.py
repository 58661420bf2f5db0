"""Columns through a stack: drift is found, columns keep their number, those that leave and come back too, newcomers get a new one."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.geometry.tracks import MEMORY, displacement, link

SPACING = 14.0


def lattice(n: int = 12, noise: float = 0.3, seed: int = 0, holes: int = 6) -> np.ndarray:
    """A square lattice with some holes, so that it is not its own image after one period."""
    rng = np.random.default_rng(seed)
    yx = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).reshape(-1, 2) * SPACING + 20.0
    yx = np.delete(yx, rng.choice(len(yx), holes, replace=False), axis=0)
    return yx + rng.normal(0, noise, yx.shape)


@pytest.mark.parametrize("step", [(0.0, 0.0), (3.1, -2.2), (-5.0, 4.0)])
def test_drift_of_a_lattice_is_the_shortest_that_fits(step):
    yx = lattice()
    found = displacement(yx, yx + step, SPACING)
    assert found == pytest.approx(step, abs=0.1)


def test_every_column_keeps_its_number_through_drift():
    yx = lattice()
    drift = np.cumsum(np.random.default_rng(2).normal(0, 2.0, (9, 2)), axis=0)
    drift -= drift[0]
    rng = np.random.default_rng(3)
    order = [rng.permutation(len(yx)) for _ in drift]
    frames = [(yx + step + rng.normal(0, 0.2, yx.shape))[chosen] for step, chosen in zip(drift, order, strict=True)]
    tracks = link(frames)
    assert tracks.n == len(yx)
    assert np.abs(tracks.drift - drift).max() < 0.3
    first = np.empty(len(yx), int)
    first[order[0]] = tracks.track[0]
    for chosen, numbers in zip(order, tracks.track, strict=True):
        assert np.array_equal(numbers, first[chosen])


def test_a_column_that_is_missed_once_is_still_itself_and_one_that_is_gone_is_not():
    yx = lattice(6, noise=0.0, holes=0)
    frames = [yx, yx[1:], yx, *([yx[:-1]] * (MEMORY + 1)), yx]
    tracks = link(frames)
    assert tracks.track[2][0] == tracks.track[0][0]
    assert tracks.track[-1][-1] == len(yx) and tracks.n == len(yx) + 1


@pytest.mark.parametrize(("share", "itself"), [(0.4, True), (0.5, False)])
def test_a_column_that_moved_too_far_against_its_neighbours_is_another(share, itself):
    yx = lattice(8, noise=0.0)
    moved = yx.copy()
    moved[30] += (share * SPACING, 0.0)
    tracks = link([yx, moved])
    others = np.arange(len(yx)) != 30
    assert np.array_equal(tracks.track[0][others], tracks.track[1][others])
    assert (tracks.track[1][30] == tracks.track[0][30]) == itself


def test_most_columns_outvote_those_that_move():
    yx = lattice(10)
    moved = yx + np.array([2.0, 1.0])
    moved[:20] += 4.0
    assert displacement(yx, moved, SPACING) == pytest.approx([2.0, 1.0], abs=0.1)


def test_empty_frames_are_passed_over():
    yx = lattice(5)
    tracks = link([np.zeros((0, 2)), yx, np.zeros((0, 2)), yx + 1.0, np.zeros((0, 2))])
    assert [len(numbers) for numbers in tracks.track] == [0, len(yx), 0, len(yx), 0]
    assert np.array_equal(tracks.track[1], tracks.track[3]) and tracks.n == len(yx)
    assert link([]).n == 0 and link([np.zeros((0, 2))]).n == 0
