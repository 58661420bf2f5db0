"""From a CIF that nobody prepared to frames, in two calls."""

from pathlib import Path

import numpy as np
import pytest

from stemzoo.errors import OutputError, StructureError
from stemzoo.io.datasets import Dataset
from stemzoo.simulation import load, simulate_dataset
from stemzoo.simulation.draft import draft_recipe


@pytest.fixture
def cif():
    return Path(__file__).parents[1] / "data" / "rutile.cif"


def test_rutile_goes_from_cif_to_dataset(cif, tmp_path):
    draft_recipe(cif, (0, 0, 1), tmp_path / "recipes" / "rutile.toml")
    recipe = load(tmp_path / "recipes" / "rutile.toml")
    assert recipe.material == "TiO2"
    path = simulate_dataset(tmp_path / "recipes" / "rutile.toml", 1, tmp_path / "d.h5", seed=0)
    data = Dataset(path)
    assert set(data.classes) == {"Ti", "O"}
    yx, _ = data.columns(0)
    pixel_size = data.attributes(0)["pixel_size"]
    nearest = np.sort(np.linalg.norm(yx[:, None] - yx[None], axis=-1), axis=1)[:, 1] * pixel_size
    assert np.median(nearest) == pytest.approx((0.5 - 0.305) * 4.594 * np.sqrt(2), rel=0.05)


def test_refusals(cif, tmp_path):
    with pytest.raises(StructureError, match="is no direction"):
        draft_recipe(cif, (0, 0, 0), tmp_path / "r.toml")
    with pytest.raises(OutputError, match="cannot be written"):
        draft_recipe(cif, (0, 0, 1), "/proc/none/r.toml")
