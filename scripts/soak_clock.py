"""Time for soaks that others may stop for a while: seconds that count, and those that do not. Called by soak_watch and soak_serve."""

from __future__ import annotations

import threading
import time

GAP_S = 2.0  # a thread that sleeps 0.1 s and wakes so late was stopped


class Clock:
    """Seconds since the start without those in which this process was stopped from outside."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.gaps: list[tuple[float, float]] = []  # (begin, end), seconds since 1970
        self._last = time.time()
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while True:
            time.sleep(0.1)
            now = time.time()
            if now - self._last > GAP_S:
                self.gaps.append((self._last, now))
            self._last = now

    def now(self) -> float:
        return time.monotonic() - self._began - self.stopped()

    def stopped(self, first: float = 0.0, last: float = float("inf")) -> float:
        """Return how many seconds between two times since 1970 were lost."""
        begin, end = self._last, time.time()  # others may wake before the thread that notes the gap
        unnoted = [(begin, end)] if end - begin > GAP_S else []
        return sum(max(0.0, min(last, end) - max(first, begin)) for begin, end in (*self.gaps, *unnoted))

    def sleep_until(self, moment: float) -> None:
        while (left := moment - self.now()) > 0:
            time.sleep(min(left, 0.2))
