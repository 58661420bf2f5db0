"""Scores: what is counted, what an error is held against, and what calibration means."""

import numpy as np
import pytest

from stemzoo.evaluate import FrameScore, calibration_error, summarise


def _frame(material="a", hits=90, found=95, placed=100, sigma=0.1, error=0.1, seed=0):
    rng = np.random.default_rng(seed)
    errors = rng.normal(0, error, (hits, 2))
    return FrameScore(
        material, 300.0, hits, found, placed, errors, np.full((hits, 2), sigma), np.full(found, 0.9), np.arange(found) < hits, 0.2
    )


def test_precision_recall_and_f1_by_hand():
    score = summarise([_frame()], lambda frame: frame.material)[0]
    assert (score.precision, score.recall) == pytest.approx((90 / 95, 0.9))
    assert score.f1 == pytest.approx(2 * 90 / 195)


def test_errors_come_in_pixels_and_picometres_and_are_held_against_sigma():
    frames = [_frame(hits=4000, found=4000, placed=4000, error=0.1, sigma=0.05, seed=k) for k in range(3)]
    score = summarise(frames, lambda frame: frame.material)[0]
    assert score.rmse_px == pytest.approx(0.1, rel=0.03)
    assert score.rmse_pm == pytest.approx(2.0, rel=0.03)
    assert score.z_spread == pytest.approx(2.0, rel=0.03)
    assert score.coverage == pytest.approx(0.67, abs=0.02)


def test_groups_follow_their_name_after_all():
    scores = summarise([_frame("b"), _frame("a", hits=50, found=50)], lambda frame: frame.material)
    assert [score.group for score in scores] == ["all", "a", "b"]
    assert scores[1].recall == pytest.approx(0.5)


def test_calibration_error_is_the_gap_between_word_and_deed():
    rng = np.random.default_rng(0)
    said = rng.random(200_000)
    assert calibration_error(said, rng.random(200_000) < said) < 0.01
    assert calibration_error(np.full(1000, 0.95), np.arange(1000) < 700) == pytest.approx(0.25)
