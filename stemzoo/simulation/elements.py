"""Chemical symbols and their atomic numbers. Called by everything here that weighs atoms."""

from __future__ import annotations

from stemzoo.errors import StructureError

_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U"
)
ELEMENTS = tuple(_SYMBOLS.split())


def atomic_number(element: str) -> int:
    """Return Z of a chemical symbol.

    >>> atomic_number("Sr")
    38
    """
    if element not in ELEMENTS:
        raise StructureError(f"element {element!r} is not a chemical symbol up to U; write it like 'Sr'")
    return ELEMENTS.index(element) + 1
