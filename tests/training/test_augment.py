"""Views of a patch: image and target turn together; what is recorded anew has the statistics that were asked for."""

import numpy as np
import pytest

from stemzoo.simulation.noise import Recording
from stemzoo.training.augment import AS_STATED, bent, recorded_anew, view
from stemzoo.training.config import Augmentation
from stemzoo.training.patches import heat


def _recorded(config, stated, expected=400.0):
    return recorded_anew(np.full((300, 300), expected, np.float32), config, 0.2, stated, np.random.default_rng(0))


def test_image_and_target_turn_together():
    yx = np.array([[12.0, 40.0], [50.0, 9.0]])
    blob = heat(yx, np.array([0, 0]), 1, (64, 64), 2.0)
    calm = Augmentation(blur_probability=0.0, gamma=(1.0, 1.0))
    seen = set()
    for seed in range(60):
        image, target = view(blob[0] * 3, blob, calm, 0.2, None, np.random.default_rng(seed))
        assert image / image.max() == pytest.approx(target[0] / target.max(), abs=1e-6)
        seen.add(tuple(np.unravel_index(int(target.argmax()), (64, 64))))
    assert len(seen) == 8  # the brightest column lands at each of the square's eight images


def test_recording_anew_keeps_the_mean_and_variance_of_the_expectation():
    image = _recorded(AS_STATED, Recording(), 9.0)
    assert image.mean() == pytest.approx(9, rel=0.01)
    assert image.var() == pytest.approx(9, rel=0.03)


def test_what_is_drawn_comes_on_top_of_what_the_recipe_states():
    calm = _recorded(AS_STATED, Recording(readout=15.0, gain=2.0, offset=7.0))
    assert calm.mean() == pytest.approx(2 * 400 + 7, rel=0.01)
    assert calm.std() == pytest.approx(2 * np.sqrt(400 + 15**2), rel=0.02)
    extra = AS_STATED.model_copy(update={"readout": (1.0, 1.0), "hot_fraction": (0.01, 0.01)})
    rough = _recorded(extra, Recording(readout=15.0, hot_fraction=0.02))
    inner = rough[(rough > 200) & (rough < 600)]  # without the hot pixels
    assert inner.std() == pytest.approx(np.sqrt(400 + 15**2 + 400), rel=0.03)
    assert (rough > 600).mean() == pytest.approx(0.03 * 0.8, rel=0.15)


def test_the_detector_of_the_recipe_clips_and_smooths():
    ramp = np.tile(np.linspace(10, 1000, 256, dtype=np.float32), (256, 1))
    clipped = recorded_anew(ramp, AS_STATED, 0.2, Recording(saturation=0.5), np.random.default_rng(0))
    assert clipped.max() == pytest.approx(500)
    assert _recorded(AS_STATED, Recording(smoothing_px=2.0)).std() == pytest.approx(20 / np.sqrt(4 * np.pi * 2.0**2), rel=0.05)


def test_dose_is_drawn_anew_each_time():
    rng = np.random.default_rng(0)
    config = AS_STATED.model_copy(update={"dose_factor": (0.25, 4.0)})
    flat = np.full((64, 64), 100.0, np.float32)
    doses = np.array([recorded_anew(flat, config, 0.2, Recording(), rng).mean() for _ in range(200)])
    assert doses.min() < 35
    assert doses.max() > 300
    assert np.log(doses / 100).mean() == pytest.approx(0, abs=0.15)  # uniform in the logarithm


def test_gamma_bends_between_the_extremes_and_keeps_the_units():
    ramp = np.linspace(100.0, 300.0, 64 * 64, dtype=np.float32).reshape(64, 64)
    curve = bent(ramp, 2.0)
    assert (curve.min(), curve.max()) == pytest.approx((100, 300))
    assert np.median(curve) == pytest.approx(100 + 200 * 0.25, rel=0.01)
    assert np.isfinite(bent(np.zeros((8, 8), np.float32), 0.5)).all()
