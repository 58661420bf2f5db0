"""Counts and times for Prometheus, one registry a server. Owns the names of the metrics. Called by live.server."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stemzoo.live.engine import Engine
from stemzoo.live.guard import App, Message, Receive, Scope, Send
from stemzoo.types import Analysis

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """What the server counts."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        self.answers = Counter("stemzoo_answers", "Answers by route and status.", ("route", "status"), registry=self._registry)
        self.latency = Histogram("stemzoo_request_seconds", "Time to answer /analyze.", buckets=_SECONDS, registry=self._registry)
        self._frames = Counter("stemzoo_frames", "Frames analysed.", registry=self._registry)
        self._columns = Counter("stemzoo_columns", "Columns found.", registry=self._registry)
        self._stages = Histogram("stemzoo_stage_seconds", "Time by stage.", ("stage",), buckets=_SECONDS, registry=self._registry)
        taken = Gauge("stemzoo_places_taken", "Jobs waiting or running.", registry=self._registry)
        taken.set_function(lambda: engine.taken)

    def analysed(self, analysis: Analysis) -> None:
        """Count an analysis."""
        self._frames.inc(len(analysis.columns))
        self._columns.inc(sum(len(columns) for columns in analysis.columns))
        for stage, seconds in analysis.seconds.items():
            self._stages.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """Return the exposition."""
        return generate_latest(self._registry)


class Counting:
    """ASGI middleware that counts answers by route and status; a path that is no route counts as `other`."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.answers.labels(route, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counted if scope["type"] == "http" else send)
