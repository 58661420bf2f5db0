"""A training run to a published version: the card is drafted from the run, scored, exported and put into a zoo.

What only a person knows (licence, citation, limits) is read from RUN/card.toml, which the first attempt writes with blanks. A bundle that
has blanks on its card, such as an encoder fitted to a frame, is published once they are stated. torch is loaded only when there is a run
to export. Called by `stemzoo zoo publish`.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemzoo.errors import CardError, ModelError
from stemzoo.zoo.card import Card, read_card
from stemzoo.zoo.catalog import versions
from stemzoo.zoo.publish import is_blank, missing, publish

if TYPE_CHECKING:
    from stemzoo.evaluate.failures import Failure, PoorFit

    Failures = list[Failure] | list[PoorFit]

Tick = Callable[[int, int], None]

DRAFT_FILE = "card.toml"
OPTIONS = {"licence": "--licence SPDX", "citation": "--citation TEXT", "materials": "--material NAME", "limits": "--limit TEXT"}
ANGLE = "median angle error of a difference [degrees], modulo symmetry"
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
    progress: Tick | None = None,
) -> Card:
    """Return the card of a version published in the zoo under `root`.

    Args:
        source: a training run's folder, or a bundle: as it is or, where its card has blanks, filled in.
        stated: keys of the card; they win over card.toml, and that over what the run knows. The version is the zoo's next one if unstated.
        scores: a dataset that no training saw; its scores go onto the card, and a picture of where the model fails on it into the folder.
        progress: called with (frames scored, frames in all).
    Raises: CardError if the card is not filled in, having written RUN/card.toml to fill in; ModelError, ExportError, OutputError.
    """
    stated = dict(stated or {})
    if (source / "model.onnx").is_file():
        return _bundle(source, root, stated, scores, progress)
    if not source.is_dir():
        raise ModelError(f"{source}: no such run; wanted a folder that stemzoo train wrote, or a bundle")
    from stemzoo.export.bundle import write_bundle
    from stemzoo.training import load_for_export

    task, modules, draft = load_for_export(source)
    draft = {**draft, **_written(source / DRAFT_FILE), **stated}
    empty = missing(draft)
    if empty:
        raise CardError(f"{source}: its card says nothing of {', '.join(empty)}; {_ask(source / DRAFT_FILE, draft)}")
    if scores is None and not draft.get("evaluation"):
        raise CardError(f"{source}: its card would state no scores; name a dataset that no training saw in --scores H5")
    draft.setdefault("name", "model")
    if "version" not in stated and "version" not in _written(source / DRAFT_FILE):
        draft["version"] = _next(root, draft["name"])
    cases = getattr(modules["model"], "cases", None)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / str(draft["name"]) / f"v{draft['version']}"
        if scores is None:
            write_bundle(folder, modules, draft, cases)
        else:
            from stemzoo.evaluate.gallery import show_failures

            trial = Path(work) / "trial"
            write_bundle(trial, modules, draft, cases)
            rows, failures = _scored(task, trial, scores, progress)
            write_bundle(folder, modules, {**draft, "evaluation": [*draft.get("evaluation", ()), *rows]}, cases)
            show_failures(folder, failures)
        return read_card(publish(folder, root))[0]


def _bundle(source: Path, root: Path, stated: dict[str, Any], scores: Path | None, progress: Tick | None) -> Card:
    """Return the card of a bundle published in the zoo under `root`; where it has blanks, with what is stated and scored on it."""
    card, _ = read_card(source)
    blanks = missing(dict(card))
    if not blanks:
        if stated or scores is not None:
            raise CardError(f"{source}: a finished bundle, whose card cannot change any more; publish the run itself, or leave options out")
        return read_card(publish(source, root))[0]
    empty = [key for key in missing(stated) if key in blanks]
    if empty:
        raise CardError(f"{source}: its card says nothing of {', '.join(empty)}; pass {' and '.join(OPTIONS[key] for key in empty)}")
    from stemzoo.export.restate import restate

    failures: Failures = []
    if scores is not None:
        rows, failures = _scored(card.task, source, scores, progress)
        stated["evaluation"] = [*card.evaluation, *rows]
    stated["limits"] = [*card.limits, *stated.get("limits", ())]
    name = str(stated.get("name", card.name))
    version = stated.setdefault("version", _next(root, name))
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / name / f"v{version}"
        restate(source, folder, stated)
        if scores is not None:
            from stemzoo.evaluate.gallery import show_failures

            show_failures(folder, failures)
        return read_card(publish(folder, root))[0]


def _next(root: Path, name: str) -> int:
    """Return the version after the newest one of a name in the zoo under `root`."""
    return 1 + max((number for known, number, _ in versions(root) if known == name), default=0)


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
        values = {key: blank.get(key, "") if is_blank(draft.get(key)) else draft[key] for key in keys}
        path.write_text(DRAFT.format(**{key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}), encoding="utf-8")
    return f"fill it in in {path} and publish again"


def _scored(task: str, folder: Path, dataset: Path, progress: Tick | None) -> tuple[list[dict[str, Any]], Failures]:
    """Return a model's scores on a dataset as lines of a card's evaluation, and where it fails."""
    return _segmenter(folder, dataset, progress) if task == "segmentation" else _encoder(folder, dataset, progress)


def _segmenter(folder: Path, dataset: Path, progress: Tick | None) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Return a segmenter's scores on a dataset as lines of a card's evaluation, and where it fails."""
    from stemzoo.evaluate import GROUPINGS, frame_scores, summarise
    from stemzoo.evaluate.failures import segmenter_failures
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.segmenter import Segmenter

    segmenter = Segmenter(Bundle.load(folder))
    frames = list(frame_scores(segmenter, dataset, progress=progress))
    rows: list[dict[str, Any]] = []
    for score in summarise(frames, GROUPINGS["material"]):
        where = dataset.name if score.group == "all" else f"{dataset.name}: {score.group}"
        common = {"dataset": where, "role": "held back", "n": max(score.n_columns, 1)}
        rows.append({**common, "metric": "F1 at 0.5 Å", "value": score.f1, "interval": score.f1_interval})
        if math.isfinite(score.rmse_pm):
            rows.append({**common, "metric": "position RMSE [pm]", "value": score.rmse_pm, "interval": score.rmse_pm_interval})
            rows.append({**common, "metric": "spread of error / stated σ", "value": score.z_spread})
    return rows, segmenter_failures(segmenter, dataset, frames)


