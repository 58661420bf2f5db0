"""CIF files to crystals, by ASE, held against the file's own formula. Called by `simulation.recipe` and `simulation.draft`."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.errors import StructureError, needs_extra
from stemzoo.simulation.crystal import Crystal

MISREAD = (
    "or the space group's origin or setting was misread: export the CIF with explicit symmetry operations or in P1, or name the setting "
    "as in 'F d -3 m :2'"
)


def read_cif(path: str | Path) -> Crystal:
    """Return the crystal in a CIF file, read by ASE and checked against the file's own formula.

    Raises: StructureError if the file is missing or is no CIF, or if the atoms that the symmetry yields contradict the formula
    (ASE misreads the origin of some settings and would swap cations in silence).
    """
    path = Path(path)
    if not path.is_file():
        raise StructureError(f"{path}: no such file; wanted a CIF with a cell, a space group and atom sites")
    with needs_extra("train", "reading a CIF", StructureError):
        from ase.io.cif import parse_cif
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            block: Any = next(block for block in parse_cif(str(path)) if block.has_structure())  # type: ignore[no-untyped-call]
            block = _with_setting(block)
            atoms = block.get_atoms(store_tags=False, fractional_occupancies=True)
    except Exception as failure:
        why = f"{type(failure).__name__}: {failure}".removesuffix(": ")
        raise StructureError(f"{path}: not a CIF with a crystal structure ({why}); export it with cell and atom sites") from None
    try:
        crystal = _from_ase(atoms, path.name, _displacements(block))
    except StructureError as failure:
        raise StructureError(f"{failure}; {MISREAD}") from None
    _check_formula(crystal, block.get("_chemical_formula_sum"))
    return crystal


def _with_setting(block: Any) -> Any:
    """The block with the setting that its space group's name ends with (`F d -3 m :2`, `R -3 c :R`), which ASE does not read."""
    name = str(block.get("_space_group_name_h-m_alt") or block.get("_symmetry_space_group_name_h-m") or "")
    suffix = re.search(r":\s*([12HR])\s*$", name)
    if suffix is None or "_symmetry_space_group_setting" in block:
        return block
    return type(block)(block.name, {**dict(block), "_symmetry_space_group_setting": 2 if suffix[1] in "2R" else 1})


def _displacements(block: Any) -> list[float]:
    """Rms thermal displacement of each site of the asymmetric unit [Å], nan where the file has none. U = ⟨u²⟩ = B / 8π²."""
    for key, scale in (("_atom_site_u_iso_or_equiv", 1.0), ("_atom_site_b_iso_or_equiv", 1 / (8 * math.pi**2))):
        values = block.get(key)
        if isinstance(values, list):
            return [math.sqrt(value * scale) if isinstance(value, int | float) and value > 0 else math.nan for value in values]
    return []


def _from_ase(atoms: Any, name: str, displacements: list[float]) -> Crystal:
    symbols = atoms.get_chemical_symbols()
    fractional = atoms.get_scaled_positions()
    kinds = atoms.arrays.get("spacegroup_kinds")
    shares = atoms.info.get("occupancy")
    elements: list[str] = []
    rows: list[np.ndarray] = []
    occupancy: list[float] = []
    thermal: list[float] = []
    for index, (symbol, position) in enumerate(zip(symbols, fractional, strict=True)):
        share = {symbol: 1.0} if shares is None or kinds is None else shares[str(kinds[index])]
        for element, value in share.items():
            elements.append(element)
            rows.append(position)
            occupancy.append(float(value))
            kind = -1 if kinds is None else int(kinds[index])
            thermal.append(displacements[kind] if 0 <= kind < len(displacements) else math.nan)
    cell = np.asarray(atoms.cell.array, dtype=np.float64)
    return Crystal(cell, tuple(elements), np.array(rows, dtype=np.float64), np.array(occupancy), name, np.array(thermal))


def _check_formula(crystal: Crystal, formula: str | None) -> None:
    """Compare ratios of elements with the CIF's `_chemical_formula_sum`."""
    if not formula:
        return
    wanted = {element: float(number or 1) for element, number in re.findall(r"([A-Z][a-z]?)\s*([0-9.]*)", formula)}
    got = crystal.formula_counts()
    if set(wanted) != set(got) and set(wanted) - {"H", "D"} != set(got):
        raise StructureError(
            f"{crystal.name}: its formula is {formula!r} but the sites hold {sorted(got)}; check the CIF's symmetry setting"
        )
    scale = sum(got.values()) / sum(wanted[element] for element in got)
    for element, number in got.items():
        if abs(number - scale * wanted[element]) > 0.08 * scale * wanted[element] + 0.02 * scale:
            raise StructureError(
                f"{crystal.name}: the formula {formula!r} wants {scale * wanted[element]:.2f} {element} in the cell, "
                f"the symmetry yields {number:.2f}; "
                f"{MISREAD}"
            )
