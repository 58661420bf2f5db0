"""Names resolve to what they say, near names are offered, and a listing matches the cards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stemzoo.errors import CardError, ModelError
from stemzoo.zoo import entries, resolve
from stemzoo.zoo.catalog import default, newest, own_root
from stemzoo.zoo.check import check_files, check_metadata, count_parameters


def test_a_name_means_its_newest_version(zoo: Path) -> None:
    assert resolve("blob") == zoo / "blob" / "v10"
    assert resolve("blob@2") == zoo / "blob" / "v2"
    assert resolve("dipole") == zoo / "dipole" / "v1"
    assert resolve(str(zoo / "blob" / "v1")) == zoo / "blob" / "v1"
    assert resolve(zoo / "blob" / "v1") == zoo / "blob" / "v1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blop", r"unknown model 'blop'; did you mean blob\? \(stemzoo zoo list shows all\)"),
        ("Blob", r"unknown model 'Blob'; did you mean blob\?"),
        ("zzz", r"unknown model 'zzz'; known are blob, dipole"),
        ("", r"unknown model ''; known are blob, dipole"),
        ("blob@3", "unknown version 'blob@3'; there is blob@1, blob@2, blob@10"),
        ("blob@", "unknown version 'blob@'"),
        ("blob@two", "unknown version 'blob@two'"),
        ("./blob", "./blob: no bundle there; wanted a folder that holds model.onnx"),
        ("../../etc", "no bundle there"),
    ],
)
def test_unknown_names_offer_near_ones(zoo: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve(name)


@pytest.mark.parametrize("name", ["run", "./run", "run/"])
def test_a_training_run_is_no_model_yet(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=rf"a run of stemzoo train.*stemzoo export {name} --out {name.rstrip('/')}-model"):
        resolve(name)


def test_first_root_wins_and_versions_of_all_roots_count(
    zoo: Path, tmp_path: Path, model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    model(mine, "blob", 2, title="Mine")
    model(mine, "blob", 11)
    monkeypatch.setenv("STEMZOO_ZOO", f"{mine}{os.pathsep}{zoo}")
    assert resolve("blob@2") == mine / "blob" / "v2"
    assert resolve("blob@1") == zoo / "blob" / "v1"
    assert resolve("blob") == mine / "blob" / "v11"
    assert [entry.card.id for entry in entries()] == ["blob@11", "blob@10", "blob@2", "blob@1", "dipole@1"]
    assert entries()[2].card.title == "Mine" and entries()[2].root == mine
    monkeypatch.setenv("STEMZOO_ZOO", f"{zoo},{mine}")
    assert resolve("blob@2") == zoo / "blob" / "v2"


def test_missing_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMZOO_ZOO", str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"STEMZOO_ZOO names .*gone, which is not a directory"):
        resolve("blob")


def test_resolving_asks_no_zoo_of_the_web(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMZOO_ZOO", f"https://zoo.invalid/models{os.pathsep}{zoo}")
    assert resolve("blob@2") == zoo / "blob" / "v2"
    with pytest.raises(ModelError, match=r"unknown model 'other'; .*if a zoo of the web has it: stemzoo zoo pull other"):
        resolve("other")


def test_cache_is_a_root(zoo: Path, tmp_path: Path, model: Callable[..., Path]) -> None:
    model(tmp_path / "cache", "fetched", 1)
    assert resolve("fetched") == tmp_path / "cache" / "fetched" / "v1"


def test_defaults(zoo: Path) -> None:
    assert default("segmentation") == zoo / "blob" / "v2"
    assert default("encoding") == zoo / "dipole" / "v1"


def test_no_more_cards_are_read_than_the_answer_needs(zoo: Path, tmp_path: Path, model: Callable[..., Path]) -> None:
    (zoo / "blob" / "v1" / "README.md").write_text("no card")
    model(tmp_path / "cache", "dipole", 2)
    assert [entry.card.id for entry in newest()] == ["blob@10", "dipole@2"]
    assert default("segmentation") == zoo / "blob" / "v2"
    with pytest.raises(CardError, match="has no front matter"):
        entries()


def test_a_card_that_changes_is_read_anew(zoo: Path) -> None:
    card = zoo / "dipole" / "v1" / "README.md"
    assert entries()[-1].card is entries()[-1].card, "one parse a text"
    card.write_text(card.read_text().replace("title: ", "title: New "))
    assert entries()[-1].card.title.startswith("New ")


def test_stray_folders_are_not_models(zoo: Path, model: Callable[..., Path]) -> None:
    (zoo / "blob" / "v11").mkdir()
    (zoo / "blob" / "vNext").mkdir()
    (zoo / "blob" / "vNext" / "README.md").write_text("x")
    assert resolve("blob") == zoo / "blob" / "v10"


def test_files_are_checked(zoo: Path) -> None:
    entry = entries()[0]
    check_files(entry.card, entry.folder)
    path = entry.folder / "model.onnx"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        CardError, match=r"model.onnx: \d+ bytes with sha256 [0-9a-f]{64}; the card of blob@10 lists \d+ bytes with [0-9a-f]{64}"
    ):
        check_files(entry.card, entry.folder)
    path.unlink()
    with pytest.raises(CardError, match="missing; the card of blob@10 lists it"):
        check_files(entry.card, entry.folder)


def test_unlisted_graph_and_wrong_count(zoo: Path) -> None:
    entry = entries()[1]
    (entry.folder / "decoder.onnx").write_bytes(b"smuggled")
    with pytest.raises(CardError, match=r"holds decoder\.onnx, which the card of blob@2 does not list"):
        check_files(entry.card, entry.folder)
    (entry.folder / "decoder.onnx").unlink()
    with pytest.raises(CardError, match="10 parameters; the card of blob@2 says 11"):
        check_files(entry.card.model_copy(update={"parameters": 11}), entry.folder)


def test_metadata_must_match(zoo: Path) -> None:
    card = entries()[0].card
    metadata = json.loads(card.to_metadata())
    check_metadata(card, metadata, "model.onnx")
    with pytest.raises(CardError, match=r"the card inside the graph has threshold 0.4, README.md has 0.5"):
        check_metadata(card, {**metadata, "threshold": 0.4}, "model.onnx")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", (1 << 60).to_bytes(8, "little"), b"\x02" + bytes(7) + b"[]"])
def test_a_pickle_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(CardError, match="not a safetensors file"):
        count_parameters(tmp_path / "weights.safetensors")


def test_resolving_reads_no_card_and_loads_no_schema(zoo: Path) -> None:
    """`analyze` starts quickly: a name costs a look at folder names, no YAML and no pydantic."""
    slow = {"yaml", "pydantic", "onnxruntime", "torch"}
    code = f"import sys; from stemzoo.zoo import resolve; print(resolve('blob')); assert not {slow} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(own_root_of_checkout())}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(zoo / "blob" / "v10")


def own_root_of_checkout() -> Path:
    return Path(__file__).resolve().parents[2]


def test_own_zoo_lies_beside_the_package() -> None:
    assert own_root() in (own_root_of_checkout() / "model_cards", own_root_of_checkout() / "stemzoo" / "_model_cards")
