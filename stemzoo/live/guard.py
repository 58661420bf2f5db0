"""Who may talk to the server. Owns the checks of Host, Origin and token, and the headers that keep a browser from doing more than asked.

A page anywhere on the web can make a browser send requests to 127.0.0.1, and a name of its own can be pointed there (DNS rebinding): hence
only known hosts are answered, and requests that a foreign page began are refused. No CORS header is ever sent. Called by live.server.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from stemzoo.errors import OutputError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN = ("/", "/health", "/docs", "/openapi.json")  # without data; whoever reaches the server may see them
SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Say whether an address to bind reaches this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("microscope.lab")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_everywhere(host: str) -> bool:
    """Say whether an address to bind stands for all of this machine's, which is none that a browser could open.

    >>> is_everywhere("0.0.0.0"), is_everywhere("::"), is_everywhere("127.0.0.1"), is_everywhere("microscope.lab")
    (True, True, False, False)
    """
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def check_binding(host: str, token: str | None) -> None:
    """Refuse to be reached from other machines without a token. Raises: OutputError."""
    if not is_loopback(host) and not token:
        raise OutputError(
            f"--host {host} can be reached from other machines; wanted a token for that: set STEMZOO_TOKEN, or leave out --host"
        )
    if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise OutputError(
            "the token is too short, or holds blanks; wanted 16 printable characters or more (e.g. from: openssl rand -hex 16)"
        )


class Guard:
    """ASGI middleware around the application.

    Args: hosts: names that the server answers to, beside those of the loopback. token: asked of every request for data, if set.
    """

    def __init__(self, app: App, hosts: tuple[str, ...] = (), token: str | None = None) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in (*LOOPBACK, *hosts))
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                own = [(name.encode(), value.encode()) for name, value in SECURITY.items() if name.encode() not in names]
                cache = [] if b"cache-control" in names else [(b"cache-control", b"no-store")]
                message = {**message, "headers": [*message["headers"], *own, *cache]}
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            return await self._app(scope, receive, safe)
        status, why = refused
        body = json.dumps({"error": why}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
        await safe({"type": "http.response.start", "status": status, "headers": headers})
        await safe({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = headers.get("host", [])
        if len(host) != 1 or _hostname(f"//{host[0]}") not in self._hosts:
            return 403, "the Host header names none of this server's names; wanted localhost, 127.0.0.1 or one given with --name"
        for origin in headers.get("origin", []):
            if urlsplit(origin).netloc.lower() != host[0].lower() or _hostname(origin) not in self._hosts:
                return 403, "the request was begun by a page of another origin"
        if self._token is None or scope["path"] in OPEN or scope["path"].startswith("/page/"):
            return None
        given = headers.get("authorization", [""])
        if len(given) == 1 and hmac.compare_digest(given[0].encode("latin-1"), f"Bearer {self._token}".encode()):
            return None
        return 401, "a token is wanted: the header Authorization: Bearer TOKEN"


def _hostname(url: str) -> str:
    """Return the host in a URL, lower case, without port; empty where there is none or it is malformed."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        return "" if parts.username or parts.path else (parts.hostname or "")
    except ValueError:
        return ""
