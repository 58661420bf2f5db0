"""A Dask cluster as a pool of workers: the only file that knows Dask. Owns connecting, the models on each worker, and lost connections.

Nothing of weight travels: a worker gets a small plan, opens the file itself, keeps its networks from batch to batch and leaves its part on
the disk that all share. So a worker, or the scheduler, may die at any moment: what it had not finished is computed elsewhere. Called by the
commands with `--dask`.
"""

from __future__ import annotations

import contextlib
import queue
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from stemzoo.analyze.many import LostError
from stemzoo.analyze.models import Models
from stemzoo.errors import ModelError, needs_extra
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.cores import usable_cores
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import SessionOptions

PATIENCE_S = 300.0  # how long a scheduler may be away before the run ends
LOCAL = {
    # Dask's own has glibc give back every freed buffer as well, so that the arrays of each frame are mapped anew.
    "distributed.nanny.pre-spawn-environ": dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # It looks at every stack a hundred times a second and remembers an hour of that: some 0.2 MB a frame.
    "distributed.worker.profile.enabled": False,
}
"""Dask's settings for workers of this machine."""

SLURM_JOBS = 4  # workers that are asked of a batch system where no number is given


@dataclass(frozen=True, slots=True)
class ModelRefs:
    """The models of a run as a worker finds them: folder and sha256 of each. session: how it runs them."""

    segmenter: tuple[str, str] | None
    encoder: tuple[str, str] | None
    session: SessionOptions

    @classmethod
    def of(cls, models: Models, threads: int) -> ModelRefs:
        """Return what stands for loaded models. threads: of each session, where those of the models were not chosen."""
        ids = [None if m is None else (str(m.bundle.folder.absolute()), m.id.sha256) for m in (models.segmenter, models.encoder)]
        session = models.session or SessionOptions()
        return cls(ids[0], ids[1], replace(session, threads=session.threads or threads))


@contextmanager
def cluster(address: str, models: Models) -> Iterator[Cluster]:
    """Give the pool behind `--dask ADDRESS`: `local`, `local:N`, `tcp://host:port`, `slurm` or `slurm:N`.

    Raises: ModelError where the extra `dask` is missing or the address cannot be understood or reached.
    """
    with needs_extra("dask", "--dask"):
        import dask
        import distributed
    found = re.fullmatch(r"(local|slurm)(?::(\d+))?|((?:tcp|tls)://\S+)", address)
    if not found or found[2] == "0":
        raise ModelError(f"--dask {address!r} is no cluster; wanted local, local:N, slurm, slurm:N or tcp://host:port")
    started: Any = None
    threads = 1
    try:
        if found[1] == "local":
            n = int(found[2] or usable_cores())
            threads = max(1, usable_cores() // n)
            with dask.config.set(LOCAL):
                started = distributed.LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=":0")
        elif found[1] == "slurm":
            started = _slurm(int(found[2] or SLURM_JOBS))
        pool = Cluster(found[3] or started.scheduler_address, ModelRefs.of(models, threads))
        try:
            yield pool
        finally:
            pool.close()
    finally:
        if started is not None:
            started.close()


