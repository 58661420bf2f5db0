"""Recipes: every one in the tree builds, wrong ones are refused by name, frames repeat by seed, truth lies on intensity."""

from pathlib import Path

import numpy as np
import pytest

from stemzoo.errors import OutputError, RecipeError
from stemzoo.io.datasets import Dataset
from stemzoo.io.inventory import inspect
from stemzoo.simulation import draw_frames, load, simulate, simulate_dataset
from stemzoo.simulation.defects import apply
from stemzoo.simulation.frame import simulate_series, specimen
from stemzoo.simulation.layout import lay_out
from stemzoo.simulation.loading import parts
from stemzoo.simulation.recipe import Defect, Recipe
from stemzoo.validate.placement import place

FOLDER = Path(__file__).parents[2] / "datasets"
RECIPES = sorted(FOLDER.glob("*.toml"))


def _small(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"frame": recipe.frame.model_copy(update={"size_px": 160})})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_gives_frames_whose_truth_lies_on_intensity(path):
    recipe, _ = parts(path)[0]
    quiet = recipe.model_copy(
        update={
            "scan": recipe.scan.model_copy(update={"row_jitter": 0.0}),
            "specimen": recipe.specimen.model_copy(update={"carbon": 0.0, "contamination": 0.0, "background": 0.05}),
        }
    )
    frame = simulate(_small(quiet), np.random.default_rng(5))
    assert len(frame.yx) > 3
    inner = ((frame.yx > 6) & (frame.yx < 153)).all(axis=1)
    rows, cols = np.round(frame.yx[inner]).astype(int).T
    on_columns = frame.expected[rows, cols].mean()
    assert on_columns > 1.3 * frame.expected[5:-5, 5:-5].mean()
    assert np.isfinite(frame.image).all()


def test_sr3fe2o7_shows_three_strontium_for_two_iron():
    scene = lay_out(load(FOLDER / "sr3fe2o7.toml"), 200.0, np.random.default_rng(0))
    inside = (np.abs(scene.yx) < 100).all(axis=1)
    n_a, n_b = (int((scene.species[inside] == scene.classes.index(name)).sum()) for name in "AB")
    assert n_a / n_b == pytest.approx(1.5, rel=0.03)
    assert n_a + n_b == pytest.approx(200.0**2 * 10 / (3.846 * 20.16), rel=0.03)


def test_counts_in_a_column_are_what_the_recipe_says():
    recipe = load(FOLDER / "srtio3.toml")
    plain = {
        "background": 0.0,
        "carbon": 0.0,
        "contamination": 0.0,
        "vacuum": 0.0,
        "thickness_gradient": 0.0,
        "displacement": 0.0,
        "thickness_nm": 1.0,
    }  # thin: columns lose nothing yet
    recipe = recipe.model_copy(
        update={
            "dose": recipe.dose.model_copy(update={"counts_per_column": 400.0}),
            "specimen": recipe.specimen.model_copy(update=plain),
            "defects": (),
        }
    )
    frame = simulate(recipe, np.random.default_rng(3))
    assert frame.counts.mean() == pytest.approx(400, rel=0.02)
    per_cell = frame.expected.sum() / (frame.expected.size * frame.pixel_size**2 / 3.905**2)
    # A cell holds Sr and TiO, 400 electrons each on average, and two oxygen columns that are no truth.
    assert 800 < per_cell < 950


def test_same_seed_same_frames_and_another_seed_others(tmp_path):
    a, b, c = (next(draw_frames(FOLDER / "mos2.toml", 1, seed)) for seed in (4, 4, 5))
    assert np.array_equal(a.image, b.image)
    assert not np.array_equal(a.image, c.image)


def test_recipes_that_come_with_the_package_are_taken_by_name(tmp_path, monkeypatch):
    """As after `pip install`, where no folder datasets/ is at hand; a file of the same name here goes before."""
    monkeypatch.chdir(tmp_path)
    assert load("srtio3") == load(FOLDER / "srtio3.toml") == load("srtio3.toml")
    (tmp_path / "ours.toml").write_text('extends = "srtio3"\n[dose]\ncounts_per_column = [50, 400]\n')
    assert load("ours.toml").dose.counts_per_column == (50, 400)
    assert load("ours.toml").structure == load("srtio3").structure
    (tmp_path / "both.toml").write_text('material = "both"\n[[mixture]]\nrecipe = "ours"\n[[mixture]]\nrecipe = "mos2"\n')
    assert {part.material for part, _ in parts("both.toml")} == {load("srtio3").material, load("mos2").material}
    (tmp_path / "srtio3.toml").write_text((FOLDER / "mos2.toml").read_text())
    assert load("srtio3.toml").material == load("mos2").material
    with pytest.raises(RecipeError, match=r"srtio: no such recipe; did you mean srtio3\?.*taken by name alone"):
        load("srtio")
    with pytest.raises(RecipeError, match="no such recipe"):
        load(tmp_path / "sub" / "mos2.toml")


