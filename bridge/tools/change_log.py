"""What changed in a listing that can be read by the moment of the last change: the same for every tool's tasks or jobs.

Three things together lose nothing, whoever's clock is wrong:

- The *newest* page, ordered by the last change, is read each time. All that changed lies on it, unless more did than
  fits: then everything from the last *settled* moment on is read, by id, over as many calls as it takes.
- What becomes visible late, or bears a moment of a slow clock, may lie below the newest page. So every stretch of time
  is read once more when it is older than the overlap; where the newest page reaches that far, this costs nothing.
- The number of entries is compared with the ids that are known. Where it differs, halving finds those that were deleted
  or appeared in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from bridge.core.id_ranges import IdRanges
from bridge.core.moments import stamp

#: How late a change may become visible, and how far the clocks of a tool's servers may differ.
OVERLAP = timedelta(minutes=2)
#: Entries on the newest page; requests in one call. Halving needs so many to find one entry among millions.
NEWEST, REQUESTS = 100, 20
#: Deleted entries that are reported in one call.
_GONE = 2000
_LAST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One task or job.

    Attributes:
        created, moment: when it was made and last changed, as :func:`bridge.core.moments.stamp` writes it.
        touched: whether anything happened to it since it was made.
        row: as the tool gives it.
    """

    id: int
    created: str
    moment: str
    touched: bool
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """Some entries; ``total`` counts all that the question matches; ``now`` is the tool's clock, empty if not told."""

    entries: Sequence[Entry]
    total: int
    now: str = ""


class Listing(Protocol):
    """The questions that a tool's listing answers, each with one request."""

    def newest(self, limit: int) -> Listed:
        """Those that changed last, the latest first."""

    def changed_since(self, moment: str, after: int, limit: int) -> Listed:
        """Those with an id above ``after`` that changed at or after ``moment`` (empty: all), by id."""

    def between(self, first: int, last: int, limit: int) -> Listed:
        """Those with ids from ``first`` to ``last``, both included, by id."""


@dataclass(frozen=True, slots=True)
class News:
    """``new``, ``changed``, ``gone``, or ``replaced``: another one that bears the id of one that is gone."""

    what: Literal["new", "changed", "gone", "replaced"]
    id: int
    moment: str
    entry: Entry | None = None


@dataclass(slots=True)
class _Window:
    """A reading by id under way: what changed since ``since``, behind the id ``after``; then all before ``until`` is
    settled."""

    since: str
    after: int
    until: str


