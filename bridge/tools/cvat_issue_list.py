"""All issues of a CVAT target with their comments, as CVAT itself exports them nowhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

from bridge.tools.cvat import Cvat
from bridge.tools.cvat_client import Row
from bridge.tools.cvat_overlay_journal import is_journal


@dataclass(frozen=True, slots=True)
class Comment:
    author: str
    written_at: str
    text: str


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue. ``url`` opens its frame; ``position`` is in pixels: a dot, opposite corners, or a polygon."""

    id: int
    task: int
    job: int
    frame: int
    frame_name: str
    state: str
    author: str
    assignee: str
    created_at: str
    updated_at: str
    position: tuple[float, ...]
    url: str
    comments: tuple[Comment, ...]


def read_issues(tool: Cvat, *, only_open: bool = False) -> Iterator[Issue]:
    """Job by job, by id, without those that labelbridge keeps notes in; two requests for a job with issues, one for a
    job without."""
    for task, jobs in tool.jobs():
        for job in jobs:
            rows = sorted(tool.client.issues(job_id=job.id), key=lambda r: int(r["id"]))
            rows = [r for r in rows if not (only_open and r.get("resolved"))]
            if not rows:
                continue
            said: dict[int, list[Row]] = {}
            for comment in sorted(tool.client.comments(job_id=job.id), key=lambda c: int(c["id"])):
                said.setdefault(int(comment["issue"]), []).append(comment)
            for row in rows:
                comments = said.get(int(row["id"]), [])
                if not (comments and is_journal(str(comments[0].get("message")))):
                    yield _issue(tool, task, job.id, row, comments)


def to_csv(issues: Sequence[Issue]) -> str:
    """A table with one row per issue; comments are put together, one per line of their cell."""
    out = io.StringIO()
    names = [f.name for f in fields(Issue)]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for issue in issues:
        row = asdict(issue)
        row["position"] = " ".join(f"{n:g}" for n in issue.position)
        row["comments"] = "\n".join(f"{c.author}, {c.written_at}: {c.text}" for c in issue.comments)
        writer.writerow({k: _harmless(v) for k, v in row.items()})
    return out.getvalue()


def _harmless(value: object) -> object:
    """A text that no spreadsheet takes for a formula (OWASP: CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _issue(tool: Cvat, task: int, job: int, row: Row, comments: list[Row]) -> Issue:
    frame = int(row["frame"])
    return Issue(
        id=int(row["id"]),
        task=task,
        job=job,
        frame=frame,
        frame_name=tool.frame_name(task, frame),
        state="resolved" if row.get("resolved") else "open",
        author=_user(row.get("owner")),
        assignee=_user(row.get("assignee")),
        created_at=str(row.get("created_date") or ""),
        updated_at=str(row.get("updated_date") or ""),
        position=tuple(float(n) for n in row.get("position") or []),
        url=f"{tool.client.url}/tasks/{task}/jobs/{job}?frame={frame}",
        comments=tuple(
            Comment(_user(c.get("owner")), str(c.get("created_date") or ""), str(c.get("message") or ""))
            for c in comments
        ),
    )


def _user(value: object) -> str:
    return str(value.get("username") or "") if isinstance(value, dict) else ""
