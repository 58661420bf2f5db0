"""Zoos of stand-in bundles, with real cards, hashes and formats around networks that do nothing; and a web server that serves them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from stemzoo.zoo.card import dump_card, make_card
from stemzoo.zoo.index import write_index

SEGMENTER: dict[str, Any] = {
    "task": "segmentation",
    "title": "A stand-in",
    "summary": "Finds nothing.",
    "materials": ["Sr3Fe2O7", "MoS2"],
    "licence": "MIT",
    "citation": "Nobody, 2024",
    "created": "2024-02-29",
    "sampling": {"min": 0.1, "max": 0.3, "nominal": 0.2},
    "classes": ["A", "B"],
    "threshold": 0.5,
    "min_separation": 0.8,
    "receptive_px": 32,
    "stride_px": 8,
    "normalisation": "local contrast",
    "parameters": 10,
}
ENCODER: dict[str, Any] = {
    **{
        key: value for key, value in SEGMENTER.items() if key not in ("classes", "threshold", "min_separation", "receptive_px", "stride_px")
    },
    "task": "encoding",
    "window": {"px": 33, "angstrom": 6.6},
    "latents": 2,
    "gauge": "the largest moment points right",
}


def safetensors(parameters: int) -> bytes:
    """Return a safetensors file with that many parameters and a buffer of three values."""
    header = {
        "__metadata__": {"format": "pt", "buffers": json.dumps(["norm.running_mean"])},
        "conv.weight": {"dtype": "F32", "shape": [parameters], "data_offsets": [0, 4 * parameters]},
        "norm.running_mean": {"dtype": "F32", "shape": [3], "data_offsets": [4 * parameters, 4 * parameters + 12]},
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4 * parameters + 12)


def make_graph(metadata: str, *, external: bool = False) -> bytes:
    """Return an ONNX graph that hands its input through, with a constant that lies in another file if `external`."""
    value = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [None])
    constant = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], np.float32(1).tobytes(), raw=True)
    if external:
        onnx.external_data_helper.set_external_data(constant, "../../../etc/passwd")
        constant.ClearField("raw_data")
        constant.data_location = onnx.TensorProto.EXTERNAL
    node = onnx.helper.make_node("Identity", ["image"], ["probability"])
    result = onnx.helper.make_tensor_value_info("probability", onnx.TensorProto.FLOAT, [None])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [result], [constant]))
    onnx.helper.set_model_props(model, {"stemzoo_card": metadata})
    return bytes(model.SerializeToString())


def make_archive(**arrays: np.ndarray) -> bytes:
    """Return an npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def write_model(root: Path, name: str, version: int, contents: dict[str, bytes] | None = None, **changes: Any) -> Path:
    """Write `<root>/<name>/v<version>` and return it; `contents` replaces files, and the card tells the truth about them."""
    folder = root / name / f"v{version}"
    folder.mkdir(parents=True)
    base = ENCODER if changes.get("task") == "encoding" else SEGMENTER
    data = {**base, "id": f"{name}@{version}", "name": name, "version": version, **changes}
    written = {
        "model.onnx": make_graph(make_card(data, "test").to_metadata()),
        "golden.npz": make_archive(input_image_0=np.zeros(3)),
        "weights.safetensors": safetensors(10),
        **(contents or {}),
    }
    for file, content in written.items():
        (folder / file).write_bytes(content)
    files = [{"name": file, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for file, content in written.items()]
    text = dump_card(make_card({**data, "files": files}, "test"), "# Title\n\nProse with --- in it.\n")
    (folder / "README.md").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def model() -> Callable[..., Path]:
    return write_model


@pytest.fixture
def graph() -> Callable[..., bytes]:
    return make_graph


@pytest.fixture
def archive() -> Callable[..., bytes]:
    return make_archive


@pytest.fixture
def draft() -> dict[str, Any]:
    return {**SEGMENTER, "id": "blob@1", "name": "blob", "version": 1}


@pytest.fixture
def encoder_draft() -> dict[str, Any]:
    return {**ENCODER, "id": "dipole@1", "name": "dipole", "version": 1}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo with blob@1, blob@2, blob@10 and dipole@1; the only one that names are looked up in."""
    root = tmp_path / "zoo"
    for version in (1, 2, 10):
        write_model(root, "blob", version, default=version == 2)
    write_model(root, "dipole", 1, task="encoding", default=True)
    monkeypatch.setenv("STEMZOO_ZOO", str(root))
    monkeypatch.setenv("STEMZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STEMZOO_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("STEMZOO_OFFLINE", raising=False)
    monkeypatch.setattr("stemzoo.zoo.catalog.own_root", lambda: tmp_path / "none")
    return root


class Server:
    """A web server over a directory, on loopback, that can be told to misbehave.

    `answers` replaces what a path gives: a function of the handler that writes its own answer. `asked` counts what was asked for.
    """

    def __init__(self, root: Path) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers["Range"]))
                outer.headers.append(dict(self.headers))
                answer = outer.answers.get(self.path)
                if answer is not None:
                    answer(self)
                    return
                path = Path(self.translate_path(self.path))
                begin = self.headers["Range"]
                if begin and path.is_file():
                    content = path.read_bytes()
                    first = int(begin.removeprefix("bytes=").rstrip("-"))
                    give(self, content[first:], 206, {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"})
                    return
                super().do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    give = staticmethod(lambda *args, **settings: give(*args, **settings))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def give(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
    """Answer with `content`; a header that is given replaces the usual one."""
    handler.send_response(status)
    for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
        if value:
            handler.send_header(key, value)
    handler.end_headers()
    with contextlib.suppress(ConnectionError):
        handler.wfile.write(content)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Server]]:
    """A zoo of the web with blob@1, blob@2 and dipole@1, named in STEMZOO_ZOO, with an empty cache and nothing else."""
    root = tmp_path / "far"
    write_model(root, "blob", 1)
    write_model(root, "blob", 2, contents={"failures.png": b"\x89PNG\r\n\x1a\n" + bytes(300_000)})
    write_model(root, "dipole", 1, task="encoding")
    write_index(root)
    server = Server(root)
    monkeypatch.setenv("STEMZOO_ZOO", server.url)
    monkeypatch.setenv("STEMZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STEMZOO_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("STEMZOO_OFFLINE", raising=False)
    monkeypatch.setattr("stemzoo.zoo.catalog.own_root", lambda: tmp_path / "none")
    yield root, server
    server.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    """Serve another directory until the test ends."""
    servers: list[Server] = []

    def start(root: Path) -> Server:
        servers.append(Server(root))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