@dataclass(slots=True)
class ChangeLog:
    """What is known of a listing. ``text`` is everything that the next call needs.

    Attributes:
        known: the ids that were seen.
        seen: the moments of those that were touched, complete from the moment ``complete_from`` on.
        settled: everything that changed before this moment was read after the overlap.
        latest: the newest moment ever seen.
        more: the last call ended before it had read everything.
        page: entries on a page that is read by id.
        _taken: the moments of what was read in this call.
    """

    known: IdRanges = field(default_factory=IdRanges)
    seen: dict[int, str] = field(default_factory=dict)
    complete_from: str = ""
    settled: str = ""
    latest: str = ""
    window: _Window | None = None
    more: bool = False
    page: int = 500
    _taken: dict[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None, page: int = 500) -> ChangeLog:
        """The log that ``text`` was written by; an empty one where it cannot be read."""
        try:
            data = json.loads(text or "{}")
            return cls(
                page=page,
                known=IdRanges(data["known"]),
                seen={int(number): moment for number, moment in data["seen"].items()},
                complete_from=data["complete_from"],
                settled=data["settled"],
                latest=data["latest"],
                window=_Window(*data["window"]) if data["window"] else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls(page=page)

    @property
    def text(self) -> str:
        window = self.window and [self.window.since, self.window.after, self.window.until]
        data = {
            "known": str(self.known),
            "seen": self.seen,
            "complete_from": self.complete_from,
            "settled": self.settled,
            "latest": self.latest,
            "window": window,
        }
        return json.dumps(data, separators=(",", ":"))

    def follow(self, listing: Listing) -> list[News]:
        """Read what changed since the last call."""
        before, budget = self.latest, _Budget(REQUESTS)
        self._taken.clear()
        news: list[News] = []
        page = listing.newest(NEWEST)
        budget.spend()
        fresh = [self._take(entry, before) for entry in page.entries]
        news += [one for one in fresh if one]
        whole = page.total <= len(page.entries)
        floor = "" if whole else page.entries[-1].moment
        now = page.now or self.latest
        if self.window is None and not whole:
            if all(fresh):
                since = min(self.settled, _earlier(before, OVERLAP))
                self.window = _Window(since, 0, _earlier(now, OVERLAP))
            elif floor >= self.settled and now > _later(self.settled, 2 * OVERLAP):
                self.window = _Window(self.settled, 0, _earlier(now, OVERLAP))
        if self.window is None and (whole or floor < self.settled):
            self.settled = max(self.settled, _earlier(now, OVERLAP))
        news += self._read_window(listing, before, budget)
        if self.window is None and len(self.known) != page.total:
            news += self._compare(listing, now, page.total, before, budget)
        self.more = self.window is not None or budget.exceeded
        self._forget(floor)
        return news

    def _take(self, entry: Entry, before: str) -> News | None:
        """What an entry tells. ``before`` is the newest moment that earlier calls had seen."""
        seen = self.seen.get(entry.id)
        taken = self._taken.get(entry.id)
        if taken == entry.moment:
            return None
        self._taken[entry.id] = entry.moment
        # What is taken back at once leaves the entry as if nobody had ever touched it.
        touched = entry.touched or seen is not None
        if touched:
            self.seen[entry.id] = entry.moment
        self.latest = max(self.latest, entry.moment)
        if entry.id not in self.known:
            self.known.add(entry.id)
            return News("new", entry.id, entry.moment, entry)
        if entry.created > before and taken is None:
            return News("replaced", entry.id, entry.moment, entry)
        if touched and seen != entry.moment and entry.moment >= self.complete_from:
            return News("changed", entry.id, entry.moment, entry)
        return None

    def _read_window(self, listing: Listing, before: str, budget: _Budget) -> Iterator[News]:
        while self.window is not None and budget.spend():
            entries = listing.changed_since(self.window.since, self.window.after, self.page).entries
            for entry in entries:
                news = self._take(entry, before)
                if news:
                    yield news
            if len(entries) < self.page:
                self.settled, self.window = max(self.settled, self.window.until), None
            else:
                self.window.after = entries[-1].id

    def _compare(self, listing: Listing, now: str, total: int, before: str, budget: _Budget) -> Iterator[News]:
        """Find where the ids that are known differ from those that are there."""
        gone = 0
        stack = [(1, _LAST, total)]
        while stack:
            first, last, there = stack.pop()
            here = self.known.count(first, last)
            if here == there:
                continue
            if there == 0:
                for number in self.known.between(first, last, _GONE - gone):
                    yield self._lose(number, now)
                    gone += 1
                budget.exceeded |= gone >= _GONE
            elif here <= self.page // 2:
                yield from self._compare_all(listing, first, last, now, before, budget)
            elif budget.spend():
                middle = self.known.middle(first, last)
                left = listing.between(first, middle, 1).total
                stack += [(middle + 1, last, there - left), (first, middle, left)]
            if budget.exceeded:
                return

    def _compare_all(
        self, listing: Listing, first: int, last: int, now: str, before: str, budget: _Budget
    ) -> Iterator[News]:
        while first <= last and budget.spend():
            entries = listing.between(first, last, self.page).entries
            end = entries[-1].id if len(entries) == self.page else last
            there = {entry.id for entry in entries}
            for number in self.known.between(first, end):
                if number not in there:
                    yield self._lose(number, now)
            for entry in entries:
                news = self._take(entry, before)
                if news:
                    yield news
            first = end + 1

    def _lose(self, number: int, now: str) -> News:
        self.known.discard(number)
        self.seen.pop(number, None)
        return News("gone", number, now)

    def _forget(self, floor: str) -> None:
        """Drop the moments that no later call compares with."""
        # While everything is read for the first time, what was not reached yet is told by its unknown id.
        reading = self.window and (self.window.since or self.window.until)
        if floor < self.settled:
            # Nothing so old comes late. Those of just this moment may be many: what is done to many at once has one.
            floor = _later(floor, timedelta(microseconds=1))
        self.complete_from = min(floor, self.settled or floor, reading or floor)
        self.seen = {number: moment for number, moment in self.seen.items() if moment >= self.complete_from}


@dataclass(slots=True)
class _Budget:
    """How many requests a call may still make; ``exceeded`` once it wanted more, or had more to tell."""

    left: int
    exceeded: bool = False

    def spend(self) -> bool:
        self.left -= 1
        self.exceeded |= self.left < 0
        return not self.exceeded


def _earlier(moment: str, by: timedelta) -> str:
    return stamp((_moment(moment) - by).isoformat()) if moment else ""


def _later(moment: str, by: timedelta) -> str:
    return stamp((_moment(moment) + by).isoformat()) if moment else ""


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
