"""What changed in a CVAT project, task or job, as its jobs tell.

A job's ``updated_date`` moves with each save of annotations, with its stage, state and assignee, and when a frame of it
is deleted. Which of its frames a save was about, CVAT does not tell: all of them count as changed, once the job is
submitted. An open job that is being worked in changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bridge.core.changes import Change, ChangeKind
from bridge.core.moments import stamp
from bridge.tools import Changes
from bridge.tools.change_log import ChangeLog, Entry, Listed, News
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_layout import is_people_job, item_id, read_job
from bridge.tools.cvat_target import CvatTarget

#: Jobs on a page; each stands for many frames.
_PAGE = 100


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a job's frames are, and whether its work counted when it was last looked at."""

    task: int
    start: int
    stop: int
    counts: bool


class JobWatch:
    """Reads the changes of one target.

    Args:
        doubt_none: called where CVAT lists no job at all; raises where that cannot be right.
    """

    def __init__(self, client: CvatClient, what: CvatTarget, doubt_none: Callable[[], None]) -> None:
        self._client = client
        self._what = what
        self._doubt_none = doubt_none

    def read(self, cursor: str | None) -> Changes:
        """See :meth:`bridge.tools.AnnotationTool.read_changes`."""
        log_text, places = _parse(cursor)
        log = ChangeLog.read(log_text, _PAGE)
        # A dictionary, as the replicas of a job share its frames.
        items: dict[tuple[str, str], Change] = {}
        for news in log.follow(self._listing()):
            for change in self._changes(news, places):
                items[change.item_id, change.kind] = change
        return Changes(tuple(items.values()), _text(log, places), log.more)

    def _listing(self) -> _Jobs | _OneJob:
        if self._what.kind == "job":
            return _OneJob(self._client, self._what.id)
        return _Jobs(self._client, {f"{self._what.kind}_id": self._what.id}, self._doubt_none)

    def _changes(self, news: News, places: dict[int, _Place]) -> Iterator[Change]:
        before = places.pop(news.id, None)
        if before is not None and (before.counts or news.what in ("gone", "replaced")):
            yield from _frames(before, "work", news.moment)
        if news.entry is None or not self._may_count(news.entry.row):
            return
        job = read_job(news.entry.row)
        by_state = not self._what.filters.keys().isdisjoint(("state", "stage"))
        now = _Place(job.task, job.start, job.stop, (job.is_submitted or by_state) and self._takes(news.entry.row))
        places[news.id] = now
        if news.what in ("new", "replaced"):
            yield from _frames(now, "new", news.moment)
        if now.counts:
            yield from _frames(now, "work", news.moment)

    def _may_count(self, row: Row) -> bool:
        return is_people_job(read_job(row)) and str(row.get("dimension") or "2d") == "2d"

    def _takes(self, row: Row) -> bool:
        if not self._what.takes_job(row):
            return False
        return "subset" not in self._what.filters or self._what.takes_task(self._client.task(int(row["task_id"])))


class _Jobs:
    """The jobs of a project or task as a :class:`~bridge.tools.change_log.Listing`."""

    def __init__(self, client: CvatClient, whose: dict[str, int], doubt_none: Callable[[], None]) -> None:
        self._client = client
        self._whose = whose
        self._doubt_none = doubt_none

    def newest(self, limit: int) -> Listed:
        listed = self._list(limit, "-updated_date")
        if not listed.total:
            self._doubt_none()
        return listed

    def changed_since(self, moment: str, after: int, limit: int) -> Listed:
        changed = [_condition(">=", "updated_date", moment)] if moment else []
        return self._list(limit, "id", _condition(">", "id", after), *changed)

    def between(self, first: int, last: int, limit: int) -> Listed:
        return self._list(limit, "id", _condition(">=", "id", first), _condition("<=", "id", last))

    def _list(self, limit: int, sort: str, *conditions: Row) -> Listed:
        page = self._client.some_jobs(limit, sort, conditions, **self._whose)
        return Listed([_entry(row) for row in page.jobs], page.total, stamp(page.now) if page.now else "")


class _OneJob:
    """A single job as such a listing."""

    def __init__(self, client: CvatClient, job: int) -> None:
        self._client = client
        self._job = job

    def newest(self, limit: int) -> Listed:
        del limit
        return Listed([_entry(self._client.job(self._job))], 1)

    def changed_since(self, moment: str, after: int, limit: int) -> Listed:
        del moment, after
        return self.newest(limit)

    def between(self, first: int, last: int, limit: int) -> Listed:
        listed = self.newest(limit)
        return listed if first <= self._job <= last else Listed([], 0)


def _entry(row: Row) -> Entry:
    moment = stamp(str(row["updated_date"]))
    created = row.get("created_date")
    return Entry(int(row["id"]), stamp(str(created)) if created else "", moment, True, row)


def _frames(place: _Place, kind: ChangeKind, moment: str) -> Iterator[Change]:
    for number in range(place.start, place.stop + 1):
        yield Change(item_id(place.task, number), kind, moment)


def _condition(operator: str, field: str, value: str | int) -> Row:
    return {operator: [{"var": field}, value]}


def _parse(cursor: str | None) -> tuple[str | None, dict[int, _Place]]:
    try:
        data = json.loads(cursor or "{}")
        return data["log"], {int(number): _Place(*place) for number, place in data["jobs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, {}


def _text(log: ChangeLog, places: dict[int, _Place]) -> str:
    jobs = {number: [p.task, p.start, p.stop, p.counts] for number, p in places.items()}
    return json.dumps({"log": log.text, "jobs": jobs}, separators=(",", ":"))
