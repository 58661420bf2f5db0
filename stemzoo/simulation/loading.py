"""Recipes from TOML files: what a recipe extends laid beneath it, settings laid over it, mixtures taken apart.

A recipe may say `extends = "other"`: its tables are laid over the other's, key by key. Owns where recipes are looked for: where they are
said to lie or, by name, among those that come with the package. Called by `simulation.generate`, `simulation.draft` and the CLI.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import stemzoo
from stemzoo.errors import RecipeError
from stemzoo.schema import validate
from stemzoo.simulation.recipe import Recipe, Structure

_COMMON = ("frame", "scan", "detector")
"""Tables of a mixture that hold for all of its parts."""


def shipped() -> Path:
    """Return the folder of the recipes that come with the package: in the wheel, or beside the checkout."""
    package = Path(stemzoo.__file__).parent
    wheel = package / "_datasets"
    return wheel if wheel.is_dir() else package.parent / "datasets"


def found(path: str | Path) -> Path:
    """Return where a recipe lies: as said or, where a bare name is none of a file here, among those that come with the package."""
    path = Path(path)
    own = shipped() / f"{path.stem if path.suffix == '.toml' else path.name}.toml"
    return own if path.parent == Path() and not path.is_file() and own.is_file() else path


def load(path: str | Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe in a TOML file, with what it extends laid beneath it and `settings` laid over it.

    Args:
        settings: values by dotted key, e.g. {"dose.counts_per_column": 300}.
    Raises: RecipeError for a missing file, bad TOML, an unknown or wrong key (the nearest right one is named), or a circle of `extends`.
    """
    path = found(path)
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
    path = found(path)
    recipe = load(path, settings)
    if not recipe.mixture:
        return [(recipe, 1.0)]
    common = {table: {key: getattr(getattr(recipe, table), key) for key in getattr(recipe, table).model_fields_set} for table in _COMMON}
    drawn = []
    for part in recipe.mixture:
        for inner, weight in parts(beside(path, part.recipe), settings):
            tables = {table: getattr(inner, table).model_copy(update=values) for table, values in common.items()}
            drawn.append((inner.model_copy(update=tables), weight * part.weight))
    return drawn


def _beside_cif(structure: Structure, folder: Path) -> Structure:
    """The structure with the path of its CIF taken from the recipe's folder."""
    return structure if structure.cif is None else structure.model_copy(update={"cif": str(folder / structure.cif)})


def beside(path: str | Path, name: str) -> Path:
    """The recipe `name` in the folder of the recipe `path` or, where that holds none, of those that come with the package."""
    file = name if name.endswith(".toml") else f"{name}.toml"
    near, own = Path(path).parent / file, shipped() / file
    return own if not near.is_file() and own.is_file() else near


def _tables(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise RecipeError(f"{path}: `extends` goes round in a circle: {' -> '.join(p.stem for p in (*seen, path))}")
    if not path.is_file():
        here, own = (sorted(p.stem for p in folder.glob("*.toml")) for folder in (path.parent, shipped()))
        near = difflib.get_close_matches(path.stem, [*here, *own], n=1)
        raise RecipeError(
            f"{path}: no such recipe;{f' did you mean {near[0]}?' if near else ''} its folder holds {', '.join(here) or 'none'}; with "
            f"stemzoo come {', '.join(own)}, taken by name alone"
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
