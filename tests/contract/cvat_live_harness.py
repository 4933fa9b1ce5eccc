"""A real CVAT for tests, and the people of a task in it, acting over REST alone.

``LABELBRIDGE_LIVE_CVAT_URL``, ``_USER`` and ``_PASSWORD`` name the server and one of its administrators. What is made
there is deleted again: one project for each target, and an annotator, where the server lets people register.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pytest
import requests
from cvat_harness import CvatPeople, picture
from fakes.tool_memory import Remembered
from harness import Objects, Photo

from bridge.core.annotations import Box
from bridge.tools.cvat_client import Login

Row = dict[str, Any]

PREFIX = "LABELBRIDGE_LIVE_CVAT_"
_WAIT_S = 60.0


@dataclass
class LiveCvat:
    """A server, and what was made on it, to be deleted at the end.

    Attributes:
        annotator: the id of a user of the test's own; None where people cannot register.
    """

    url: str
    user: str
    password: str
    session: requests.Session = field(default_factory=requests.Session)
    projects: list[int] = field(default_factory=list)
    annotator: int | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """Skips the test where no server is named."""
        values = [os.environ.get(PREFIX + name, "") for name in ("URL", "USER", "PASSWORD")]
        if not all(values):
            pytest.skip(f"no real CVAT: set {PREFIX}URL, {PREFIX}USER and {PREFIX}PASSWORD to an administrator's")
        return cls(*values)

    def __enter__(self) -> Self:
        key = self.call("POST", "/api/auth/login", {"username": self.user, "password": self.password})["key"]
        self.session.headers["Authorization"] = f"Token {key}"
        self.version = tuple(map(int, self.call("GET", "/api/server/about")["version"].split(".")[:2]))
        self.annotator = self._register(f"annotator-{os.urandom(4).hex()}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for project in self.projects:
            self.call("DELETE", f"/api/projects/{project}")
        if self.annotator is not None:
            self.call("DELETE", f"/api/users/{self.annotator}")
        self.session.close()

    def call(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """The answer of one request that is expected to succeed."""
        reply = self.session.request(method, self.url + path, json=body, timeout=_WAIT_S, **more)
        assert reply.ok, f"{method} {path} answered {reply.status_code}: {reply.text[:500]}"
        return reply.json() if reply.content else {}

    def rows(self, path: str) -> list[Row]:
        return list(self.call("GET", f"{path}&page_size=500")["results"])

    def project(self, name: str, labels: Sequence[Row]) -> int:
        self.projects.append(int(self.call("POST", "/api/projects", {"name": name, "labels": labels})["id"]))
        return self.projects[-1]

    def upload(self, task: int, images: Sequence[tuple[str, bytes]]) -> None:
        """Give a task its frames, in this order, and wait until it has them."""
        files = [(f"client_files[{n}]", (name, data, "image/png")) for n, (name, data) in enumerate(images)]
        fields = {"image_quality": "70", "sorting_method": "predefined"}
        request = self.call("POST", f"/api/tasks/{task}/data", data=fields, files=files).get("rq_id")
        path = f"/api/requests/{requests.utils.quote(request, safe='')}" if request else f"/api/tasks/{task}/status"
        end = time.monotonic() + _WAIT_S
        while time.monotonic() < end:
            answer = self.call("GET", path)
            state = str(answer.get("status") or answer.get("state")).lower()
            assert state != "failed", answer
            if state == "finished":
                return
            time.sleep(0.1)
        raise AssertionError(f"task {task} has no frames after {_WAIT_S:.0f} s: {answer}")

    def _register(self, name: str) -> int | None:
        password = os.urandom(12).hex()
        body = {"username": name, "email": f"{name}@example.org", "first_name": "Ann", "last_name": "Otator"}
        body |= {"password1": password, "password2": password}
        reply = requests.post(f"{self.url}/api/auth/register", json={**body, "confirmations": []}, timeout=_WAIT_S)
        if not reply.ok:
            return None
        return next(int(u["id"]) for u in self.rows(f"/api/users?search={name}") if u["username"] == name)


class CvatLiveHarness(CvatPeople):
    """A task of a real server's."""

    def __init__(self, server: LiveCvat, photos: Sequence[Photo]) -> None:
        self.server, self.url, self.memory = server, server.url, Remembered()
        self.login = Login(user=server.user, password=server.password)
        replicas = max((len(p.submissions) for p in photos), default=0)
        replicas = replicas if replicas > 1 else 0
        if replicas and server.version < (2, 27):
            pytest.skip("this CVAT knows no replica jobs, in which several people annotate one frame")
        project = server.project("Cats", [{"name": "cat", "attributes": []}, {"name": "dog", "attributes": []}])
        self.labels = {row["name"]: int(row["id"]) for row in server.rows(f"/api/labels?project_id={project}")}
        asked = {"initial_replicas" if server.version >= (2, 80) else "consensus_replicas": replicas}
        task = {"name": "Photos", "project_id": project, "segment_size": 1, "overlap": 0}
        self.task = int(server.call("POST", "/api/tasks", task | (asked if replicas else {}))["id"])
        server.upload(self.task, [(f"photo {n}.png", picture(p.width, p.height)) for n, p in enumerate(photos)])
        jobs = sorted(server.rows(f"/api/jobs?task_id={self.task}"), key=lambda job: int(job["id"]))
        for number, photo in enumerate(photos):
            here = [j for j in jobs if j["start_frame"] == number and (not replicas or j.get("parent_job_id"))]
            for job, objects in zip(here, photo.submissions, strict=False):
                self._write(job["id"], "create", [self._row(number, label, box) for label, box in objects])
                assignee = {} if server.annotator is None else {"assignee": server.annotator}
                server.call("PATCH", f"/api/jobs/{job['id']}", {**assignee, "state": "completed"})
        self.tool = self.again()

    def edit(self, submission_id: str, add: Objects = (), drop: Sequence[str] = (), relabel: str = "") -> None:
        job, frame = map(int, submission_id.split("/"))
        shapes = self._shapes(job)
        self._write(job, "delete", [s for s in shapes if f"shape:{s['id']}" in drop])
        if relabel:
            kept = [s for s in shapes if f"shape:{s['id']}" not in drop]
            self._write(job, "update", [{**s, "label_id": self.labels[relabel]} for s in kept])
        self._write(job, "create", [self._row(frame, label, box) for label, box in add])

    def raw(self, submission_id: str) -> dict[str, str]:
        job, frame = map(int, submission_id.split("/"))
        return {f"shape:{s['id']}": json.dumps(s, sort_keys=True) for s in self._shapes(job) if s["frame"] == frame}

    def _draw(self, job: int, frame: int, label: str, box: Box) -> int:
        (made,) = self._write(job, "create", [self._row(frame, label, box)])
        return int(made["id"])

    def _row(self, frame: int, label: str, box: Box) -> Row:
        place = {"type": "rectangle", "frame": frame, "points": list(box.xyxy), "rotation": box.rotation}
        return {**place, "label_id": self.labels[label], "source": "manual", "attributes": []}

    def _shapes(self, job: int) -> list[Row]:
        return list(self.server.call("GET", f"/api/jobs/{job}/annotations")["shapes"])

    def _write(self, job: int, action: str, shapes: Sequence[Row]) -> list[Row]:
        body = {"version": 0, "tags": [], "shapes": list(shapes), "tracks": []}
        return list(self.server.call("PATCH", f"/api/jobs/{job}/annotations?action={action}", body)["shapes"])
