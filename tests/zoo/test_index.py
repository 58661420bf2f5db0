"""index.json says what the cards say, lets no published version change, and is believed only as far as it was checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stemzoo.errors import CardError, ModelError
from stemzoo.zoo import build_index, entries
from stemzoo.zoo.index import parse_index, summary, write_index

EVALUATION = [
    {"dataset": "few", "role": "held back", "metric": "F1 at 0.5 Å", "value": 0.9, "n": 10},
    {"dataset": "many", "role": "held back", "metric": "F1 at 0.5 Å", "value": 0.8, "n": 1000},
    {"dataset": "many", "role": "held back", "metric": "position RMSE [pm]", "value": 4.0, "n": 2000},
]


def test_index_says_what_the_cards_say(zoo: Path) -> None:
    index = json.loads(write_index(zoo).read_text())
    assert index == json.loads(json.dumps(build_index(zoo)))
    assert index["schema"] == 1
    assert [entry["path"] for entry in index["models"]] == ["blob/v10", "blob/v2", "blob/v1", "dipole/v1"]
    first = index["models"][0]
    assert {file["name"] for file in first["files"]} == {"golden.npz", "model.onnx", "weights.safetensors"}
    assert first["size_bytes"] == sum(file["size"] for file in first["files"])
    assert first["card"]["size"] == (zoo / "blob" / "v10" / "README.md").stat().st_size
    assert {**summary(entries()[0].card), "path": first["path"], "files": first["files"], "card": first["card"]} == first
    (zoo / "blob" / "v1" / "model.onnx").write_bytes(b"short")
    with pytest.raises(CardError, match=r"v1/model.onnx: 5 bytes; the card of blob@1 lists \d+ bytes"):
        build_index(zoo)


def test_the_headline_is_over_all_doses_where_a_score_is(tmp_path: Path, model: Callable[..., Path]) -> None:
    at = {"role": "held back", "metric": "F1 at 0.5 Å"}
    every, few = {**at, "dataset": "universal", "value": 0.96, "n": 100}, {**at, "dataset": "universal, 50 counts a column", "n": 900}
    model(tmp_path, "scored", 1, evaluation=[{**few, "value": 0.4}, every])
    model(tmp_path, "faint", 1, evaluation=[{**few, "value": 0.4}])
    found = {entry["name"]: entry["score"] for entry in build_index(tmp_path)["models"]}
    assert found["scored"]["value"] == 0.96
    assert found["faint"]["value"] == 0.4


def test_the_headline_is_the_score_on_the_most_columns(tmp_path: Path, model: Callable[..., Path]) -> None:
    model(tmp_path, "scored", 1, evaluation=EVALUATION)
    (listed,) = build_index(tmp_path)["models"]
    assert listed["score"] == {"dataset": "many", "metric": "F1 at 0.5 Å", "value": 0.8, "n": 1000}


def test_a_published_version_never_changes(zoo: Path, model: Callable[..., Path]) -> None:
    write_index(zoo)
    readme = zoo / "blob" / "v2" / "README.md"
    readme.write_text(readme.read_text() + "\nA sentence that was forgotten.\n")
    model(zoo, "blob", 11)
    write_index(zoo)
    before = (zoo / "index.json").read_bytes()
    folder = zoo / "blob" / "v2"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    model(zoo, "blob", 2, title="Trained anew")
    with pytest.raises(CardError, match=r"blob@2 was published with model.onnx of sha256 [0-9a-f]{64}, and now has .* next version"):
        write_index(zoo)
    assert (zoo / "index.json").read_bytes() == before


def _broken(zoo: Path, change: Callable[[dict[str, Any]], Any]) -> bytes:
    index = build_index(zoo)
    change(index)
    return json.dumps(index).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(schema=2), "its schema is 2; this stemzoo reads up to 1: upgrade stemzoo"),
        (lambda index: index.update(schema="1"), "its schema is '1'; wanted a number"),
        (lambda index: index.update(extra=1), "unknown key 'extra'"),
        (lambda index: index["models"].append(index["models"][0]), "lists blob@10 twice"),
        (lambda index: index["models"][0].update(path="../../etc"), "path '../../etc' of blob@10; wanted blob/v10"),
        (lambda index: index["models"][0].update(name="../blob", id="../blob@10"), "'models.0.name' is '../blob'"),
        (lambda index: index["models"][0].update(id="blob@9"), "id 'blob@9' of blob version 10"),
        (lambda index: index["models"][0]["files"][0].update(name="../../x.onnx"), "wanted a plain file name inside the bundle's folder"),
        (lambda index: index["models"][0]["files"][0].update(name="..\\x.onnx"), "wanted a plain file name inside the bundle's folder"),
        (
            lambda index: index["models"][0]["files"][0].update(name="weights.pt"),
            "file 'weights.pt' of blob@10; wanted distinct names ending",
        ),
        (lambda index: index["models"][0]["files"][1].update(name="MODEL.onnx"), "wanted distinct names"),
        (lambda index: index["models"][0]["files"][0].update(name="readme.md"), "wanted distinct names"),
        (lambda index: index["models"][0]["files"][0].update(size=2**40), "wanted at most 2,147,483,648"),
        (lambda index: index["models"][0]["files"][0].update(size=-1), "'models.0.files.0.size' is -1"),
        (lambda index: index["models"][0].update(size_bytes=1), "size_bytes 1 of blob@10; its files make"),
        (lambda index: index["models"][0]["card"].update(size=2_000_000), "'models.0.card.size' is 2000000"),
    ],
)
def test_refused_indexes(zoo: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_index(_broken(zoo, change), "https://zoo.example/index.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("https://zoo.example/index.json: ")


@pytest.mark.parametrize("content", [b"", b"\x80\x04}", b"<html>", b"[]", b'{"models": []}', b"[" * 100_000])
def test_what_is_no_index(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"index.json: "):
        parse_index(content, "index.json")


def test_a_folder_without_a_model_is_no_zoo(zoo: Path) -> None:
    folder = zoo / "blob"  # a model's own folder, named for the zoo's
    with pytest.raises(CardError, match=r"blob: holds no model; wanted a zoo, a tree <name>/v<N>/"):
        write_index(folder)
    assert not (folder / "index.json").exists()
