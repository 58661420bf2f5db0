"""Refinement at the limit of the photons: precision, honest errors, overlaps, and everything that can go wrong with a start or a frame."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from simulated import Scene, joint_bound, lattice, scene

from stemzoo.errors import ShapeError
from stemzoo.geometry.cleaning import clean
from stemzoo.geometry.lattice import find_lattice
from stemzoo.geometry.peaks import find_peaks
from stemzoo.geometry.refine import Fit, RefineOptions, refine

SIZE, SIGMA = 200, 3.0


def _scene(kind: str, separation: float, counts: float, sigma: float = SIGMA, size: int = SIZE) -> Scene:
    """Columns `separation` sigmas apart with `counts` in the brightest's central pixel, on a background with a gradient."""
    yx, amplitude = lattice(kind, separation * sigma, size, margin_px=4 * sigma)
    y, x = np.mgrid[:size, :size] / size
    return scene(yx, amplitude * counts, sigma, (size, size), 0.2 * counts * (1 + 0.3 * np.cos(3 * y + 2 * x)))


def _errors(fit: Fit, truth: Scene) -> tuple[float, float]:
    """Return the per-axis RMSE in px and the spread of errors over their stated sigma, of good columns."""
    error = (fit.yx - truth.yx)[fit.ok]
    return float(np.sqrt((error**2).mean())), float((error / fit.sigma[fit.ok]).std())


@pytest.mark.parametrize("counts", [20, 50, 500, 5000])
@pytest.mark.parametrize("kind", ["square", "perovskite"])
def test_isolated_columns_reach_the_cramer_rao_bound(kind: str, counts: float) -> None:
    truth = _scene(kind, 6.5, counts)
    fits = [refine(truth.noisy(seed), truth.starts(seed)) for seed in range(3)]
    errors = [_errors(fit, truth) for fit in fits]
    bound = np.sqrt((joint_bound(truth, background_known=False) ** 2).mean())
    assert np.mean([fit.ok.mean() for fit in fits]) == 1
    assert np.sqrt(np.mean([rmse**2 for rmse, _ in errors])) <= 1.10 * bound
    assert 0.9 <= np.mean([spread for _, spread in errors]) <= 1.15


@pytest.mark.parametrize("counts", [50, 500, 5000])
@pytest.mark.parametrize(
    ("kind", "separation"), [("honeycomb", 4.0), ("graphene", 3.5), ("dumbbell", 3.0), ("dumbbell", 2.0), ("row", 2.5)]
)
def test_overlapping_columns_stay_near_the_joint_bound(kind: str, separation: float, counts: float) -> None:
    truth = _scene(kind, separation, counts)
    fits = [refine(truth.noisy(seed), truth.starts(seed)) for seed in range(2)]
    errors = [_errors(fit, truth) for fit in fits]
    bound = np.sqrt((joint_bound(truth, background_known=False) ** 2).mean())
    assert np.mean([fit.ok.mean() for fit in fits]) > 0.99
    assert np.sqrt(np.mean([rmse**2 for rmse, _ in errors])) <= 1.3 * bound
    assert 0.8 <= np.mean([spread for _, spread in errors]) <= 1.25


@pytest.mark.parametrize("share", [0.02, 0.15])
def test_starts_where_no_column_is_cost_the_others_nothing(share: float) -> None:
    truth = _scene("perovskite", 6.1, 300, size=256)
    columns, fits = len(truth.yx), []
    for seed in range(3):
        nowhere = truth.nowhere(seed, int(share * columns))
        fits.append(refine(truth.noisy(seed), np.concatenate([truth.starts(seed), nowhere])))
    error = np.concatenate([(fit.yx[:columns] - truth.yx)[fit.ok[:columns]] for fit in fits])
    assert all(fit.ok[:columns].mean() > 0.99 and fit.ok[columns:].mean() < 0.1 for fit in fits)
    assert np.sqrt((error**2).mean()) <= 1.1 * np.sqrt((joint_bound(truth, background_known=False) ** 2).mean())


def test_overlap_raises_sigma() -> None:
    apart, close = _scene("dumbbell", 6.0, 300, size=300), _scene("dumbbell", 2.0, 300)
    assert np.median(refine(close.noisy(0), close.starts(0)).sigma) > 1.3 * np.median(refine(apart.noisy(0), apart.starts(0)).sigma)


