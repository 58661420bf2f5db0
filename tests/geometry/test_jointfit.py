"""The iteration of a frame's fit: whose step is taken back, and that nobody's holds the others up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stemzoo.geometry.jointfit import JointFit


@pytest.fixture
def fit(begin: Callable[[str, float, int, float], JointFit]) -> JointFit:
    """A fit after its first step."""
    fit = begin("square", 16, 160, 10.0)
    fit._steady()
    fit.couple()
    fit.step()
    fit.evaluate()
    return fit


def _evaluations(fit: JointFit, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    made: list[None] = []
    evaluate = fit.evaluate
    monkeypatch.setattr(fit, "evaluate", lambda: made.append(evaluate()))
    return made


def _worsen(fit: JointFit, columns: slice) -> None:
    """Let columns have fitted twice as well before their last step, a long one."""
    fit.progress.squares = fit.normal.squares.copy()
    fit.progress.squares[columns] /= 2
    fit.last_step[columns] = fit.width


def test_a_step_is_taken_back_once_and_not_again_where_the_columns_surroundings_are_to_blame(
    fit: JointFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, made = fit.previous, _evaluations(fit, monkeypatch)
    assert before is not None
    some = slice(0, len(before.yx) // 10)
    _worsen(fit, some)
    fit._steady()
    assert len(made) == 1
    assert np.array_equal(fit.state.yx[some], before.yx[some]) and not np.array_equal(fit.state.yx, before.yx)
    fit._steady()
    assert len(made) == 1


def test_one_column_that_got_worse_does_not_have_the_frame_fitted_again(fit: JointFit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemzoo.geometry.jointfit.FEW", 0.05)
    made, damping = _evaluations(fit, monkeypatch), fit.progress.damping.copy()
    _worsen(fit, slice(0, 1))
    fit._steady()
    assert not made
    assert fit.progress.damping[0] > damping[0]
