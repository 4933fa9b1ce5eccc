"""A limit on how often something is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """At most ``per_second`` on average, and ``burst`` at once. Safe to use from several threads.

    Args:
        sleep, clock: replaced in tests. ``clock`` counts seconds from anywhere and never goes back.
    """

    def __init__(
        self,
        per_second: float,
        burst: int = 1,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step = 1 / per_second
        self._ahead = (burst - 1) * self._step
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._free = clock()

    def wait(self) -> None:
        """Return when it is this caller's turn; callers get their turns in the order in which they asked."""
        with self._lock:
            now = self._clock()
            mine = max(self._free, now)
            self._free = mine + self._step
        if mine - self._ahead > now:
            self._sleep(mine - self._ahead - now)