@pytest.mark.parametrize(("kind", "separation"), [("perovskite", 5.5), ("graphene", 3.5), ("dumbbell", 2.5), ("dumbbell", 2.0)])
def test_frames_without_noise_show_no_bias_and_still_have_a_sigma(kind: str, separation: float) -> None:
    truth = _scene(kind, separation, 100)
    fit = refine(truth.expected, truth.starts(0, 0.25))
    assert fit.ok.all()
    assert np.abs(fit.yx - truth.yx).max() < 0.01
    assert (fit.sigma > 0).all()
    assert np.median(fit.sigma) < 0.01


def test_intensities_widths_and_background_are_those_of_the_scene_in_its_own_units() -> None:
    truth = _scene("perovskite", 5.5, 2000)
    for gain, offset in ((1.0, 0.0), (0.01, 300.0), (37.0, -1e5)):
        fit = refine(truth.noisy(0) * gain + offset, truth.starts(0))
        assert fit.intensity == pytest.approx(truth.peak * 2 * np.pi * SIGMA**2 * gain, rel=0.06)
        assert np.median(fit.width_px) == pytest.approx(SIGMA, rel=0.01)
        y, x = (truth.yx / SIZE).T
        background = 400 * (1 + 0.3 * np.cos(3 * y + 2 * x))
        assert (fit.background - offset) / gain == pytest.approx(background, abs=60)
        assert np.median(fit.chi2) == pytest.approx(1, abs=0.05)


def test_positions_are_the_maximum_likelihood_ones_that_scipy_finds_column_by_column() -> None:
    yx, amplitude = lattice("square", 8 * SIGMA, SIZE)
    truth = scene(yx, amplitude * 60, SIGMA, (SIZE, SIZE), 12.0)  # a flat background, which one column's window can follow
    frame, starts = truth.noisy(5), truth.starts(5)
    fit = refine(frame, starts)
    apart = []
    for k in range(0, len(starts), 4):
        top, left = (int(v) - 12 for v in np.rint(starts[k]))
        window = frame[top : top + 25, left : left + 25].astype(float)
        y, x = np.mgrid[top : top + 25, left : left + 25]
        disk = (y - starts[k, 0]) ** 2 + (x - starts[k, 1]) ** 2 <= (3 * SIGMA) ** 2

        def cost(p: np.ndarray, y: np.ndarray = y, x: np.ndarray = x, window: np.ndarray = window, disk: np.ndarray = disk) -> float:
            model = np.exp(p[2]) * np.exp(-((y - p[0]) ** 2 + (x - p[1]) ** 2) / (2 * p[4] ** 2)) + np.exp(p[3])
            return float((model - window * np.log(model))[disk].sum())

        options = {"xatol": 1e-4, "fatol": 1e-5, "maxiter": 4000}
        best = minimize(cost, [*starts[k], np.log(60.0), np.log(12.0), SIGMA], method="Nelder-Mead", options=options)
        apart.append((fit.yx[k] - best.x[:2]) / fit.sigma[k])
    assert np.sqrt(np.mean(np.square(apart))) < 0.25
    assert np.abs(np.mean(apart)) < 0.1


def test_a_lone_column_reaches_its_bound() -> None:
    truth = scene(np.array([[30.3, 31.2]]), np.array([200.0]), 2.5, (64, 64), 20.0)
    fits = [refine(truth.noisy(seed), truth.starts(seed)) for seed in range(40)]
    error = np.array([fit.yx[0] - truth.yx[0] for fit in fits])
    assert all(fit.ok.all() for fit in fits)
    assert np.sqrt((error**2).mean()) < 1.15 * joint_bound(truth).mean()
    assert 0.8 < (error / np.array([fit.sigma[0] for fit in fits])).std() < 1.2


def test_no_column_and_no_signal_are_answered_not_raised() -> None:
    frame = np.random.default_rng(0).poisson(5, (64, 64))
    empty = refine(frame, np.zeros((0, 2)))
    assert [len(field) for field in empty[:-1]] == [0] * 7
    assert empty.yx.shape == empty.sigma.shape == (0, 2)
    flat = refine(np.zeros((64, 64)), np.array([[30.0, 30.0]]))
    assert not flat.ok.any()
    assert flat.sigma.min() >= 0.3
    blind = refine(np.full((64, 64), np.nan), np.array([[30.0, 30.0]]))
    assert not blind.ok.any()
    assert np.isfinite(blind.sigma).all()


