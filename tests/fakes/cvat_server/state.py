"""What the fake CVAT holds in memory: one dataclass per table."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Row = dict[str, Any]

SHAPES = frozenset(["rectangle", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton"])

#: Where the ids of each table begin: far apart, so that a test notices ids of the wrong kind.
_FIRST = {"project": 11, "task": 21, "job": 301, "label": 51, "attribute": 901, "issue": 71, "comment": 501}


@dataclass
class User:
    id: int
    name: str
    password: str
    is_superuser: bool = False


@dataclass
class AccessToken:
    """A personal access token."""

    id: int
    owner: int
    name: str
    value: str
    read_only: bool
    created: str
    expiry: str | None = None
    last_used: str | None = None


@dataclass
class Organization:
    id: int
    slug: str
    owner: int
    created: str


@dataclass
class Membership:
    id: int
    user: int
    org: int
    role: str
    joined: str


@dataclass
class Attribute:
    id: int
    name: str
    input_type: str = "text"
    mutable: bool = False
    values: list[str] = field(default_factory=list)
    default_value: str = ""


@dataclass
class Label:
    """A label of a project or, where the task stands alone, of a task; a sublabel has a parent."""

    id: int
    name: str
    type: str
    color: str
    project: int | None = None
    task: int | None = None
    parent: int | None = None
    attributes: list[Attribute] = field(default_factory=list)
    svg: str = ""


@dataclass
class Project:
    id: int
    name: str
    owner: int
    org: int | None
    created: str
    updated: str
    assignee: int | None = None
    bug_tracker: str = ""


@dataclass
class Frame:
    """One frame of a task; ``data`` is the file as it was uploaded."""

    name: str
    data: bytes
    width: int
    height: int


@dataclass
class Task:
    id: int
    name: str
    owner: int
    org: int | None
    created: str
    updated: str
    project: int | None = None
    assignee: int | None = None
    subset: str = ""
    bug_tracker: str = ""
    mode: str = "annotation"
    overlap: int = 0
    segment_size: int = 0
    replicas: int = 0
    frames: list[Frame] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    storage: str = "local"
    start_frame: int = 0
    step: int = 1
    image_quality: int = 70
    chunk_size: int = 36
    data_id: int | None = None
    data_request: Row = field(default_factory=dict)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    upload_state: tuple[str, str] = ("", "")
    validation_mode: str | None = None
    frames_per_job: int | None = None
    validation_frames: list[int] = field(default_factory=list)
    honeypots: dict[int, int] = field(default_factory=dict)

    @property
    def source_frames(self) -> range:
        """The number of each frame in what was uploaded, where ``start_frame`` and ``step`` may leave some out."""
        return range(self.start_frame, self.start_frame + len(self.frames) * self.step, self.step)


@dataclass
class Annotations:
    """Rows as the API speaks them."""

    tags: list[Row] = field(default_factory=list)
    shapes: list[Row] = field(default_factory=list)
    tracks: list[Row] = field(default_factory=list)
    intervals: list[Row] = field(default_factory=list)

    def of(self, kind: str) -> list[Row]:
        rows: list[Row] = getattr(self, kind)
        return rows


@dataclass
class Job:
    id: int
    task: int
    type: str
    start: int
    stop: int
    created: str
    updated: str
    included: tuple[int, ...] | None = None
    parent: int | None = None
    stage: str = "annotation"
    state: str = "new"
    assignee: int | None = None
    assignee_updated: str | None = None
    annotations: Annotations = field(default_factory=Annotations)

    @property
    def frames(self) -> tuple[int, ...]:
        """Task frame numbers that belong to the job."""
        return tuple(range(self.start, self.stop + 1)) if self.included is None else self.included

    @property
    def status(self) -> str:
        # facts/cvat.md (c) Jobs: status is derived from stage and state
        if self.stage == "annotation":
            return "annotation"
        return "completed" if (self.stage, self.state) == ("acceptance", "completed") else "validation"


@dataclass
class Issue:
    id: int
    job: int
    frame: int
    position: list[float]
    owner: int
    created: str
    updated: str
    assignee: int | None = None
    resolved: bool = False


@dataclass
class Comment:
    id: int
    issue: int
    owner: int
    message: str
    created: str
    updated: str


@dataclass
class LongRequest:
    """A long operation; ``work`` runs when a client has polled often enough, and returns the result's id."""

    id: str
    owner: int
    operation: Row
    work: Callable[[], object]
    polls_left: int
    created: str
    status: str = "queued"
    message: str = ""
    result_id: object = None


