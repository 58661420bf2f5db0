"""Starts that a network gave: drawn to as far as that pays, with standard errors that cover, and no farther where they are bad."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import Scene, joint_bound, lattice, scene

from stemzoo.geometry.refine import Fit, RefineOptions, refine
from stemzoo.geometry.starts import MISFIT, Trust
from stemzoo.geometry.windows import Windows

SIGMA, ROOM, CROWD = 3.0, 60.0, 12.0
TRUSTING = RefineOptions(start_error=0.08)


def errors(many: int, start: float, fit: float, known: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors (2, many) of starts and fits that have `1 - known` of the variance `fit` in common; starts have `known · start` besides."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, np.sqrt((1 - known) * fit), (2, many))
    return common + rng.normal(0, np.sqrt(known * start), (2, many)), common + rng.normal(0, np.sqrt(known * fit), (2, many))


@pytest.mark.parametrize("wider", [1.0, 4.0])
@pytest.mark.parametrize("fit", [0.0004, 0.006, 0.05])
def test_positions_between_start_and_fit_scatter_as_their_variance_says(fit: float, wider: float) -> None:
    start, fits = errors(100_000, 0.0064, fit * wider, 0.4)
    trust = Trust(0.0064, known=0.4)
    prior = trust.prior(np.full(1, fit))
    posterior = np.full((1, 2), fit * prior[0] / (fit + prior[0]))
    weight = prior[0] / (prior[0] + fit)
    between = start + weight * (fits - start)
    assert trust.drawn(posterior, prior[:, None], np.full((1, 2), wider)) == pytest.approx(float(between.var()), rel=0.02)
    if wider == 1:
        assert between.var() < 1.001 * min(start.var(), fits.var())


def test_a_frame_tells_how_much_starts_know_beside_the_electrons() -> None:
    trust, many = Trust(0.0064), 400
    found = []
    for known in (0.1, 0.6):
        start, fits = errors(many, 0.0064, 0.03, known)
        found.append(trust.learnt(fits - start, np.full((2, many), 0.03), ROOM))
    assert found[0].known < 0.05 and found[1].known > 0.3
    assert found[0].start == pytest.approx(0.0064) and found[0].misfit == 0


def test_a_difference_beyond_both_errors_is_the_starts_and_where_columns_crowd_half_the_fits() -> None:
    away, fit = np.random.default_rng(1).normal(0, 0.2, (2, 400)), np.full((2, 400), 0.0004)
    roomy, crowded = (Trust(0.0064).learnt(away, fit, room) for room in (ROOM, CROWD))
    assert roomy.misfit == 0 and roomy.start == pytest.approx(2 * 0.2**2, rel=0.15)
    assert crowded.misfit == MISFIT**2
    assert Trust(0.0064).learnt(away[:, :5], fit[:, :5], ROOM) == Trust(0.0064)


def informed(truth: Scene, seed: int, share: float) -> tuple[np.ndarray, Fit]:
    """Starts that err by `share` of what a fit errs by, as if half of what they know were of the neighbourhood; and that fit."""
    free = refine(truth.noisy(seed), truth.yx)
    error = np.where(free.ok[:, None], free.yx - truth.yx, 0)
    own = np.random.default_rng(seed).normal(0, 0.05 * SIGMA, truth.yx.shape)
    return truth.yx + share * error + own, free


@pytest.mark.parametrize("counts", [6.0, 12.0, 400.0])
def test_fits_drawn_to_good_starts_beat_both_and_their_errors_cover(counts: float) -> None:
    yx, amplitude = lattice("honeycomb", 4.0 * SIGMA, 220, margin_px=4 * SIGMA)
    truth = scene(yx, amplitude * counts, SIGMA, (220, 220), 0.3 * counts)
    scores, drawn, started, free = [], [], [], []
    for seed in range(6):
        starts, fit = informed(truth, seed, 0.5)
        better = refine(truth.noisy(seed), starts, options=TRUSTING)
        drawn.append(better.yx - yx)
        started.append(starts - yx)
        free.append((fit.yx - yx)[fit.ok])
        scores.append((better.yx - yx) / better.sigma)
    rms, rms_start, rms_free = (float(np.sqrt((np.concatenate(e) ** 2).mean())) for e in (drawn, started, free))
    assert rms < 1.1 * min(rms_start, rms_free)
    assert 0.9 < (np.abs(np.concatenate(scores)) < 1.96).mean() < 0.995


def test_bad_starts_of_isolated_columns_do_not_hold_a_fit_back() -> None:
    yx, amplitude = lattice("square", 8 * SIGMA, 240, margin_px=4 * SIGMA)
    truth = scene(yx, amplitude * 400, SIGMA, (240, 240), 40.0)
    fits = [refine(truth.noisy(seed), truth.starts(seed, 0.3 * SIGMA), options=TRUSTING) for seed in range(4)]
    error = np.concatenate([fit.yx - yx for fit in fits])
    bound = joint_bound(truth, background_known=False)
    assert np.sqrt((error**2).mean() / (bound**2).mean()) < 1.1
    assert 0.9 < (np.abs(error / np.concatenate([fit.sigma for fit in fits])) < 1.96).mean() < 0.985


def test_a_column_that_cannot_be_fitted_keeps_its_start_with_an_error_that_covers() -> None:
    yx, amplitude = lattice("square", 6 * SIGMA, 240, margin_px=4 * SIGMA)
    truth = scene(yx, amplitude * 2.0, SIGMA, (240, 240), 4.0)
    covered = []
    for seed in range(6):
        starts = truth.starts(seed, 0.35 * SIGMA)
        fit = refine(truth.noisy(seed), starts, options=TRUSTING)
        left = ~fit.ok
        assert np.array_equal(fit.yx[left], starts[left])
        covered.append((np.abs(fit.yx - yx) < 1.96 * fit.sigma)[left])
    assert sum(map(len, covered)) > 40
    assert np.concatenate(covered).mean() > 0.85


def test_a_start_that_is_left_errs_as_the_fit_would_less_what_it_knows_and_by_half_a_sigma_at_most() -> None:
    fit = np.array([0.01, 0.1, 1e9, np.nan])
    ignorant, knowing = (np.sqrt(Trust(0.0064, known=known).left(fit)) for known in (0.0, 0.5))
    assert ignorant == pytest.approx(np.sqrt(np.array([0.01, 0.1, 0.25, 0.25]) + 0.0032))
    assert knowing == pytest.approx(np.sqrt(np.array([0.005, 0.05, 0.125, 0.125]) + 0.0032))


def test_windows_stay_within_the_padded_frame_however_wide_the_peaks_become() -> None:
    image = np.zeros((40, 40), np.float32)
    corners = np.array([[-4.0, -4.0], [43.0, 43.0]])
    windows = Windows(image, np.ones(image.shape, bool), corners, 3.0)
    windows.set_width(1.7 * 3.0)
    for dy, dx in ((windows.fit_y, windows.fit_x), (windows.draw_y, windows.draw_x)):
        index = windows.flat_index(slice(None), dy, dx)
        assert index.min() >= 0 and index.max() < windows.image.size
    assert windows.covered.any()
