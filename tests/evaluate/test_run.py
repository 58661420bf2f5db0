import numpy as np
import pytest

from stemzoo.evaluate import RESOLVABLE, TOLERANCE
from stemzoo.evaluate.run import _among_resolvable, judge

PIXEL = 0.2
SHAPE = (100, 100)


@pytest.fixture
def truth():
    """A square lattice of 3 Å; its first row is too faint to be located."""
    axis = np.arange(10, 95, 15.0)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


@pytest.fixture
def bound(truth):
    faint = truth[:, 0] == truth[:, 0].min()
    return np.where(faint, 2.0, 0.5)[:, None] * np.full((len(truth), 2), RESOLVABLE / PIXEL)


def test_columns_that_no_method_can_place_count_neither_for_nor_against(truth, bound):
    faint = bound[:, 0] * PIXEL > RESOLVABLE
    clear = int((~faint).sum())
    for located in (truth, truth[~faint]):
        judged = judge(located, truth, SHAPE, PIXEL)
        assert _among_resolvable(judged, located, truth, bound, PIXEL) == (clear, clear, clear)


def test_a_column_located_beside_one_that_cannot_be_placed_is_no_mistake_but_one_elsewhere_is(truth, bound):
    faint = bound[:, 0] * PIXEL > RESOLVABLE
    clear = int((~faint).sum())
    beside = truth[faint][:1] + np.array([0, 1.5 * TOLERANCE / PIXEL])
    between = truth[~faint][-1:] - 7.5
    located = np.concatenate([truth[~faint][1:], beside, between])
    judged = judge(located, truth, SHAPE, PIXEL)
    assert _among_resolvable(judged, located, truth, bound, PIXEL) == (clear - 1, clear, clear)
    assert len(judged.false) == 2


def test_one_missed_is_missed_where_all_can_be_placed(truth, bound):
    judged = judge(truth[1:], truth, SHAPE, PIXEL)
    assert _among_resolvable(judged, truth[1:], truth, bound / 10, PIXEL) == (len(truth) - 1, len(truth) - 1, len(truth))
