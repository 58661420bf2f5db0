"""What a hostile or broken zoo may try: each is refused with one message, and nothing of it is left behind."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemzoo.errors import StemzooError
from stemzoo.zoo import contents, web
from stemzoo.zoo.card import make_card
from stemzoo.zoo.fetch import pull
from stemzoo.zoo.index import write_index

GRAPH = "/blob/v1/model.onnx"


def refused(tmp_path: Path, message: str) -> str:
    """Pull blob@1, see it refused, and see that neither cache nor anything outside it holds more than before."""
    before = {path for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts}
    with pytest.raises(StemzooError) as caught:
        pull("blob@1")
    text = str(caught.value)
    assert message in text and "\n" not in text
    cache = tmp_path / "cache"
    kept = [path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()] if cache.exists() else []
    assert [path for path in kept if not path.startswith((".web/locks/", ".web/index/"))] == []
    assert {path for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts} == before
    return text


def change_index(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Let the index say something else of blob@1."""
    index = json.loads((root / "index.json").read_text())
    change(next(model for model in index["models"] if model["id"] == "blob@1"))
    (root / "index.json").write_text(json.dumps(index))


def publish(root: Path, model: Callable[..., Path], content: dict[str, bytes], **changes: Any) -> None:
    """Put another blob@1 there, with a card and an index that tell the truth about every byte of it."""
    folder = root / "blob" / "v1"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    (root / "index.json").unlink()
    model(root, "blob", 1, contents=content, **changes)
    write_index(root)


def test_wrong_hash(far: Any, tmp_path: Path) -> None:
    root, _ = far
    path = root / "blob" / "v1" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    refused(tmp_path, "model.onnx: its bytes do not have the sha256")


def test_truncated_file(far: Any, tmp_path: Path) -> None:
    root, server = far
    path = root / "blob" / "v1" / "model.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    refused(tmp_path, f"the server has {len(whole) - 10} bytes; the zoo's index lists {len(whole)}")
    server.answers[GRAPH] = lambda handler: server.give(handler, whole[:-10], headers={"Content-Length": "", "Connection": "close"})
    refused(tmp_path, f"the server sent {len(whole) - 10} bytes; the zoo's index lists {len(whole)}")


def test_endless_file(far: Any, tmp_path: Path) -> None:
    """More bytes than announced are not taken, however many come."""
    _, server = far
    sent = [0]

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while sent[0] < 200_000_000:
                sent[0] += handler.wfile.write(bytes(1 << 16))
        except ConnectionError:
            pass

    server.answers[GRAPH] = endless
    refused(tmp_path, "the server sent more than")
    assert sent[0] < 50_000_000


def test_endless_index(far: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, server = far
    monkeypatch.setattr(web, "MAX_INDEX", 1000)
    server.answers["/index.json"] = lambda handler: server.give(handler, b" " * 5000)
    refused(tmp_path, "index.json: more than 1,000 bytes; no index of a zoo is that large")


def test_compressed_by_the_server(far: Any, tmp_path: Path) -> None:
    _, server = far
    server.answers[GRAPH] = lambda handler: server.give(handler, b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    refused(tmp_path, "the server compressed the file by itself")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.update(path="../../../etc"), "path '../../../etc' of blob@1; wanted blob/v1"),
        (lambda model: model.update(name="../evil", id="../evil@1", path="../evil/v1"), "is '../evil'"),
        (lambda model: model["files"][0].update(name="../../../.bashrc"), "wanted a plain file name inside the bundle's folder"),
        (lambda model: model["files"][0].update(name="/etc/passwd"), "wanted a plain file name inside the bundle's folder"),
        (lambda model: model["files"][0].update(name="run.sh"), "wanted distinct names ending in .onnx"),
        (lambda model: model["files"][0].update(size=10**12), "wanted at most 2,147,483,648"),
    ],
)
def test_index_that_reaches_out(far: Any, tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    change_index(far[0], change)
    refused(tmp_path, message)


def test_newer_schema(far: Any, tmp_path: Path) -> None:
    (far[0] / "index.json").write_text('{"schema": 2, "models": [], "news": true}')
    refused(tmp_path, "its schema is 2; this stemzoo reads up to 1: upgrade stemzoo")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/loop"])
def test_redirects(far: Any, tmp_path: Path, target: str) -> None:
    _, server = far
    answer = lambda handler: server.give(handler, b"", 302, {"Location": target})  # noqa: E731 - one for both paths
    server.answers |= {GRAPH: answer, "/loop": answer}
    refused(tmp_path, "more than 5 redirects" if target == "/loop" else f"the server redirects to '{target}'; wanted http://… or https://…")


def test_a_redirect_to_another_host_gets_no_token(far: Any, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], Any]) -> None:
    root, server = far
    other = serve(root)
    monkeypatch.setattr(web, "_headers", lambda root: {"Authorization": "Bearer secret"})
    server.answers[GRAPH] = lambda handler: server.give(handler, b"", 302, {"Location": other.url + GRAPH})
    assert pull("blob@1").fetched
    assert all(headers.get("Authorization") == "Bearer secret" for headers in server.headers)
    assert [path for path, _ in other.asked] == [GRAPH] and "Authorization" not in other.headers[0]


