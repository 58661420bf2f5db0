"""Pulling: the right bytes or nothing, once for all who want them, through interruptions, from mirrors and without a network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from stemzoo.errors import CardError, ModelError
from stemzoo.zoo import resolve
from stemzoo.zoo.fetch import pull
from stemzoo.zoo.index import write_index
from stemzoo.zoo.listing import Wish, listing, look

REPOSITORY = Path(__file__).resolve().parents[2]
BIG = "/blob/v2/failures.png"


def left(cache: Path) -> list[str]:
    """Everything in a cache but empty folders, locks and the kept indexes."""
    files = [path.relative_to(cache) for path in cache.rglob("*") if path.is_file()]
    return [path.as_posix() for path in files if path.parts[:2] not in ((".web", "locks"), (".web", "index"))]


def same(folder: Path, original: Path) -> bool:
    return {path.name: path.read_bytes() for path in folder.iterdir()} == {path.name: path.read_bytes() for path in original.iterdir()}


def test_pull_then_offline(far: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, server = far
    assert [(model["id"], model["held"]) for model in listing(Wish())] == [("blob@2", "web"), ("blob@1", "web"), ("dipole@1", "web")]
    card, prose, folder, source = look("blob@1")
    assert (card.id, folder, source) == ("blob@1", None, server.url) and prose.startswith("# Title")
    assert left(tmp_path / "cache") == []
    steps: list[tuple[str, int, int]] = []
    done = pull("blob", progress=lambda *step: steps.append(step))
    assert done.fetched and done.source == server.url and done.card.id == "blob@2"
    assert done.folder == tmp_path / "cache" / "blob" / "v2" == resolve("blob")
    assert same(done.folder, root / "blob" / "v2")
    assert steps[-1][1] == steps[-1][2] and {stage for stage, *_ in steps} >= {"model.onnx [kB]", "README.md [kB]"}
    server.close()
    assert not pull("blob").fetched
    monkeypatch.setenv("STEMZOO_OFFLINE", "1")
    assert not pull("blob@2").fetched
    assert [(model["id"], model["held"]) for model in listing(Wish())] == [("blob@2", "cache"), ("blob@1", "web"), ("dipole@1", "web")]
    with pytest.raises(ModelError, match=r"blob@1 is in http://127.* and STEMZOO_OFFLINE forbids fetching it"):
        pull("blob@1")


def test_what_nobody_has(far: Any) -> None:
    _, server = far
    with pytest.raises(ModelError, match=r"unknown model 'blop'; did you mean blob\?; asked: http://127"):
        pull("blop")
    with pytest.raises(ModelError, match=r"unknown version 'blob@7'; there is blob@1, blob@2"):
        pull("blob@7")
    server.answers["/index.json"] = lambda handler: handler.send_error(404)
    with pytest.raises(ModelError, match=r"index\.json: the server answered 404"):
        pull("blob")


def test_a_zoo_that_cannot_be_reached(far: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, server = far
    notes: list[str] = []
    monkeypatch.setenv("STEMZOO_ZOO", f"http://127.0.0.1:1,{server.url}")
    assert pull("blob", note=notes.append).source == server.url
    assert len(notes) == 1 and "http://127.0.0.1:1: cannot be reached" in notes[0] and "refused" in notes[0] and "0x" not in notes[0]


def test_a_broken_download_goes_on(far: Any, tmp_path: Path) -> None:
    root, server = far
    whole = (root / "blob" / "v2" / "failures.png").read_bytes()

    def half(handler: BaseHTTPRequestHandler) -> None:
        server.give(handler, whole[:100_000], headers={"Content-Length": str(len(whole))})
        handler.close_connection = True

    server.answers[BIG] = half
    with pytest.raises(
        ModelError,
        match=r"failures.png: the connection broke off after 65,536 of 300,008 bytes \(Connection broken.*\); pull again to go on",
    ):
        pull("blob")
    assert not (tmp_path / "cache" / "blob").exists()
    assert any(path.endswith("failures.png.part") for path in left(tmp_path / "cache"))
    del server.answers[BIG]
    server.asked.clear()
    assert same(pull("blob").folder, root / "blob" / "v2")
    assert (BIG, "bytes=65536-") in server.asked
    assert not any(path.startswith("/blob/v2/model.onnx") for path, _ in server.asked), "what was whole is not fetched again"
    assert left(tmp_path / "cache") == [f"blob/v2/{path.name}" for path in (tmp_path / "cache" / "blob" / "v2").iterdir()]


def test_a_half_of_other_bytes_is_not_believed(far: Any, tmp_path: Path) -> None:
    root, server = far
    server.answers[BIG] = lambda handler: handler.send_error(500)
    with pytest.raises(ModelError, match="answered 500"):
        pull("blob")
    assert left(tmp_path / "cache") == []
    whole = (root / "blob" / "v2" / "failures.png").read_bytes()

    def start(handler: BaseHTTPRequestHandler) -> None:
        server.give(handler, whole[:5000], headers={"Content-Length": str(len(whole))})
        handler.close_connection = True

    server.answers[BIG] = start
    with pytest.raises(ModelError, match="broke off"):
        pull("blob")
    (part,) = (tmp_path / "cache").rglob("*.part")
    part.write_bytes(b"x" * 5000)
    del server.answers[BIG]
    assert same(pull("blob").folder, root / "blob" / "v2")


PULL = "from stemzoo.zoo.fetch import pull; done = pull('blob@2'); print(done.fetched, done.folder)"


def _start() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-c", PULL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_killed_at_half(far: Any, tmp_path: Path) -> None:
    root, server = far
    whole = (root / "blob" / "v2" / "failures.png").read_bytes()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        server.give(handler, whole[:150_000], headers={"Content-Length": str(len(whole))})
        time.sleep(30)

    server.answers[BIG] = slow
    process = _start()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        parts = list((tmp_path / "cache").rglob("*.part"))
        if parts and parts[0].stat().st_size >= 2**16:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "cache" / "blob").exists()
    del server.answers[BIG]
    server.asked.clear()
    assert same(pull("blob@2").folder, root / "blob" / "v2")
    assert any(path == BIG and begin for path, begin in server.asked)


def test_twenty_at_once(far: Any, tmp_path: Path) -> None:
    root, server = far
    processes = [_start() for _ in range(20)]
    printed = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 20, printed
    assert sorted(out.split()[0] for out, _ in printed) == ["False"] * 19 + ["True"]
    assert same(tmp_path / "cache" / "blob" / "v2", root / "blob" / "v2")
    assert [path for path, _ in server.asked].count(BIG) == 1, "one of them fetched, the others waited"


def test_mirrors(far: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Any) -> None:
    root, server = far
    mirror = serve(root)
    monkeypatch.setenv("STEMZOO_ZOO", f"{server.url},{mirror.url}")
    server.answers["/blob/v2/model.onnx"] = lambda handler: server.give(handler, b"garbage" * 3)
    notes: list[str] = []
    done = pull("blob", note=notes.append)
    assert done.source == mirror.url and same(done.folder, root / "blob" / "v2")
    assert len(notes) == 1 and "model.onnx: the server has 21 bytes" in notes[0] and notes[0].endswith(f"; trying {mirror.url}")


def test_zoos_that_disagree(far: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any, serve: Any) -> None:
    _, server = far
    other = tmp_path / "other"
    model(other, "blob", 2, title="Another")
    write_index(other)
    monkeypatch.setenv("STEMZOO_ZOO", f"{serve(other).url},{server.url}")
    notes: list[str] = []
    assert pull("blob", note=notes.append).card.title == "Another"
    assert "lists blob@2 with other bytes" in notes[0]
    monkeypatch.setenv("STEMZOO_ZOO", server.url)
    with pytest.raises(CardError, match=r"blob@2 lies in .*cache/blob/v2 with other bytes: .*a published version never changes"):
        pull("blob")


def test_no_zoo_of_the_web_replaces_what_came_with_the_package(
    far: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any
) -> None:
    model(tmp_path / "own", "blob", 2, title="Ours")
    monkeypatch.setattr("stemzoo.zoo.catalog.own_root", lambda: tmp_path / "own")
    with pytest.raises(CardError, match="with other bytes"):
        pull("blob@2")
    assert resolve("blob@2") == tmp_path / "own" / "blob" / "v2"
    assert left(tmp_path / "cache") == []


def test_a_damaged_copy_is_fetched_again(far: Any, tmp_path: Path) -> None:
    root, _ = far
    folder = pull("blob").folder
    (folder / "model.onnx").write_bytes(b"bit rot")
    assert pull("blob").fetched and same(folder, root / "blob" / "v2")
    (folder / "README.md").unlink()
    assert pull("blob@2").fetched and same(folder, root / "blob" / "v2")


def test_a_hub_root(far: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, server = far
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    place = root / "org" / "repo" / "resolve" / "v1.0"
    place.parent.mkdir(parents=True)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("blob", "dipole", "index.json"):
        (root / name).rename(moved / name)
    moved.rename(place)
    monkeypatch.setenv("STEMZOO_ZOO", "hf://org/repo@v1.0")
    done = pull("blob")
    assert done.source == "hf://org/repo@v1.0" and same(done.folder, place / "blob" / "v2")
    assert all(path.startswith("/org/repo/resolve/v1.0/") for path, _ in server.asked)
    assert {headers.get("Authorization") for headers in server.headers} == {"Bearer hf_secret"}
    monkeypatch.setenv("STEMZOO_ZOO", "hf://repo")
    with pytest.raises(ModelError, match="wanted hf://org/repo or hf://org/repo@revision"):
        pull("blob")


def test_served_by_the_standard_library(far: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m http.server` over the package's own zoo: every published model arrives as it is."""
    package = Path(__file__).resolve().parents[2] / "model_cards"
    tree = tmp_path / "published"
    tree.mkdir()
    for path in package.iterdir():
        if path.is_dir():
            (tree / path.name).symlink_to(path)
    write_index(tree)
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tree)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        try:
            monkeypatch.setenv("STEMZOO_ZOO", f"http://127.0.0.1:{port}/")
            models = json.loads((tree / "index.json").read_text())["models"]
            assert [model["id"] for model in listing(Wish())] == [model["id"] for model in models]
            for model in models[:2]:
                assert same(pull(model["id"]).folder, tree / model["path"])
        finally:
            server.terminate()


def test_a_proxy_of_the_environment_is_asked(far: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root, server = far
    for path in ("index.json", *(f"blob/v2/{file.name}" for file in (root / "blob" / "v2").iterdir())):
        content = (root / path).read_bytes()
        server.answers[f"http://zoo.invalid/{path}"] = lambda handler, content=content: server.give(handler, content)
    monkeypatch.setenv("STEMZOO_ZOO", "http://zoo.invalid")
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    assert same(pull("blob").folder, root / "blob" / "v2")
    assert all(path.startswith("http://zoo.invalid/") for path, _ in server.asked)
