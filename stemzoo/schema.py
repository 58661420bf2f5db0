"""Typed text files: a TOML or YAML table becomes a frozen, validated object, or is refused in one sentence.

Owns the base class `Strict` and `validate`, which turns a schema violation into one of our errors and names the nearest right key.
Called by the recipe of a simulation, the card of a model and the configuration of a training run.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stemzoo.errors import StemzooError

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """A frozen table whose unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def validate(model: type[M], data: Mapping[str, Any], where: str, error: type[StemzooError]) -> M:
    """Return `data` as a `model`.

    Args:
        data: a table as read from TOML, YAML or JSON.
        where: the file it came from, for the message.
        error: which of our errors to raise.

    Raises: `error`, naming the key, the value got, what was wanted and, for an unknown key, the nearest known one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as failure:
        raise error(f"{where}: " + "; ".join(_sentence(model, dict(problem)) for problem in failure.errors()[:3])) from None


def _sentence(model: type[BaseModel], problem: dict[str, Any]) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        known = _keys(model, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        return f"unknown key '{key}'; " + (f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known) or 'none'}")
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "string_pattern_mismatch" and len(path) == 1 and (wanted := model.model_fields[key].description):
        return f"'{key}' is {problem.get('input')!r}; wanted {wanted}"
    said = problem["msg"].removeprefix("Value error, ")
    return f"'{key}' is {problem.get('input')!r}: {said}" if key else said  # a table as a whole says itself what is wrong with it


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields of the table that `path` leads to."""
    for part in path:
        candidates = [model]
        if part in model.model_fields:
            candidates = _tables(model.model_fields[part].annotation)
        if not candidates:
            return []
        model = candidates[0]
    return sorted(model.model_fields)


def _tables(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for argument in typing.get_args(annotation) for table in _tables(argument)]
