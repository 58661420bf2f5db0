"""Two models on the same frames: what is hard for both drops out of their difference, and a difference that is chance does not hold."""

from __future__ import annotations

import numpy as np

from stemzoo.evaluate import FrameScore
from stemzoo.evaluate.compare import _difference, _f1, _rmse_pm


def frames(sigma_px: np.ndarray, missed: int, seed: int) -> list[FrameScore]:
    """Frames of 100 columns at 0.1 Å/px, located with errors of `sigma_px`, some columns missed."""
    rng = np.random.default_rng(seed)
    found = 100 - missed
    made = []
    for sigma in sigma_px:
        error = rng.normal(0, sigma, (found, 2))
        made.append(FrameScore("x", 1.0, found, found, 100, error, np.ones_like(error), np.ones(found), np.ones(found, bool), 0.1))
    return made


def test_a_small_difference_on_hard_and_easy_frames() -> None:
    """Frames differ by a factor of five, the models by a tenth: on the same frames it shows; the errors are in pm."""
    sigma = np.geomspace(0.2, 1.0, 40)
    first, better, equal = frames(sigma, 4, 1), frames(0.9 * sigma, 2, 2), frames(sigma, 4, 3)
    gap = _difference(_rmse_pm, first, better)
    expected = (0.9 - 1) * np.sqrt((sigma**2).mean()) * 10
    assert gap.holds and abs(gap.value - expected) < 0.3 * abs(expected)
    spread = np.std([_rmse_pm(np.array([[100, 100, 100, (frame.error_px**2).sum() * 100]]))[0] for frame in first])
    assert gap.high - gap.low < spread, "what is hard for both drops out"
    assert not _difference(_rmse_pm, first, equal).holds
    f1 = _difference(_f1, first, better)
    assert f1.holds and abs(f1.value - (2 * 98 / 198 - 2 * 96 / 196)) < 1e-9
    assert not _difference(_f1, first, equal).holds


def test_a_model_beside_itself() -> None:
    first = frames(np.full(5, 0.5), 1, 1)
    gap = _difference(_rmse_pm, first, first)
    assert (gap.value, gap.low, gap.high, gap.holds) == (0.0, 0.0, 0.0, False)
