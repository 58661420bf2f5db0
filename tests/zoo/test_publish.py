"""A version goes public once, whole, filled in, and never changes; what stands there is a zoo that others can pull from."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stemzoo.errors import CardError, ModelError, OutputError
from stemzoo.release import release
from stemzoo.zoo.card import read_card
from stemzoo.zoo.fetch import pull
from stemzoo.zoo.publish import publish, write_deposit

PNG = b"\x89PNG\r\n\x1a\n"
FILLED = {"limits": ["Finds nothing anywhere."]}


@pytest.fixture
def bundle(tmp_path: Path, model: Callable[..., Path]) -> Path:
    return model(tmp_path / "made", "blob", 1, **FILLED)


def test_published_is_pulled(bundle: Path, tmp_path: Path, far: Any, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = bundle / "README.md"
    readme.write_text(readme.read_text() + "\n![where it fails](failures.png)\n![elsewhere](https://x.example/y.png)\n")
    (bundle / "failures.png").write_bytes(PNG)
    place = publish(bundle, tmp_path / "public")
    assert place == tmp_path / "public" / "blob" / "v1" and place.stat().st_mode & 0o055 == 0o055
    assert [file.name for file in read_card(place)[0].files][-1] == "failures.png"
    assert [model["id"] for model in json.loads((tmp_path / "public" / "index.json").read_text())["models"]] == ["blob@1"]
    monkeypatch.setenv("STEMZOO_ZOO", serve(tmp_path / "public").url)
    assert {path.name: path.read_bytes() for path in pull("blob").folder.iterdir()} == {
        path.name: path.read_bytes() for path in place.iterdir()
    }


def test_published_twice(bundle: Path, tmp_path: Path, model: Callable[..., Path]) -> None:
    root = tmp_path / "public"
    place = publish(bundle, root)
    readme = bundle / "README.md"
    readme.write_text(readme.read_text().replace("Prose", "Better prose"))
    assert publish(bundle, root) == place
    assert "Better prose" in (place / "README.md").read_text()
    other = model(tmp_path / "other", "blob", 1, title="Trained anew", **FILLED)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(CardError, match=r"blob@1 was published with model.onnx of sha256 .*; a published version never changes"):
        publish(other, root)
    shutil.rmtree(place)
    with pytest.raises(CardError, match="a published version never changes"):
        publish(other, root)
    assert publish(bundle, root) == place
    with pytest.raises(CardError, match=r"blob@1 has these very weights already; there is nothing new to publish as blob@2"):
        publish(model(tmp_path / "other", "blob", 2, **FILLED), root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "says nothing of limits"),
        ({**FILLED, "licence": "unstated"}, "says nothing of licence;"),
        ({"licence": "unstated", "citation": "TODO", "materials": ["unstated"]}, "says nothing of licence, citation, materials, limits"),
    ],
)
def test_a_card_with_blanks(tmp_path: Path, model: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError) as caught:
        publish(model(tmp_path / "made", "blob", 1, **changes), tmp_path / "public")
    assert message in str(caught.value)
    assert not (tmp_path / "public").exists()


def test_a_bundle_that_is_not_what_it_says(bundle: Path, tmp_path: Path) -> None:
    (bundle / "failures.png").write_bytes(b"\x80\x04pickle")
    readme = bundle / "README.md"
    readme.write_text(readme.read_text() + "\n![where it fails](failures.png)\n")
    with pytest.raises(CardError, match=r"failures\.png: not a png picture"):
        publish(bundle, tmp_path / "public")
    (bundle / "golden.npz").write_bytes(b"rot")
    with pytest.raises(CardError, match=r"golden\.npz: 3 bytes"):
        publish(bundle, tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_nowhere_to_write(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "public").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        publish(bundle, tmp_path / "public")


def test_a_deposit(bundle: Path, tmp_path: Path) -> None:
    place = publish(bundle, tmp_path / "public")
    archive, metadata = write_deposit(place, tmp_path / "deposit")
    first = archive.read_bytes()
    assert write_deposit(place, tmp_path / "deposit")[0].read_bytes() == first
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "unpacked")
    assert read_card(tmp_path / "unpacked" / "blob" / "v1") == read_card(place)
    described = json.loads(metadata.read_text())["metadata"]
    assert described["license"] == "mit" and described["version"] == "1" and "Finds nothing anywhere." in described["description"]
    assert described["creators"] == [{"name": "Nobody"}]


def test_release_of_a_finished_bundle(bundle: Path, tmp_path: Path) -> None:
    assert release(bundle, tmp_path / "public").id == "blob@1"
    assert (tmp_path / "public" / "blob" / "v1" / "model.onnx").is_file()
    with pytest.raises(CardError, match="a finished bundle, whose card cannot change any more"):
        release(bundle, tmp_path / "public", {"licence": "MIT"})
    with pytest.raises(ModelError, match=r"nowhere: no such run; wanted a folder that stemzoo train wrote, or a bundle"):
        release(tmp_path / "nowhere", tmp_path / "public")