@dataclass
class Guide:
    id: int
    project: int | None
    task: int | None
    markdown: str
    created: str
    updated: str


@dataclass
class Webhook:
    id: int
    owner: int
    fields: Row
    created: str
    updated: str


@dataclass
class QualityReport:
    id: int
    task: int
    job: int | None
    parent: int | None
    created: str
    target_updated: str
    truth_updated: str
    summary: Row = field(default_factory=dict)
    conflicts: list[Row] = field(default_factory=list)


@dataclass
class State:
    """All tables by id, and the clock."""

    users: dict[int, User] = field(default_factory=dict)
    orgs: dict[int, Organization] = field(default_factory=dict)
    memberships: dict[int, Membership] = field(default_factory=dict)
    projects: dict[int, Project] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    labels: dict[int, Label] = field(default_factory=dict)
    issues: dict[int, Issue] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)
    guides: dict[int, Guide] = field(default_factory=dict)
    webhooks: dict[int, Webhook] = field(default_factory=dict)
    reports: dict[int, QualityReport] = field(default_factory=dict)
    quality_settings: dict[int, Row] = field(default_factory=dict)
    login_tokens: dict[str, int] = field(default_factory=dict)
    access_tokens: dict[int, AccessToken] = field(default_factory=dict)
    requests: dict[str, LongRequest] = field(default_factory=dict)
    share: dict[str, bytes] = field(default_factory=dict)
    polls_until_done: int = 1
    readings: int = 0
    _counters: dict[str, Iterator[int]] = field(default_factory=dict)
    _last: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        self._counters = defaultdict(lambda: itertools.count(1))
        self._counters.update({kind: itertools.count(first) for kind, first in _FIRST.items()})

    def new_id(self, kind: str) -> int:
        return next(self._counters[kind])

    def now(self) -> str:
        """The time, later at each call."""
        self._last = max(datetime.now(UTC), self._last + timedelta(milliseconds=1))
        return self._last.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def user_named(self, name: str) -> User | None:
        return next((u for u in self.users.values() if u.name == name), None)

    def org_named(self, slug: str) -> Organization | None:
        return next((o for o in self.orgs.values() if o.slug == slug), None)

    def role(self, user: int, org: int | None) -> str | None:
        found = (m.role for m in self.memberships.values() if m.user == user and m.org == org)
        return next(found, None)

    def jobs_of(self, task: int) -> list[Job]:
        return [job for job in self.jobs.values() if job.task == task]

    def labels_of(self, task: Task) -> list[Label]:
        """Labels of a task, which are its project's where it has one; with sublabels."""
        if task.project is not None:
            return [x for x in self.labels.values() if x.project == task.project]
        return [x for x in self.labels.values() if x.task == task.id]

    def touch(self, job: Job) -> None:
        # facts/cvat.md (c) webhooks: an annotation save moves updated_date of the job and of the task
        job.updated = self.now()
        self.tasks[job.task].updated = self.now()

    def remove_job(self, job: Job) -> None:
        """With its issues and their comments."""
        issues = {issue.id for issue in self.issues.values() if issue.job == job.id}
        self.comments = {n: comment for n, comment in self.comments.items() if comment.issue not in issues}
        self.issues = {n: issue for n, issue in self.issues.items() if n not in issues}
        del self.jobs[job.id]

    def remove_task(self, task: Task) -> None:
        """With its jobs and labels."""
        for job in self.jobs_of(task.id):
            self.remove_job(job)
        self.labels = {n: label for n, label in self.labels.items() if label.task != task.id}
        self.reports = {n: report for n, report in self.reports.items() if report.task != task.id}
        del self.tasks[task.id]
