"""Tasks in memory as a listing that a change log follows; with a clock and people of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from bridge.core.moments import stamp
from bridge.tools.change_log import Entry, Listed

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass
class Tasks:
    """See :class:`bridge.tools.change_log.Listing`.

    Attributes:
        seconds: its clock, after noon.
        tells_time: whether its answers bear a date; ``date_is_off_s`` by how much that is wrong.
    """

    seconds: float = 0.0
    entries: dict[int, Entry] = field(default_factory=dict)
    requests: int = 0
    tells_time: bool = True
    date_is_off_s: float = 0.0

    # --- its people -------------------------------------------------------------------------------------------------

    def add(self, count: int = 1, first: int | None = None, skew: float = 0.0) -> list[int]:
        start = max(self.entries, default=0) + 1 if first is None else first
        moment = self._moment(skew)
        ids = list(range(start, start + count))
        self.entries.update({i: Entry(i, moment, moment, False, {}) for i in ids})
        return ids

    def change(self, number: int, skew: float = 0.0) -> None:
        """Somebody changes a task, which bears the time of a clock that is off by ``skew`` seconds."""
        self.entries[number] = replace(self.entries[number], moment=self._moment(skew), touched=True)

    def untouch(self, number: int) -> None:
        """What was done to a task is taken back at once, so that it looks as new; its time of change stays."""
        self.entries[number] = replace(self.entries[number], touched=False)

    # --- the protocol -----------------------------------------------------------------------------------------------

    def newest(self, limit: int) -> Listed:
        return self._listed(sorted(self.entries.values(), key=lambda e: e.moment, reverse=True), limit)

    def changed_since(self, moment: str, after: int, limit: int) -> Listed:
        return self._listed([e for e in self._by_id() if e.id > after and e.moment >= moment], limit)

    def between(self, first: int, last: int, limit: int) -> Listed:
        return self._listed([e for e in self._by_id() if first <= e.id <= last], limit)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _moment(self, skew: float = 0.0) -> str:
        return stamp((NOON + timedelta(seconds=self.seconds + skew)).isoformat())

    def _by_id(self) -> list[Entry]:
        return [self.entries[i] for i in sorted(self.entries)]

    def _listed(self, found: list[Entry], limit: int) -> Listed:
        self.requests += 1
        return Listed(found[:limit], len(found), self._moment(self.date_is_off_s) if self.tells_time else "")
