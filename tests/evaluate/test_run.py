import numpy as np
import pytest

from stemzoo.evaluate import RESOLVABLE, TOLERANCE
from stemzoo.evaluate.run import _among_resolvable, judge, resolvable
from stemzoo.simulation.bound import Limits

PIXEL = 0.2
SHAPE = (100, 100)


@pytest.fixture
def truth():
    """A square lattice of 3 Å; its first row cannot be placed, its second not told from nothing."""
    axis = np.arange(10, 95, 15.0)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


@pytest.fixture
def limits(truth):
    row = np.unique(truth[:, 0], return_inverse=True)[1]
    position = np.where(row == 0, 2.0, 0.5)[:, None] * np.full((len(truth), 2), RESOLVABLE / PIXEL)
    return Limits(position, np.where(row == 1, 4.0, 6.0), 5.0)


@pytest.fixture
def clear(limits):
    return resolvable(limits, PIXEL)


def test_a_column_is_resolvable_that_can_be_both_told_from_nothing_and_placed(truth, limits, clear):
    assert clear.tolist() == (truth[:, 0] > truth[:, 0].min() + 20).tolist()
    assert not resolvable(limits._replace(detectable=float("inf")), PIXEL).any()
    assert not len(resolvable(Limits(np.zeros((0, 2)), np.zeros(0), float("inf")), PIXEL))


def test_columns_that_no_method_can_place_count_neither_for_nor_against(truth, clear):
    counted = int(clear.sum())
    for located in (truth, truth[clear]):
        judged = judge(located, truth, SHAPE, PIXEL)
        assert _among_resolvable(judged, located, truth, clear, PIXEL) == (counted, counted, counted)


def test_a_column_located_beside_one_that_cannot_be_placed_is_no_mistake_but_one_elsewhere_is(truth, clear):
    counted = int(clear.sum())
    beside = truth[~clear][:1] + np.array([0, 1.5 * TOLERANCE / PIXEL])
    between = truth[clear][-1:] - 7.5
    located = np.concatenate([truth[clear][1:], beside, between])
    judged = judge(located, truth, SHAPE, PIXEL)
    assert _among_resolvable(judged, located, truth, clear, PIXEL) == (counted - 1, counted, counted)
    assert len(judged.false) == 2


def test_one_missed_is_missed_where_all_can_be_placed(truth):
    judged = judge(truth[1:], truth, SHAPE, PIXEL)
    everywhere = np.ones(len(truth), dtype=bool)
    assert _among_resolvable(judged, truth[1:], truth, everywhere, PIXEL) == (len(truth) - 1, len(truth) - 1, len(truth))
