"""What the server says instead of a result: one sentence, always of the same shape. Owns the statuses and their meaning.

Called by live.server and live.pages.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from stemzoo.live.answer import Refusal


class Refused(Exception):
    """An answer other than a result."""

    def __init__(self, status: int, why: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.why, self.headers = status, why, headers


def may_say(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the refusals that a route documents."""
    said = {
        400: "malformed request",
        401: "no token, or a wrong one",
        403: "foreign host or origin",
        404: "no such frame",
        408: "the body came too slowly",
        413: "too large",
        415: "unknown content type",
        422: "cannot be analysed; the message says why",
        429: "every place is taken; try again after Retry-After seconds",
        504: "not finished in time",
    }
    return {status: {"model": Refusal, "description": said[status]} for status in (401, 403, *statuses)}


def first_of(errors: Any) -> str:
    """Return the first of pydantic's errors as a sentence."""
    first = errors[0]
    return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"[:300]


def add_refusals(app: FastAPI) -> None:
    """Give every refusal one shape."""

    def say(status: int, why: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": why}, status, headers)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return say(error.status, error.why, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return say(422, first_of(error.errors()))

    @app.exception_handler(HTTPException)
    async def missing(request: Request, error: HTTPException) -> JSONResponse:
        return say(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return say(500, "internal error; the server's log says more")
