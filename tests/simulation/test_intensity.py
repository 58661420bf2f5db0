"""Intensity against what multislice with frozen phonons gave for the same crystals (`scripts/validate_simulation.py`)."""

import numpy as np
import pytest

from stemzoo.simulation.intensity import FOCUSING, TOTAL, Contrast, cross_section
from stemzoo.simulation.render import render_haze

ONE = np.ones(1)


def test_cross_sections_follow_the_power_of_z_and_fall_with_the_angle():
    assert cross_section(79, 1.7, 200) / cross_section(14, 1.7, 200) == pytest.approx((79 / 14) ** 1.7)
    assert cross_section(40, 1.7, 200, 100, 200) < 0.6 * cross_section(40, 1.7, 200, 80, 200)
    # The screen takes a tenth off Rutherford's formula at these angles, which is written out here for Z = 40.
    unscreened = 4 * (1.3914 * 40 / 0.529177) ** 2 * (0.0250793 / (2 * np.pi)) ** 4 * np.pi * (0.08**-2 - 0.2**-2)
    assert 0.8 < cross_section(40, 1.7, 200) / unscreened < 0.92


def test_nothing_is_lost_but_what_leaves_the_column():
    contrast, atoms, thickness = Contrast(), np.array([[1.0]]), np.array([10.0, 30.0, 60.0])
    thin = cross_section(38, contrast.exponent, 200)
    for repeats in thickness:
        own, haze = (method(atoms, ("Sr",), repeats * ONE, 3.905)[0] for method in (contrast.weights, contrast.haze))
        assert own + haze == pytest.approx(max(TOTAL * thin * repeats, own))
        assert own < FOCUSING * thin * repeats
    assert contrast.weights(atoms, ("Sr",), ONE, 0.0)[0] == thin and contrast.haze(atoms, ("Sr",), ONE, 0.0)[0] == 0.0


def test_peaks_saturate_as_in_multislice():
    """Height × sigma², thick over thin: 3.54 for Sr and 4.8 for Ti-O of SrTiO3 (21.1, 2.3 nm), 2.2 for Au [110] (8.7, 1.7 nm)."""
    contrast = Contrast(1.8)

    def growth(atoms, elements, repeat, thin, thick):
        own = [contrast.weights(np.array([atoms]), elements, np.array([depth / repeat]), repeat)[0] for depth in (thin, thick)]
        return own[1] / own[0]

    assert growth([1.0], ("Sr",), 3.905, 23.4, 210.9) == pytest.approx(3.54, rel=0.15)
    assert growth([1.0, 1.0], ("O", "Ti"), 3.905, 23.4, 210.9) == pytest.approx(4.8, rel=0.25)
    assert growth([1.0], ("Au",), 2.884, 17.3, 86.5) == pytest.approx(2.2, rel=0.15)


def test_weak_columns_do_not_hold_the_beam():
    """Peak heights: 10.8 over 2.7 nm of Si [110] 2.1; pure oxygen over Sr of SrTiO3 0.015 at 21 nm, above the lowest point of the cell."""
    contrast, probe = Contrast(1.8), 0.4

    def height(atoms, elements, repeat, depth):
        column = (np.array([atoms]), elements, np.array([depth / repeat]), repeat)
        return contrast.weights(*column)[0] / (probe**2 + contrast.spread(*column)[0] ** 2)

    assert height([1.0], ("Si",), 3.84, 107.5) / height([1.0], ("Si",), 3.84, 26.9) == pytest.approx(2.1, rel=0.1)
    assert height([1.0], ("O",), 3.905, 210.9) / height([1.0], ("Sr",), 3.905, 210.9) < 0.045  # and on the flanks of its neighbours


def test_haze_is_even_over_a_crystal_and_keeps_its_electrons():
    y, x = np.mgrid[-15:70, -15:70] * 3.9 / 0.2
    yx = np.stack([y.ravel(), x.ravel()], 1)
    haze = render_haze(yx, np.full(len(yx), 0.3), (256, 250), 0.2)
    assert haze.shape == (256, 250)
    assert haze.mean() == pytest.approx(0.3 / 3.9**2, rel=0.01)
    assert np.ptp(haze) < 0.02 * haze.mean()
