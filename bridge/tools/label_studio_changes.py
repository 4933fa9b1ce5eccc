"""What changed in a Label Studio project.

Observed on 1.23.2: a task's ``updated_at`` moves when an annotation of it is submitted, changed, skipped, taken back
from being skipped, deleted (one, or all of a tab) or turned into a draft, and when the task itself is changed. It stays
for drafts and predictions. A task that is deleted leaves no trace but the number of tasks, and on SQLite its id is used
again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from bridge.core.changes import Change
from bridge.core.moments import stamp
from bridge.tools import Changes
from bridge.tools.change_log import ChangeLog, Entry, Listed, News
from bridge.tools.label_studio_client import LabelStudioClient, Row, TaskPage, task_filter

_FIELDS = ("id", "created_at", "updated_at", "total_annotations", "cancelled_annotations")
#: Label Studio writes both times of a new task some microseconds apart; no person is that quick.
_AT_BIRTH = timedelta(seconds=1)


def read_task_changes(client: LabelStudioClient, project: int, cursor: str | None) -> Changes:
    """See :meth:`bridge.tools.AnnotationTool.read_changes`."""
    log = ChangeLog.read(cursor)
    items = [change for news in log.follow(_Tasks(client, project)) for change in _changes(news)]
    return Changes(tuple(items), log.text, log.more)


def _changes(news: News) -> list[Change]:
    item = str(news.id)
    came = [Change(item, "new", news.moment)] if news.what in ("new", "replaced") else []
    has_work = news.what != "new" or (news.entry is not None and _annotations(news.entry.row) > 0)
    return came + ([Change(item, "work", news.moment)] if has_work else [])


class _Tasks:
    """The tasks of a project as a :class:`~bridge.tools.change_log.Listing`."""

    def __init__(self, client: LabelStudioClient, project: int) -> None:
        self._client = client
        self._project = project

    def newest(self, limit: int) -> Listed:
        return self._list(limit, ordering="-tasks:updated_at")

    def changed_since(self, moment: str, after: int, limit: int) -> Listed:
        behind = task_filter("id", "greater", "Number", after)
        changed = [task_filter("updated_at", "greater_or_equal", "Datetime", moment)] if moment else []
        return self._list(limit, behind, *changed)

    def between(self, first: int, last: int, limit: int) -> Listed:
        return self._list(limit, task_filter("id", "in", "Number", {"min": first, "max": last}))

    def _list(self, limit: int, *conditions: Row, ordering: str = "tasks:id") -> Listed:
        page: TaskPage = self._client.tasks(self._project, *conditions, limit=limit, only=_FIELDS, ordering=ordering)
        return Listed([_entry(task) for task in page.tasks], page.total, stamp(page.now) if page.now else "")


def _entry(task: Row) -> Entry:
    created, moment = stamp(str(task["created_at"])), stamp(str(task["updated_at"]))
    is_new = datetime.fromisoformat(moment) - datetime.fromisoformat(created) < _AT_BIRTH
    return Entry(int(task["id"]), created, moment, not is_new or _annotations(task) > 0, task)


def _annotations(task: Row) -> int:
    """Submitted and skipped ones."""
    return int(task.get("total_annotations") or 0) + int(task.get("cancelled_annotations") or 0)
