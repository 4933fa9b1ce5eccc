"""When to look again: at a target that is busy, quiet or in trouble, and at a server that is down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.errors import ToolUnreachable


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often, in seconds.

    Attributes:
        busy_s: between two looks at a target in which something happens.
        quiet_s: the longest pause; it doubles up to here while nothing happens.
        hinted_s: the shortest, however many webhooks say that something happened.
        retry_s, longest_retry_s: the first pause after a failure, and the longest.
        longest_rest_s: the longest pause between two attempts to find out whether a server is back.
        obey_s: a server that asks for a longer pause than this is asked again nevertheless.
        idle_s: what a receiver in another process has stored is seen after so many seconds at the latest.
        share: a look takes at most this share of a target's time, so that a slow one does not hold a thread for long.
        at_once: looks at one server at the same time.
    """

    busy_s: float = 15.0
    quiet_s: float = 600.0
    hinted_s: float = 2.0
    retry_s: float = 5.0
    longest_retry_s: float = 600.0
    longest_rest_s: float = 60.0
    obey_s: float = 3600.0
    idle_s: float = 1.0
    share: float = 0.2
    at_once: int = 4

    def after_failures(self, failures: int, chance: float) -> float:
        """The pause after so many failures in a row; ``chance`` in [0, 1) spreads those that failed together."""
        longest = min(self.retry_s * 2.0 ** min(failures - 1, 30), self.longest_retry_s)
        return longest * (0.5 + chance / 2)


class ServerState:
    """Whether a server can be asked. Times are seconds of any clock that never goes back.

    After a failure one look at a time finds out whether it was the server or just one of its targets. Once another look
    failed too, the server is left alone: as long as it asked for, and longer each time.
    """

    def __init__(self, rhythm: Rhythm, chance: Callable[[], float]) -> None:
        self.running = 0
        self.rests_until = 0.0
        self._rhythm = rhythm
        self._chance = chance
        self._failures = 0

    def takes_one_more(self, now: float) -> bool:
        return now >= self.rests_until and self.running < (1 if self._failures else self._rhythm.at_once)

    def answered(self) -> None:
        self._failures = 0

    def failed(self, error: ToolUnreachable, now: float) -> None:
        self._failures += 1
        if self._failures == 1:
            return
        rest = self._rhythm.after_failures(self._failures - 1, self._chance())
        asked = min(error.retry_after_s or 0.0, self._rhythm.obey_s)
        self.rests_until = max(self.rests_until, now + max(min(rest, self._rhythm.longest_rest_s), asked))
