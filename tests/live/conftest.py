"""A server on a free port of the loopback with stand-in models, and a client that can also say malformed things."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import standins

from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.segmenter import Segmenter


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segmenter, Encoder]:
    """The segmenter blob@1 and the encoder dipole@1."""
    root = tmp_path_factory.mktemp("models")
    for name, save in (("blob", standins.save_segmenter), ("dipole", standins.save_encoder)):
        (root / name).mkdir()
        save(root / name / "model.onnx")
    return (
        Segmenter(Bundle.load(root / "blob", standins.ONE_THREAD)),
        Encoder(Bundle.load(root / "dipole", standins.ONE_THREAD)),
    )


@pytest.fixture(scope="session")
def frame() -> np.ndarray:
    """A frame (96, 112) uint16 of 42 columns 15 px apart, 0.2 Å/px."""
    yx = standins.square_lattice((96, 112), 15.0)
    return np.asarray(standins.draw((96, 112), yx, 2.0, seed=1), dtype=np.uint16)


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to one server; `token` goes with each."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.port, self.token = port, token
        self.url = f"http://127.0.0.1:{port}/"

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, timeout: float = 30.0) -> Said:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        stated = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **(headers or {})}
        try:
            connection.request(method, path, body, stated)
            answer = connection.getresponse()
            return Said(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Said:
        return self.ask("GET", path, headers=headers)

    def analyze(self, image: np.ndarray, query: str = "", **headers: str) -> Said:
        return self.ask("POST", f"/analyze{query}", npy(image), {"Content-Type": "application/x-npy", **headers})


def npy(image: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


@pytest.fixture
def start(models: tuple[Segmenter, Encoder]) -> Iterator[Callable[..., tuple[Client, Any]]]:
    """Start a server: start(**ServeOptions) gives its client and its engine; `choose` finds an encoder by frame."""
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    from stemzoo.live.engine import Engine
    from stemzoo.live.server import ServeOptions, create_app

    running = []

    def call(choose: Any = None, **options: Any) -> tuple[Client, Any]:
        stated = ServeOptions(**options)
        engine = Engine(models[0], models[1] if choose is None else None, choose, stated.waiting)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(engine, stated), log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((server, thread, listening))
        while not server.started:
            time.sleep(0.01)
        return Client(listening.getsockname()[1], stated.token), engine

    yield call
    for server, thread, listening in running:
        server.should_exit = True
        thread.join(10)
        listening.close()