def test_columns_that_are_not_there_fail_keep_their_start_and_spoil_no_other() -> None:
    truth = _scene("perovskite", 6.5, 200)
    rng = np.random.default_rng(1)
    holes = truth.yx[truth.peak > 150][:8] + np.array([0.0, 9.7 * 1.4])
    holes = holes[(np.linalg.norm(holes[:, None] - truth.yx, axis=-1) > 9).all(axis=1)] + rng.normal(0, 0.3, (1, 2))
    starts = np.concatenate([truth.starts(0), holes, [[np.nan, 3.0], [500.0, 20.0]]])
    fit = refine(truth.noisy(0), starts)
    n = len(truth.yx)
    assert len(holes) > 3
    assert not fit.ok[n:].any()
    assert np.array_equal(fit.yx[n:], starts[n:], equal_nan=True)
    assert (fit.sigma[n:] >= 0.3).all()
    assert fit.ok[:n].mean() > 0.98
    good = fit.ok[:n]
    without = refine(truth.noisy(0), truth.starts(0))
    assert np.sqrt(((fit.yx[:n] - truth.yx)[good] ** 2).mean()) < 1.1 * _errors(without, truth)[0]


def test_a_start_too_far_away_is_flagged() -> None:
    truth = _scene("square", 7, 300)
    starts = truth.starts(0)
    starts[::10] += 8.0
    fit = refine(truth.noisy(0), starts)
    assert not fit.ok[::10].any()
    assert np.delete(fit.ok, np.s_[::10]).all()


def test_duplicates_are_fitted_once() -> None:
    truth = _scene("square", 7, 300)
    starts = truth.starts(0)
    fit = refine(truth.noisy(0), np.concatenate([starts, starts[:9], starts[9:15] + 0.3]))
    assert fit.ok[: len(starts)].all()
    assert not fit.ok[len(starts) :].any()
    assert np.isfinite(fit.sigma).all()
    assert _errors(Fit(*(field[: len(starts)] for field in fit[:-1])), truth)[0] < 0.06


def test_masked_missing_and_hot_pixels_weigh_nothing() -> None:
    truth = _scene("perovskite", 6, 200)
    rng = np.random.default_rng(2)
    hot = rng.integers(0, SIZE, (200, 2))
    frame = truth.noisy(0)
    frame[hot[:, 0], hot[:, 1]] = 5 * frame.max()
    frame[40:44] = np.nan
    cleaned, touched = clean(frame)
    rmse, spread = _errors(refine(cleaned, truth.starts(0), mask=touched), truth)
    bound = np.sqrt((joint_bound(truth) ** 2).mean())
    assert rmse < 1.15 * bound
    assert 0.85 < spread < 1.15
    assert _errors(refine(frame, truth.starts(0)), truth)[0] < 1.5 * bound  # forgotten by the caller: outliers pull with limited force


def test_columns_cut_off_by_the_edge_are_fitted_and_do_not_pull_at_the_rest() -> None:
    yx, amplitude = lattice("honeycomb", 4 * SIGMA, SIZE, margin_px=-2 * SIGMA)
    truth = scene(yx, amplitude * 500, SIGMA, (SIZE, SIZE), 100.0)
    seen = ((yx >= 0) & (yx <= SIZE - 1)).all(axis=1)
    fit = refine(truth.noisy(0), truth.starts(0)[seen])
    assert fit.ok.mean() > 0.97
    inner = ((yx[seen] > 4 * SIGMA) & (yx[seen] < SIZE - 1 - 4 * SIGMA)).all(axis=1) & fit.ok
    error = (fit.yx - yx[seen])[inner]
    assert np.sqrt((error**2).mean()) < 1.2 * np.sqrt((joint_bound(truth)[seen][inner] ** 2).mean())
    assert 0.85 < (error / fit.sigma[inner]).std() < 1.15


