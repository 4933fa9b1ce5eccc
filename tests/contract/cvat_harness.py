"""The people of a CVAT task, acting on the fake server behind its back; ``cvat_live_harness`` does it over REST."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from fakes.cvat_server import FakeCvat
from fakes.tool_memory import Remembered
from harness import Objects, Photo, Wire
from PIL import Image

from bridge.core.annotations import Box, Item
from bridge.tools import Review
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_client import CvatClient, Login
from bridge.tools.cvat_target import parse_target


def picture(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(out, "PNG")
    return out.getvalue()


class CvatPeople(Wire):
    """What every harness of CVAT shares; see :class:`harness.Harness`.

    One job for each photo; several submissions of a photo are replica jobs.
    """

    keeps_predictions = False
    makes_reviews = False

    url: str
    login: Login
    task: int
    client: CvatClient
    memory: Remembered

    def lost_image(self, item: Item) -> str:
        return item.image + "99"

    def again(self) -> Cvat:
        self.client = CvatClient(self.url, self.login, sleep=lambda _: None)
        return Cvat(self.client, parse_target(f"cvat:task/{self.task}"), self.memory)

    def requests_made(self) -> int:
        return self.client.requests_made

    def withdraw(self, submission_id: str) -> None:
        self.client.patch_job(int(submission_id.partition("/")[0]), {"state": "in progress"})

    def answer(self, review: Review, ref: str, verdict: str | None, label: str = "", box: Box | None = None) -> None:
        """A changed suggestion is drawn by hand and the issue resolved without a word; else a comment says it."""
        del review
        call, issue = self.client.call, self.client.row("GET", f"/api/issues/{ref}")
        if box:
            self._draw(int(issue["job"]), int(issue["frame"]), label, box)
            call("PATCH", f"/api/issues/{ref}", json={"resolved": True})
        else:
            text = f"{verdict.capitalize()}, I think." if verdict else "Let me look at this later."
            call("POST", "/api/comments", json={"issue": int(ref), "message": text})

    def _draw(self, job: int, frame: int, label: str, box: Box) -> int:
        raise NotImplementedError


class CvatHarness(CvatPeople):
    """A task of the fake server's."""

    def __init__(self, server: FakeCvat, photos: Sequence[Photo]) -> None:
        self.server, self.url, self.login = server, server.url, Login(user="olga", password="secret")
        self.memory = Remembered()
        self.owner = server.add_user("olga", "secret")
        ann = server.add_user("ann", "secret")
        replicas = max((len(p.submissions) for p in photos), default=0)
        replicas = replicas if replicas > 1 else 0
        project = server.add_project("Cats", [{"name": "cat"}, {"name": "dog"}], self.owner)
        images = [(f"photo {n}.png", picture(p.width, p.height)) for n, p in enumerate(photos)]
        self.task = server.add_task(
            "Photos", images, owner=self.owner, project=project, segment_size=1, assignee=ann, replicas=replicas
        )
        self.labels = {name: server.label(name, project=project).id for name in ("cat", "dog")}
        kind = server.version.replica if replicas else "annotation"
        for number, photo in enumerate(photos):
            jobs = [j for j in server.jobs_of(self.task, kind) if j.start == number]
            for job, objects in zip(jobs, photo.submissions, strict=False):
                for label, box in objects:
                    self._draw(job.id, number, label, box)
                job.assignee, job.state = ann, "completed"
        self.tool = self.again()

    def _draw(self, job: int, frame: int, label: str, box: Box, source: str = "manual") -> int:
        fields = {"type": "rectangle", "label_id": self.labels[label], "frame": frame, "points": list(box.xyxy)}
        return self.server.annotate(job, **fields, rotation=box.rotation, source=source, attributes=[])

    def edit(self, submission_id: str, add: Objects = (), drop: Sequence[str] = (), relabel: str = "") -> None:
        job, frame = map(int, submission_id.split("/"))
        shapes = self.server.shapes(job)
        shapes[:] = [s for s in shapes if f"shape:{s['id']}" not in drop]
        for shape in shapes:
            if relabel:
                shape["label_id"] = self.labels[relabel]
        self.server.state.touch(self.server.state.jobs[job])
        for label, box in add:
            self._draw(job, frame, label, box)

    def raw(self, submission_id: str) -> dict[str, str]:
        job, frame = map(int, submission_id.split("/"))
        return {f"shape:{s['id']}": json.dumps(s) for s in self.server.shapes(job) if s["frame"] == frame}
