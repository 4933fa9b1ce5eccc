"""The command that shows what the standing service is doing."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from bridge.commands.options import AsJson, Config
from bridge.console import Output
from bridge.plan import load_plan
from bridge.service.status import ProjectStatus, status_of
from bridge.store import Store

_COLUMNS = ("project", "looked at", "to pre-label", "to score", "in review", "conflicts", "next", "last")


def status(config: Config = None, as_json: AsJson = False) -> None:
    """Show of each project when it was looked at, what waits in it, and how its last journey went.

    It reads the data folder only, so it also works while the service is down.
    """
    output, plan, now = Output(as_json), load_plan(config), datetime.now(UTC)
    with Store.open(plan.settings.store_url) as store:
        found = status_of(plan, store, now)
    if not found:
        output.say("There are no projects in the settings file: `labelbridge init` writes one.")
    else:
        output.table("", _COLUMNS, [_row(project, now) for project in found])
    for project in found:
        if project.trouble:
            output.warn(f"{project.target} {project.trouble}")
    output.value([asdict(project) for project in found])


def _row(project: ProjectStatus, now: datetime) -> tuple[object, ...]:
    due = _ago(project.due_at, now)
    return (
        project.target,
        _ago(project.polled_at, now) or "never",
        project.new_items,
        project.changed,
        project.in_review,
        project.conflicts,
        due or "when something changes",
        project.last or "nothing yet",
    )


def _ago(moment: str | None, now: datetime) -> str:
    """How long ago, or in how long; in the unit that a person would take."""
    if moment is None:
        return ""
    seconds = (datetime.fromisoformat(moment) - now).total_seconds()
    size = abs(seconds)
    unit, length = next(((u, n) for u, n in (("d", 86400), ("h", 3600), ("min", 60)) if size >= n), ("s", 1))
    span = f"{size / length:.0f} {unit}"
    return "now" if size < 1 else f"in {span}" if seconds > 0 else f"{span} ago"
