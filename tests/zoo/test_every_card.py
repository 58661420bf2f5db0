"""Every published model, always: schema, hashes, sizes, contents, parameters, the card inside the graph, scores, limits, golden tensors.

The index beside the models is what makes a published version immutable: it must say what the cards say.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.golden import verify
from stemzoo.runtime.session import SessionOptions
from stemzoo.simulation.loading import parts
from stemzoo.zoo.card import Card, read_card
from stemzoo.zoo.catalog import own_root, versions
from stemzoo.zoo.check import check_files, check_graphs
from stemzoo.zoo.hub import hub_keys
from stemzoo.zoo.index import build_index, change, parse_index
from stemzoo.zoo.publish import missing

FOLDERS = [folder for _, _, folder in versions(own_root())]
RECIPES = Path(__file__).resolve().parents[2] / "datasets"
WIDENED = 1.5  # augmentation zooms by less


@pytest.fixture(params=FOLDERS, ids=lambda folder: f"{folder.parent.name}@{folder.name[1:]}")
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_bundle_is_what_its_card_says(folder: Path) -> None:
    card, prose = read_card(folder)
    check_files(card, folder)
    check_graphs(card, folder)
    replay = verify(Bundle.load(folder, SessionOptions(threads=1)))
    assert replay.ok, replay.summary()
    assert card.evaluation, "a published model states its scores"
    assert missing(dict(card)) == [], "a published model states its limits, its licence and how to cite it"
    assert len(prose) > 200


def test_sampling_is_what_the_recipes_draw(folder: Path) -> None:
    card, _ = read_card(folder)
    assert card.training.recipes, "a published model names its recipes"
    drawn = [part.frame.sampling for name in card.training.recipes for part, _ in parts(RECIPES / f"{name}.toml")]
    edges = [edge for stated in drawn for edge in (stated if isinstance(stated, tuple) else (stated,))]
    low, high = min(edges), max(edges)
    assert low <= card.sampling.nominal <= high
    assert low / WIDENED <= card.sampling.min and card.sampling.max <= high * WIDENED


def test_the_hub_reads_the_card(folder: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card, prose = read_card(folder)
    parsed = hub.ModelCard.load(folder / "README.md")
    stated = parsed.data.to_dict()
    wanted = hub_keys(card.task, card.licence)
    assert {key: stated[key] for key in wanted} == wanted
    assert stated["id"] == card.id and parsed.text.strip() == prose.strip()


def test_one_default_a_task_and_material() -> None:
    newest: dict[str, Card] = {}
    for folder in FOLDERS:
        card = read_card(folder)[0]
        newest.setdefault(card.name, card)
    counts = Counter((card.task, material) for card in newest.values() if card.default for material in card.materials)
    assert all(count == 1 for count in counts.values()), counts


def test_an_upgrade_never_changes_what_a_version_is() -> None:
    """What index.json listed once is there still, byte for byte; a new version is listed by `stemzoo zoo index model_cards`."""
    path = own_root() / "index.json"
    listed = {model.id: model for model in parse_index(path.read_bytes(), str(path))}
    now = {model.id: model for model in parse_index(json.dumps(build_index(own_root())).encode(), "cards")}
    assert listed.keys() <= now.keys(), "a published version stays"
    assert [change(model.files, now[name].files) for name, model in listed.items()] == [None] * len(listed)
    assert listed == now, "run: stemzoo zoo index model_cards"
