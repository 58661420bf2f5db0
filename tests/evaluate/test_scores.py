"""Scores: what is counted, what an error is held against, and what calibration means."""

from dataclasses import replace

import numpy as np
import pytest

from stemzoo.evaluate import GROUPINGS, FrameScore, calibration_curve, calibration_error, fit_calibration, summarise
from stemzoo.evaluate.figure import draw_evaluation


def _frame(material="a", hits=90, found=95, placed=100, sigma=0.1, error=0.1, seed=0, counts=300.0, bound=0.05):
    rng = np.random.default_rng(seed)
    errors = rng.normal(0, error, (hits, 2))
    sigmas, bounds = np.full((hits, 2), sigma), np.full((hits, 2), bound)
    return FrameScore(
        material,
        counts,
        hits,
        found,
        placed,
        errors,
        sigmas,
        np.full(found, 0.9),
        np.arange(found) < hits,
        0.2,
        bounds,
        np.ones(hits, bool),
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


def test_errors_are_held_against_the_bound_of_columns_whose_fit_held():
    frame = _frame(hits=4000, found=4000, placed=4000, error=0.1, bound=0.08)
    assert summarise([frame], GROUPINGS["material"])[0].over_bound == pytest.approx(1.25, rel=0.03)
    wild = frame.error_px.copy()
    wild[:100] = 30.0
    half = replace(frame, error_px=wild, fitted=np.arange(4000) >= 100)
    assert summarise([half], GROUPINGS["material"])[0].over_bound == pytest.approx(1.25, rel=0.03)
    assert np.isnan(summarise([replace(frame, bound_px=np.zeros((0, 2)))], GROUPINGS["material"])[0].over_bound)


def test_doses_are_grouped_in_rising_order():
    frames = [_frame(counts=counts) for counts in (1000.0, 60.0, 5000.0, 200.0, 190.0)]
    groups = [score.group for score in summarise(frames, GROUPINGS["dose"])]
    assert groups == ["all", "below 75 e⁻ a column", "150–300 e⁻ a column", "600–1200 e⁻ a column", "2500 e⁻ a column and more"]
    assert summarise(frames, GROUPINGS["dose"])[2].n_frames == 2
    assert GROUPINGS["scale"](frames[0]) == "0.2–0.24 Å/px"


def test_a_fitted_calibration_makes_words_good_on_maxima_it_has_not_seen():
    rng = np.random.default_rng(1)

    def maxima(n):
        said = rng.beta(3, 1, n)
        return said, rng.random(n) < said**3

    said, right = maxima(20_000)
    fitted = fit_calibration(said, right)
    assert calibration_error(said, right) > 0.1
    said, right = maxima(20_000)
    assert calibration_error(np.interp(said, fitted["probability"], fitted["confidence"]), right) < 0.02
    assert fitted["confidence"] == sorted(fitted["confidence"])


def test_the_curve_leaves_out_what_nobody_said():
    curve = calibration_curve(np.array([0.05, 0.95, 0.97]), np.array([False, True, False]))
    assert curve.located.tolist() == [1, 2]
    assert curve.found.tolist() == [0.0, 0.5]


def test_an_evaluation_can_be_looked_at(tmp_path):
    frames = [_frame("a", counts=100.0), _frame("b", counts=1000.0), replace(_frame("b"), bound_px=np.zeros((0, 2)))]
    scores = summarise(frames, GROUPINGS["material"])
    assert draw_evaluation(frames, scores, "adf-unet@1", tmp_path / "a.png").stat().st_size > 10_000
    real = [replace(frame, bound_px=np.zeros((0, 2)), counts_per_column=np.nan) for frame in frames]
    draw_evaluation(real, scores, "real frames tell no dose", tmp_path / "b.png")


def test_resolvable_columns_are_scored_apart():
    frames = [replace(_frame(), resolvable=(80, 85, 90)), replace(_frame(), resolvable=(20, 20, 20)), _frame()]
    score = summarise(frames, GROUPINGS["material"])[0]
    assert score.n_resolvable == 110
    assert score.f1_resolvable == pytest.approx(200 / 215)
    assert np.isnan(summarise([_frame()], GROUPINGS["material"])[0].f1_resolvable)
