"""The fake CVAT: its state, its people, and its HTTP server."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from fakes.cvat_server import extras, issues, jobs, media, projects, quality, tasks, webhooks
from fakes.cvat_server.accounts import choose_organization, identify
from fakes.cvat_server.annotations import Desk
from fakes.cvat_server.calls import Call
from fakes.cvat_server.labels import LabelSpec, add_labels
from fakes.cvat_server.routing import ApiError, Context, Reply, find_route
from fakes.cvat_server.segments import add_ground_truth, cut_jobs
from fakes.cvat_server.state import Job, Label, Membership, Organization, Project, Row, State, Task, User
from fakes.cvat_server.uploads import read_frame
from fakes.cvat_server.versions import Version
from fakes.cvat_server.webhooks import Postman, rows_of
from fakes.cvat_server.wire import Wire

Hook = Callable[[Call], None]

#: Modules whose import fills the table of routes.
NOUNS = (extras, issues, jobs, media, projects, quality, tasks, webhooks)


class FakeCvat:
    """A CVAT server on a free port of 127.0.0.1, empty at first.

    Attributes:
        state: every table, for seeding and for assertions.
        lock: held while a request is handled.
        postman: delivers webhooks.
    """

    def __init__(self, version: str = "2.80") -> None:
        self.version = Version.parse(version)
        self.state = State()
        self.lock = threading.RLock()
        self.postman = Postman()
        self._wire = Wire(self._answer)
        self.url = self._wire.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()

    # --- calls and failures -----------------------------------------------------------------------------------------

    @property
    def calls(self) -> list[Call]:
        """Every HTTP call so far."""
        return self._wire.calls

    def fail(self, number: int, how: str) -> None:
        """The ``number``-th HTTP call from now (1: the next) goes wrong.

        Args:
            how: 500, 502, 503, 504 or 429 (not applied), 500-after or 504-after (applied), or timeout or reset with
                ``-before`` or ``-after``.
        """
        self._wire.fail(number, how)

    def fail_with(self, *, hold_s: float | None = None, retry_after: str | None = None) -> None:
        """How long a timeout holds the connection at most, and what a 429 says."""
        self._wire.hold_s = self._wire.hold_s if hold_s is None else hold_s
        self._wire.retry_after = self._wire.retry_after if retry_after is None else retry_after

    @property
    def on_call(self) -> Hook | None:
        """Called before each request is handled; it may change the state, or ask the server itself."""
        return self._wire.on_call

    @on_call.setter
    def on_call(self, hook: Hook | None) -> None:
        self._wire.on_call = hook

    @property
    def on_answer(self) -> Hook | None:
        """Called after each request was handled, before its answer is sent."""
        return self._wire.on_answer

    @on_answer.setter
    def on_answer(self, hook: Hook | None) -> None:
        self._wire.on_answer = hook

    # --- seeds ------------------------------------------------------------------------------------------------------

    def add_user(self, name: str, password: str = "secret", is_superuser: bool = False) -> int:
        number = self.state.new_id("user")
        self.state.users[number] = User(number, name, password, is_superuser)
        return number

    def login_token(self, user: int) -> str:
        """What ``Authorization: Token`` takes."""
        token = f"{user:040x}"
        self.state.login_tokens[token] = user
        return token

    def add_organization(self, slug: str, owner: int, members: Mapping[int | str, str] | None = None) -> int:
        """Members by id or name, with their roles: worker, supervisor, maintainer."""
        number = self.state.new_id("organization")
        self.state.orgs[number] = Organization(number, slug, owner, self.state.now())
        for who, role in {owner: "owner", **(members or {})}.items():
            self.add_member(slug, who, role)
        return number

    def add_member(self, slug: str, who: int | str, role: str) -> None:
        org = self.state.org_named(slug)
        if org is None:
            raise ValueError(f"no organization {slug}")
        number = self.state.new_id("membership")
        self.state.memberships[number] = Membership(number, self.user_id(who), org.id, role, self.state.now())

    def add_project(self, name: str, labels: Sequence[LabelSpec], owner: int, org: int | None = None) -> int:
        number, now = self.state.new_id("project"), self.state.now()
        self.state.projects[number] = Project(number, name, owner, org, now, now)
        add_labels(self.state, labels, project=number)
        return number

    def add_task(
        self,
        name: str,
        images: Sequence[tuple[str, bytes]],
        *,
        owner: int,
        project: int | None = None,
        labels: Sequence[LabelSpec] = (),
        segment_size: int = 0,
        overlap: int = 0,
        assignee: int | None = None,
        org: int | None = None,
        subset: str = "",
        mode: str = "annotation",
        deleted_frames: Sequence[int] = (),
        storage: str = "local",
        chunk_size: int = 36,
        replicas: int = 0,
        ground_truth: Sequence[int] = (),
        honeypots: Mapping[int, int] | None = None,
    ) -> int:
        """A task with its jobs.

        Args:
            images: the frames, which of a video (``mode="interpolation"``) have no names of their own.
            labels: of a task without a project.
            ground_truth: frames of a ground truth job; with honeypots it is the pool, the last frames of the task.
            honeypots: frame -> the frame of the pool that it is a copy of.
        """
        state = self.state
        number, now = state.new_id("task"), state.now()
        home = state.projects[project].org if project is not None else org
        task = Task(number, name, owner, home, now, now, project, assignee, subset)
        task.mode, task.overlap, task.segment_size = mode, overlap, segment_size
        task.replicas, task.storage, task.chunk_size = replicas, storage, chunk_size
        task.frames = [read_frame(file_name, data) for file_name, data in images]
        task.deleted, task.data_id = set(deleted_frames), state.new_id("data")
        state.tasks[number] = task
        add_labels(state, labels, task=None if project is not None else number, project=project)
        if honeypots:
            task.validation_mode, task.honeypots = "gt_pool", dict(honeypots)
            task.validation_frames = list(ground_truth)
        task.frames_per_job = segment_size if honeypots else None
        cut_jobs(state, self.version, task)
        if ground_truth:
            add_ground_truth(state, task, ground_truth)
        return number

    def annotate(self, job: int, kind: str = "shapes", **fields: object) -> int:
        """An annotation as somebody makes it in the editor: its id."""
        with self.lock:
            where = self.state.jobs[job]
            ctx = Context(self.state, self.version, self.url, "", "", {}, {}, b"")
            before = rows_of(ctx)
            desk = Desk(self.state, self.version, where)
            created = desk.create({kind: [desk.clean(kind, dict(fields))]})
            self.state.touch(where)
            self.postman.hand_over(ctx, before)
            return int(created[kind][0]["id"])

    # --- looking ----------------------------------------------------------------------------------------------------

    def jobs_of(self, task: int, kind: str = "annotation") -> list[Job]:
        """The jobs of a task in the order of their frames."""
        return sorted((j for j in self.state.jobs_of(task) if j.type == kind), key=lambda job: (job.start, job.id))

    def label(self, name: str, *, project: int | None = None, task: int | None = None) -> Label:
        """The label of that name; it may be renamed in place."""
        found = (x for x in self.state.labels.values() if x.name == name and x.parent is None)
        return next(x for x in found if (project is None or x.project == project) and (task is None or x.task == task))

    def shapes(self, job: int) -> list[Row]:
        return self.state.jobs[job].annotations.shapes

    # --- inside -----------------------------------------------------------------------------------------------------

    def user_id(self, who: int | str) -> int:
        if isinstance(who, int):
            return who
        user = self.state.user_named(who)
        if user is None:
            raise ValueError(f"no user {who}")
        return user.id

    def _answer(self, call: Call) -> Reply:
        with self.lock:
            parts = (call.method, call.path, call.query, call.headers, call.body)
            ctx = Context(self.state, self.version, self.url, *parts)
            try:
                # facts/cvat.md (b) Agent mode: /api/functions is not there
                route, values = find_route("GET" if call.method == "HEAD" else call.method, call.path, self.version)
                user = identify(ctx)
                if user is not None:
                    ctx.user, call.user = user, user.name
                    choose_organization(ctx)
                elif not route.anonymous:
                    raise ApiError(401, "Authentication credentials were not provided.")
                if call.method in ("GET", "HEAD"):
                    return route.handler(ctx, *values)
                before = rows_of(ctx)
                reply = route.handler(ctx, *values)
                self.postman.hand_over(ctx, before)
                return reply
            except ApiError as error:
                return Reply(error.status, error.body)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                # a body that the fake cannot read: say so, rather than close the connection
                return Reply(400, {"detail": f"{type(error).__name__}: {error}"})
            except Exception:
                return Reply(500, {"detail": traceback.format_exc()})
