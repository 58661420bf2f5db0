"""A bundle under a card on which more is stated: its networks, weights and golden tensors stay as they are. Called by stemzoo.release.

The card also stands inside the graphs, so that they are written anew around the same nodes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from stemzoo.export.bundle import check_folder, complete_card, named_by, seal, template
from stemzoo.zoo.card import Card, read_card
from stemzoo.zoo.check import METADATA_KEY
from stemzoo.zoo.whole import whole_folder


def restate(source: Path, folder: Path, stated: Mapping[str, Any]) -> Card:
    """Return the card of the bundle written to `folder`: the one in `source`, with `stated` on its card.

    Args:
        folder: must not exist yet, or be empty.
        stated: keys of the card that differ from the source's. Prose that nobody wrote by hand is made anew.
    Raises: CardError, OutputError, ExportError as `export.bundle.write_bundle`.
    """
    before, prose = read_card(source)
    kept = {key: value for key, value in before.model_dump(mode="python").items() if key not in ("id", "files", "parameters")}
    card = complete_card({**kept, **stated, **named_by(folder)}, before.parameters)
    check_folder(folder, card)
    with whole_folder(folder) as work:
        for file in before.files:
            if file.name.endswith(".onnx"):
                graph = onnx.load(str(source / file.name))
                onnx.helper.set_model_props(graph, {METADATA_KEY: card.to_metadata()})
                (work / file.name).write_bytes(graph.SerializeToString(deterministic=True))
            else:
                shutil.copyfile(source / file.name, work / file.name)
        return seal(work, card, None if prose.strip() == template(before).strip() else prose)
