"""What scatters beside the columns: an amorphous film's contrast, whatever a recipe draws."""

import numpy as np
import pytest

from stemzoo.simulation.background import MOST_CONTRAST, surroundings
from stemzoo.simulation.recipe import Specimen

SHAPE, PIXEL, MEAN = (256, 256), 0.2, 3.0


def _ground(seed=0, **table):
    specimen = Specimen.model_validate({"thickness_nm": 5.0, "contamination": 0.0, **table})
    return surroundings(specimen, [], SHAPE, MEAN, PIXEL, np.random.default_rng(seed), np.zeros(2))


def test_a_film_scatters_itself_what_it_varies_by():
    thin = _ground(background=0.1, carbon=2.0)
    assert thin.field.std() == pytest.approx(2.0 * MEAN, rel=0.03)
    assert thin.field.mean() == pytest.approx(2.0 * MEAN / MOST_CONTRAST, rel=0.03)
    assert (thin.field <= 0.01 * thin.field.mean()).mean() < 0.01  # it is nowhere as dark as vacuum
    assert thin.speckle == pytest.approx(2.0 * MEAN, rel=0.03) and 0.4 <= thin.grain <= 0.7


def test_enough_background_is_left_as_it_is_drawn():
    assert _ground(background=9.0, carbon=2.0).field.mean() == pytest.approx(9.0 * MEAN, rel=0.01)
    flat = _ground(background=0.3, carbon=0.0)
    assert np.ptp(flat.field) == 0 and flat.field[0, 0] == pytest.approx(0.3 * MEAN) and flat.speckle == 0


def test_where_contamination_leaves_less_there_is_less_speckle():
    ground = _ground(background=5.0, carbon=2.0, contamination=6.0)
    local = ground.field.reshape(16, 16, 16, 16)
    mean, spread = local.mean(axis=(1, 3)).ravel(), local.std(axis=(1, 3)).ravel()
    dark, bright = mean < 2.5 * MEAN, mean > 7.5 * MEAN  # half and one and a half times the flat part
    assert dark.sum() > 10 < bright.sum()
    assert spread[dark].mean() < 0.6 * spread[bright].mean()


@pytest.mark.parametrize("seed", range(3))
def test_the_speckle_that_is_stated_has_the_grain_that_is_stated(seed):
    ground = _ground(seed, background=9.0, carbon=2.0)
    spectrum = np.abs(np.fft.fft2(ground.field - ground.field.mean())) ** 2
    correlation = np.fft.ifft2(spectrum).real
    steps = np.arange(1, 5)
    found = np.sqrt(-((steps * PIXEL) ** 2) / (4 * np.log(correlation[0, steps] / correlation[0, 0])))
    assert found == pytest.approx(np.full(4, ground.grain), rel=0.1)


def test_a_recipe_may_say_how_coarse_the_speckle_is():
    ground = _ground(background=9.0, carbon=2.0, grain=1.1)
    field = ground.field - ground.field.mean()
    step = int(1.1 / PIXEL)
    assert ground.grain == 1.1
    along = float((field[:, step:] * field[:, :-step]).mean() / field.var())
    assert along == pytest.approx(np.exp(-((step * PIXEL) ** 2) / (4 * 1.1**2)), abs=0.05)