@pytest.mark.parametrize("start_error", [None, 0.1])
def test_a_column_beyond_the_edge_whose_flank_was_found_is_no_measurement_and_harms_no_neighbour(start_error: float | None) -> None:
    row, inner = np.arange(14.0, SIZE - 13, 14.0), np.arange(8.0, SIZE - 13, 14.0)
    yx = np.array([(y, x) for y in (-3.0, *inner) for x in row])
    truth = scene(yx, np.full(len(yx), 900.0), 4.0, (SIZE, SIZE), 30.0)
    beyond, beside = yx[:, 0] < 0, yx[:, 0] == inner[0]
    starts = truth.starts(4)
    starts[beyond, 0] = 0.3  # where the frame is brightest
    fit = refine(truth.noisy(4), starts, options=RefineOptions(start_error=start_error))
    assert not fit.ok[beyond].any() and fit.ok[~beyond].all()
    np.testing.assert_array_equal(fit.yx[beyond], starts[beyond])
    assert (np.abs(starts - yx)[beyond] < 2 * fit.sigma[beyond]).all(), "its error says how far beyond it may be"
    ratio = fit.intensity[beyond] / np.median(fit.intensity[~beyond])
    assert (ratio < 1.5).all(), "what lies beyond the edge is not made up from its flank"
    error = (fit.yx - yx) / fit.sigma
    assert np.sqrt((error[beside] ** 2).mean()) < 1.5
    assert np.abs((fit.yx - yx)[beside, 0].mean()) < 0.05


def test_elliptical_peaks_are_fitted_as_such() -> None:
    yx, amplitude = lattice("dumbbell", 8.0, SIZE)
    y, x = np.mgrid[:SIZE, :SIZE]
    inverse = np.linalg.inv(np.array([[2.9**2, 1.2], [1.2, 2.2**2]]))
    expected = np.full((SIZE, SIZE), 40.0)
    for (y0, x0), a in zip(yx, amplitude, strict=True):
        dy, dx = y - y0, x - x0
        expected += 200 * a * np.exp(-0.5 * (inverse[0, 0] * dy**2 + 2 * inverse[0, 1] * dy * dx + inverse[1, 1] * dx**2))
    starts = yx + np.random.default_rng(0).normal(0, 0.2, yx.shape)
    assert np.abs(refine(expected, starts).yx - yx).max() < 0.01
    fit = refine(np.random.default_rng(1).poisson(expected), starts)
    assert 0.8 < ((fit.yx - yx) / fit.sigma).std() < 1.2
    assert np.median(fit.chi2) == pytest.approx(1, abs=0.06)


def test_a_probe_with_tails_widens_sigma_to_what_the_misfit_costs() -> None:
    yx, amplitude = lattice("dumbbell", 7.5, 220)
    y, x = np.mgrid[:220, :220]
    expected = np.full((220, 220), 1000.0)
    for (y0, x0), a in zip(yx, amplitude, strict=True):
        r2 = (y - y0) ** 2 + (x - x0) ** 2
        expected += 5000 * a * (0.85 * np.exp(-r2 / (2 * 2.3**2)) + 0.15 * np.exp(-r2 / (2 * 4.6**2)))
    fit = refine(np.random.default_rng(0).poisson(expected), yx + np.random.default_rng(1).normal(0, 0.2, yx.shape))
    error = fit.yx - yx
    assert fit.ok.all()
    assert np.abs(error).max() < 0.12
    assert (error / fit.sigma).std() < 1.3


@pytest.mark.parametrize("blur_px", [0.0, 1.2])
def test_sigma_knows_of_smoothing(blur_px: float) -> None:
    truth = _scene("square", 7, 300)
    frames = [gaussian_filter(truth.noisy(seed).astype(float), blur_px) for seed in range(3)]
    spread = np.mean([_errors(refine(frame, truth.starts(seed)), truth)[1] for seed, frame in enumerate(frames)])
    assert 0.85 < spread < (1.15 if blur_px == 0 else 1.6)  # without the correction the smoothed frame's errors are 4 sigma


