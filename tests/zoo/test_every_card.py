"""Every published model, always: schema, hashes, sizes, parameters, the card inside the graph, and the golden tensors replayed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from stemzoo.runtime.bundle import Bundle, verify
from stemzoo.runtime.session import SessionOptions
from stemzoo.zoo.card import Card, read_card
from stemzoo.zoo.catalog import own_root, versions
from stemzoo.zoo.check import check_files, check_metadata

FOLDERS = [folder for _, _, folder in versions(own_root())]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}@{folder.name[1:]}")
def test_bundle_is_what_its_card_says(folder: Path) -> None:
    card, prose = read_card(folder)
    check_files(card, folder)
    bundle = Bundle.load(folder, SessionOptions(threads=1))
    check_metadata(card, dict(bundle.spec.card), str(folder / "model.onnx"))
    replay = verify(bundle)
    assert replay.ok, replay.summary()
    assert card.evaluation, "a published model states its scores"
    assert card.limits, "a published model states its limits"
    assert card.licence and card.citation and len(prose) > 200


def test_one_default_a_task_and_material() -> None:
    newest: dict[str, Card] = {}
    for folder in FOLDERS:
        card = read_card(folder)[0]
        newest.setdefault(card.name, card)
    counts = Counter((card.task, material) for card in newest.values() if card.default for material in card.materials)
    assert all(count == 1 for count in counts.values()), counts
