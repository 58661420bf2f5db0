"""Work divided among threads of this process. Owns `spread`; the standard library only.

NumPy lets go of the interpreter within its large operations, so a few threads help where each piece of work is a millisecond or more and
writes to places of its own. Called by runtime.encoder.
"""

from __future__ import annotations

from threading import Lock, Thread
from typing import Callable, Iterable, List, TypeVar

T = TypeVar("T")


def spread(work: Callable[[T], object], pieces: Iterable[T], threads: int = 1) -> None:
    """Call work(piece) for every piece, in order as they become free, on so many threads, this one among them.

    Raises: what `work` raises first; pieces that were not begun by then are left.
    """
    if threads < 2:
        for piece in pieces:
            work(piece)
        return
    waiting, taking, failed = iter(pieces), Lock(), []  # type: ignore[var-annotated]

    def run() -> None:
        while not failed:
            with taking:
                try:
                    piece = next(waiting)
                except StopIteration:
                    return
            try:
                work(piece)
            except BaseException as error:
                failed.append(error)

    helpers: List[Thread] = [Thread(target=run, daemon=True) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    run()
    for helper in helpers:
        helper.join()
    if failed:
        raise failed[0]
