"""Many inputs through one pool: opens files, hands out batches, puts parts together, tries again what failed and reports the rest.

Owns the order of the work and nothing else; the same loop drives this process (`Here`) and a Dask cluster (`analyze.cluster.Cluster`). Few
files are open at a time and every result is reported as it comes, so that the number of inputs does not matter. Called by the commands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stemzoo.analyze.batch import give_up, work
from stemzoo.analyze.finish import finish
from stemzoo.analyze.models import Models
from stemzoo.analyze.options import Progress
from stemzoo.analyze.outcome import Outcome
from stemzoo.analyze.pieces import pieces_of, write_piece
from stemzoo.analyze.plan import Plan, Request, start
from stemzoo.errors import ModelError, OutputError, ReadError, StemzooError

MAY_PASS = (ReadError, OutputError, ModelError)  # what a second try may mend: a share that was away, a full disk, memory that others held


class LostError(StemzooError):
    """The process that computed something died each time; it may have run out of memory."""


@dataclass(slots=True)
class Entry:
    """One input on its way."""

    request: Request
    missing: tuple[Path, ...]
    plan: Plan | None = None
    stage: int = 0
    left: int = 0
    over: bool = False


@dataclass(slots=True)
class Job:
    """One call: `kind` of `begin`, `work`, `give_up`, `piece`, `finish`."""

    entry: Entry
    kind: str
    number: int = 0
    tries: int = 0
    reason: str = ""


class Pool(Protocol):
    """Where jobs are computed."""

    @property
    def room(self) -> int:
        """How many jobs may be out at a time."""

    def submit(self, job: Any, function: Callable[..., Any], *args: Any) -> None:
        """Take `function(*args, models)` to be computed."""

    def next(self) -> tuple[Any, Any]:
        """Wait for any job; return it with what it gave: a value, or the exception."""


class Here:
    """This process: one job at a time, when it is waited for."""

    room = 1

    def __init__(self, models: Models, progress: Progress | None = None) -> None:
        self.models, self.progress = models, progress
        self._jobs: deque[tuple[Any, Callable[..., Any], tuple[Any, ...]]] = deque()

    def submit(self, job: Any, function: Callable[..., Any], *args: Any) -> None:
        """Keep the job until `next`."""
        self._jobs.append((job, function, args))

    def next(self) -> tuple[Any, Any]:
        """Compute the oldest job."""
        job, function, args = self._jobs.popleft()
        try:
            return job, function(*args, self.models, self.progress)
        except Exception as error:
            return job, error


def begin(request: Request, models: Models, progress: Progress | None = None) -> Plan | Outcome:
    """Open one input; do all of it at once where it is a single batch, else return how it is worked through."""
    plan = start(request, models)
    if isinstance(plan, Outcome) or len(plan.batches) > 1:
        return plan
    try:
        for stage in plan.stages:
            work(plan, stage, 0, models, progress)
        return finish(plan, models, progress)
    except BaseException:
        plan.journal.remove()
        raise


def run(
    requests: Iterable[Request],
    pool: Pool,
    done: Callable[[Outcome], None],
    failed: Callable[[Request, Exception], None],
    *,
    retries: int = 1,
    progress: Progress | None = None,
) -> None:
    """Work through all requests; `done` or `failed` is called once for each, in the order in which they end.

    A file is tried `retries` times more where that may help; the batches of a stack whose worker died each time become failed frames.
    On ^C, parts of unfinished stacks are kept for the next run and everything else is as before.
    Args: progress: told ("frames", done, known so far) by batches; for pools that cannot tell themselves.
    """
    loop = _Loop(requests, pool, done, failed, retries, progress)
    try:
        loop.run()
    finally:
        loop.leave()


def collect(
    pool: Pool, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], *, retries: int = 1, progress: Progress | None = None
) -> list[Any]:
    """Return `function(*call, models)` of every call, in their order. Raises: what one of them raised at its last try."""
    waiting = deque((number, call, 0) for number, call in enumerate(calls))
    results: list[Any] = [None] * len(waiting)
    out = done = 0
    while waiting or out:
        while waiting and out < pool.room:
            pool.submit(waiting[0], function, *waiting.popleft()[1])
            out += 1
        (number, call, tries), result = pool.next()
        out -= 1
        if isinstance(result, Exception):
            if tries == retries or not isinstance(result, (*MAY_PASS, LostError)):
                raise result
            waiting.append((number, call, tries + 1))
            continue
        results[number], done = result, done + 1
        if progress is not None:
            progress("batches", done, len(results))
    return results


class _Loop:
    def __init__(
        self,
        requests: Iterable[Request],
        pool: Pool,
        done: Callable[[Outcome], None],
        failed: Callable[[Request, Exception], None],
        retries: int,
        progress: Progress | None,
    ) -> None:
        self.source: Iterator[Request] = iter(requests)
        self.pool, self.done, self.failed, self.retries, self.progress = pool, done, failed, retries, progress
        self.ready: deque[Job] = deque()
        self.out = 0
        self.entries: dict[int, Entry] = {}
        self.frames, self.total = 0, 0

    def run(self) -> None:
        while True:
            while self.out < self.pool.room and (job := self._next_job()) is not None:
                self._submit(job)
            if not self.out:
                return
            job, result = self.pool.next()
            self.out -= 1
            if job.entry.over:
                continue
            if isinstance(result, Exception):
                self._failure(job, result)
            else:
                self._success(job, result)

    def leave(self) -> None:
        """Forget what is not worth keeping of inputs that did not end."""
        for entry in list(self.entries.values()):
            self._drop(entry)

    def _next_job(self) -> Job | None:
        if self.ready:
            return self.ready.popleft()
        request = next(self.source, None)
        if request is None:
            return None
        entry = Entry(request, tuple(folder for folder in request.out.absolute().parents if not folder.exists()))
        self.entries[id(entry)] = entry
        return Job(entry, "begin")

    def _submit(self, job: Job) -> None:
        entry, plan = job.entry, job.entry.plan
        self.out += 1
        if plan is None:
            self.pool.submit(job, begin, entry.request)
        elif job.kind == "work":
            self.pool.submit(job, work, plan, plan.stages[entry.stage], job.number)
        elif job.kind == "give_up":
            self.pool.submit(job, _give_up, plan, plan.stages[entry.stage], job.number, job.reason)
        elif job.kind == "piece":
            self.pool.submit(job, write_piece, plan, pieces_of(plan)[job.number])
        else:
            self.pool.submit(job, finish, plan)

    def _success(self, job: Job, result: Any) -> None:
        entry = job.entry
        if isinstance(result, Outcome):
            self._over(entry)
            self._tick(result.summary.frames if entry.plan is None else 0, result.summary.frames if entry.plan is None else 0)
            self.done(result)
        elif isinstance(result, Plan):
            entry.plan = result
            self._tick(0, result.n_frames * sum(stage != "fit" for stage in result.stages))
            self._stage(entry)
        else:
            entry.left -= 1
            if job.kind != "piece":
                self._tick(int(result), 0)
            if not entry.left:
                entry.stage += 1
                self._stage(entry)

    def _stage(self, entry: Entry) -> None:
        """Put the jobs of the next stage before those of files that are not open yet; after the last stage, the pieces side by side."""
        plan = entry.plan
        assert plan is not None
        if entry.stage == len(plan.stages) and self.pool.room > 1:
            entry.left = len(pieces_of(plan))
            self.ready.extend(Job(entry, "piece", number) for number in range(entry.left))
            return
        if entry.stage >= len(plan.stages):
            self.ready.append(Job(entry, "finish"))
            return
        entry.left = 1 if plan.stages[entry.stage] == "fit" else len(plan.batches)
        self.ready.extend(Job(entry, "work", number) for number in range(entry.left))

    def _failure(self, job: Job, error: Exception) -> None:
        entry, plan = job.entry, job.entry.plan
        if job.tries < self.retries and isinstance(error, (*MAY_PASS, LostError)):
            job.tries += 1
            self.ready.append(job)
        elif isinstance(error, LostError) and job.kind == "work" and plan is not None and plan.stages[entry.stage] != "fit":
            self.ready.append(Job(entry, "give_up", job.number, reason=str(error)))
        else:
            self._over(entry)
            self._drop(entry)
            self.failed(entry.request, error)

    def _over(self, entry: Entry) -> None:
        entry.over = True
        self.entries.pop(id(entry), None)

    def _drop(self, entry: Entry) -> None:
        """Forget the parts of an input that did not end, unless the next run can go on from them."""
        plan = entry.plan
        if plan is not None and len(plan.batches) > 1 and any(plan.journal.folder.glob("*-*.npz")):
            return
        if plan is not None:
            plan.journal.remove()
        for folder in entry.missing:
            try:
                folder.rmdir()
            except OSError:
                break

    def _tick(self, frames: int, total: int) -> None:
        self.frames, self.total = self.frames + frames, self.total + total
        if self.progress is not None:
            self.progress("frames", self.frames, self.total)


def _give_up(plan: Plan, stage: str, number: int, reason: str, models: Models, progress: Progress | None = None) -> int:
    give_up(plan, stage, number, reason)
    a, b = plan.batches[number]
    return b - a
