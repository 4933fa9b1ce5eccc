"""A CVAT in memory with pictures that people have annotated wrongly, the journeys through it, and its reviewers."""

from __future__ import annotations

import copy
import io
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from fakes.colour_detector import ColourDetector
from fakes.cvat_server import Call, FakeCvat
from fakes.pictures import CAT, DOG, ELSEWHERE, TRUTH, Objects, draw
from PIL import Image

from bridge.core.annotations import Box
from bridge.flows.durable import Durable, Step
from bridge.flows.prelabel import PrelabelResult, prelabel
from bridge.flows.progress import silent
from bridge.flows.push import PushOptions, PushResult, push
from bridge.flows.score import Journal, ScoreOptions, ScoreResult, score
from bridge.flows.sources import ImageReader, ModelPredictions
from bridge.flows.sync import SyncResult, sync
from bridge.scorers.object_review import ObjectReview
from bridge.store import Store, StoredFinding
from bridge.store.stored_memory import StoredMemory
from bridge.tools import Review
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_client import CvatClient, Login
from bridge.tools.cvat_review_plan import ReviewPlan
from bridge.tools.cvat_target import parse_target

T = TypeVar("T")
Row = dict[str, Any]

#: An annotation as CVAT holds it, by its kind and id.
Held = dict[tuple[str, int], Row]

LABELS: list[Row] = [
    {"name": "cat", "attributes": [{"name": "tame", "input_type": "select", "values": ["no", "yes"]}]},
    {"name": "dog", "attributes": [{"name": "tame", "input_type": "select", "values": ["no", "yes"]}]},
]
MIN_SCORE = 0.3
_CHANGED = ("projects", "tasks", "labels", "jobs", "guides", "issues", "comments", "requests")
_MARK = re.compile(r"\[labelbridge ([0-9a-f]{16})")