class Cluster:
    """Workers behind a scheduler. Twice as many jobs are handed out as there are threads, so that none waits for the next."""

    def __init__(self, address: str, refs: ModelRefs) -> None:
        self.address, self.refs = address, refs
        self._done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._out: dict[int, tuple[Any, Any, Callable[..., Any], tuple[Any, ...]]] = {}
        self._number = 0
        self._client = _connect(address, 30.0)
        # Each worker loads its networks at once, not when the first batch finds it: of a short stack that is a good part.
        self._warm = [self._client.submit(_load, refs, workers=[worker], pure=False) for worker in self._client.nthreads()]

    @property
    def room(self) -> int:
        """How many jobs may be out."""
        try:
            return 2 * max(1, sum(int(n) for n in self._client.nthreads().values()))
        except Exception:  # while the scheduler is away nobody can tell
            return max(1, len(self._out))

    def submit(self, job: Any, function: Callable[..., Any], *args: Any) -> None:
        """Hand out `function(*args, models)`."""
        self._number += 1
        self._send(self._number, job, function, args)

    def next(self) -> tuple[Any, Any]:
        """Wait for any job. One whose scheduler went away is handed out again, and only the newest answer counts."""
        while True:
            try:
                number, future = self._done.get(timeout=2.0)
            except queue.Empty:
                if self._client.status not in ("running", "connecting"):
                    self._reconnect()
                continue
            if number not in self._out or self._out[number][0] is not future:
                continue
            _, job, function, args = self._out[number]
            result = _result(future)
            if isinstance(result, _Again):
                self._send(number, job, function, args)
                continue
            del self._out[number]
            return job, result

    def close(self) -> None:
        """Let go of the scheduler."""
        self._client.close(timeout=5)

    def _send(self, number: int, job: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            future = self._client.submit(
                _call, function, args, self.refs, pure=False, key=f"stemzoo-{function.__name__}-{id(self)}-{number}-{time.time_ns()}"
            )
        except Exception:  # the client was closed in between
            self._out[number] = (None, job, function, args)
            self._reconnect()
            return
        self._out[number] = (future, job, function, args)
        future.add_done_callback(lambda done: self._done.put((number, done)))

    def _reconnect(self) -> None:
        """Find the scheduler again and hand out everything that was out. Raises: ModelError after `PATIENCE_S`."""
        self._client = _connect(self.address, PATIENCE_S)
        for number, (_, job, function, args) in list(self._out.items()):
            self._send(number, job, function, args)


class _Again:
    """Stands for a result that got lost on its way."""


def _result(future: Any) -> Any:
    """Return what a future holds: the value, the exception, or `_Again`."""
    from distributed import KilledWorker

    if future.status not in ("finished", "error"):
        return _Again()
    try:
        return future.result(timeout=60)
    except KilledWorker as error:
        return LostError(f"the worker died each time it was tried, perhaps out of memory ({' '.join(str(error).split())[:120]})")
    except Exception as error:
        return _Again() if future.status not in ("finished", "error") or isinstance(error, TimeoutError) else error


def _load(refs: ModelRefs) -> None:
    """What a worker runs before anything else; what is wrong with the models its first task will say."""
    with contextlib.suppress(Exception):
        _models(refs)


def _call(function: Callable[..., Any], args: tuple[Any, ...], refs: ModelRefs) -> Any:
    """What a worker runs."""
    return function(*args, _models(refs))


@lru_cache(maxsize=2)
def _models(refs: ModelRefs) -> Models:
    """Return the models, loaded once in each worker process. Raises: ModelError where the worker finds others than were asked for."""
    bundles = []
    for wanted in (refs.segmenter, refs.encoder):
        bundle = None if wanted is None else Bundle.load(Path(wanted[0]), refs.session)
        if bundle is not None and wanted is not None and bundle.sha256 != wanted[1]:
            raise ModelError(
                f"{wanted[0]}: a worker finds the model {bundle.sha256[:12]}…, wanted {wanted[1][:12]}…; give all the same zoo"
            )
        bundles.append(bundle)
    segmenter, encoder = bundles
    return Models(None if segmenter is None else Segmenter(segmenter), None if encoder is None else Encoder(encoder), refs.session)


def _connect(address: str, patience_s: float) -> Any:
    from distributed import Client

    end = time.monotonic() + patience_s
    while True:
        try:
            return Client(address, timeout=5, set_as_default=False)
        except (OSError, TimeoutError) as error:
            if time.monotonic() > end:
                raise ModelError(
                    f"--dask {address}: no scheduler answers ({error}); start one with dask scheduler, or use local"
                ) from error
            time.sleep(1)


def _slurm(jobs: int) -> Any:
    """Return a cluster of batch jobs, as the file jobqueue.yaml of dask-jobqueue describes them."""
    with needs_extra("dask", "--dask slurm"):
        from dask_jobqueue import SLURMCluster
    if shutil.which(SLURMCluster.job_cls.submit_command) is None:  # or it would be waited for
        raise ModelError(
            "--dask slurm: there is no sbatch here; run it where jobs are submitted, or pass local, local:N or tcp://host:port"
        )
    try:
        started = SLURMCluster()
        started.scale(jobs=jobs)
    except (ValueError, OSError) as error:
        raise ModelError(
            f"--dask slurm: {' '.join(str(error).split())[:200]}; say cores and memory in ~/.config/dask/jobqueue.yaml"
        ) from error
    return started
