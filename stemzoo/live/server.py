"""HTTP beside the microscope: frames in, columns with angles and latents out, and a live page. Owns the routes, limits and deadlines.

`create_app` gives the ASGI application, which live.listening runs. The analysis is that of `stemzoo analyze`, in one worker thread; what
it takes to be let in is live.guard's, what a body may be live.upload's, the fields of the answers live.answer's, refusals live.refusal's
and the page's routes live.pages'. Called by live.listening.
"""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

import stemzoo
from stemzoo.errors import OutputError, StemzooError
from stemzoo.live import upload
from stemzoo.live.answer import AnalysisOut, Health, Image, ModelOut, analysis_out, model_out
from stemzoo.live.claims import TooLargeError
from stemzoo.live.engine import Busy, Engine, GivenUp, Place
from stemzoo.live.guard import Guard, check_binding, is_everywhere
from stemzoo.live.linger import Lingering
from stemzoo.live.metrics import CONTENT_TYPE, Counting, Metrics
from stemzoo.live.pages import add_live, add_page
from stemzoo.live.refusal import Refused, add_refusals, first_of, may_say
from stemzoo.runtime.doubts import doubts_of
from stemzoo.runtime.tables import write_columns
from stemzoo.types import Analysis, Frames

NPY, RAW, JSON, CSV = "application/x-npy", "application/octet-stream", "application/json", "text/csv"


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How the server runs.

    Args:
        host, port: where it listens. names: further host names that it answers to. token: asked of clients.
        waiting: jobs that may wait. timeout_s: the longest a client waits for its result; read_s: for its own body to arrive.
        max_mb: largest body.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    names: tuple[str, ...] = ()
    token: str | None = None
    waiting: int = 8
    timeout_s: float = 60.0
    read_s: float = 20.0
    max_mb: float = 64.0

    def __post_init__(self) -> None:
        check_binding(self.host, self.token)
        for name in ("waiting", "timeout_s", "read_s", "max_mb"):
            if not getattr(self, name) > 0:
                raise OutputError(f"{name} is {getattr(self, name)}; wanted a positive number")

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every name it answers to beside those of the loopback: those stated, and the address it has or the machine's name."""
        return (*self.names, socket.gethostname() if is_everywhere(self.host) else self.host)


_SHAPE: dict[str, Any] = {"pattern": upload.SHAPE}
_DTYPE: dict[str, Any] = {"enum": [*upload.DTYPES, None]}
_ANALYSIS_ANSWER = {
    200: {
        "model": AnalysisOut,
        "description": "the columns; as text/csv, which is columns.csv, where Accept asks for it: the header X-Doubts then lists, in JSON, "
        "what speaks against them",
        "content": {CSV: {}},
    }
}


def create_app(engine: Engine, options: ServeOptions) -> FastAPI:
    """Return the application. Args: engine: with its models; closed when the application stops."""
    metrics = Metrics(engine)
    limits = upload.Limits(body_bytes=round(options.max_mb * 1e6))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.close()

    app = FastAPI(
        title="stemzoo",
        version=stemzoo.__version__,
        summary="Atomic columns, angles and latents of ADF-STEM frames",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Guard, hosts=options.hosts, token=options.token)
    app.add_middleware(Counting, metrics=metrics)
    app.add_middleware(Lingering)
    add_refusals(app)

    @app.post(
        "/analyze",
        response_model=AnalysisOut,
        responses={**_ANALYSIS_ANSWER, **may_say(408, 413, 415, 422, 429, 504)},  # type: ignore[dict-item]
        openapi_extra={"requestBody": _frame_body(limits.body_bytes)},
        tags=["analysis"],
    )
    async def analyze(
        request: Request,
        pixel_size: Annotated[float | None, Query(gt=0, le=1000, allow_inf_nan=False, description="Å/px")] = None,
        threshold: Annotated[float | None, Query(gt=0, lt=1, allow_inf_nan=False, description="lowest accepted probability")] = None,
        encode: Annotated[bool, Query(description="also give angles and latents")] = True,
        name: Annotated[str, Query(max_length=200, description="what the result and the page call it")] = "frame",
        file: Annotated[str | None, Query(max_length=200, description="name of a microscope's file; only its suffix counts")] = None,
        x_frame_shape: Annotated[str | None, Header(max_length=40, description="H,W or T,H,W", json_schema_extra=_SHAPE)] = None,
        x_frame_dtype: Annotated[str | None, Header(max_length=10, description="of bare numbers", json_schema_extra=_DTYPE)] = None,
    ) -> Response:
        """Find the columns of a frame or stack, with angles and latents."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (NPY, RAW, JSON):
            raise Refused(415, f"Content-Type is {kind[:80] or 'missing'}; wanted {NPY}, {RAW} or {JSON}")
        _check_query(request)
        called = name if name != "frame" or file is None else Path(file).name
        _check_stated(request, limits.body_bytes)  # what will never be taken is not told to try again
        with metrics.latency.time():
            place = _admit(engine)
            try:
                body = await _body(request, limits.body_bytes, options.read_s)
                read = _reader(kind, body, called, file, x_frame_shape, x_frame_dtype, pixel_size, limits)
            except BaseException:
                place.free()
                raise
            analysis = await _result(engine, place, read, called, threshold, encode, options.timeout_s)
            metrics.analysed(analysis)
            return await asyncio.to_thread(_answer, analysis, CSV in request.headers.get("accept", ""))

    @app.post("/demo", response_model=AnalysisOut, responses={**may_say(429, 504)}, tags=["page"])
    async def demo() -> Response:
        """Analyse the simulated Sr3Fe2O7 frame that ships with stemzoo."""
        from stemzoo.io.read import read

        path = Path(stemzoo.__file__).parent / "demo" / "sr3fe2o7_100.tif"

        def demo_frame() -> Frames:
            return replace(read(path), path="demo frame")

        analysis = await _result(engine, _admit(engine), demo_frame, "demo frame", None, True, options.timeout_s)
        return await asyncio.to_thread(_answer, analysis, False)

    @app.get("/models", responses=may_say(), tags=["analysis"])
    def models() -> list[ModelOut]:
        """The loaded models."""
        return [model_out(model.bundle) for model in (engine.segmenter, engine.encoder) if model is not None]

    @app.get("/health", responses={403: may_say()[403]}, tags=["server"])
    def health() -> Health:
        """Whether the server works, and how busy it is."""
        rate = round(engine.feed.rate(), 3)
        return Health(status="ok", version=stemzoo.__version__, waiting=engine.taken, places=engine.capacity, frames_per_second=rate)

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **may_say()}, response_class=Response, tags=["server"])
    def prometheus() -> Response:
        """Counts and times, for Prometheus."""
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    add_live(app, engine)
    add_page(app)
    return app


def _frame_body(most: int) -> dict[str, Any]:
    """Return what OpenAPI says of a body of at most so many bytes."""
    bytes_ = {"type": "string", "format": "binary", "maxLength": most}
    bare = "little-endian numbers, with X-Frame-Shape and X-Frame-Dtype; or a microscope's file, with `file`"
    return {
        "required": True,
        "content": {
            NPY: {"schema": {**bytes_, "description": "numpy.save of (H, W) or (T, H, W)"}},
            RAW: {"schema": {**bytes_, "description": bare}},
            JSON: {"schema": Image.model_json_schema()},
        },
    }


def _admit(engine: Engine) -> Place:
    try:
        return engine.admit()
    except Busy:
        raise Refused(429, f"all {engine.capacity} places are taken; try again", {"Retry-After": "1"}) from None


def _check_query(request: Request) -> None:
    """Raise Refused for a parameter that is not known: one that is misspelt would be left out in silence."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    if unknown := sorted(set(request.query_params) - set(known)):
        raise Refused(422, f"query.{unknown[0][:40]}: is not known; wanted one of {', '.join(known)}")


