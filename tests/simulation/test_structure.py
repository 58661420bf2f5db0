"""Projection of crystals: columns, compositions and refusals."""

import numpy as np
import pytest

from stemzoo.errors import StructureError
from stemzoo.simulation.cif import read_cif
from stemzoo.simulation.crystal import Crystal, cell_vectors
from stemzoo.simulation.projection import project


def _crystal(cell, sites, name="test"):
    return Crystal(cell_vectors(*cell), tuple(e for e, _ in sites), np.array([p for _, p in sites], float), np.ones(len(sites)), name)


SI = [("Si", np.add(f, b)) for f in ((0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)) for b in ((0, 0, 0), (0.25, 0.25, 0.25))]


def test_silicon_along_110_shows_dumbbells_of_a_over_4():
    seen = project(_crystal((5.431,) * 3, SI), (1, 1, 0))
    shift = (seen.yx[:, None] - seen.yx[None]) @ np.linalg.inv(seen.lattice)
    distance = np.linalg.norm((shift - np.round(shift)) @ seen.lattice, axis=-1)
    nearest = np.where(distance < 1e-6, np.inf, distance).min(axis=1)
    assert nearest == pytest.approx(np.full(len(seen.yx), 5.431 / 4), abs=1e-6)
    assert seen.repeat == pytest.approx(5.431 * np.sqrt(2))


@pytest.mark.parametrize("axis", [(1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0), (3, -2, 1), (0, 0, -1)])
def test_projected_density_times_repeat_is_the_density_of_the_crystal(axis):
    crystal = _crystal((5.431,) * 3, SI)
    seen = project(crystal, axis)
    atoms = sum(number for column in seen.atoms for _, number in column)
    # Sites are those of the conventional cell, which holds several lattice points: fold the repeat count back.
    area = abs(np.linalg.det(seen.lattice))
    volume = abs(np.linalg.det(crystal.cell))
    assert area * seen.repeat == pytest.approx(volume, rel=1e-6)
    assert atoms == pytest.approx(8)


def test_perovskite_columns_hold_what_the_formula_says():
    sites = [("Sr", (0, 0, 0)), ("Ti", (0.5, 0.5, 0.5)), ("O", (0.5, 0.5, 0)), ("O", (0.5, 0, 0.5)), ("O", (0, 0.5, 0.5))]
    seen = project(_crystal((3.905,) * 3, sites), (1, 0, 0))
    contents = sorted("".join(f"{e}{n:g}" for e, n in column) for column in seen.atoms)
    assert contents == ["O1", "O1", "Sr1", "Ti1O1"]


def test_shortest_period_lies_along_x():
    seen = project(_crystal((3.8, 3.8, 20.0), [("Sr", (0, 0, 0))]), (1, 0, 0))
    assert seen.lattice[0] == pytest.approx([0.0, 3.8], abs=1e-9)
    assert abs(seen.lattice[1]) == pytest.approx([20.0, 0.0], abs=1e-9)


def test_zero_zone_axis_is_refused():
    with pytest.raises(StructureError, match=r"zone axis \[0 0 0\] is no direction"):
        project(_crystal((4, 4, 4), [("Fe", (0, 0, 0))]), (0, 0, 0))


def test_overlapping_sites_are_refused_by_number():
    with pytest.raises(StructureError, match=r"sites 0 \(Fe\) and 1 \(Co\) lie 0.20 Å apart"):
        _crystal((4, 4, 4), [("Fe", (0, 0, 0)), ("Co", (0.05, 0, 0))])


def test_text_that_is_no_cif_is_refused(tmp_path):
    path = tmp_path / "recipe.cif"
    path.write_text("dear diary")
    with pytest.raises(StructureError, match="not a CIF with a crystal structure"):
        read_cif(path)


CIF = """data_test
_chemical_formula_sum '{formula}'
_cell_length_a 3.905
_cell_length_b 3.905
_cell_length_c 3.905
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P m -3 m'
_space_group_IT_number 221
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Sr1 Sr 0 0 0 1
Ti1 Ti 0.5 0.5 0.5 1
O1 O 0.5 0.5 0 1
"""


def test_cif_is_expanded_by_its_space_group(tmp_path):
    path = tmp_path / "srtio3.cif"
    path.write_text(CIF.format(formula="Sr Ti O3"))
    assert read_cif(path).formula_counts() == {"Sr": 1, "Ti": 1, "O": 3}


def test_cif_whose_atoms_contradict_its_formula_is_refused(tmp_path):
    path = tmp_path / "wrong.cif"
    path.write_text(CIF.format(formula="Sr Ti2 O3"))
    with pytest.raises(StructureError, match=r"wants 0\.83 Sr in the cell, the symmetry yields 1\.00"):
        read_cif(path)


SPINEL = """data_spinel
_chemical_formula_sum 'Mg Al2 O4'
_cell_length_a 8.0832
_cell_length_b 8.0832
_cell_length_c 8.0832
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt '{group}'
_space_group_IT_number 227
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_U_iso_or_equiv
Mg1 Mg 0.125 0.125 0.125 0.0049
Al1 Al 0.5 0.5 0.5 0.0064
O1 O 0.2624 0.2624 0.2624 0.0081
"""


def test_a_spinel_of_the_second_origin_keeps_its_cations_apart(tmp_path):
    path = tmp_path / "spinel.cif"
    path.write_text(SPINEL.format(group="F d -3 m :2"))
    crystal = read_cif(path)
    assert crystal.formula_counts() == {"Mg": 8, "Al": 16, "O": 32}
    shift = crystal.fractional[:, None] - crystal.fractional[None]
    distance = np.linalg.norm((shift - np.round(shift)) @ crystal.cell, axis=-1)
    elements = np.array(crystal.elements)
    for cation, neighbours in (("Mg", 4), ("Al", 6)):
        near = (distance[elements == cation][:, elements == "O"] < 2.1).sum(axis=1)
        assert (near == neighbours).all()
    widths = {element: crystal.thermal[elements == element] for element in ("Mg", "Al", "O")}
    assert [float(widths[e].mean()) for e in ("Mg", "Al", "O")] == pytest.approx([0.07, 0.08, 0.09])
    seen = project(crystal, (1, 1, 0))
    assert np.nanmax(seen.thermal) == pytest.approx(0.09) and seen.static.max() < 0.2


def test_a_spinel_that_names_no_origin_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "spinel.cif"
    path.write_text(SPINEL.format(group="F d -3 m"))
    with pytest.raises(StructureError, match="origin or setting was misread: export the CIF with explicit symmetry operations"):
        read_cif(path)


def test_a_zigzag_column_is_wider_than_its_atoms_tremble():
    crystal = _crystal((4.0, 6.0, 6.0), [("Fe", (0, 0, 0)), ("Fe", (0.5, 0.05, 0))])
    seen = project(crystal, (1, 0, 0))
    assert len(seen.yx) == 1 and seen.static[0] == pytest.approx(np.sqrt(0.15**2 / 2), rel=1e-6)