def test_sigma_across_the_scan_knows_of_row_jitter() -> None:
    yx, amplitude = lattice("perovskite", 16, SIZE)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    jitter = rng.normal(0, 0.2, SIZE)
    expected = np.full((SIZE, SIZE), 400.0)
    for (y0, x0), a in zip(yx, amplitude, strict=True):
        expected += 2000 * a * np.exp(-((y - y0) ** 2 + (x - x0 - jitter[:, None]) ** 2) / (2 * 2.5**2))
    fit = refine(rng.poisson(expected), yx + rng.normal(0, 0.2, yx.shape))
    z = (fit.yx - yx) / fit.sigma
    assert 0.7 < z[:, 1].std() < 1.5
    assert z[:, 0].std() < 1.2
    assert np.median(fit.sigma[:, 1]) > 1.5 * np.median(fit.sigma[:, 0])


def test_columns_come_back_in_the_order_of_their_starts() -> None:
    truth = _scene("square", 7, 1000)
    shuffled = np.random.default_rng(0).permutation(len(truth.yx))
    fit = refine(truth.noisy(0), truth.starts(0)[shuffled])
    assert np.abs(fit.yx - truth.yx[shuffled]).max() < 0.2


def test_cost_is_linear_in_columns() -> None:
    seconds = []
    for size in (240, 600):
        yx, amplitude = lattice("square", 12, size)
        truth = scene(yx, amplitude * 100, 2.0, (size, size), 20.0)
        frame, starts = truth.noisy(0), truth.starts(0)
        refine(frame, starts)
        began = time.process_time()
        fit = refine(frame, starts)
        seconds.append((time.process_time() - began) / len(yx))
        assert fit.ok.all()
    assert seconds[1] < 2 * seconds[0]
    assert seconds[1] < 1e-3  # 0.1–0.2 ms a column where this was written


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError, match=r"image of shape \(2, 8, 8\)"):
        refine(np.zeros((2, 8, 8)), np.zeros((1, 2)))
    with pytest.raises(ShapeError, match=r"positions of shape \(3,\)"):
        refine(np.zeros((8, 8)), np.zeros(3))


@pytest.mark.real
def test_a_smoothed_real_lattice_whose_columns_touch_is_fitted_too(real_dir: Path) -> None:
    frame = np.load(real_dir / "Fe_bcc_100.npy")[300:480, 100:400].astype(float)
    starts = find_peaks((gaussian_filter(frame, 1.5) / 255)[None], 0.4, 10).yx
    fit = refine(frame, starts)
    away = ((starts > 25) & (starts < np.array(frame.shape) - 25)).all(axis=1)
    assert fit.ok[away].mean() > 0.95
    assert (fit.yx >= -0.5).all()
    lattice_px = find_lattice(frame)
    assert lattice_px is not None
    inner = fit.ok & away
    for vector in lattice_px.vectors_px:  # a column lies half-way between its neighbours but for strain and error
        both = np.array([np.linalg.norm(fit.yx - (place + sign * vector), axis=1).argmin() for place in fit.yx[inner] for sign in (1, -1)])
        off = (fit.yx[both].reshape(-1, 2, 2).sum(axis=1) - 2 * fit.yx[inner]) / 6**0.5
        assert 1.4826 * np.median(np.abs(off)) < 0.3


@pytest.mark.real
def test_noise_added_twice_to_a_real_frame_moves_columns_as_sigma_says(real_dir: Path) -> None:
    frame = np.load(real_dir / "MoS2_stem_Exp-000-2.npy")[:300, :300]
    found = find_lattice(frame)
    assert found is not None
    smooth = gaussian_filter(frame, 3.0)
    starts = find_peaks(((smooth - smooth.min()) / np.ptp(smooth))[None], 0.3, 0.6 * found.period_px).yx
    first = refine(frame, starts)
    inside = ((first.yx > 15) & (first.yx < 285)).all(axis=1)
    # two frames with the same columns and twice the noise variance: the fit of the frame as truth, noise of its own strength added anew
    residual_sd = np.std(frame - gaussian_filter(frame, 1.0))
    again = [refine(frame + np.random.default_rng(seed).normal(0, residual_sd, frame.shape), starts) for seed in range(2)]
    both = again[0].ok & again[1].ok & inside
    z = (again[0].yx - again[1].yx)[both] / np.hypot(again[0].sigma, again[1].sigma)[both]
    assert both.sum() > 0.8 * inside.sum()
    assert 0.4 < 1.4826 * np.median(np.abs(z)) < 1.1  # the common noise of the frame itself does not differ, so below 1