def _check_stated(request: Request, most: int) -> None:
    """Raise Refused where the request says that its body is larger than `most` bytes."""
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > most:
        raise Refused(413, f"the body has {stated} bytes; the most taken is {most}", {"Connection": "close"})


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """Return the body. Raises: Refused where it is larger than `most` bytes or does not arrive in time."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Refused(413, f"the body has more than {most} bytes, the most taken", {"Connection": "close"})
                parts.append(part)
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {seconds:g} s", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Refused(400, "the connection was closed before the body was whole") from None
    return b"".join(parts)


def _reader(
    kind: str,
    body: bytes,
    name: str,
    file: str | None,
    shape: str | None,
    dtype: str | None,
    pixel_size: float | None,
    limits: upload.Limits,
) -> Callable[[], Frames]:
    """Return what makes Frames of the body, to be called by the worker. Raises: Refused for what can be told at once."""
    if kind == NPY:
        return lambda: upload.from_npy(body, pixel_size, name, limits)
    if kind == JSON:
        try:
            rows = Image.model_validate_json(body).image
        except ValidationError as error:
            raise Refused(422, f"the body is no image: {first_of(error.errors())}") from None
        return lambda: upload.from_lists(rows, body, pixel_size, name, limits)
    if file is not None:
        return lambda: upload.from_file(body, Path(file).suffix, pixel_size, name, limits)
    if shape is None or dtype is None:
        raise Refused(422, "bare numbers need the headers X-Frame-Shape and X-Frame-Dtype; a microscope's file needs ?file=NAME")
    return lambda: upload.from_raw(body, shape, dtype, pixel_size, name, limits)


async def _result(
    engine: Engine, place: Place, read: Callable[[], Frames], name: str, threshold: float | None, encode: bool, seconds: float
) -> Analysis:
    """Return the analysis once the worker has it. Raises: Refused after `seconds`; the worker then stops at its next step."""
    try:
        future = asyncio.wrap_future(engine.submit(place, read, name, threshold, encode))
    except BaseException:
        place.free()
        raise
    try:
        return await asyncio.wait_for(asyncio.shield(future), seconds)
    except StemzooError as error:
        raise Refused(413 if isinstance(error, TooLargeError) else 422, str(error)) from None
    except MemoryError:
        raise Refused(413, "the frame is too large for this machine's memory") from None
    except (TimeoutError, GivenUp):
        raise Refused(504, f"not finished within {seconds:g} s", {"Retry-After": "5"}) from None
    finally:
        if not future.done():
            place.given_up.set()
            future.add_done_callback(lambda done: done.cancelled() or done.exception())


def _answer(analysis: Analysis, as_csv: bool) -> Response:
    headers = {"Server-Timing": ", ".join(f"{stage};dur={1000 * value:.1f}" for stage, value in analysis.seconds.items())}
    if not as_csv:
        return Response(analysis_out(analysis).model_dump_json(), media_type=JSON, headers=headers)
    headers["X-Doubts"] = json.dumps(doubts_of(analysis))  # ASCII, as a header must be; the table has no room for sentences
    with tempfile.TemporaryDirectory(prefix="stemzoo-") as folder:
        write_columns(Path(folder) / "columns.csv", analysis)
        return Response((Path(folder) / "columns.csv").read_bytes(), media_type=CSV, headers=headers)
