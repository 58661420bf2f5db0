"""Cards: what is refused and how, and that nothing is lost between README.md, the object and the graph's metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stemzoo.errors import CardError
from stemzoo.runtime.bundle import ModelSpec
from stemzoo.zoo.card import dump_card, make_card, parse_card, read_card

SCORE = {"dataset": "held-back", "role": "test", "metric": "F1", "value": 0.99, "interval": [0.98, 1.0], "n": 1200}


def test_round_trip_through_front_matter(draft: dict[str, Any]) -> None:
    data = {
        **draft,
        "evaluation": [SCORE],
        "limits": ["No lattice, no luck: 50 % of the columns"],
        "training": {"seed": 3, "versions": {"torch": "2.4"}},
    }
    card = make_card(data, "test")
    text = dump_card(card, "# Prose\n\n---\n\nbelow a rule")
    again, prose = parse_card(text, "README.md")
    assert again == card
    assert prose == "# Prose\n\n---\n\nbelow a rule\n"
    assert "null" not in text.split("\n---")[0]
    assert parse_card(text.replace("\n", "\r\n"), "README.md")[0] == card


def test_metadata_is_what_the_instrument_layer_reads(draft: dict[str, Any], encoder_draft: dict[str, Any]) -> None:
    spec = ModelSpec.from_card(json.loads(make_card(draft, "test").to_metadata()), "test")
    assert (spec.id, spec.sampling, spec.classes, spec.threshold, spec.min_separation) == ("blob@1", (0.1, 0.3, 0.2), ("A", "B"), 0.5, 0.8)
    assert (spec.receptive_px, spec.stride_px, spec.golden_atol) == (32, 8, 1e-4)
    spec = ModelSpec.from_card(json.loads(make_card(encoder_draft, "test").to_metadata()), "test")
    assert (spec.task, spec.window_px, spec.window_angstrom, spec.latents) == ("encoding", 33, 6.6, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"treshold": 0.4}, "unknown key 'treshold'; did you mean 'threshold'?"),
        ({"sampling": {"min": 0.1, "max": 0.3, "nominl": 0.2}}, "unknown key 'sampling.nominl'; did you mean 'nominal'?"),
        ({"sampling": {"min": 0.1, "max": 0.3, "nominal": 0.4}}, "min 0.1, nominal 0.4, max 0.3 Å/px; wanted min ≤ nominal ≤ max"),
        ({"licence": None}, "'licence' is None"),
        ({"id": "blob@2"}, "id is 'blob@2'; name and version make it blob@1"),
        ({"name": "../blob", "id": "../blob@1"}, "'name' is '../blob'; wanted small letters, digits and single hyphens"),
        ({"threshold": None}, "a model for segmentation needs threshold"),
        ({"classes": []}, "a model for segmentation needs classes"),
        ({"classes": ["A", "A"]}, "classes names 'A' twice"),
        ({"latents": 2}, "latents does not belong on the card of a model for segmentation"),
        ({"task": "encoding"}, "a model for encoding needs window, latents, gauge"),
        ({"version": 0, "id": "blob@0"}, "'version' is 0"),
        ({"files": [{"name": "../../model.onnx", "sha256": "0" * 64, "size": 1}]}, "wanted a plain file name inside the bundle's folder"),
        ({"files": [{"name": "model.onnx", "sha256": "abc", "size": 1}]}, "wanted a sha256, 64 hexadecimal digits"),
        ({"calibration": {"probability": [0.2, 0.9], "confidence": [0.6, 0.3]}}, "confidence (0.6, 0.3) falls; wanted rising values"),
        ({"calibration": {"probability": [0.2, 0.9], "confidence": [0.1, 0.3, 0.5]}}, "2 probabilities for 3 confidences"),
        ({"parent": "last-year"}, "wanted a sha256"),
        ({"evaluation": [{**SCORE, "value": 0.5}]}, "value 0.5 of F1 lies outside its interval"),
        ({"parameters": float("nan")}, "'parameters' is nan"),
    ],
)
def test_refusals_name_the_key(draft: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError) as caught:
        make_card({**draft, **change}, "cards/README.md")
    assert message in str(caught.value)
    assert str(caught.value).startswith("cards/README.md: ")
    assert len(str(caught.value)) < 300


def test_missing_key(draft: dict[str, Any]) -> None:
    del draft["sampling"]
    with pytest.raises(CardError, match="key 'sampling' is missing"):
        make_card(draft, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# Just prose", "has no front matter; wanted a first line ---"),
        ("---\nid: [1\n---\n", "README.md, line 3: the front matter is not YAML"),
        ("---\nid: 2026-13-01\n---\n", "the front matter is not YAML (month must be in 1..12)"),
        ("---\nid: !!int ''\n---\n", "the front matter is not YAML"),
        ("---\n- a\n---\n", "the front matter is a list; wanted keys and values"),
        ("---\nid: !!python/object/apply:os.system ['true']\n---\n", "the front matter is not YAML"),
    ],
)
def test_text_that_is_no_card(text: str, message: str) -> None:
    with pytest.raises(CardError) as caught:
        parse_card(text, "README.md")
    assert message in str(caught.value)


def test_folder_and_card_agree(tmp_path: Path, model: Callable[..., Path]) -> None:
    folder = model(tmp_path, "blob", 2)
    card, prose = read_card(folder)
    assert card.id == "blob@2" and prose.startswith("# Title")
    moved = folder.rename(folder.parent / "v3")
    with pytest.raises(CardError, match=r"the card says blob@2; its folder blob/v3 wants blob@3"):
        read_card(moved)
    with pytest.raises(CardError, match=r"a bundle's folder holds its card as README\.md"):
        read_card(tmp_path)
