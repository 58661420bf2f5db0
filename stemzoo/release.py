"""A training run to a published version: the card is drafted from the run, scored, exported and put into a zoo.

What only a person knows (licence, citation, limits) is read from RUN/card.toml, which the first attempt writes with blanks. torch is loaded
only when there is a run to export. Called by `stemzoo zoo publish`.
"""

from __future__ import annotations

import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stemzoo.errors import CardError, ModelError
from stemzoo.zoo.card import Card, read_card
from stemzoo.zoo.catalog import versions
from stemzoo.zoo.publish import HAND_WRITTEN, UNSTATED, publish

DRAFT_FILE = "card.toml"
DRAFT = """# What the card of this run's model says beyond what the run knows. Fill in what is empty and publish again.
# Any other key of a card may be stated here too: name, version, threshold, default …
title = {title}
summary = {summary}
materials = {materials}
licence = {licence}  # SPDX: "MIT", "CC-BY-4.0" …
citation = {citation}  # how to cite the model
limits = {limits}  # where it fails, a sentence each
"""


def release(
    source: Path,
    root: Path,
    stated: Mapping[str, Any] | None = None,
    *,
    scores: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Card:
    """Return the card of a version published in the zoo under `root`.

    Args:
        source: a training run's folder, or a bundle as `stemzoo export` writes it, which is published as it is.
        stated: keys of the card; they win over card.toml, and that over what the run knows. The version is the zoo's next one if unstated.
        scores: for a segmenter, a dataset that no training saw; its scores go onto the card.
        progress: called with (frames scored, frames in all).
    Raises: CardError if the card is not filled in, having written RUN/card.toml to fill in; ModelError, ExportError, OutputError.
    """
    stated = dict(stated or {})
    if (source / "model.onnx").is_file():
        if stated or scores is not None:
            raise CardError(f"{source}: a finished bundle, whose card cannot change any more; publish the run itself, or leave options out")
        return read_card(publish(source, root))[0]
    if not source.is_dir():
        raise ModelError(f"{source}: no such run; wanted a folder that stemzoo train wrote, or a bundle")
    from stemzoo.export.bundle import write_bundle
    from stemzoo.training import load_for_export

    task, modules, draft = load_for_export(source)
    draft = {**draft, **_written(source / DRAFT_FILE), **stated}
    empty = [key for key in HAND_WRITTEN if _is_empty(draft.get(key))]
    if empty:
        raise CardError(f"{source}: its card says nothing of {', '.join(empty)}; {_ask(source / DRAFT_FILE, draft)}")
    if task == "segmentation" and scores is None and not draft.get("evaluation"):
        raise CardError(f"{source}: its card would state no scores; name a dataset that no training saw in --scores H5")
    draft.setdefault("name", "model")
    if "version" not in stated and "version" not in _written(source / DRAFT_FILE):
        draft["version"] = 1 + max((number for name, number, _ in versions(root) if name == draft["name"]), default=0)
    cases = getattr(modules["model"], "cases", None)
    with tempfile.TemporaryDirectory() as work:
        if scores is not None:
            trial = Path(work) / "trial"
            write_bundle(trial, modules, draft, cases)
            draft["evaluation"] = [*draft.get("evaluation", ()), *_rows(trial, scores, progress)]
        folder = Path(work) / str(draft["name"]) / f"v{draft['version']}"
        write_bundle(folder, modules, draft, cases)
        return read_card(publish(folder, root))[0]


def _is_empty(value: Any) -> bool:
    values = [value] if isinstance(value, str) else list(value or ())
    return not values or any(str(text).strip().casefold() in UNSTATED for text in values)


def _written(path: Path) -> dict[str, Any]:
    """Return what card.toml says; nothing where there is none, and nothing of what is still empty in it."""
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CardError(f"{path}: not readable TOML ({error})") from None
    return {key: value for key, value in table.items() if value not in ("", [])}


def _ask(path: Path, draft: Mapping[str, Any]) -> str:
    """Return what to do about an empty key, and write card.toml with blanks unless it is there."""
    if not path.exists():
        keys = re.findall(r"\{(\w+)\}", DRAFT)
        blank: dict[str, Any] = {"limits": [], "materials": []}
        values = {key: blank.get(key, "") if _is_empty(draft.get(key)) else draft[key] for key in keys}
        path.write_text(DRAFT.format(**{key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}), encoding="utf-8")
    return f"fill it in in {path} and publish again"


def _rows(folder: Path, dataset: Path, progress: Callable[[int, int], None] | None) -> list[dict[str, Any]]:
    """Return a segmenter's scores on a dataset as lines of a card's evaluation."""
    from stemzoo.evaluate import evaluate_model

    rows: list[dict[str, Any]] = []
    for score in evaluate_model(str(folder), dataset, progress=progress):
        where = dataset.name if score.group == "all" else f"{dataset.name}: {score.group}"
        common = {"dataset": where, "role": "held back", "n": max(score.n_columns, 1)}
        rows.append({**common, "metric": "F1 at 0.5 Å", "value": score.f1, "interval": score.f1_interval})
        if score.rmse_pm == score.rmse_pm:
            rows.append({**common, "metric": "position RMSE [pm]", "value": score.rmse_pm, "interval": score.rmse_pm_interval})
            rows.append({**common, "metric": "spread of error / stated σ", "value": score.z_spread})
    return rows
