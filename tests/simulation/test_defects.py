"""Defects: what each does to atoms and places, in crystals where the answer is known."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stemzoo.errors import RecipeError, StructureError
from stemzoo.simulation import defects, load
from stemzoo.simulation.defects import apply
from stemzoo.simulation.layout import lay_out
from stemzoo.simulation.recipe import Defect
from stemzoo.simulation.scene import Scene

FOLDER = Path(__file__).parents[2] / "datasets"


def _scene(name: str, extent: float = 100.0, seed: int = 0) -> Scene:
    return lay_out(load(FOLDER / f"{name}.toml"), extent, np.random.default_rng(seed))


def _with(scene: Scene, kind: str, seed: int = 0, **arguments: object) -> Scene:
    return apply(Defect.model_validate({"kind": kind, **arguments}), scene, np.random.default_rng(seed))


def _inner(scene: Scene, rim: float = 0.0) -> np.ndarray:
    return np.asarray((np.abs(scene.yx) < scene.extent / 2 - rim).all(axis=1))


def test_every_file_of_the_folder_is_a_defect_of_its_name() -> None:
    names = {module.name for module in pkgutil.iter_modules(defects.__path__)}
    assert set(defects.DEFECTS) == names and len(names) >= 15
    assert all(function.__name__ == name and function.__doc__ for name, function in defects.DEFECTS.items())


@pytest.mark.parametrize(("displacement", "block"), [(0.1994, 3), (-0.1994, 1)])
def test_a_layer_too_many_or_too_few_makes_a_block_of_three_or_one(displacement: float, block: int) -> None:
    scene = _scene("sr3fe2o7")
    faulted = _with(scene, "planar_fault", across=(0, 0, 1), along=(0, 1, 0), at=-0.05, displacement=(0, 0, displacement), probability=1.0)
    assert scene.crystal is not None
    normal = scene.crystal.direction((0, 0, 1))

    def blocks(of: Scene) -> list[int]:
        """Numbers of iron layers between double layers of strontium."""
        iron = np.sort(of.yx[of.of("B") & _inner(of)] @ normal)
        layers = iron[np.append(True, np.diff(iron) > 1.0)]
        ends = np.flatnonzero(np.diff(layers) > 5.0)
        return np.diff(np.concatenate([ends, [len(layers) - 1]])).tolist()[:-1]

    assert set(blocks(scene)) == {2}
    assert sorted(blocks(faulted)).count(block) == 1 and set(blocks(faulted)) == {2, block}
    seen = faulted.yx[faulted.filled & _inner(faulted)]
    assert cKDTree(seen).query(seen, k=2)[0][:, 1].min() > 1.9  # every layer has room


def test_an_interface_is_coherent_and_its_contents_go_over_with_the_error_function() -> None:
    scene = _scene("lamno3_srtio3")
    whole = _with(scene, "interface", phase="LaMnO3", across=(0, 0, 1), along=(0, 1, 0), mixing=4.0)
    assert scene.crystal is not None
    normal, along = scene.crystal.direction((0, 0, 1)), scene.crystal.direction((0, 1, 0))
    a_site = whole.of("A") & _inner(whole)
    depth = whole.yx[a_site] @ normal
    lanthanum = whole.atoms[a_site, whole.elements.index("La")]
    strontium = whole.atoms[a_site, whole.elements.index("Sr")]
    np.testing.assert_allclose(lanthanum + strontium, 1.0, atol=1e-9)
    order = np.argsort(depth)
    assert np.abs(lanthanum[order][0] - lanthanum[order][-1]) > 0.99
    slope = np.diff(lanthanum[order]) * np.sign(lanthanum[order][-1] - 0.5)
    assert slope.min() > -0.02
    mixed = (lanthanum > 0.1) & (lanthanum < 0.9)
    assert 1.0 < np.ptp(depth[mixed]) < 10.0
    sideways = np.sort((whole.yx[a_site] @ along) % 3.905)
    assert np.ptp(sideways) < 1e-6 or np.ptp((sideways + 1.9) % 3.905) < 1e-6
    with pytest.raises(RecipeError, match="wants the phase 'LaAlO3'; this recipe has LaMnO3"):
        _with(scene, "interface", phase="LaAlO3", across=(0, 0, 1), along=(0, 1, 0))


@pytest.mark.parametrize(("name", "along", "through", "offset"), [("mos2", (1, 0, 0), "X", 0.0), ("silicon", (1, -1, -2), None, 1.176)])
def test_a_twin_is_its_own_mirror_image(name: str, along: tuple[int, ...], through: str | None, offset: float) -> None:
    scene = _scene(name)
    twin = _with(scene, "mirror_twin", along=along, offset=offset, **({"through": through} if through else {}))
    assert scene.crystal is not None
    direction = scene.crystal.direction(along)
    normal = np.array([-direction[1], direction[0]])
    tree = cKDTree(twin.yx[twin.filled])
    # Where the line lies is the one offset at which the image falls on itself.
    inner = twin.yx[twin.filled & _inner(twin, 20.0)]
    best = min(
        float(np.median(tree.query(inner - 2 * ((inner @ normal) - place)[:, None] * normal)[0])) for place in np.arange(-50, 50, 0.02)
    )
    assert best < 0.05
    assert tree.query(inner, k=2)[0][:, 1].min() > 1.3
    untwinned = cKDTree(scene.yx[scene.filled])
    seen = twin.yx[twin.filled & _inner(twin)]
    assert (untwinned.query(seen)[0] > 0.3).mean() > 0.05  # the other side is not the crystal that was there


def test_turned_bonds_keep_every_carbon_its_three_neighbours() -> None:
    scene = _scene("graphene", 50.0)
    turned = _with(scene, "stone_wales", seed=3)
    moved = np.linalg.norm(turned.yx - scene.yx, axis=1)
    assert len(turned.yx) == len(scene.yx) and 0.5 < moved.max() < 1.5 and (moved > 0.5).sum() == 2
    _three_bonds(turned)
    angles = _angles(turned)  # 108° in a regular pentagon, 129° in a heptagon
    assert (angles < 116).sum() >= 8 and (angles > 122).sum() >= 10


def _bonds(scene: Scene) -> list[list[int]]:
    return cKDTree(scene.yx).query_ball_point(scene.yx, 1.42 * 1.28)


def _three_bonds(scene: Scene) -> None:
    inner = np.flatnonzero(_inner(scene, 3.0))
    near = _bonds(scene)
    count = np.array([len(near[i]) - 1 for i in inner])
    assert (count == 3).mean() > 0.995
    distance = cKDTree(scene.yx).query(scene.yx[inner], k=4)[0][:, 1:]
    assert distance.min() > 1.15 and np.quantile(distance, 0.999) < 1.8


def _angles(scene: Scene) -> np.ndarray:
    near, angles = _bonds(scene), []
    for i in np.flatnonzero(_inner(scene, 3.0)):
        arms = [scene.yx[j] - scene.yx[i] for j in near[i] if j != i]
        for a in range(len(arms)):
            for b in range(a):
                angles.append(np.degrees(np.arccos(arms[a] @ arms[b] / np.linalg.norm(arms[a]) / np.linalg.norm(arms[b]))))
    return np.array(angles)


def test_a_ring_boundary_joins_two_grains_without_dangling_bonds() -> None:
    scene = _scene("graphene", 70.0)
    joined = _with(scene, "ring_boundary", seed=1, misorientation_deg=20.0)
    _three_bonds(joined)
    arms = joined.yx[cKDTree(joined.yx).query(joined.yx[_inner(joined)], k=2)[1][:, 1]] - joined.yx[_inner(joined)]
    turn = np.degrees(np.arctan2(-arms[:, 0], arms[:, 1])) % 60
    assert scene.crystal is not None
    row, column = scene.crystal.lattice[0]  # carbon atoms lie 30 degrees off the periods
    away = np.abs((turn - (np.degrees(np.arctan2(-row, column)) + 30) + 30) % 60 - 30)
    assert (away < 3).mean() > 0.15 and (np.abs(away - 20) < 3).mean() > 0.15


def test_a_domain_wall_turns_the_displacement_round() -> None:
    scene = _scene("pbtio3", 120.0)
    for seed in range(6):  # now and then the wall passes beside the field
        walled = _with(scene, "domain_wall", seed=seed, species="B", shift=0.3, along=(0, 0, 1), wall=(0, 0, 1), width=6.0)
        assert scene.crystal is not None
        move = (walled.yx - scene.yx) @ scene.crystal.direction((0, 0, 1))
        inside = _inner(scene) & scene.of("B")
        assert np.abs(np.abs(move[inside]).max() - 0.3) < 1e-3 and not move[scene.of("A")].any()
        if move[inside].min() < -0.29 and move[inside].max() > 0.29:
            break
    else:
        pytest.fail("no wall in the field")
    across = scene.yx[inside] @ _across(scene)
    near = np.abs(move[inside]) < 0.2
    assert near.any() and np.ptp(across[near]) < 12.0


def _across(scene: Scene) -> np.ndarray:
    assert scene.crystal is not None
    in_wall = scene.crystal.direction((0, 0, 1))
    return np.array([-in_wall[1], in_wall[0]])


def test_a_dopant_takes_the_place_of_the_heaviest_atoms_only() -> None:
    scene = _scene("srtio3")
    doped = _with(scene, "dopant", species="B", element="Nb", fraction=0.2, name="Nb")
    changed = doped.home >= 0
    assert changed.sum() / scene.of("B").sum() == pytest.approx(0.2, abs=0.05)
    content = dict(zip(doped.elements, doped.atoms[changed].T, strict=True))
    assert (content["Nb"] == 1).all() and (content["Ti"] == 0).all() and (content["O"] == 1).all()
    assert {doped.classes[k] for k in doped.species[changed]} == {"Nb"}
    assert doped.weight[changed].mean() > 1.5 * scene.weight[changed].mean()
    with pytest.raises(RecipeError, match="either `element` or `factor`"):
        _with(scene, "dopant", fraction=0.1)


def test_adatoms_add_to_the_column_below_or_stand_alone() -> None:
    scene = _scene("mos2")
    covered = _with(scene, "adatom", element="W", density=0.02)
    alone = covered.of("adatom")
    distance = cKDTree(covered.yx[~alone]).query(covered.yx[alone])[0]
    assert alone.sum() > 10 and distance.min() > 1.2
    on_top = (covered.atoms[: len(scene.yx), covered.elements.index("W")] > 0).sum()
    assert alone.sum() + on_top == pytest.approx(0.02 * 160**2, rel=0.25)  # some are too near to each other


def test_defects_share_elements_and_classes_that_are_there_and_add_those_that_are_not() -> None:
    scene = _scene("mos2")
    twice = _with(_with(scene, "adatom", element="W", density=0.01), "adatom", seed=1, element="W", density=0.01)
    assert twice.elements == (*scene.elements, "W") and twice.classes == (*scene.classes, "adatom")
    own = _with(scene, "dopant", fraction=0.2, element="S", name=scene.classes[0])
    assert (own.elements, own.classes) == (scene.elements, scene.classes)
    for kind, arguments in (("adatom", {"density": 0.01}), ("dopant", {"fraction": 0.1})):
        with pytest.raises(StructureError, match="element 'Xx' is not a chemical symbol"):
            _with(scene, kind, element="Xx", **arguments)


def test_a_particle_ends_at_its_facets_and_thins_towards_them() -> None:
    scene = _scene("platinum_particle", 60.0)
    cut = _with(scene, "particle", radius=0.3, facets=6, along=(1, -1, 1), taper=10.0)
    depth = cut.outlines[0](cut.yx)
    assert depth.min() > 0 and 0.05 < len(cut.yx) / _inner(scene).sum() < 0.6
    assert cut.repeats[depth > 10].min() == scene.repeats[0] and cut.repeats[depth < 1].max() < 0.2 * scene.repeats[0]
    assert _with(scene, "particle", supported=True).outlines == ()


def test_grains_meet_without_a_gap() -> None:
    scene = _scene("iron", 120.0)
    joined = _with(scene, "grain_boundary", seed=2, misorientation_deg=20.0)
    points = np.stack(np.meshgrid(*2 * [np.linspace(-55, 55, 221)]), -1).reshape(-1, 2)
    widest = cKDTree(joined.yx[joined.filled]).query(points)[0].max()
    assert 1.5 < widest < 2.6  # within a crystal no point is farther than 1.43 Å from a column
    assert cKDTree(joined.yx).query(joined.yx, k=2)[0][:, 1].min() > 1.2


def test_a_direction_along_the_beam_and_a_vector_of_two_are_refused() -> None:
    scene = _scene("srtio3")
    with pytest.raises(RecipeError, match=r"\[1, 0, 0\] lies along the beam"):
        _with(scene, "polar", species="B", shift=0.1, along=(1, 0, 0))
    with pytest.raises(RecipeError, match="no crystal vector"):
        _with(scene, "polar", species="B", shift=0.1, along=(0, 1, 0, 0))
    with pytest.raises(RecipeError, match="needs a crystal; single atoms have none"):
        _with(_scene("atoms_on_carbon"), "mirror_twin", along=(1, 0, 0))
