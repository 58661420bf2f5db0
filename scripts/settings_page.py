"""Every key of a recipe and of a training's configuration, with its default and its meaning: docs/settings.md, written from the code.

    python scripts/settings_page.py

Keys, defaults and meanings are those of the schemas, defects those of their functions; a test holds the page against them.
"""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from stemzoo.schema import Strict
from stemzoo.simulation.defects import DEFECTS
from stemzoo.simulation.recipe import Recipe
from stemzoo.training.config import SegmenterConfig
from stemzoo.training.encoding_config import EncoderConfig

BAR = chr(92) + "|"  # a bar within a cell
PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """# Settings

What a recipe and a training's configuration may say. The page is written by `scripts/settings_page.py`; a misspelt key is refused with the
nearest right one.

## Recipes

`stemzoo data simulate` takes a recipe, a [TOML file](datasets.md#recipes), and single values of it by `--set TABLE.KEY=VALUE`. Where a
number has a range `[low, high]` for its default, either may be given: each frame draws from a range.
"""
BETWEEN = """
### Defects

`[[defects]]` wants `kind`, may have `probability`, the share of the frames that have it (default 1), and takes the keys of its kind. Pairs
are ranges to draw from, three numbers a direction [u, v, w] of the crystal.

| `kind` | does | keys |
|---|---|---|
"""
TRAINING = """
## Training

`--config TOML` takes these, and what the command line names too (`--steps`, `--window` …) goes before them. What a run was told, all of
it, is in its `config.json`.
"""


def page() -> str:
    """Return the text of docs/settings.md."""
    lines = [HEAD.rstrip("\n")]
    top = [(name, field) for name, field in Recipe.model_fields.items() if _table_of(field) is None]
    lines += ["", "### Above all tables", "", *_rows([("extends", None), *top])]
    for name, field in Recipe.model_fields.items():
        table = _table_of(field)
        if table is None or name in ("defects", "phases"):
            continue
        many = str(field.annotation).startswith(("tuple", "dict"))
        lines += ["", f"### `[[{name}]]`" if many else f"### `[{name}]`", "", *_rows(list(table.model_fields.items()))]
        if name == "structure":
            sites = table.model_fields["sites"]
            inner = _table_of(sites)
            assert inner is not None
            lines += ["", "`sites` are tables of", "", *_rows(list(inner.model_fields.items()))]
            lines += ["", "`[phases.NAME]` is another crystal for interfaces, with the same keys."]
    lines.append(BETWEEN.rstrip("\n"))
    lines += [f"| `{name}` | {_first(function)} | {_keys(function)} |" for name, function in sorted(DEFECTS.items())]
    lines.append(TRAINING.rstrip("\n"))
    for title, config in (("train segmenter", SegmenterConfig), ("train rvae", EncoderConfig)):
        fields = config.model_fields.items()
        lines += ["", f"### `stemzoo {title}`", "", *_rows([(name, field) for name, field in fields if _table_of(field) is None])]
        for name, field in fields:
            if (table := _table_of(field)) is not None:
                lines += ["", f"#### `[{name}]`", "", *_rows(list(table.model_fields.items()))]
    return "\n".join(lines) + "\n"


def _table_of(field: FieldInfo) -> type[Strict] | None:
    """Return the schema of a field that is a table, or several."""
    seen: list[Any] = [field.annotation]
    while seen:
        kind = seen.pop()
        if inspect.isclass(kind) and issubclass(kind, Strict):
            return kind
        seen += get_args(kind)
    return None


def _rows(fields: list[tuple[str, FieldInfo | None]]) -> list[str]:
    rows = ["| key | default | |", "|---|---|---|"]
    for name, field in fields:
        if field is None:
            rows.append("| `extends` | – | another recipe, by name or file, whose tables lie beneath this one's |")
            continue
        assert field.description, f"{name} has no description"
        default = "wanted" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        others = [str(choice) for choice in _choices(field.annotation) if choice != field.default]
        more = f" (or {', '.join(others)})" if others else ""
        rows.append(f"| `{name}` | {default}{more} | {field.description.replace('|', BAR)} |")
    return rows


def _choices(kind: Any) -> list[Any]:
    """Return the values that a field is confined to, none where it is not."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for part in get_args(kind) for choice in _choices(part)]


def _shown(value: Any) -> str:
    """Return a default as TOML has it."""
    if value is None or value == () or value == {} or value == "":
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(part) for part in value)}]"
    if isinstance(value, float):
        return "inf" if math.isinf(value) else f"{value:g}"
    return str(value)


def _doc(function: Any) -> str:
    text = inspect.getdoc(function)
    assert text, f"{function.__name__} says nothing of itself"
    return text


def _first(function: Any) -> str:
    """Return the first paragraph of a defect's docstring."""
    return " ".join(_doc(function).split("\n\n")[0].split())


def _keys(function: Any) -> str:
    """Return the keys of a defect with their defaults, and what its docstring says of each."""
    told = dict(_told(_doc(function)))
    keys = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = "" if parameter.default in (parameter.empty, None) else f" ({_shown(parameter.default)})"
            keys.append(f"`{name}`{default}{': ' + told[name] if name in told else ''}")
    return "; ".join(keys)


def _told(text: str) -> list[tuple[str, str]]:
    """Return (name, what it is) of each line under `Args:`; a line of several names counts for the last."""
    _, _, args = text.partition("Args:\n")
    return [(names.split(",")[-1].strip(), what.rstrip(".")) for names, what in re.findall(r"^    ([\w, ]+): (.*)$", args, re.MULTILINE)]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
