"""From a CIF that nobody prepared to frames, in two calls."""

from pathlib import Path

import numpy as np
import pytest

from stemzoo.errors import OutputError, StructureError
from stemzoo.io.datasets import Dataset
from stemzoo.simulation import load, simulate_dataset
from stemzoo.simulation.draft import draft_recipe
from stemzoo.validate.placement import doubt, place


@pytest.fixture
def cif():
    return Path(__file__).parents[1] / "data" / "rutile.cif"


def test_rutile_goes_from_cif_to_dataset(cif, tmp_path):
    draft_recipe(cif, (0, 0, 1), tmp_path / "recipes" / "rutile.toml")
    recipe = load(tmp_path / "recipes" / "rutile.toml")
    assert recipe.material == "TiO2"
    path = simulate_dataset(tmp_path / "recipes" / "rutile.toml", 1, tmp_path / "d.h5", seed=0)
    data = Dataset(path)
    assert set(data.classes) == {"Ti"}  # oxygen lies in the flanks of titanium
    yx, _ = data.columns(0)
    pixel_size = data.attributes(0)["pixel_size"]
    nearest = np.sort(np.linalg.norm(yx[:, None] - yx[None], axis=-1), axis=1)[:, 1] * pixel_size
    assert np.median(nearest) == pytest.approx(4.594 / np.sqrt(2), rel=0.05)


def test_a_garnet_keeps_its_formula_and_the_columns_that_can_be_seen(tmp_path):
    from ase.io import write
    from ase.spacegroup import crystal

    basis = [(0.125, 0, 0.25), (0, 0, 0), (0.375, 0, 0.25), (-0.0306, 0.0512, 0.15)]
    write(tmp_path / "garnet.cif", crystal(["Y", "Al", "Al", "O"], basis, spacegroup=230, cellpar=[12.01, 12.01, 12.01, 90, 90, 90]))
    notices = draft_recipe(tmp_path / "garnet.cif", (1, 1, 1), tmp_path / "garnet.toml")
    recipe = load(tmp_path / "garnet.toml")
    assert recipe.material == "Y3Al5O12"
    assert set(recipe.structure.species) == {"Y", "Al"}
    assert any("lower visible_fraction if your probe shows them" in notice for notice in notices)
    frame = Dataset(simulate_dataset(tmp_path / "garnet.toml", 1, tmp_path / "d.h5", seed=0))
    assert doubt(place(frame.window(0, (0, 0), frame.shape(0), "expected"), frame.columns(0)[0], frame.attributes(0)["pixel_size"])) is None


@pytest.mark.parametrize(("zone", "classes"), [((0, 0, 1), {"Sr", "Ti"}), ((1, 1, 0), {"Sr", "Ti"})])
def test_columns_that_stand_free_stay_truth(tmp_path, zone, classes):
    from ase.io import write
    from ase.spacegroup import crystal

    basis = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)]
    write(tmp_path / "sto.cif", crystal(["Sr", "Ti", "O"], basis, spacegroup=221, cellpar=[3.905, 3.905, 3.905, 90, 90, 90]))
    draft_recipe(tmp_path / "sto.cif", zone, tmp_path / "sto.toml")
    assert set(load(tmp_path / "sto.toml").structure.species) == classes


def test_an_edited_draft_is_not_overwritten(cif, tmp_path):
    out = tmp_path / "rutile.toml"
    draft_recipe(cif, (0, 0, 1), out)
    draft_recipe(cif, (0, 0, 1), out)
    edited = out.read_text().replace("size_px = 384", "size_px = 200")
    out.write_text(edited)
    with pytest.raises(OutputError, match=r"rutile\.toml: holds another recipe, or this draft as it was edited; name another --out"):
        draft_recipe(cif, (0, 0, 1), out)
    assert out.read_text() == edited


def test_refusals(cif, tmp_path):
    with pytest.raises(StructureError, match="is no direction"):
        draft_recipe(cif, (0, 0, 0), tmp_path / "r.toml")
    with pytest.raises(OutputError, match="cannot be written"):
        draft_recipe(cif, (0, 0, 1), "/proc/none/r.toml")
