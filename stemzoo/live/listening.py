"""A port, and the server on it: in the foreground for `stemzoo serve`, in a thread beside `stemzoo watch --page`. Owns socket and uvicorn.

Called by stemzoo.cli.live.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from stemzoo.errors import OutputError
from stemzoo.live.engine import Engine
from stemzoo.live.guard import is_everywhere
from stemzoo.live.server import ServeOptions, create_app


def serve(engine: Engine, options: ServeOptions, say: Callable[[str], None]) -> None:
    """Serve until interrupted; `say` is told the address, or both, once it answers there. Raises: OutputError if the port cannot be had."""
    with _listening(options) as line:
        _tell(line, options, say)
        _server(engine, options).run(sockets=[line])


@contextmanager
def serving(engine: Engine, options: ServeOptions, say: Callable[[str], None]) -> Iterator[None]:
    """Serve in a thread of its own for as long as the context lasts. Raises: OutputError if the port cannot be had."""
    with _listening(options) as line:
        server = _server(engine, options)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [line]}, name="stemzoo-page", daemon=True)
        thread.start()
        _tell(line, options, say)
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(5)


def addresses(line: socket.socket, options: ServeOptions) -> list[str]:
    """Return where a browser finds the page: on this machine first and, if it listens at every address, from others by a name of its."""
    hosts = [options.host]
    if is_everywhere(options.host):
        hosts = ["::1" if line.family == socket.AF_INET6 else "127.0.0.1", options.hosts[0]]
    shown = [f"[{host}]" if ":" in host else host for host in hosts]
    return [f"http://{host}:{line.getsockname()[1]}/" + ("#token=…" if options.token else "") for host in shown]


def _tell(line: socket.socket, options: ServeOptions, say: Callable[[str], None]) -> None:
    here, *elsewhere = addresses(line, options)
    say(here)
    for url in elsewhere:
        say(f"from other machines: {url}")


def _listening(options: ServeOptions) -> socket.socket:
    """Return a socket that listens: whoever reads its address may connect at once; the first answer waits for the server."""
    line = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET, socket.SOCK_STREAM)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        line.bind((options.host, options.port))
        line.listen(128)
    except OSError as error:
        line.close()
        raise OutputError(f"{options.host} port {options.port} cannot be had ({error.strerror or error}); pass another port") from error
    return line


def _server(engine: Engine, options: ServeOptions) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(engine, options),
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=512,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
    )
    return _Server(config, engine)


class _Server(uvicorn.Server):
    """Pages that listen for news would be waited for at the end, and then cut off with a fault in the log: they are sent away first."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._engine.feed.end()
        await super().shutdown(sockets)
