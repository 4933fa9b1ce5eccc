"""What of a CVAT is meant: ``cvat:project/3``, ``cvat:task/12``, ``cvat:job/45``, with filters behind a ``?``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from bridge.core.moments import parse_moment
from bridge.errors import UsageError

EXPECTED = "cvat:project/3, cvat:task/12 or cvat:job/45, as in cvat:project/3?state=completed&assignee=ann"
_TARGET = re.compile(r"cvat:(project|task|job)/([1-9]\d{0,17})(?:\?(.*))?")
_CHOICES = {
    "state": ("new", "in progress", "completed", "rejected"),
    "stage": ("annotation", "validation", "acceptance"),
}
_FILTERS = ("state", "stage", "assignee", "subset", "updated_after")


@dataclass(frozen=True, slots=True)
class CvatTarget:
    """A project, a task or a job, and which of its jobs count.

    Attributes:
        text: the target as it was given; what findings and reviews are kept under.
        kind: ``project``, ``task`` or ``job``.
        filters: by name, as the user wrote them; all must hold.
    """

    text: str
    kind: str
    id: int
    filters: Mapping[str, str]

    def takes_task(self, task: Mapping[str, Any]) -> bool:
        """Whether a task's jobs may count: its subset is the one asked for."""
        return "subset" not in self.filters or task.get("subset") == self.filters["subset"]

    def takes_job(self, job: Mapping[str, Any]) -> bool:
        """Whether a job, as CVAT gives it, counts."""
        filters = self.filters
        if any(key in filters and job.get(key) != filters[key] for key in _CHOICES):
            return False
        assignee = job.get("assignee")
        name = assignee.get("username") if isinstance(assignee, dict) else ""
        if "assignee" in filters and name != filters["assignee"]:
            return False
        if "updated_after" not in filters:
            return True
        try:
            return parse_moment(str(job.get("updated_date"))) >= parse_moment(filters["updated_after"])
        except ValueError:
            return False


def parse_target(text: str) -> CvatTarget:
    """Read a target.

    Raises:
        UsageError: it is none, or a filter is unknown, repeated or has a value that CVAT does not have.
    """
    match = _TARGET.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no target", expected=EXPECTED)
    kind, number, query = match.groups()
    pairs = parse_qsl(query or "", keep_blank_values=True)
    filters = dict(pairs)
    if len(filters) < len(pairs) or (query and not pairs):
        raise UsageError(f"the filters of {text!r} cannot be read", expected="each filter once, as in ?state=completed")
    for name, value in filters.items():
        _check(name, value)
    return CvatTarget(text, kind, int(number), filters)


def _check(name: str, value: str) -> None:
    if name not in _FILTERS:
        raise UsageError(f"there is no filter {name!r}", expected=f"one of {', '.join(_FILTERS)}")
    choices = _CHOICES.get(name)
    if choices and value not in choices:
        raise UsageError(f"no job of CVAT has the {name} {value!r}", expected=f"one of {', '.join(choices)}")
    if name == "updated_after":
        try:
            parse_moment(value)
        except ValueError:
            raise UsageError(
                f"{value!r} is no date", expected="a date such as 2026-11-20, or a time in ISO 8601"
            ) from None
