"""CVAT's REST API as thin, typed calls: one method, one request, except where a listing has several pages.

Observed on 2.15 and 2.22, read in the SDK of 2.80. Not through that SDK: its constructor crashes on servers older than
2.31, and its retries leave out POST while hiding which requests were made.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from bridge.errors import AuthError, ConfigError, NotFound, ToolError
from bridge.net import File, HttpClient, Limits, Reply

NAME = "CVAT"
Row = dict[str, Any]
RequestState = Literal["running", "done", "failed", "unknown"]

_PAGE = 500
_LEGACY_TOKEN = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are: a token (a personal access token, or the older kind), or a user name with a password."""

    token: str = ""
    user: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, and how many the conditions match altogether. ``now`` is the server's clock, empty if not told."""

    jobs: list[Row]
    total: int
    now: str


class CvatClient:
    """Calls to one CVAT as one user. Safe to use from several threads.

    Args:
        url: its address, with the path where it does not stand at the root.
        organization: the slug of the organization to work in; empty: none. CVAT answers lists with nothing, and no
            error, when the objects asked for are in another one.
        timeout: seconds to wait for an answer.
        hidden: further secrets that are sent to it, and are not to be shown should it repeat them.
        attempts: how often a request that is safe to repeat is made altogether.
        pace: called before each request; it may wait.
        sleep: what waits, here and for long operations; replaced in tests.

    Raises:
        ConfigError: the address is none, or neither a token nor a user with a password is given.
    """

    def __init__(
        self,
        url: str,
        login: Login,
        *,
        organization: str = "",
        timeout: float = 120.0,
        hidden: Iterable[str] = (),
        attempts: int = 4,
        pace: Callable[[], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not login.token and not (login.user and login.password):
            raise ConfigError(
                "CVAT's token is not set",
                expected="a personal access token (CVAT 2.50 and later: Profile > Security), or a user and a password",
                todo="export LABELBRIDGE_CVAT_TOKEN=…, or LABELBRIDGE_CVAT_USER and LABELBRIDGE_CVAT_PASSWORD",
            )
        limits = Limits(read_s=timeout, attempts=attempts)
        self.sleep = sleep
        self.organization = organization
        self._login = login
        self._key = login.token
        self._lock = threading.Lock()
        self._door = HttpClient(url, name=NAME, hidden=(login.password,), limits=limits, pace=pace, sleep=sleep)
        self.http = HttpClient(url, name=NAME, auth=self._headers, hidden=hidden, limits=limits, pace=pace, sleep=sleep)

    @property
    def url(self) -> str:
        return self.http.base

    @property
    def requests_made(self) -> int:
        """Requests sent so far, those for logging in included."""
        return self.http.requests_made + self._door.requests_made

    def close(self) -> None:
        self.http.close()
        self._door.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        accept: Container[int] = (),
        repeatable: bool | None = None,
        attempts: int | None = None,
        max_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, File] | None = None,
    ) -> Reply:
        """Any request, in the organization of this client."""
        own = {"X-Organization": self.organization} if self.organization else {}
        return self.http.request(
            method,
            path,
            params=params,
            json=json,
            headers={**own, **(headers or {})},
            accept=accept,
            repeatable=repeatable,
            attempts=attempts,
            max_bytes=max_bytes,
            form=form,
            files=files,
        )

    def rows(self, path: str, **params: str | int) -> Iterator[Row]:
        """Every object of a listing, page by page.

        Raises:
            NotFound: the project, task or job whose objects are asked for does not exist.
        """
        number = 1
        while True:
            query = {**params, "page": number, "page_size": _PAGE}
            reply = self.call("GET", path, params=query, accept=(400,))
            if reply.status == 400:
                self._refuse_list(reply, params)
            answer = reply.json()
            results = answer.get("results") if isinstance(answer, dict) else None
            if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
                raise _unusable(f"GET {path}", "a page of a listing")
            yield from results
            if not answer.get("next"):
                return
            number += 1

    def row(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        repeatable: bool | None = None,
        attempts: int | None = None,
    ) -> Row:
        """A request whose answer is one object."""
        answer = self.call(method, path, params=params, json=json, repeatable=repeatable, attempts=attempts).json()
        if not isinstance(answer, dict):
            raise _unusable(f"{method} {path}", "an object")
        return answer

    def version(self) -> tuple[int, ...]:
        """The server's version, as in ``(2, 62, 0)``; needs no login."""
        answer = self._door.request("GET", "/api/server/about").json()
        text = str(answer.get("version") or "") if isinstance(answer, dict) else ""
        numbers = re.match(r"\d+(\.\d+)*", text)
        if numbers is None:
            raise _unusable("GET /api/server/about", "a version")
        return tuple(map(int, numbers[0].split(".")))

    def whoami(self) -> Row:
        return self.row("GET", "/api/users/self")

    def users(self, name: str) -> Iterator[Row]:
        """The users whose name holds ``name``, as far as this user may see them."""
        return self.rows("/api/users", search=name)

    def project(self, project: int) -> Row:
        return self._whole("project", project)

    def projects(self) -> Iterator[Row]:
        return self.rows("/api/projects", sort="id")

    def tasks(self) -> Iterator[Row]:
        """Every task, those of projects included."""
        return self.rows("/api/tasks", sort="id")

    def projects_named(self, name: str) -> Iterator[Row]:
        return self.rows("/api/projects", name=name, sort="id")

    def task(self, task: int) -> Row:
        return self._whole("task", task)

    def tasks_of(self, project: int) -> Iterator[Row]:
        return self.rows("/api/tasks", project_id=project, sort="id")

    def delete_task(self, task: int) -> None:
        self.call("DELETE", f"/api/tasks/{task}", accept=(404,))

    def upload(self, task: int, step: str, options: Row, files: Sequence[File] = ()) -> Row:
        """One step of giving a task its frames: ``Start``, ``Multiple`` for each parcel of files, ``Finish``."""
        path, headers = f"/api/tasks/{task}/data", {f"Upload-{step}": "true"}
        if files:
            form = {
                key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in options.items()
            }
            named = {f"client_files[{number}]": file for number, file in enumerate(files)}
            reply = self.call("POST", path, headers=headers, form=form, files=named, repeatable=False)
        else:
            reply = self.call("POST", path, headers=headers, json=options, repeatable=False)
        answer = reply.json() if reply.body else {}
        return answer if isinstance(answer, dict) else {}

    def data_state(self, task: int, request: object) -> tuple[RequestState, str]:
        """As :meth:`request_state`, of the making of a task's frames.

        Args:
            request: the ``rq_id`` that the last step of giving them answered; servers before 2.22 gave none.
        """
        if request:
            return self.request_state(str(request))
        answer = self.row("GET", f"/api/tasks/{task}/status")
        states: dict[object, RequestState] = {"Finished": "done", "Failed": "failed"}
        return states.get(answer.get("state"), "running"), str(answer.get("message") or "")

    def guide(self, guide: int) -> str:
        """The text that goes with a project or a task. Who works in a job of a project is shown the project's."""
        return str(self.row("GET", f"/api/guides/{guide}").get("markdown") or "")

    def patch_guide(self, guide: int, markdown: str) -> Row:
        return self.row("PATCH", f"/api/guides/{guide}", json={"markdown": markdown}, repeatable=True)

    def create_guide(self, markdown: str, **whose: int) -> Row:
        """The one text of a ``project_id`` or ``task_id`` that has none."""
        return self.row("POST", "/api/guides", json={**whose, "markdown": markdown})

    def job(self, job: int) -> Row:
        return self.row("GET", f"/api/jobs/{job}")

    def jobs_of(self, task: int) -> Iterator[Row]:
        return self.rows("/api/jobs", task_id=task)

    def jobs_of_project(self, project: int) -> Iterator[Row]:
        return self.rows("/api/jobs", project_id=project)

    def some_jobs(self, limit: int, sort: str, conditions: Sequence[Row], **whose: int) -> JobPage:
        """The first ``limit`` jobs of a ``project_id`` or ``task_id`` that meet all conditions, as JSON logic.

        Raises:
            NotFound: there is no such project or task.
        """
        params: dict[str, str | int] = {**whose, "page": 1, "page_size": limit, "sort": sort}
        if conditions:
            params["filter"] = json.dumps({"and": list(conditions)}, separators=(",", ":"))
        reply = self.call("GET", "/api/jobs", params=params, accept=(400,))
        if reply.status == 400:
            self._refuse_list(reply, whose)
        answer = reply.json()
        rows = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise _unusable("GET /api/jobs", "a page of a listing")
        return JobPage(rows, int(answer.get("count") or 0), reply.moment)

    def labels(self, **whose: int) -> list[Row]:
        """All labels of ``task_id``, ``project_id`` or ``job_id``; of every project and task where none is named."""
        return list(self.rows("/api/labels", sort="id", **whose))

    def task_meta(self, task: int) -> Row:
        """The frames of a task: names and sizes, and which are deleted."""
        return self.row("GET", f"/api/tasks/{task}/data/meta")

    def job_meta(self, job: int) -> Row:
        return self.row("GET", f"/api/jobs/{job}/data/meta")

    def honeypots(self, job: int) -> list[int]:
        """The frames of a job that check the annotator, shown a second time; servers before 2.24 know none."""
        reply = self.call("GET", f"/api/jobs/{job}/validation_layout", accept=(400, 404))
        layout = reply.json() if reply.status < 400 else {}
        frames = layout.get("honeypot_frames") if isinstance(layout, dict) else None
        return [int(n) for n in frames] if isinstance(frames, list) else []

    def annotations(self, job: int) -> Row:
        """The tags, shapes and tracks of a job."""
        return self.row("GET", f"/api/jobs/{job}/annotations")

    def patch_annotations(self, job: int, action: str, body: Row) -> Row:
        """Create, update or delete objects. Sent once: by the next attempt a person may have changed them."""
        path = f"/api/jobs/{job}/annotations"
        return self.row("PATCH", path, params={"action": action}, json=body, attempts=1)

    def patch_job(self, job: int, fields: Row) -> Row:
        return self.row("PATCH", f"/api/jobs/{job}", json=fields, repeatable=True)

    def create_truth(self, task: int, frames: Sequence[int]) -> Row:
        """Make the ground truth job of a task, of which there is one at most.

        Args:
            frames: their numbers in what was uploaded, where a task may begin later and leave frames out.
        """
        body = {"type": "ground_truth", "task_id": task, "frame_selection_method": "manual", "frames": list(frames)}
        return self.row("POST", "/api/jobs", json=body)

    def delete_job(self, job: int) -> None:
        """Delete a ground truth job; CVAT deletes no other. One that is gone already is no error."""
        self.call("DELETE", f"/api/jobs/{job}", accept=(404,))

    def quality_reports(self, task: int) -> Iterator[Row]:
        """The quality reports of a whole task; those of its jobs are not among them."""
        return self.rows("/api/quality/reports", task_id=task, target="task", sort="id")

    def start_quality_report(self, task: int) -> str:
        """Ask for a quality report.

        Returns:
            The request's id; empty where a report of this task is being made already.
        """
        reply = self.call("POST", "/api/quality/reports", json={"task_id": task}, accept=(409,))
        answer = {"rq_id": ""} if reply.status == 409 else reply.json()
        if not isinstance(answer, dict) or not isinstance(answer.get("rq_id"), str):
            raise _unusable("POST /api/quality/reports", "the id of a request")
        return str(answer["rq_id"])

    def request_state(self, request: str) -> tuple[RequestState, str]:
        """How a long operation gets on, and what the server says of it; servers before 2.22 tell this elsewhere."""
        reply = self.call("GET", f"/api/requests/{quote(request, safe='')}", accept=(400, 404))
        if reply.status in (400, 404):
            return "unknown", ""
        answer = reply.json()
        states: dict[object, RequestState] = {"finished": "done", "failed": "failed"}
        if not isinstance(answer, dict):
            raise _unusable("GET /api/requests", "an object")
        return states.get(answer.get("status"), "running"), str(answer.get("message") or "")

    def quality_report_state(self, request: str) -> tuple[RequestState, str]:
        """As :meth:`request_state`, where 2.15 and 2.22 tell it of quality reports; once it is done, it is unknown."""
        reply = self.call(
            "POST", "/api/quality/reports", params={"rq_id": request}, accept=(400, 404, 500), repeatable=True
        )
        states: dict[int, RequestState] = {201: "done", 202: "running", 404: "unknown"}
        state = states.get(reply.status, "failed")
        return state, " ".join(reply.body.decode("utf-8", "replace")[-300:].split()) if state == "failed" else ""

    def issues(self, **which: str | int) -> Iterator[Row]:
        """Issues of a ``job_id`` or a ``task_id``, without their comments."""
        return self.rows("/api/issues", sort="id", **which)

    def issues_in(self, jobs: Sequence[int]) -> Iterator[Row]:
        """Issues of some jobs, without their comments; the address holds about two hundred jobs."""
        return self.rows("/api/issues", sort="id", filter=_in_jobs(jobs))

    def comments_in(self, jobs: Sequence[int]) -> Iterator[Row]:
        """Comments in some jobs, whatever the issue; the address holds about two hundred jobs."""
        return self.rows("/api/comments", sort="id", filter=_in_jobs(jobs))

    def issue(self, issue: int) -> Row:
        return self.row("GET", f"/api/issues/{issue}")

    def comments(self, **which: str | int) -> Iterator[Row]:
        """Comments of an ``issue_id`` or a ``job_id``."""
        return self.rows("/api/comments", sort="id", **which)

    def create_issue(self, job: int, frame: int, position: list[float], message: str, **more: object) -> Row:
        """Open an issue; ``more`` is ``resolved`` or ``assignee`` (a user's number)."""
        body = {"job": job, "frame": frame, "position": position, "message": message, **more}
        return self.row("POST", "/api/issues", json=body)

    def delete_issue(self, issue: int) -> None:
        """Delete an issue with its comments; one that is gone already is no error."""
        self.call("DELETE", f"/api/issues/{issue}", accept=(404,))

    def resolve_issue(self, issue: int, resolved: bool) -> Row:
        return self.row("PATCH", f"/api/issues/{issue}", json={"resolved": resolved}, repeatable=True)

    def create_comment(self, issue: int, message: str) -> Row:
        return self.row("POST", "/api/comments", json={"issue": issue, "message": message})

    def frame(self, job: int, number: int, max_bytes: int | None = None) -> bytes:
        """One frame in the quality it was uploaded with: for images, the original file."""
        params: dict[str, str | int] = {"type": "frame", "number": number, "quality": "original"}
        return self.call("GET", f"/api/jobs/{job}/data", params=params, max_bytes=max_bytes).body

    def _whole(self, kind: str, number: int) -> Row:
        """A project or a task, which CVAT hides from those who annotate in it."""
        reply = self.call("GET", f"/api/{kind}s/{number}", accept=(403,))
        if reply.status == 403:
            raise AuthError(
                f"{NAME} at {self.url} does not show {kind} {number} to this user",
                expected="its owner or assignee, a maintainer of its organization, or an administrator",
                todo="Run as such a user, or set LABELBRIDGE_CVAT_ORGANIZATION; who has only a job takes cvat:job/N",
            )
        answer = reply.json()
        if not isinstance(answer, dict):
            raise _unusable(f"GET /api/{kind}s/{number}", "an object")
        return answer

    def _refuse_list(self, reply: Reply, asked: Mapping[str, str | int]) -> None:
        """CVAT answers a list of what belongs to nothing with 400, where one object would be a 404."""
        for name, number in asked.items():
            if name.endswith("_id") and b"valid choice" in reply.body:
                raise NotFound(
                    f"{NAME} at {self.url} has no {name.removesuffix('_id')} {number}",
                    todo="Check the id, and whether this user can see it",
                )
        self.http.raise_for(reply)

    def _headers(self) -> dict[str, str]:
        with self._lock:
            if not self._key:
                self._key = self._log_in()
        kind = "Token" if not self._login.token or _LEGACY_TOKEN.fullmatch(self._key) else "Bearer"
        return {"Authorization": f"{kind} {self._key}"}

    def _log_in(self) -> str:
        body = {"username": self._login.user, "password": self._login.password}
        reply = self._door.request("POST", "/api/auth/login", json=body, accept=(400, 401, 403), repeatable=True)
        answer = reply.json() if reply.status < 400 else {}
        key = answer.get("key") if isinstance(answer, dict) else None
        if not isinstance(key, str) or not key:
            raise AuthError(
                f"{NAME} at {self._door.base} does not let the user {self._login.user!r} in",
                expected="a user of this server, with its password",
                todo="Check LABELBRIDGE_CVAT_USER and LABELBRIDGE_CVAT_PASSWORD, or set LABELBRIDGE_CVAT_TOKEN instead",
            )
        return key


def _in_jobs(jobs: Sequence[int]) -> str:
    return json.dumps({"in": [{"var": "job_id"}, list(jobs)]}, separators=(",", ":"))


def _unusable(what: str, expected: str) -> ToolError:
    return ToolError(
        f"{NAME} answered something else to {what}",
        expected=expected,
        todo="Check the address: is it CVAT's own, without /api?",
    )
