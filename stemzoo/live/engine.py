"""One worker that analyses what clients send, one job at a time, models loaded once. Owns admission, deadlines and what the page is shown.

A client first takes a place; where none is free it is refused at once, before its body is read, so that neither memory nor delay grows.
Called by live.server, and by `watch --page` for what it has analysed itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from stemzoo.errors import StemzooError
from stemzoo.live.feed import Feed, Shown
from stemzoo.runtime.cleaned import Cleaned
from stemzoo.runtime.doubts import with_strangeness
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.pipeline import LocateOptions, Progress, encode, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Analysis, Frames

Choose = Callable[[Analysis], "tuple[Encoder | None, str]"]


class Busy(Exception):
    """Every place is taken."""


class GivenUp(Exception):
    """The client no longer waits."""


@dataclass(slots=True)
class Place:
    """A client's right to one job; whoever holds it frees it once, by running a job or by `free`."""

    engine: Engine
    given_up: threading.Event = field(default_factory=threading.Event)
    freed: bool = False

    def free(self) -> None:
        """Let the next client in."""
        if not self.freed:
            self.freed = True
            self.engine.places.release()


class Engine:
    """The worker and its places.

    Args:
        segmenter, encoder: loaded; encoder None gives columns only, unless `choose` gives one.
        choose: returns the encoder that fits located columns, or None, and says why. waiting: jobs that may wait.
    """

    def __init__(self, segmenter: Segmenter, encoder: Encoder | None, choose: Choose | None = None, waiting: int = 8) -> None:
        self.segmenter, self.encoder, self._choose = segmenter, encoder, choose
        self.feed = Feed()
        self.capacity = waiting + 1
        self.places = threading.BoundedSemaphore(self.capacity)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stemzoo-worker")

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self.capacity - self.places._value

    def admit(self) -> Place:
        """Return a place. Raises: Busy."""
        if not self.places.acquire(blocking=False):
            raise Busy
        return Place(self)

    def submit(self, place: Place, read: Callable[[], Frames], name: str, threshold: float | None, with_encoder: bool) -> Future[Analysis]:
        """Queue a job; its future gives the Analysis or raises what went wrong. The place is freed when the job has ended.

        Args: name: what the page calls a body that cannot be read.
        """

        def job() -> Analysis:
            if place.given_up.is_set():
                raise GivenUp
            try:
                frames = read()
                first = frames.frame(0) if len(frames) == 1 else np.asarray(frames.data[0])
            except StemzooError as error:
                self.feed.refuse(name, str(error))
                raise
            return self._analyse(frames, first, threshold, with_encoder, place.given_up)

        future = self._worker.submit(job)
        future.add_done_callback(lambda _: place.free())
        return future

    def show(self, name: str, analysis: Analysis) -> None:
        """Put on the page, as `name`, what another has analysed: the first frame with its columns."""
        shown = self.feed.show(name, 0, np.asarray(analysis.frames.data[0]))
        self.feed.update(shown, "done", _without_pixels(analysis), seconds=sum(analysis.seconds.values()) / len(analysis.frames))

    def close(self) -> None:
        """Stop; a running job is finished, waiting ones are dropped."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _analyse(
        self, frames: Frames, first: np.ndarray, threshold: float | None, with_encoder: bool, given_up: threading.Event
    ) -> Analysis:
        def tick(stage: str, done: int, total: int) -> None:
            if given_up.is_set():
                raise GivenUp

        began = time.perf_counter()
        shown = self.feed.show(frames.path, 0, first)
        more: list[Shown] = []
        try:
            cleaned = Cleaned(frames)
            analysis = locate(frames, self.segmenter, LocateOptions(threshold=threshold), tick, cleaned=cleaned)
            more = [self.feed.show(frames.path, index, np.asarray(frames.data[index])) for index in range(1, len(frames))]
            self._tell([shown, *more], "located", analysis, began)
            if with_encoder and any(len(columns) for columns in analysis.columns):
                analysis = self._encode(analysis, tick, cleaned)
            self._tell([shown, *more], "done", analysis, began)
        except BaseException as error:
            why = (
                str(error) if isinstance(error, StemzooError) else "the client gave up" if isinstance(error, GivenUp) else "internal error"
            )
            for one in (shown, *more):
                self.feed.update(one, "failed", why=why)
            raise
        return analysis

    def _encode(self, analysis: Analysis, tick: Progress, cleaned: Cleaned) -> Analysis:
        encoder, why = self.encoder, ""
        if encoder is None and self._choose is not None:
            began = time.perf_counter()
            encoder, why = self._choose(analysis)
            analysis = replace(analysis, seconds={**analysis.seconds, "choose": time.perf_counter() - began})
        if encoder is not None:
            analysis = encode(analysis, encoder, progress=tick, cleaned=cleaned)
        if self.encoder is not None:
            analysis = with_strangeness(analysis, self.encoder, "start serve with another --encoder, or with auto")
        return replace(analysis, notices=(*analysis.notices, why)) if why else analysis

    def _tell(self, shown: list[Shown], state: str, analysis: Analysis, began: float) -> None:
        bare = _without_pixels(analysis)
        for one in shown:
            self.feed.update(one, state, bare, seconds=(time.perf_counter() - began) / len(shown))


def _without_pixels(analysis: Analysis) -> Analysis:
    """Return the analysis for the page, which has the pixels in 8 bit."""
    empty = np.broadcast_to(np.float32(0), (len(analysis.frames), *analysis.frames.shape))
    return replace(analysis, frames=replace(analysis.frames, data=empty))
