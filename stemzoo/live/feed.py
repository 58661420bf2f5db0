"""The last frames, for the live page: an 8-bit picture and the columns of each, newest last. Owns the ring and who is told of changes.

Memory is bounded by the number of frames and by their bytes. The worker's thread writes, the server's loop reads and listens; listeners
who fall behind lose the oldest news and catch up from the ring. Called by live.engine.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stemzoo.types import Analysis

SHOWN_PX = 2048
NEWS = 64
REFUSED = 8
NOTHING = (1, 1)  # shape of what is shown of a body that could not be read


@dataclass(slots=True)
class Shown:
    """One frame on the page.

    Args:
        id: counts up over the server's life. frame: number within its file. state: analysing, located, done or failed.
        image: (h, w) uint8 between the frame's 0.3rd and 99.7th percentile, `step` times smaller than the frame.
        analysis: of the whole file, None before any column is found; seconds: from arrival to the end.
    """

    id: int
    name: str
    frame: int
    shape: tuple[int, int]
    image: np.ndarray
    step: int
    state: str = "analysing"
    analysis: Analysis | None = None
    why: str = ""
    seconds: float = 0.0
    at: float = field(default_factory=time.time)

    def news(self) -> dict[str, Any]:
        """Return what the page is told at once; it fetches the rest."""
        columns = None if self.analysis is None else len(self.analysis.columns[self.frame])
        return {
            "id": self.id,
            "name": self.name,
            "frame": self.frame,
            "height": self.shape[0],
            "width": self.shape[1],
            "state": self.state,
            "columns": columns,
            "why": self.why,
            "seconds": round(self.seconds, 4),
            "at": round(self.at, 3),
        }

    @property
    def bytes(self) -> int:
        """Roughly what the frame takes in memory."""
        columns = 0 if self.analysis is None else len(self.analysis.columns[self.frame])
        return self.image.nbytes + 200 * columns


class Feed:
    """The ring. Args: most: frames kept; most_bytes: bytes kept, though never less than one frame."""

    def __init__(self, most: int = 64, most_bytes: int = 192 << 20) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._frames: OrderedDict[int, Shown] = OrderedDict()
        self._lock = threading.Lock()
        self._listeners: dict[int, tuple[asyncio.AbstractEventLoop, deque[dict[str, Any]], asyncio.Event]] = {}
        self._next = 1
        self.ended: deque[float] = deque(maxlen=32)
        self.over = False

    def show(self, name: str, frame: int, raw: np.ndarray) -> Shown:
        """Put a new frame (H, W) on the page."""
        image, step = picture(raw)
        with self._lock:
            shown = self._keep(Shown(self._next, name, frame, (raw.shape[0], raw.shape[1]), image, step))
        self._tell(shown)
        return shown

    def refuse(self, name: str, why: str) -> None:
        """Say that what came could not be read. Only the last `REFUSED` are kept, so that they do not push good frames out."""
        with self._lock:
            unread = [number for number, shown in self._frames.items() if shown.shape == NOTHING]
            for number in unread[: max(0, len(unread) - REFUSED + 1)]:
                del self._frames[number]
            shown = self._keep(Shown(self._next, name, 0, NOTHING, np.zeros(NOTHING, np.uint8), 1, "failed", why=why))
        self._tell(shown)

    def _keep(self, shown: Shown) -> Shown:
        self._next += 1
        self._frames[shown.id] = shown
        while len(self._frames) > 1 and (len(self._frames) > self._most or self._bytes() > self._most_bytes):
            self._frames.popitem(last=False)
        return shown

    def update(self, shown: Shown, state: str, analysis: Analysis | None = None, why: str = "", seconds: float = 0.0) -> None:
        """Say how far a frame is. The analysis kept must not hold the frame's pixels."""
        with self._lock:
            shown.state, shown.why, shown.seconds = state, why, seconds
            shown.analysis = analysis or shown.analysis
            if state == "done":
                self.ended.append(time.monotonic())
        self._tell(shown)

    def get(self, number: int) -> Shown | None:
        """Return a frame that is still kept."""
        with self._lock:
            return self._frames.get(number)

    def all(self) -> list[dict[str, Any]]:
        """Return the news of every frame kept, oldest first."""
        with self._lock:
            return [shown.news() for shown in self._frames.values()]

    def rate(self) -> float:
        """Return frames finished per second, over the last ones; 0 once nothing has come for ten seconds."""
        with self._lock:
            ended = list(self.ended)
        if len(ended) < 2 or time.monotonic() - ended[-1] > 10:
            return 0.0
        return (len(ended) - 1) / max(ended[-1] - ended[0], 1e-6)

    def listen(self) -> tuple[int, deque[dict[str, Any]], asyncio.Event]:
        """Begin to listen from the running loop; end it with `leave`."""
        news: deque[dict[str, Any]] = deque(maxlen=NEWS)
        event = asyncio.Event()
        with self._lock:
            key = self._next
            self._next += 1
            self._listeners[key] = (asyncio.get_running_loop(), news, event)
        return key, news, event

    def leave(self, key: int) -> None:
        """Stop listening."""
        with self._lock:
            self._listeners.pop(key, None)

    def end(self) -> None:
        """Tell all who listen that nothing will come any more."""
        self.over = True
        with self._lock:
            listeners = list(self._listeners.values())
        for loop, _, event in listeners:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    @property
    def listening(self) -> int:
        """How many listen."""
        with self._lock:
            return len(self._listeners)

    def _bytes(self) -> int:
        return sum(shown.bytes for shown in self._frames.values())

    def _tell(self, shown: Shown) -> None:
        with self._lock:
            news, listeners = shown.news(), list(self._listeners.values())
        for loop, queue, event in listeners:
            queue.append(news)
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


def picture(raw: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a frame (H, W) as uint8 between its 0.3rd and 99.7th percentile, and by how much it was made smaller to stay below 2048 px."""
    step = -(-max(raw.shape) // SHOWN_PX)
    image = np.asarray(raw, dtype=np.float32)
    if step > 1:
        rows, cols = image.shape[0] // step * step, image.shape[1] // step * step
        image = image[:rows, :cols].reshape(rows // step, step, cols // step, step).mean(axis=(1, 3))
    finite = image[np.isfinite(image)]
    low, high = (
        (float(value) for value in np.percentile(finite[:: max(1, finite.size // 200_000)], (0.3, 99.7))) if finite.size else (0.0, 1.0)
    )
    scaled = (image - low) * (255.0 / max(high - low, 1e-30))
    return np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255).astype(np.uint8), step
