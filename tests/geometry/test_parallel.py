"""Work on several threads: each piece once, in order for one thread, and the first failure is raised."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from stemzoo.geometry.parallel import spread


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_piece_is_worked_on_once(threads: int) -> None:
    counts, seen = np.zeros(200, int), set()

    def work(piece: int) -> None:
        counts[piece] += 1
        seen.add(threading.get_ident())

    spread(work, iter(range(200)), threads)
    assert (counts == 1).all() and len(seen) <= threads


def test_two_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=20)
    spread(lambda piece: meeting.wait(), range(2), 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_is_raised_and_nothing_new_is_begun(threads: int) -> None:
    begun = []

    def work(piece: int) -> None:
        begun.append(piece)
        raise ValueError("piece of work")

    with pytest.raises(ValueError, match="piece of work"):
        spread(work, range(50), threads)
    assert len(begun) <= threads
