"""Probe, rendering, scan and noise: intensities that can be checked by hand."""

import numpy as np
import pytest

from stemzoo.simulation.noise import Recording, record, shift_rows
from stemzoo.simulation.probe import Optics, transfer, wavelength
from stemzoo.simulation.render import render

ROUND = Optics(source_fwhm=0.8)


def test_wavelengths_agree_with_the_tables():
    assert [round(wavelength(e), 5) for e in (60, 80, 200, 300)] == [0.04866, 0.04176, 0.02508, 0.01969]


def test_aberration_free_transfer_is_the_overlap_of_two_apertures():
    f = np.linspace(0, 1.9, 20)
    optics = Optics(energy_kev=200, convergence_mrad=25, source_fwhm=0.0)
    x = f * wavelength(200) / (2 * 0.025)
    wanted = 2 / np.pi * (np.arccos(x) - x * np.sqrt(1 - x**2))
    assert np.abs(transfer(optics, np.zeros_like(f), f) - wanted).max() < 0.02


def test_total_intensity_is_the_sum_of_cross_sections():
    image = render(np.array([[40.3, 37.8], [44.9, 41.1]]), np.array([0.5, 0.2]), np.full(2, 0.08), (96, 96), 0.2, ROUND)
    assert image.sum() * 0.2**2 == pytest.approx(0.7, rel=6e-3)  # the tails of the Airy pattern leave the field


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.31, -0.47), (0.5, 0.5)])
def test_centre_of_mass_lies_on_the_column(offset):
    place = np.array([[48.0, 47.0]]) + offset
    image = render(place, np.ones(1), np.full(1, 0.08), (96, 96), 0.2, ROUND)
    image[image < 1e-3 * image.max()] = 0
    y, x = np.mgrid[:96, :96]
    centre = np.array([(y * image).sum(), (x * image).sum()]) / image.sum()
    assert centre == pytest.approx(place[0], abs=0.01)


def test_shift_by_a_fraction_of_a_pixel_moves_the_image_and_nothing_else():
    a = render(np.array([[40.0, 40.0]]), np.ones(1), np.full(1, 0.08), (80, 80), 0.2, ROUND)
    b = render(np.array([[40.0, 40.5]]), np.ones(1), np.full(1, 0.08), (80, 80), 0.1, ROUND)
    # The same column sampled twice as finely: every other pixel of the fine image is the coarse one.
    fine = render(np.array([[80.0, 80.0]]), np.ones(1), np.full(1, 0.08), (160, 160), 0.1, ROUND)[::2, ::2]
    assert np.abs(fine - a).max() < 2e-3 * a.max()
    assert b.argmax() % 80 in (40, 41)


def test_defocus_widens_the_column():
    sharp, soft = (
        render(np.array([[40.0, 40.0]]), np.ones(1), np.full(1, 0.08), (80, 80), 0.2, Optics(defocus_nm=d)).max() for d in (0, 15)
    )
    assert soft < 0.6 * sharp


def test_poisson_frames_have_the_variance_of_their_mean():
    expected = np.full((400, 400), 7.0)
    image = record(expected, Recording(), np.random.default_rng(0))
    assert image.mean() == pytest.approx(7, rel=0.01)
    assert image.var() == pytest.approx(7, rel=0.02)


def test_gain_offset_and_readout_act_as_named():
    image = record(np.full((300, 300), 4.0), Recording(gain=10, offset=100, readout=3), np.random.default_rng(1))
    assert image.mean() == pytest.approx(140, rel=0.01)
    assert image.std() == pytest.approx(10 * np.sqrt(4 + 9), rel=0.02)


def test_a_flickering_beam_changes_whole_rows_and_by_the_share_it_is_told():
    steady, flickering = np.full((400, 400), 5000.0), Recording(flicker=0.05)
    rows = record(steady, flickering, np.random.default_rng(0)) / 5000
    assert rows.mean(axis=1).std() == pytest.approx(0.05, rel=0.1)
    assert rows.mean(axis=0).std() < 0.003  # within a row every pixel has the same current
    within = (rows - rows.mean(axis=1, keepdims=True)).std() * np.sqrt(5000)
    assert within == pytest.approx(1.0, rel=0.02)  # and the electrons of it still come one by one


def test_rows_move_by_what_they_are_told():
    x = np.arange(64.0)
    image = np.exp(-((x - 30) ** 2) / 18)[None].repeat(3, 0)
    moved = shift_rows(image, np.array([0.0, 0.4, -1.7]))
    centre = (moved * x).sum(1) / moved.sum(1)
    assert centre == pytest.approx([30, 30.4, 28.3], abs=0.01)


def test_coma_deforms_the_peak_but_does_not_move_its_fit():
    shifted = Optics(coma_nm=300.0, coma_deg=0.0, source_fwhm=0.7)
    y, x = np.mgrid[:80, :80]
    image = render(np.array([[40.0, 40.0]]), np.ones(1), np.full(1, 0.08), (80, 80), 0.2, shifted)
    template = np.exp(-((y - 40) ** 2 + (x - 40) ** 2) / (2 * 2.2**2))
    overlap = np.fft.irfft2(np.fft.rfft2(image) * np.conj(np.fft.rfft2(template)))
    peak = np.array(np.unravel_index(overlap.argmax(), overlap.shape))
    assert peak.tolist() == [0, 0]
    right, left, middle = overlap[0, 1], overlap[0, -1], overlap[0, 0]
    assert abs(0.5 * (left - right) / (left + right - 2 * middle)) < 0.1
    assert np.abs(image - image[:, ::-1][:, np.r_[79, :79]]).max() > 0.02 * image.max()


def test_columns_of_several_thermal_widths_add_up_to_those_drawn_one_by_one():
    place, weight = np.array([[30.2, 30.7], [30.1, 46.4], [47.3, 38.6]]), np.array([1.0, 0.6, 0.8])
    width = np.array([0.06, 0.08, 0.11])
    together = render(place, weight, width, (80, 80), 0.2, ROUND)
    alone = sum(render(place[k : k + 1], weight[k : k + 1], width[k : k + 1], (80, 80), 0.2, ROUND) for k in range(3))
    one_width = render(place, weight, np.full(3, 0.08), (80, 80), 0.2, ROUND)
    assert np.abs(together - alone).max() < 0.003 * alone.max() < 0.2 * np.abs(one_width - alone).max()


def test_shifted_rows_cost_a_phase_and_move_by_what_they_are_told():
    shift = np.linspace(-1.5, 1.5, 80)
    place = np.stack([np.arange(10.0, 70.0, 10.0), np.full(6, 40.0)], 1)
    image = render(place, np.ones(6), np.full(6, 0.08), (80, 80), 0.2, ROUND, row_shift_px=shift)
    x = np.arange(80)
    for row in range(10, 70, 10):
        assert (image[row] * x).sum() / image[row].sum() == pytest.approx(40 + shift[row], abs=0.02)