def _encoder(folder: Path, dataset: Path, progress: Tick | None) -> tuple[list[dict[str, Any]], list[PoorFit]]:
    """Return an encoder's scores on a dataset as lines of a card's evaluation, and what its decoder explains least."""
    from stemzoo.evaluate.encoding import SURE, TURNS, encoded_frames, summarise_encoding
    from stemzoo.evaluate.failures import encoder_failures
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.encoder import Encoder

    encoder = Encoder(Bundle.load(folder))
    frames = list(encoded_frames(encoder, dataset, progress=progress))
    turned = f"turned by {', '.join(f'{turn:g}' for turn in TURNS)} degrees"
    rows: list[dict[str, Any]] = []
    for score in summarise_encoding(frames):
        where = dataset.name if score.group == "all" else f"{dataset.name}: {score.group}"
        common = {"role": "held back", "n": max(score.n_columns, 1)}
        values = {
            "share of the sub-images' variance explained, median": score.explained,
            "species by linear probe of the latents": score.species,
            ANGLE: score.angle_deg,
            f"share of columns with a stated σ below {SURE:g} degrees": score.sure,
            "90th percentile of their angle error [degrees]": score.sure_p90_deg,
            "spread of angle error / stated σ, robust": score.z_spread,
            "median change of the latents over their spread in a frame": score.moved,
        }
        for number, (metric, value) in enumerate(values.items()):
            if math.isfinite(value):
                row = {**common, "dataset": where if number < 2 else f"{where}, {turned}", "metric": metric, "value": value}
                rows.append({**row, "interval": score.angle_interval} if metric == ANGLE else row)
    return rows, encoder_failures(encoder, frames)
