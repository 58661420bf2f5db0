"""Routes of the live page: its files, the frames kept, and news of them as they come. Owns what is told to how many pages.

Called by live.server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, Path, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from stemzoo.live.answer import AnalysisOut, News, analysis_out
from stemzoo.live.engine import Engine
from stemzoo.live.page import PAGE, colours
from stemzoo.live.refusal import Refused, may_say

RAW, JSON = "application/octet-stream", "application/json"
LISTENERS = 16
Number = Annotated[int, Path(ge=1, le=2**53)]


def add_live(app: FastAPI, engine: Engine) -> None:
    """Add what the page lives on: the frames kept, and news of them as they come."""

    @app.get("/live/frames", responses=may_say(), tags=["page"])
    def frames() -> list[News]:
        """The frames kept, oldest first."""
        return [News(**news) for news in engine.feed.all()]

    @app.get("/live/frames/{number}", response_model=AnalysisOut, responses=may_say(404, 422), tags=["page"])
    def frame(number: Number) -> Response:
        """One frame's columns, as far as they are known."""
        shown = engine.feed.get(number)
        if shown is None or shown.analysis is None:
            raise Refused(404, f"frame {number} is not kept, or has no columns yet")
        return Response(analysis_out(shown.analysis, only=shown.frame).model_dump_json(), media_type=JSON)

    @app.get(
        "/live/frames/{number}/image", responses={200: {"content": {RAW: {}}}, **may_say(404, 422)}, response_class=Response, tags=["page"]
    )
    def image(number: Number) -> Response:
        """One frame as 8-bit numbers, top row first; X-Image-Shape says height, width and how much smaller than the frame."""
        shown = engine.feed.get(number)
        if shown is None:
            raise Refused(404, f"frame {number} is not kept")
        height, width = shown.image.shape
        return Response(shown.image.tobytes(), media_type=RAW, headers={"X-Image-Shape": f"{height},{width},{shown.step}"})

    @app.get("/live/events", include_in_schema=False)
    async def events(request: Request) -> Response:
        """News of frames as server-sent events."""
        if engine.feed.listening >= LISTENERS:
            raise Refused(429, f"{LISTENERS} pages listen already", {"Retry-After": "10"})

        async def stream() -> AsyncIterator[str]:
            key, news, event = engine.feed.listen()
            try:
                yield f"data: {json.dumps({'frames': engine.feed.all()})}\n\n"
                while not engine.feed.over:
                    try:
                        await asyncio.wait_for(event.wait(), 5.0)
                    except TimeoutError:
                        yield ": still here\n\n"
                    event.clear()
                    while news:
                        yield f"data: {json.dumps({'frames': [news.popleft()]})}\n\n"
            finally:
                engine.feed.leave(key)

        return StreamingResponse(stream(), media_type="text/event-stream")


def add_page(app: FastAPI) -> None:
    """Add the files of the page, each by a name known beforehand."""
    files = {path.name: path for path in PAGE.iterdir() if path.suffix in (".html", ".js", ".css", ".svg")}
    hour = {"cache-control": "no-cache"}

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(files["index.html"], headers=hour)

    @app.get("/docs", include_in_schema=False)
    def documentation() -> Response:
        return FileResponse(files["docs.html"], headers=hour)

    @app.get("/page/colours.json", include_in_schema=False)
    def colour_maps() -> dict[str, list[list[int]]]:
        return colours()

    @app.get("/page/{name}", include_in_schema=False)
    def file(name: str) -> Response:
        if name not in files:
            raise Refused(404, "no such file")
        return FileResponse(files[name], headers=hour)