def test_a_frame_says_how_its_crystal_lies_and_how_thick_it_is() -> None:
    """The rows of a square lattice lie as far from +x, counter-clockwise as displayed, as the frame's attribute says, modulo 90°."""
    settings = {"defects": [], "specimen.displacement": 0.0, "specimen.thickness_nm": 12.0, "scan.drift": 0.0, "scan.shear": 0.0}
    for frame in draw_frames(FOLDER / "srtio3.toml", 3, 8, settings):
        yx = frame.yx[frame.species == 0]
        step = yx[np.argsort(np.hypot(*(yx - yx[len(yx) // 2]).T))[1]] - yx[len(yx) // 2]
        seen = np.degrees(np.arctan2(-step[0], step[1]))
        assert abs((seen - float(frame.facts["rotation_deg"]) + 45) % 90 - 45) < 1
        assert frame.facts["thickness_nm"] == pytest.approx(12, rel=0.1)
    atoms = next(draw_frames(FOLDER / "atoms_on_carbon.toml", 1, 8))
    assert "rotation_deg" not in atoms.facts and "thickness_nm" not in atoms.facts


def test_a_mixture_serves_its_parts_by_weight_and_its_frame_holds_for_all():
    frames = list(draw_frames(FOLDER / "universal.toml", 19, 0))
    assert len({frame.facts["material"] for frame in frames}) > 10
    assert all(0.14 <= frame.pixel_size <= 0.28 and frame.image.shape == (320, 320) for frame in frames)


def _write(tmp_path, text):
    path = tmp_path / "r.toml"
    path.write_text('schema_version = 1\nmaterial = "x"\n' + text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[structure]\n[specimen]\nthicknes_nm = 5.0\n", "unknown key 'specimen.thicknes_nm'; did you mean 'thickness_nm'"),
        ("", r"wanted either a \[structure\] or \[\[mixture\]\] parts, and got neither"),
        ("[structure]\n[dose]\ncounts_per_column = [9.0, 3.0]\n", "a range runs from low to high"),
        ("[structure\n", "not TOML"),
        ('extends = "nowhere"\n', "no such recipe"),
        ('extends = "r"\n', "goes round in a circle"),
    ],
)
def test_wrong_recipes_are_refused_by_name(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message):
        load(_write(tmp_path, text))


def test_unknown_defect_and_argument_are_refused_with_the_nearest():
    scene = lay_out(load(FOLDER / "iron.toml"), 40.0, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    with pytest.raises(RecipeError, match="did you mean 'vacancy'"):
        apply(Defect(kind="vacancies"), scene, rng)
    with pytest.raises(RecipeError, match="did you mean 'fraction'"):
        apply(Defect(kind="vacancy", fractions=0.1), scene, rng)
    with pytest.raises(RecipeError, match="wants the species 'Q'"):
        apply(Defect(kind="vacancy", fraction=0.1, species="Q"), scene, rng)


def test_sampling_too_coarse_for_the_spacing_is_refused():
    recipe = load(FOLDER / "silicon.toml")
    coarse = recipe.model_copy(update={"frame": recipe.frame.model_copy(update={"sampling": 0.6})})
    with pytest.raises(RecipeError, match=r"columns lie 1\.36 Å apart, but a pixel is 0\.60 Å wide"):
        simulate(coarse, np.random.default_rng(0))


def test_vacancies_leave_holes_and_polar_shifts_one_sublattice():
    rng = np.random.default_rng(0)
    scene = lay_out(load(FOLDER / "srtio3.toml"), 100.0, rng)
    fewer = apply(Defect(kind="vacancy", fraction=0.25, species="A"), scene, rng)
    n_a = (scene.species == 0).sum()
    assert ((fewer.filled & (fewer.species == 0)).sum() / n_a) == pytest.approx(0.75, abs=0.06)
    moved = apply(Defect(kind="polar", species="B", shift=0.2, direction_deg=90.0), scene, rng)
    step = moved.yx - scene.yx
    assert step[scene.species == 1] == pytest.approx(np.array([[-0.2, 0.0]]).repeat((scene.species == 1).sum(), 0), abs=1e-12)
    assert not step[scene.species != 1].any()


def test_dataset_holds_exact_truth_and_reads_windows(tmp_path):
    path = simulate_dataset(FOLDER / "sr3fe2o7.toml", 2, tmp_path / "d.h5", seed=9)
    frames = list(draw_frames(FOLDER / "sr3fe2o7.toml", 2, 9))
    data = Dataset(path)
    assert data.classes == ("A", "B")
    for index, frame in enumerate(frames):
        yx, species = data.columns(index)
        assert np.array_equal(yx, frame.yx)
        assert np.array_equal(species, frame.species)
        assert np.array_equal(data.window(index, (17, 40), (50, 60)), frame.image[17:67, 40:100])
        attributes = data.attributes(index)
        assert attributes["pixel_size"] == frame.pixel_size
        assert attributes["zone_axis"] == "1,0,0"
    found = inspect(path)
    assert found.n_columns == sum(len(frame.yx) for frame in frames)
    assert sum(found.columns_by_class.values()) == found.n_columns


def test_a_dataset_appears_whole_or_not_at_all(tmp_path):
    def break_off(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(FOLDER / "iron.toml", 3, tmp_path / "d.h5", progress=break_off)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="cannot be written"):
        simulate_dataset(FOLDER / "iron.toml", 1, "/proc/none/d.h5")


def test_settings_lie_over_the_recipe_and_all_parts_of_a_mixture():
    settings = {"dose.counts_per_column": 300.0, "frame.sampling": 0.2}
    for frame in draw_frames(FOLDER / "universal.toml", 4, 0, settings):
        assert frame.facts["counts_per_column"] == 300.0
        assert frame.pixel_size == 0.2
    with pytest.raises(RecipeError, match=r"unknown key 'dose\.counts'; did you mean 'counts_per_column'"):
        load(FOLDER / "mos2.toml", {"dose.counts": 1})


def test_the_command_line_lays_its_settings_over_the_recipe(tmp_path, capsys):
    from stemzoo.cli import main

    out = tmp_path / "d.h5"
    words = ["data", "simulate", str(FOLDER / "mos2.toml"), "--frames", "1", "--out", str(out)]
    assert main([*words, "--set", "dose.counts_per_column=300", "--set", "frame.sampling=0.2"]) == 0
    attributes = Dataset(out).attributes(0)
    assert (attributes["counts_per_column"], attributes["pixel_size"]) == (300.0, 0.2)
    assert main([*words, "--set", "dose.counts=3"]) == 1
    assert "did you mean 'counts_per_column'" in capsys.readouterr().err


def test_a_file_that_is_no_dataset_is_not_overwritten(tmp_path):
    (tmp_path / "notes.h5").write_text("mine")
    with pytest.raises(OutputError, match="already there, and no dataset of stemzoo"):
        simulate_dataset(FOLDER / "iron.toml", 1, tmp_path / "notes.h5")
    assert (tmp_path / "notes.h5").read_text() == "mine"


@pytest.mark.parametrize("name", ["mos2", "wse2", "mose2", "mos2_time_series", "graphene"])
def test_a_monolayer_has_nothing_above_it_that_scatters_between_its_columns(name: str) -> None:
    scene = specimen(load(FOLDER / f"{name}.toml"), 40.0, np.random.default_rng(0))
    assert scene.repeat == 0 and not scene.haze.any()


def test_a_film_ends_with_its_substrate() -> None:
    recipe = load(FOLDER / "lamno3_srtio3.toml", {"specimen.vacuum": 1.0})
    for seed in range(4):
        scene = specimen(recipe, 60.0, np.random.default_rng(seed))
        assert scene.outlines and all(outline(scene.yx).min() > -1.0 for outline in scene.outlines)


def test_every_frame_of_the_focal_series_shows_its_columns_bright() -> None:
    recipe = load(FOLDER / "srtio3_focal_series.toml", {"frame.size_px": 160, "optics.convergence_mrad": 30.0})
    recipe = recipe.model_copy(update={"series": recipe.series.model_copy(update={"defocus_step_nm": 1.5})})
    for frame in simulate_series(recipe, np.random.default_rng(1)):
        assert place(frame.expected, frame.yx, frame.pixel_size).on > 0.5
