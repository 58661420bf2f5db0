"""Views of a patch: image and target turn together; what is recorded anew has the statistics that were asked for."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from stemzoo.simulation.noise import Recording
from stemzoo.training.augment import AS_STATED, RecordAnew, views
from stemzoo.training.config import Augmentation
from stemzoo.training.patches import heat


def _recorded(config, stated, expected=400.0):
    torch.manual_seed(0)
    return RecordAnew(config, 0.2, stated)(tv_tensors.Image(torch.full((1, 300, 300), expected)))


def test_image_and_target_turn_together():
    yx = np.array([[12.0, 40.0], [50.0, 9.0]])
    blob = torch.from_numpy(heat(yx, np.array([0, 0]), 1, (64, 64), 2.0))
    calm = Augmentation(blur_probability=0.0, gamma=(1.0, 1.0))
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        image, target = views(calm, 0.2, None)(tv_tensors.Image(blob * 3), tv_tensors.Mask(blob))
        assert torch.allclose(image / image.max(), target / target.max(), atol=1e-6)
        seen.add(tuple(np.unravel_index(int(target.argmax()), (64, 64))))
    assert len(seen) == 8  # the brightest column lands at each of the square's eight images


def test_recording_anew_keeps_the_mean_and_variance_of_the_expectation():
    image = _recorded(AS_STATED, Recording(), 9.0)
    assert float(image.mean()) == pytest.approx(9, rel=0.01)
    assert float(image.var()) == pytest.approx(9, rel=0.03)


def test_what_is_drawn_comes_on_top_of_what_the_recipe_states():
    extra = AS_STATED.model_copy(update={"readout": (1.0, 1.0), "hot_fraction": (0.01, 0.01)})
    calm = _recorded(AS_STATED, Recording(readout=15.0, gain=2.0, offset=7.0))
    assert float(calm.mean()) == pytest.approx(2 * 400 + 7, rel=0.01)
    assert float(calm.std()) == pytest.approx(2 * np.sqrt(400 + 15**2), rel=0.02)
    rough = _recorded(extra, Recording(readout=15.0, hot_fraction=0.02))
    inner = rough[(rough > 200) & (rough < 600)]  # without the hot pixels
    assert float(inner.std()) == pytest.approx(np.sqrt(400 + 15**2 + 400), rel=0.03)
    assert float((rough > 600).float().mean()) == pytest.approx(0.03 * 0.8, rel=0.15)


def test_dose_is_drawn_anew_each_time():
    torch.manual_seed(0)
    config = AS_STATED.model_copy(update={"dose_factor": (0.25, 4.0)})
    flat = tv_tensors.Image(torch.full((1, 64, 64), 100.0))
    doses = np.array([float(RecordAnew(config, 0.2, Recording())(flat).mean()) for _ in range(200)])
    assert doses.min() < 35
    assert doses.max() > 300
    assert np.log(doses / 100).mean() == pytest.approx(0, abs=0.15)  # uniform in the logarithm


def test_gamma_bends_between_the_extremes_and_keeps_the_units():
    config = AS_STATED.model_copy(update={"gamma": (2.0, 2.0), "blur_probability": 0.0})
    ramp = tv_tensors.Image(torch.linspace(100.0, 300.0, 64 * 64).reshape(1, 64, 64))
    bent, _ = views(config, 0.2, None)(ramp, tv_tensors.Mask(torch.zeros(1, 64, 64)))
    assert (float(bent.min()), float(bent.max())) == pytest.approx((100, 300))
    assert float(bent.median()) == pytest.approx(100 + 200 * 0.25, rel=0.01)
