"""A refusal that the client can hear. Owns what happens to a body that is still on its way when the answer is already known.

A server that answers and closes while the client sends makes the system reset the line: the client gets a broken pipe instead of the
reason, the more surely the larger the body. So the answer goes out at once, the rest of the body is read and thrown away for a few seconds,
and only then does the answer end and the line close. Called by live.server.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from stemzoo.live.guard import App, Message, Receive, Scope, Send

LINGER_S = 5.0  # the longest that a body is thrown away; a client that still sends then is cut off


class Lingering:
    """ASGI middleware around everything that answers."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; hold back the end of the answer until the request has ended too."""
        if scope["type"] != "http" or not _sends_a_body(scope):
            return await self._app(scope, receive, send)
        whole = False

        async def heard() -> Message:
            nonlocal whole
            message = await receive()
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def lingering(message: Message) -> None:
            if message["type"] != "http.response.body" or message.get("more_body", False) or whole:
                return await send(message)
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    while not whole:
                        await heard()
            await send({"type": "http.response.body", "body": b""})

        await self._app(scope, heard, lingering)


def _sends_a_body(scope: Scope) -> bool:
    """Say whether a body follows the request's headers unasked: a client that expects 100-continue has not begun to send any."""
    headers = dict(scope["headers"])
    return b"expect" not in headers and (b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0")