class Straight:
    """A runner for one process that is never killed, without the half second that the durable one takes."""

    def run(self, name: str, options: object, journey: Callable[[Step], T]) -> T:
        def step(step_name: str, work: Callable[[], Any]) -> Any:
            return work()

        return journey(cast(Step, step))


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture shows, and what was drawn on it."""

    shows: Objects
    drawn: Objects

    def file(self, backdrop: int) -> bytes:
        out = io.BytesIO()
        Image.fromarray(draw(self.shows, backdrop=backdrop)).save(out, "PNG")
        return out.getvalue()


_WIDE = (("cat", CAT), ("cat", Box(10, 65, 60, 105)), ("dog", DOG), ("dog", ELSEWHERE))
#: A picture with an error of each kind, beside an object that is right; and a picture without any.
ALL_KINDS = Picture(
    _WIDE,
    (("dog", CAT), ("cat", Box(8, 65, 85, 112)), ("dog", ELSEWHERE), ("cat", Box(65, 5, 95, 55))),
)
RIGHT = Picture(TRUTH, TRUTH)


@dataclass(frozen=True, slots=True)
class Case:
    """Who works where. ``role``: superuser, maintainer or owner."""

    version: str
    role: str
    org: str = ""
    kind: str = "task"
    video: bool = False

    def __str__(self) -> str:
        words = (self.version, self.role, self.org or "private", self.kind, "video" if self.video else "")
        return "-".join(filter(None, words))


class CvatWorld:
    """A project with a task for each part of the pictures; all jobs are ann's and completed, unless nobody has begun.

    Beside the objects drawn, each job has a tag, which is nobody's error.
    """

    def __init__(
        self, server: FakeCvat, case: Case, *parts: Sequence[Picture], segment_size: int = 0, begun: bool = True
    ) -> None:
        self.server, self.case, self.parts = server, case, parts
        self.user = "mia"
        mia = server.add_user("mia", is_superuser=case.role == "superuser")
        ann = server.add_user("ann")
        owner = mia if case.role == "owner" else server.add_user("olga")
        members = {"ann": "worker"}
        if case.role != "superuser":
            members["mia"] = "maintainer" if case.role == "maintainer" else "supervisor"
        org = None
        if case.org:
            org = server.add_organization(case.org, server.add_user("zoe"), members | {owner: "worker"})
        project = server.add_project("Pets", LABELS, owner, org=org)
        self.labels = {name: server.label(name, project=project).id for name in ("cat", "dog")}
        self.tasks: list[int] = []
        for part in parts:
            task_number = len(self.tasks)
            images = [(f"photo {task_number}-{n}.png", p.file(1000 * task_number + n)) for n, p in enumerate(part)]
            mode = "interpolation" if case.video else "annotation"
            task = server.add_task("Photos", images, owner=owner, project=project, segment_size=segment_size, mode=mode)
            self.tasks.append(task)
            for job in server.jobs_of(task):
                job.assignee = ann
        if begun:
            self.annotate()
        jobs = server.jobs_of(self.tasks[0])
        self.target = f"cvat:{case.kind}/{ {'project': project, 'task': self.tasks[0], 'job': jobs[0].id}[case.kind] }"

    # --- people -----------------------------------------------------------------------------------------------------

    def annotate(self) -> None:
        """Ann deletes all suggestions, draws everything by hand, and completes her jobs."""
        for task, part in zip(self.tasks, self.parts, strict=True):
            for job in self.server.jobs_of(task):
                job.annotations.shapes.clear()
                self.server.annotate(job.id, "tags", frame=job.start, label_id=self.labels["dog"])
                for frame in job.frames:
                    for label, box in part[frame].drawn:
                        self.draw(job.id, frame, label, box)
                job.state = "completed"

    def draw(self, job: int, frame: int, label: str, box: Box) -> int:
        number = self.labels[label]
        spec = self.server.state.labels[number].attributes[0].id
        fields: Row = {"type": "rectangle", "label_id": number, "frame": frame, "points": list(box.xyxy)}
        return self.server.annotate(
            job, **fields, z_order=3, group=2, occluded=True, attributes=[{"spec_id": spec, "value": "yes"}]
        )

    def client(self, user: str = "", timeout: float = 30.0) -> CvatClient:
        login = Login(user=user or self.user, password="secret")
        return CvatClient(self.server.url, login, organization=self.case.org, timeout=timeout, sleep=lambda _: None)

    def say(self, issue: int, text: str) -> None:
        self.client("ann").call("POST", "/api/comments", json={"issue": issue, "message": text})

    def look(self, job: int, word: str, finding: str, **changes: Any) -> None:
        """The reviewer of a review task answers about one shape; an empty ``word`` only changes it."""
        desk = self.review_shape(job, finding)
        if word:
            label = self.server.state.labels[desk["label_id"]]
            spec = next(a.id for a in label.attributes if a.name == "verdict")
            kept = [a for a in desk["attributes"] if a["spec_id"] != spec]
            changes["attributes"] = [*kept, {"spec_id": spec, "value": word}]
        body = {"version": 0, "tags": [], "tracks": [], "shapes": [{**desk, **changes}]}
        self.client().call("PATCH", f"/api/jobs/{job}/annotations", params={"action": "update"}, json=body)

    def review_shape(self, job: int, finding: str) -> Row:
        """The shape that asks about a finding."""
        shapes = self.server.state.jobs[job].annotations.shapes
        (found,) = [s for s in shapes if any(a["value"] == finding for a in s["attributes"])]
        return copy.deepcopy(found)

    def resolve(self, issue: int) -> None:
        self.client("ann").call("PATCH", f"/api/issues/{issue}", json={"resolved": True})

    # --- looking ----------------------------------------------------------------------------------------------------

    def held(self) -> Held:
        """Every annotation of every job."""
        return {
            (kind, row["id"]): copy.deepcopy(row)
            for job in self.server.state.jobs.values()
            for kind in ("tags", "shapes", "tracks")
            for row in job.annotations.of(kind)
        }

    def objects(self, task: int, frame: int) -> list[tuple[str, list[float]]]:
        """The boxes on a frame, in whole pixels."""
        names = {number: name for name, number in self.labels.items()}
        return sorted(
            (names[row["label_id"]], [float(round(n)) for n in row["points"]])
            for job in self.server.jobs_of(task)
            for row in job.annotations.shapes
            if row["frame"] == frame
        )

    def review_jobs(self) -> list[Any]:
        """The jobs of all tasks that labelbridge has made."""
        return [job for job in self.server.state.jobs.values() if job.task not in self.tasks]

    def marks(self) -> Counter[str]:
        """How many issues there are for each finding."""
        state = self.server.state
        first = [min((c for c in state.comments.values() if c.issue == n), key=lambda c: c.id) for n in state.issues]
        return Counter(found[1] for comment in first if (found := _MARK.search(comment.message)))

    def issue_of(self, finding: StoredFinding) -> int:
        (place,) = finding.pushed
        return int(place.ref)

    # --- going back -------------------------------------------------------------------------------------------------

    def copy(self) -> dict[str, Any]:
        """All that a journey may change, for :meth:`restore`."""
        return {name: copy.deepcopy(getattr(self.server.state, name)) for name in _CHANGED}

    def restore(self, saved: dict[str, Any]) -> None:
        # At once, so that what one table says of another's rows stays true of the copies.
        for name, table in copy.deepcopy(saved).items():
            setattr(self.server.state, name, table)


@dataclass
class CvatDesk:
    """One data folder, and the journeys from it; each opens the target as a new process does."""

    world: CvatWorld
    journal: Journal
    store_url: str
    timeout: float = 30.0
    plan: ReviewPlan | None = None

    @property
    def store(self) -> Store:
        return self.journal.store

    @property
    def tool(self) -> Cvat:
        client = self.world.client(timeout=self.timeout)
        return Cvat(client, parse_target(self.world.target), self.memory(client.url), self.plan)

    def memory(self, server: str) -> StoredMemory:
        return StoredMemory(self.store_url, server, self.journal.now)

    def source(self, tool: Cvat) -> ModelPredictions:
        return ModelPredictions(ImageReader(tool, 10**6), ColourDetector(), {"cat": "cat", "dog": "dog"}, 4)

    def prelabel(self) -> PrelabelResult:
        tool = self.tool
        return prelabel(tool, self.source(tool), self.journal, page_size=3, progress=silent)

    def score(self) -> ScoreResult:
        tool = self.tool
        source = self.source(tool)
        return score(tool, source, ObjectReview(), self.journal, options=ScoreOptions(), page_size=3, progress=silent)

    def push(self, chunk: int = 3) -> PushResult:
        run = self.store.latest_run(self.world.target)
        assert run
        options = PushOptions(min_score=MIN_SCORE)
        return push(self.tool, run, self.journal, options=options, chunk=chunk, progress=silent)

    def sync(self, chunk: int = 3) -> SyncResult:
        places = self.store.reviews_of(self.world.target)
        assert places
        reviews = [Review(p.ref, p.url, created=False, mode=p.mode) for p in places]
        return sync(self.tool, reviews, self.journal, chunk=chunk, progress=silent)

    def likely(self) -> list[StoredFinding]:
        """The findings that are pushed, likeliest first."""
        return self.store.findings(target=self.world.target, min_score=MIN_SCORE)

    def calls(self, work: Callable[[], T]) -> tuple[T, list[Call]]:
        """What it returns, and the HTTP calls that it makes."""
        before = len(self.world.server.calls)
        result = work()
        return result, self.world.server.calls[before:]


def writes(calls: Sequence[Call]) -> list[str]:
    """Those that change anything."""
    return [f"{c.method} {c.path}" for c in calls if c.method != "GET" and c.path != "/api/auth/login"]


@contextmanager
def open_desk(world: CvatWorld, home: Path) -> Iterator[CvatDesk]:
    """A data folder."""
    home.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{home}/labelbridge.db"
    with Store.open(url) as store:
        journal = Journal(
            store=store,
            durable=cast(Durable, Straight()),
            now=lambda: datetime.now(UTC).isoformat(),
            new_id=lambda: uuid.uuid4().hex[:12],
        )
        yield CvatDesk(world, journal, url)
        assert store.verify_events() == []
