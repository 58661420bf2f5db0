"""What only a person can state comes onto a bundle's card at publication; what the networks compute stays as it was, to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from torch import nn

from stemzoo.errors import CardError
from stemzoo.export.bundle import write_bundle
from stemzoo.release import release
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.golden import verify
from stemzoo.zoo.card import read_card
from stemzoo.zoo.check import check_files, check_graphs

FITTED = "Fitted to one frame alone."
STATED = {"name": "mine", "licence": "CC-BY-4.0", "materials": ["TiO2"], "limits": ["Seen at one tilt."]}


@pytest.fixture
def fitted(encoder_modules: dict[str, nn.Module], encoder_draft: dict[str, Any], tmp_path: Path) -> Path:
    write_bundle(tmp_path / "fitted", encoder_modules, {**encoder_draft, "licence": "unstated", "limits": [FITTED]})
    return tmp_path / "fitted"


def nodes(folder: Path, name: str) -> bytes:
    return bytes(onnx.load(str(folder / name)).graph.SerializeToString(deterministic=True))


def test_a_fitted_encoder_is_published_with_what_only_a_person_knows(fitted: Path, tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"fitted: its card says nothing of licence; pass --licence SPDX$"):
        release(fitted, tmp_path / "zoo", {"name": "mine"})
    assert not (tmp_path / "zoo").exists()
    card = release(fitted, tmp_path / "zoo", STATED)
    place = tmp_path / "zoo" / "mine" / "v1"
    assert (card.id, card.licence, card.materials) == ("mine@1", "CC-BY-4.0", ("TiO2",))
    assert card.limits == (FITTED, "Seen at one tilt."), "what was known to be wrong with it still stands"
    assert read_card(place)[0] == card and "stemzoo analyze FRAME --encoder mine@1" in read_card(place)[1]
    check_files(card, place)
    check_graphs(card, place)
    assert verify(Bundle.load(place)).ok
    assert [json.loads((tmp_path / "zoo" / "index.json").read_text())["models"][0][key] for key in ("id", "licence")] == [
        "mine@1",
        "CC-BY-4.0",
    ]
    for name in ("golden.npz", "weights.safetensors"):
        assert (place / name).read_bytes() == (fitted / name).read_bytes()
    for name in ("model.onnx", "decoder.onnx"):
        assert nodes(place, name) == nodes(fitted, name)
    with pytest.raises(CardError, match="a finished bundle, whose card cannot change any more"):
        release(place, tmp_path / "other", {"licence": "MIT"})


def test_prose_written_by_hand_is_kept(fitted: Path, tmp_path: Path) -> None:
    readme = fitted / "README.md"
    readme.write_text(readme.read_text() + "\nSeen on a rainy day.\n")
    release(fitted, tmp_path / "zoo", STATED)
    assert "Seen on a rainy day." in (tmp_path / "zoo" / "mine" / "v1" / "README.md").read_text()
