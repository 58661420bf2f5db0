"""The registry: model cards, the zoos they lie in, and names resolved to bundle folders. Loads no torch and no onnxruntime.

`card` owns the schema of a bundle's README.md; `settings` where zoos are, `catalog` what a name means there; `check` and `contents` what a
bundle's files must be; `index`, `web` and `fetch` bring models from the web, `publish` puts them there. Called by the CLI, the export and
whoever loads a model by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stemzoo.zoo.card import Card, read_card
    from stemzoo.zoo.catalog import Entry, entries, resolve
    from stemzoo.zoo.index import build_index

__all__ = ["Card", "Entry", "build_index", "entries", "read_card", "resolve"]

_HOMES = {"Card": "card", "read_card": "card", "Entry": "catalog", "build_index": "index", "entries": "catalog", "resolve": "catalog"}


def __getattr__(name: str) -> Any:
    """Load pydantic and YAML at first use, so that commands which need no zoo stay quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stemzoo.zoo' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"stemzoo.zoo.{_HOMES[name]}"), name)