def test_external_data(far: Any, tmp_path: Path, model: Callable[..., Path], graph: Callable[..., bytes], draft: dict[str, Any]) -> None:
    metadata = make_card(draft, "test").to_metadata()
    publish(far[0], model, {"model.onnx": graph(metadata, external=True)})
    refused(tmp_path, "model.onnx: keeps tensors in a file outside itself")


def test_archive_bomb(far: Any, tmp_path: Path, model: Callable[..., Path], archive: Callable[..., bytes], monkeypatch: Any) -> None:
    bomb = archive(input_image_0=np.zeros(30_000_000, np.uint8))
    assert len(bomb) < 100_000
    monkeypatch.setattr(contents, "MAX_UNPACKED", 10_000_000)
    publish(far[0], model, {"golden.npz": bomb})
    refused(tmp_path, "golden.npz: unpacks to 30,000,128 bytes; wanted at most 10,000,000")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/stemzoo-was-here"),))


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "golden.npz"])
def test_pickle_in_disguise(far: Any, tmp_path: Path, model: Callable[..., Path], name: str) -> None:
    publish(far[0], model, {name: pickle.dumps(Evil())})
    refused(tmp_path, f"{name}: not a")
    assert not Path("/tmp/stemzoo-was-here").exists()


def test_objects_in_golden(far: Any, tmp_path: Path, model: Callable[..., Path], archive: Callable[..., bytes]) -> None:
    publish(far[0], model, {"golden.npz": archive(input_image_0=np.array([Evil()], dtype=object))})
    refused(tmp_path, "golden.npz: input_image_0.npy holds pickled objects")
    assert not Path("/tmp/stemzoo-was-here").exists()


def test_card_that_names_another_models_hash(far: Any, tmp_path: Path) -> None:
    """The card lists blob@2's graph; the index, whose hash of the card is right, still lists blob@1's."""
    root, _ = far
    mine, other = (hashlib.sha256((root / "blob" / f"v{n}" / "model.onnx").read_bytes()).hexdigest() for n in (1, 2))
    readme = root / "blob" / "v1" / "README.md"
    text = readme.read_text().replace(mine, other).encode()
    readme.write_bytes(text)
    change_index(root, lambda model: model["card"].update(sha256=hashlib.sha256(text).hexdigest(), size=len(text)))
    said = refused(tmp_path, "for model.onnx the card says")
    assert mine in said and other in said


def test_card_of_another_model_around_its_graph(far: Any, tmp_path: Path, model: Callable[..., Path]) -> None:
    """Card, index and bytes agree; but the graph says that it is another model."""
    root, _ = far
    publish(root, model, {"model.onnx": (root / "blob" / "v2" / "model.onnx").read_bytes()})
    refused(tmp_path, "model.onnx: the card inside the graph has id 'blob@2', README.md has 'blob@1'")


def test_card_under_another_name(far: Any, tmp_path: Path) -> None:
    root, _ = far
    text = (root / "blob" / "v2" / "README.md").read_bytes()
    (root / "blob" / "v1" / "README.md").write_bytes(text)
    change_index(root, lambda model: model["card"].update(sha256=hashlib.sha256(text).hexdigest(), size=len(text)))
    refused(tmp_path, "the card says blob@2; the zoo's index says blob@1")


def test_card_that_is_code(far: Any, tmp_path: Path) -> None:
    root, _ = far
    text = b"---\nid: !!python/object/apply:os.system ['touch /tmp/stemzoo-was-here']\n---\n"
    (root / "blob" / "v1" / "README.md").write_bytes(text)
    change_index(root, lambda model: model["card"].update(sha256=hashlib.sha256(text).hexdigest(), size=len(text)))
    refused(tmp_path, "the front matter is not YAML")
    assert not Path("/tmp/stemzoo-was-here").exists()


def test_wrong_count_of_parameters(far: Any, tmp_path: Path, model: Callable[..., Path]) -> None:
    publish(far[0], model, {}, parameters=11)
    refused(tmp_path, "10 parameters; the card of blob@1 says 11")
