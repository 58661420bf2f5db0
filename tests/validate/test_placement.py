"""Truth on intensity: exact truth passes at any dose; exchanged, shifted, foreign and inverted truth is named for what it is."""

from pathlib import Path

import numpy as np
import pytest

from stemzoo.simulation import draw_frames
from stemzoo.validate.placement import doubt, place

RECIPES = Path(__file__).parents[2] / "datasets"


@pytest.fixture(scope="module", params=["srtio3", "silicon", "graphene"])
def frame(request):
    settings = {"frame.size_px": 256, "dose.counts_per_column": 150.0, "frame.sampling": 0.18, "specimen.vacuum": 0.0}
    return next(draw_frames(RECIPES / f"{request.param}.toml", 1, 4, settings))


def test_exact_truth_passes_and_its_offset_is_nought(frame):
    found = place(frame.image, frame.yx, frame.pixel_size)
    assert doubt(found) is None
    assert found.on > 0.95
    assert np.hypot(*found.offset_px) < 0.1
    assert found.offset_sigma_px < 0.1


@pytest.mark.parametrize("shift", [(1.0, 1.0), (-1.0, 0.0), (0.7, 0.7)])
def test_an_origin_that_is_off_is_measured(frame, shift):
    found = place(frame.image, frame.yx + shift, frame.pixel_size)
    assert found.offset_px == pytest.approx(tuple(-s for s in shift), abs=0.1)
    assert "do they count from 1" in doubt(found)


def test_a_slope_under_wide_peaks_moves_nothing():
    yx = np.stack(np.meshgrid(np.arange(20.0, 240, 20), np.arange(20.0, 240, 20), indexing="ij"), -1).reshape(-1, 2)
    y, x = np.mgrid[:256, :256]
    peaks = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * 5.0**2)) for a, b in yx)
    found = place(peaks + 0.03 * (256 - x), yx, 0.1)
    assert np.hypot(*found.offset_px) < 0.15  # 1.9 where the slope is left on


def test_exchanged_axes_are_named(frame):
    assert "exchange them" in doubt(place(frame.image, frame.yx[:, ::-1], frame.pixel_size))


def test_another_frames_table_and_inverted_contrast_are_named(frame):
    rng = np.random.default_rng(0)
    elsewhere = rng.uniform(0, 255, frame.yx.shape)
    assert "does the table belong to this frame" in doubt(place(frame.image, elsewhere, frame.pixel_size))
    assert "is the contrast inverted" in doubt(place(frame.image.max() - frame.image, frame.yx, frame.pixel_size))


def test_a_few_columns_tell_nothing():
    image = np.random.default_rng(0).random((64, 64))
    found = place(image, np.array([[30.0, 30.0], [35.0, 35.0], [39.0, 32.0]]), 0.2)
    assert found.n == 3
    assert doubt(found) is None
    assert place(image, np.zeros((0, 2)), 0.2).n == 0
