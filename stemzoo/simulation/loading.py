"""Recipes from TOML files: what a recipe extends laid beneath it, settings laid over it, mixtures taken apart.

A recipe may say `extends = "other"`: its tables are laid over the other's, key by key. Called by `simulation.generate`,
`simulation.draft` and the CLI.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemzoo.errors import RecipeError
from stemzoo.schema import validate
from stemzoo.simulation.recipe import Recipe, Structure

_COMMON = ("frame", "scan", "detector")
"""Tables of a mixture that hold for all of its parts."""


def load(path: str | Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe in a TOML file, with what it extends laid beneath it and `settings` laid over it.

    Args:
        settings: values by dotted key, e.g. {"dose.counts_per_column": 300}.
    Raises: RecipeError for a missing file, bad TOML, an unknown or wrong key (the nearest right one is named), or a circle of `extends`.
    """
    path = Path(path)
    tables = _tables(path, ())
    for key, value in (settings or {}).items():
        tables = _overlay(tables, _nested(key.split("."), value))
    recipe = validate(Recipe, tables, str(path), RecipeError)
    if (recipe.structure is None) == (not recipe.mixture):
        raise RecipeError(f"{path}: wanted either a [structure] or [[mixture]] parts, and got {'both' if recipe.mixture else 'neither'}")
    if recipe.structure is None:
        return recipe
    phases = {name: _beside_cif(phase, path.parent) for name, phase in recipe.phases.items()}
    return recipe.model_copy(update={"structure": _beside_cif(recipe.structure, path.parent), "phases": phases})


def parts(path: str | Path, settings: Mapping[str, Any] | None = None) -> list[tuple[Recipe, float]]:
    """Return the recipes that frames are drawn from, with their weights; the recipe itself unless it is a mixture.

    What a mixture's own `[frame]`, `[scan]` and `[detector]` say holds for all of its parts, and so do `settings`.
    """
    recipe = load(path, settings)
    if not recipe.mixture:
        return [(recipe, 1.0)]
    common = {table: {key: getattr(getattr(recipe, table), key) for key in getattr(recipe, table).model_fields_set} for table in _COMMON}
    found = []
    for part in recipe.mixture:
        for inner, weight in parts(beside(path, part.recipe), settings):
            tables = {table: getattr(inner, table).model_copy(update=values) for table, values in common.items()}
            found.append((inner.model_copy(update=tables), weight * part.weight))
    return found


def _beside_cif(structure: Structure, folder: Path) -> Structure:
    """The structure with the path of its CIF taken from the recipe's folder."""
    return structure if structure.cif is None else structure.model_copy(update={"cif": str(folder / structure.cif)})


def beside(path: str | Path, name: str) -> Path:
    """The recipe `name` in the folder of the recipe `path`."""
    return Path(path).parent / (name if name.endswith(".toml") else f"{name}.toml")


def _tables(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise RecipeError(f"{path}: `extends` goes round in a circle: {' -> '.join(p.stem for p in (*seen, path))}")
    if not path.is_file():
        raise RecipeError(
            f"{path}: no such recipe; its folder holds {', '.join(sorted(p.stem for p in path.parent.glob('*.toml'))) or 'none'}"
        )
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise RecipeError(f"{path}: not TOML: {failure}") from None
    base = tables.pop("extends", None)
    return tables if base is None else _overlay(_tables(beside(path, str(base)), (*seen, path)), tables)


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        merged[key] = _overlay(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return merged


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if len(keys) > 1 else value}
