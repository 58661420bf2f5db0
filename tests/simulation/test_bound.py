"""The Cramér–Rao bound against finite differences of the renderer, and against what a fit of the true peak achieves."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.simulation.bound import FOUND, Blur, limits, limits_of
from stemzoo.simulation.generate import draw_frames
from stemzoo.simulation.probe import Optics
from stemzoo.simulation.render import render

SHAPE, PIXEL, THERMAL = (48, 52), 0.2, 0.07
OPTICS = Optics(200.0, 24.0, defocus_nm=2.0, coma_nm=30.0, coma_deg=40.0, astigmatism_nm=1.0, source_fwhm=0.7)
YX = np.array([[20.3, 22.8], [20.9, 30.1], [33.4, 25.2]])
COUNTS = np.array([800.0, 300.0, 500.0])


def _expected(yx: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return render(yx, counts, np.full(len(yx), THERMAL), SHAPE, PIXEL, OPTICS) * PIXEL**2


def _by_differences(background: float, readout: float) -> np.ndarray:
    step, slopes = 1e-3, []
    for k in range(len(YX)):
        for axis in (0, 1):
            move = np.zeros_like(YX)
            move[k, axis] = step
            slopes.append((_expected(YX + move, COUNTS) - _expected(YX - move, COUNTS)) / (2 * step))
        slopes.append(_expected(YX[k : k + 1], np.ones(1)))
    flat = np.stack(slopes).reshape(len(slopes), -1)
    variance = _expected(YX, COUNTS).ravel() + background + readout**2
    return np.sqrt(np.diag(np.linalg.inv((flat / variance) @ flat.T))).reshape(-1, 3)[:, :2]


@pytest.mark.parametrize(("background", "readout"), [(0.5, 0.0), (3.0, 2.0)])
def test_it_is_the_information_of_the_rendered_frame(background: float, readout: float) -> None:
    bound = limits(_expected(YX, COUNTS) + background, YX, COUNTS, OPTICS, THERMAL, PIXEL, Blur(readout)).position
    np.testing.assert_allclose(bound, _by_differences(background, readout), rtol=0.02)


@pytest.mark.parametrize("grain", [0.4, 0.7])
def test_the_speckle_of_a_film_counts_as_noise_of_its_own_correlation(grain: float) -> None:
    """Against the covariance of every pair of pixels written out, for a film of 2 electrons rms a pixel on a background of 5."""
    expected, speckle, step, slopes = _expected(YX, COUNTS) + 5.0, 2.0, 1e-3, []
    for k in range(len(YX)):
        for move in step * np.eye(2):
            moved = [_expected(YX + sign * move * (np.arange(len(YX)) == k)[:, None], COUNTS) for sign in (1, -1)]
            slopes.append((moved[0] - moved[1]).ravel() / (2 * step))
        slopes.append(_expected(YX[k : k + 1], np.ones(1)).ravel())
    place = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 2)
    square = ((place[:, None] - place[None]) ** 2).sum(-1) * PIXEL**2
    covariance = speckle**2 * np.exp(-square / (4 * grain**2)) + np.diag(expected.ravel())
    flat = np.stack(slopes)
    wanted = np.sqrt(np.diag(np.linalg.inv(flat @ np.linalg.solve(covariance, flat.T)))).reshape(-1, 3)[:, :2]
    bound = limits(expected, YX, COUNTS, OPTICS, THERMAL, PIXEL, Blur(0.0, speckle, grain)).position
    np.testing.assert_allclose(bound, wanted, rtol=0.03)
    assert (bound > 1.2 * limits(expected, YX, COUNTS, OPTICS, THERMAL, PIXEL).position).all()


def test_an_ideal_detector_finds_what_is_called_detectable_and_needs_more_where_columns_are_few() -> None:
    """Of lone peaks on a known background, by the likelihood ratio itself, places drawn with and without a column."""
    rng = np.random.default_rng(3)
    shape, at = (41, 41), np.array([[20.0, 20.0]])
    peak = render(at, np.ones(1), np.full(1, THERMAL), shape, PIXEL, OPTICS).ravel() * PIXEL**2
    needed = {}
    for extent in (41, 160):
        wide = render(at, np.array([400.0]), np.full(1, THERMAL), (extent, extent), PIXEL, OPTICS) * PIXEL**2 + 1.0
        found = limits(wide, at, np.array([400.0]), OPTICS, THERMAL, PIXEL)
        needed[extent] = found.detectable
    assert 3.5 < needed[41] < needed[160] < 6
    share = float((peak**2).sum()) ** -1 / peak.size
    background = 25.0
    counts = needed[41] * np.sqrt(background / (peak**2).sum())
    with_column = rng.poisson(background + counts * peak, (4000, peak.size))
    without = rng.poisson(np.full(peak.size, background), (4000, peak.size))
    offset = np.log(share / (1 - share)) - counts * peak.sum()
    odds = [drawn @ np.log1p(counts * peak / background) + offset for drawn in (with_column, without)]
    assert abs((odds[0] > 0).mean() - FOUND) < 0.02
    assert (odds[1] > 0).mean() < 0.1 * share  # nine of ten that it takes for columns are


def test_a_lone_gaussian_column_on_nothing_obeys_width_over_root_counts() -> None:
    soft = Optics(200.0, 30.0, source_fwhm=2.3548 * 1.6)  # 1.6 Å: much wider than the aperture's own peak
    yx, counts = np.array([[60.2, 60.7]]), np.array([1e4])
    expected = render(yx, counts, np.full(1, 0.1), (121, 121), 0.2, soft) * 0.04
    bound = limits(expected + 1e-3, yx, counts, soft, 0.1, 0.2).position
    ratio = bound / (1.6 / 0.2 / 100)  # the aperture's tails make the peak a little wider than the source
    assert ((ratio > 1.0) & (ratio < 1.07)).all()


def test_more_electrons_a_neighbour_and_the_edge_change_it_as_they_must() -> None:
    def of(yx: np.ndarray, scale: float = 1.0) -> np.ndarray:
        counts = np.full(len(yx), 500.0 * scale)
        return limits(_expected(yx, counts) + 0.5 * scale, yx, counts, OPTICS, THERMAL, PIXEL).position[0]

    alone = of(YX[:1])
    np.testing.assert_allclose(of(YX[:1], 4.0), alone / 2, rtol=1e-6)
    beside = of(np.array([YX[0], YX[0] + [0.0, 3.5]]))
    assert beside[1] > 1.5 * alone[1] and beside[0] / alone[0] < 0.7 * beside[1] / alone[1]
    assert of(np.array([[0.0, 25.0]]))[0] > 1.3 * alone[0]


def test_two_columns_in_one_place_have_no_bound() -> None:
    yx, counts = np.repeat(YX[:1], 2, axis=0), np.array([500.0, 500.0])
    assert np.isinf(limits(_expected(yx, counts) + 1.0, yx, counts, OPTICS, THERMAL, PIXEL).position).all()


def test_a_simulated_frame_holds_all_that_its_bound_needs() -> None:
    frame = next(draw_frames("datasets/srtio3.toml", 1, 5, {"frame.size_px": 96, "dose.counts_per_column": 1000, "detector.readout": 1.5}))
    facts = {**frame.facts, "pixel_size": frame.pixel_size}
    bound = limits_of(facts, frame.expected, frame.yx, frame.counts).position
    assert bound.shape == frame.yx.shape and facts["readout"] == 1.5
    inner = ((frame.yx > 8) & (frame.yx < 87)).all(axis=1)
    rough = 0.5 / frame.pixel_size / np.sqrt(frame.counts[inner])  # a peak of 0.5 Å, no background
    assert ((bound[inner].mean(axis=1) > 0.5 * rough) & (bound[inner].mean(axis=1) < 6 * rough)).all()
