"""What the CVAT adapter does beyond the protocol, against the fake server."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cvat_harness import CvatHarness, picture
from fakes.cvat_server import Call, FakeCvat
from fakes.tool_memory import Remembered
from harness import Photo, finding
from typer.testing import CliRunner

from bridge.cli import app
from bridge.core.annotations import Box, Prediction, Record
from bridge.core.assignment import Who, share
from bridge.core.findings import ErrorType, Fix
from bridge.errors import AuthError, ConfigError, DataError, ImageError, NotFound, ToolError, UsageError
from bridge.tools import FixOrder, Outcome, Prelabel, ReviewCase
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_client import CvatClient, Login
from bridge.tools.cvat_issue_list import read_issues, to_csv
from bridge.tools.cvat_review_plan import ReviewMode, ReviewPlan
from bridge.tools.cvat_target import parse_target

CAT, DOG, FREE = Box(16, 16, 80, 64), Box(200, 100, 300, 180), Box(400, 180, 500, 250)
LABELS = [{"name": "cat"}, {"name": "dog"}]


@pytest.fixture(params=["2.80", "2.62", "2.22", "2.15"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeCvat]:
    with FakeCvat(request.param) as running:
        yield running


def images(count: int, width: int = 512, height: int = 256) -> list[tuple[str, bytes]]:
    return [(f"photo {n}.png", picture(width, height)) for n in range(count)]


def open_cvat(
    server: FakeCvat, target: str, user: str = "olga", organization: str = "", memory: Remembered | None = None
) -> Cvat:
    login = Login(user=user, password="secret")
    client = CvatClient(server.url, login, organization=organization, sleep=lambda _: None)
    return Cvat(client, parse_target(target), Remembered() if memory is None else memory)


def every_record(tool: Cvat, limit: int = 3) -> list[Record]:
    records: list[Record] = []
    cursor: str | None = None
    while True:
        page = tool.read_page(cursor, limit)
        records += page.records
        if page.next is None:
            return records
        cursor = page.next


class Studio:
    """A project of olga's with two tasks, the second of which has two jobs."""

    def __init__(self, server: FakeCvat, org: str = "") -> None:
        self.server = server
        self.olga = server.add_user("olga")
        self.ann = server.add_user("ann")
        self.org = server.add_organization(org, self.olga, {"ann": "worker"}) if org else None
        self.project = server.add_project("Cats", LABELS, self.olga, org=self.org)
        more = {"owner": self.olga, "project": self.project, "assignee": self.ann}
        self.first = server.add_task("One", images(2), subset="train", **more)
        self.second = server.add_task("Two", images(5), segment_size=3, subset="test", **more)
        self.cat = server.label("cat", project=self.project).id

    def draw(self, job: int, frame: int, box: Box = CAT, **more: object) -> int:
        fields = {"type": "rectangle", "label_id": self.cat, "frame": frame, "points": list(box.xyxy), **more}
        return self.server.annotate(job, **fields)

    def submit(self, task: int) -> None:
        for job in self.server.jobs_of(task):
            job.state, job.assignee = "completed", self.ann


@pytest.fixture
def studio(server: FakeCvat) -> Studio:
    return Studio(server)


def test_a_project_is_its_tasks_frames(studio: Studio) -> None:
    tool = open_cvat(studio.server, f"cvat:project/{studio.project}")
    info = tool.describe()
    assert (info.title, info.labels.names, info.items) == ("Cats", ("cat", "dog"), 7)
    assert info.url == f"{studio.server.url}/projects/{studio.project}"
    ids = [r.item.id for r in every_record(tool)]
    assert ids == [f"{studio.first}/{n}" for n in range(2)] + [f"{studio.second}/{n}" for n in range(5)]


def test_a_task_without_data_has_no_frames_yet(studio: Studio) -> None:
    tool = open_cvat(studio.server, f"cvat:project/{studio.project}")
    row = tool.client.row("POST", "/api/tasks", json={"name": "Three", "project_id": studio.project})
    assert tool.describe().items == len(every_record(tool)) == 7
    alone = open_cvat(studio.server, f"cvat:task/{row['id']}")
    assert (alone.describe().items, every_record(alone), list(read_issues(alone))) == (0, [], [])


def test_frames_of_a_task_with_a_step(studio: Studio) -> None:
    """Counted in the task by CVAT 2.22 and later; of those before, the error says why there are none."""
    task = studio.server.state.tasks[studio.second]
    task.start_frame, task.step = 10, 2
    tool = open_cvat(studio.server, f"cvat:task/{studio.second}")
    item = every_record(tool)[4].item
    if studio.server.version.minor >= 22:
        assert tool.read_image(item) == picture(512, 256)
    else:
        with pytest.raises(ImageError, match=r"photo 4\.png") as refused:
            tool.read_image(item)
        assert "a start frame or a frame step" in str(refused.value.todo)


def test_only_submitted_jobs_are_judged(studio: Studio) -> None:
    """A job in work has no submission; an empty frame of a finished one has an empty one."""
    job, other = studio.server.jobs_of(studio.second)
    studio.draw(job.id, 1)
    studio.draw(other.id, 4)
    job.state = "completed"
    records = every_record(open_cvat(studio.server, f"cvat:task/{studio.second}"))
    assert [[len(s.annotations) for s in r.submissions] for r in records] == [[0], [1], [0], [], []]
    assert records[1].submissions[0].id == f"{job.id}/1"
    other.stage, other.state = "validation", "new"
    assert len(every_record(open_cvat(studio.server, f"cvat:task/{studio.second}"))[4].submissions) == 1
    other.stage, other.state = "validation", "rejected"
    assert every_record(open_cvat(studio.server, f"cvat:task/{studio.second}"))[4].submissions == ()


def test_the_split_of_a_frame_is_the_subset_of_its_task(studio: Studio) -> None:
    records = every_record(open_cvat(studio.server, f"cvat:project/{studio.project}"))
    assert [r.item.split for r in records] == ["train"] * 2 + ["test"] * 5


@pytest.mark.parametrize(
    ("filters", "frames"),
    [
        ("state=completed", [3, 4]),
        ("state=new", [0, 1, 2]),
        ("assignee=ann", [0, 1, 2, 3, 4]),
        ("assignee=nobody", []),
        ("stage=annotation&state=completed", [3, 4]),
        ("updated_after=2999-01-01", []),
        ("updated_after=2001-01-01", [0, 1, 2, 3, 4]),
        ("subset=test", [0, 1, 2, 3, 4]),
        ("subset=train", []),
    ],
)
def test_filters(studio: Studio, filters: str, frames: Sequence[int]) -> None:
    for job in studio.server.jobs_of(studio.second):
        job.assignee = studio.ann
    studio.server.jobs_of(studio.second)[1].state = "completed"
    tool = open_cvat(studio.server, f"cvat:task/{studio.second}?{filters}")
    assert [r.item.id for r in every_record(tool)] == [f"{studio.second}/{n}" for n in frames]


def test_one_job(studio: Studio) -> None:
    job = studio.server.jobs_of(studio.second)[1]
    studio.draw(job.id, 4)
    studio.submit(studio.second)
    tool = open_cvat(studio.server, f"cvat:job/{job.id}")
    assert (tool.describe().items, tool.url) == (2, f"{studio.server.url}/tasks/{studio.second}/jobs/{job.id}")
    records = every_record(tool)
    assert [r.item.name for r in records] == ["photo 3.png", "photo 4.png"]
    assert [len(r.submissions[0].annotations) for r in records] == [0, 1]
    assert tool.read_image(records[1].item) == picture(512, 256)


def test_deleted_frames_honeypots_and_ground_truth_are_left_alone(server: FakeCvat) -> None:
    owner = server.add_user("olga")
    task = server.add_task(
        "Checked", images(8), owner=owner, labels=LABELS, segment_size=3, deleted_frames=[1], ground_truth=[6, 7],
        honeypots={2: 6, 5: 7} if server.version.minor >= 24 else None,
    )  # fmt: skip
    numbers = [int(r.item.id.partition("/")[2]) for r in every_record(open_cvat(server, f"cvat:task/{task}"))]
    assert 1 not in numbers
    assert not {2, 5} & set(numbers) or server.version.minor < 24
    assert set(numbers) >= {0, 3, 4}


def test_a_video_has_tracks(server: FakeCvat) -> None:
    """Objects are where CVAT shows them: at keyframes, between two of them, and not once they have left."""
    owner = server.add_user("olga")
    task = server.add_task("Film", images(10), owner=owner, labels=LABELS, mode="interpolation")
    cat, (job,) = server.label("cat", task=task).id, server.jobs_of(task)
    keys = [
        {"type": "rectangle", "frame": frame, "points": [x, 10, x + 50, 60], "outside": gone}
        for frame, x, gone in ((2, 10, False), (6, 50, False), (8, 50, True))
    ]
    server.annotate(job.id, "tracks", label_id=cat, frame=2, shapes=keys)
    job.state = "completed"
    records = every_record(open_cvat(server, f"cvat:task/{task}"))
    left = [[a.shape.x1 for a in r.submissions[0].annotations if isinstance(a.shape, Box)] for r in records]
    assert left == [[], [], [10], [20], [30], [40], [50], [50], [], []]
    assert records[4].item.name.endswith("#4")


def test_a_record_that_was_cut_off_is_read_fresh(studio: Studio) -> None:
    job = studio.server.jobs_of(studio.first)[0]
    studio.submit(studio.first)
    tool = open_cvat(studio.server, f"cvat:task/{studio.first}")
    page = tool.read_page(None, 1)
    studio.draw(job.id, 0)
    first = page.records[0].item.id
    assert len(tool.read_records([first])[first].submissions[0].annotations) == 1
    assert len(tool.read_page(None, 1).records[0].submissions[0].annotations) == 1


def test_requests_do_not_grow_with_frames(server: FakeCvat) -> None:
    owner = server.add_user("olga")
    task = server.add_task("Many", images(300, 16, 16), owner=owner, labels=LABELS, segment_size=100)
    for job in server.jobs_of(task):
        job.state = "completed"
    tool = open_cvat(server, f"cvat:task/{task}")
    assert len(every_record(tool, limit=20)) == 300
    # Logging in, the task, its jobs, its frames, its labels, and each job once.
    assert tool.client.requests_made == 5 + 3


class TestOrganization:
    def test_the_right_one(self, server: FakeCvat) -> None:
        studio = Studio(server, org="zoo")
        tool = open_cvat(server, f"cvat:project/{studio.project}", organization="zoo")
        assert tool.describe().items == len(every_record(tool)) == 7

    def test_none_where_only_a_part_is_listed(self, server: FakeCvat) -> None:
        """Without the organization CVAT lists to a maintainer, and says nothing of it, what is their own."""
        studio = Studio(server, org="zoo")
        zoe = server.add_user("zoe")
        server.add_member("zoo", zoe, "maintainer")
        server.state.tasks[studio.first].owner = zoe
        with pytest.raises(ConfigError, match="has 2 tasks, and CVAT lists 1 of them"):
            every_record(open_cvat(server, f"cvat:project/{studio.project}", user="zoe"))
        server.jobs_of(studio.second)[0].assignee = zoe
        with pytest.raises(ConfigError, match="has 2 jobs, and CVAT lists 1 of them"):
            every_record(open_cvat(server, f"cvat:task/{studio.second}", user="zoe"))
        assert len(every_record(open_cvat(server, f"cvat:project/{studio.project}", "zoe", "zoo"))) == 7

    def test_a_job_that_goes_while_we_read_is_no_other_organization(self, studio: Studio) -> None:
        """A ground truth job may be deleted between the reading of its task and that of the jobs."""
        server = studio.server
        body = {"type": "ground_truth", "task_id": studio.second, "frame_selection_method": "manual", "frames": [1]}
        tool = open_cvat(server, f"cvat:task/{studio.second}")
        truth = int(tool.client.row("POST", "/api/jobs", json=body)["id"])

        def delete(call: Call) -> None:
            if call.path == "/api/jobs" and truth in server.state.jobs:
                server.state.remove_job(server.state.jobs[truth])

        server.on_call = delete
        assert len(every_record(tool)) == 5
        assert truth not in server.state.jobs

    def test_a_task_that_goes_while_we_read_has_no_frames(self, studio: Studio) -> None:
        server = studio.server

        def delete(call: Call) -> None:
            if call.path == "/api/jobs" and studio.second in server.state.tasks:
                server.on_call = None
                tool.client.delete_task(studio.second)

        tool = open_cvat(server, f"cvat:project/{studio.project}")
        everything = len(every_record(tool))
        server.on_call = delete
        assert 0 < len(every_record(tool)) < everything
        with pytest.raises(NotFound):
            every_record(open_cvat(server, f"cvat:task/{studio.second}"))

    @pytest.mark.parametrize("at", ["/api/jobs/{job}/annotations", "/api/tasks/{task}/data/meta"])
    def test_a_task_that_goes_after_it_was_listed_has_no_frames(self, studio: Studio, at: str) -> None:
        server = studio.server
        studio.submit(studio.second)
        (job, _) = server.jobs_of(studio.second)

        def delete(call: Call) -> None:
            if call.path == at.format(job=job.id, task=studio.second):
                server.on_call = None
                tool.client.delete_task(studio.second)

        tool = open_cvat(server, f"cvat:project/{studio.project}")
        server.on_call = delete
        assert [r.item.id for r in every_record(tool)] == [f"{studio.first}/0", f"{studio.first}/1"]
        with pytest.raises(NotFound):
            every_record(open_cvat(server, f"cvat:task/{studio.second}"))

    @pytest.mark.parametrize("at", ["/api/jobs", "/api/jobs/{job}"])
    def test_a_task_that_goes_while_the_model_looks_takes_no_suggestions(self, studio: Studio, at: str) -> None:
        server = studio.server
        tool = open_cvat(server, f"cvat:project/{studio.project}")
        wanted = [Prelabel(r.item, (Prediction("cat", CAT, 0.9, "m-1"),)) for r in every_record(tool)]
        (job, _) = server.jobs_of(studio.second)

        def delete(call: Call) -> None:
            if call.path == at.format(job=job.id) and studio.second in server.state.tasks:
                server.on_call = None
                tool.client.delete_task(studio.second)

        server.on_call = delete
        assert open_cvat(server, tool.target).write_predictions("m-1", wanted) == 2
        assert studio.second not in server.state.tasks

    def test_a_task_that_goes_while_a_fix_is_written_is_a_conflict(self, studio: Studio) -> None:
        server = studio.server
        (job, _) = server.jobs_of(studio.second)
        studio.draw(job.id, 0)
        studio.submit(studio.second)
        tool = open_cvat(server, f"cvat:project/{studio.project}")
        record = tool.read_records([f"{studio.second}/0"])[f"{studio.second}/0"]
        (drawn,) = record.submissions[0].annotations
        order = FixOrder(finding(tool, record, ErrorType.EXTRA, Fix("delete"), drawn), Fix("delete"))

        def delete(call: Call) -> None:
            if call.path == f"/api/jobs/{job.id}/annotations":
                server.on_call = None
                tool.client.delete_task(studio.second)

        server.on_call = delete
        (result,) = tool.apply_fixes([order])
        assert (result.outcome, f"job {job.id}" in result.message) == (Outcome.CONFLICT, True)

    def test_a_wrong_one_is_named(self, server: FakeCvat) -> None:
        studio = Studio(server, org="zoo")
        server.add_organization("farm", studio.olga)
        for target in (f"cvat:project/{studio.project}", f"cvat:task/{studio.first}"):
            tool = open_cvat(server, target, organization="farm")
            with pytest.raises(ConfigError, match="the organization in the settings is 'farm'"):
                tool.read_page(None, 10)
            with pytest.raises(ConfigError, match="the organization in the settings is 'farm'"):
                tool.read_records([f"{studio.first}/0"])
        with pytest.raises(ConfigError, match="the organization in the settings is 'farm'"):
            open_cvat(server, f"cvat:project/{studio.project}", organization="farm").describe()


class TestRights:
    def test_who_has_only_a_job_works_with_that(self, studio: Studio) -> None:
        """CVAT shows them neither its task nor its project."""
        job, _ = studio.server.jobs_of(studio.second)
        job.assignee, job.state = studio.server.add_user("bob"), "completed"
        for target in (f"cvat:project/{studio.project}", f"cvat:task/{studio.second}"):
            with pytest.raises(AuthError, match="does not show") as refused:
                open_cvat(studio.server, target, user="bob").describe()
            assert "cvat:job/N" in str(refused.value.todo)
        client = CvatClient(studio.server.url, Login(user="bob", password="secret"), sleep=lambda _: None)
        tool = Cvat(client, parse_target(f"cvat:job/{job.id}"), Remembered(), ReviewPlan(hand_over=False))
        assert tool.describe().items == 3
        record = every_record(tool)[0]
        found = finding(tool, record, ErrorType.MISSING, Fix("add", "cat", FREE))
        review = tool.open_review(tool.describe().labels, "Review")
        (pushed,) = tool.push_cases(review, [ReviewCase(found, record.item)])
        assert [issue.id for issue in read_issues(tool)] == [int(pushed.ref)]
        assert [r.outcome for r in tool.apply_fixes([FixOrder(found, found.fix)])] == [Outcome.APPLIED]

    def test_issues_of_a_project_that_is_gone(self, server: FakeCvat) -> None:
        """An organization's is asked for as a list, which CVAT refuses otherwise than one object."""
        Studio(server, org="zoo")
        for organization, said in (("zoo", "no project 999"), ("", "projects/999")):
            with pytest.raises(NotFound, match=said):
                list(read_issues(open_cvat(server, "cvat:project/999", organization=organization)))


class TestLogin:
    def test_wrong_password(self, studio: Studio) -> None:
        client = CvatClient(studio.server.url, Login(user="olga", password="wrong"), sleep=lambda _: None)
        with pytest.raises(AuthError, match="'olga'") as error:
            client.whoami()
        assert "wrong" not in str(error.value)

    def test_nothing_set(self, studio: Studio) -> None:
        with pytest.raises(ConfigError, match="LABELBRIDGE_CVAT_TOKEN"):
            CvatClient(studio.server.url, Login())

    def test_the_older_token(self, studio: Studio) -> None:
        client = CvatClient(studio.server.url, Login(token=studio.server.login_token(studio.olga)))
        assert client.whoami()["username"] == "olga"

    def test_version(self, studio: Studio) -> None:
        assert CvatClient(studio.server.url, Login(token="x")).version()[:1] == (2,)


class TestReviewers:
    @pytest.fixture
    def zoo(self, server: FakeCvat) -> Studio:
        """Jobs of ann's, one of them ben's; mia and zoe review."""
        studio = Studio(server, org="zoo")
        for name in ("ben", "mia", "zoe"):
            server.add_member("zoo", server.add_user(name), "worker")
        for task in (studio.first, studio.second):
            for job in server.jobs_of(task):
                job.state, job.assignee = "completed", studio.ann
                server.annotate(
                    job.id,
                    label_id=server.label("cat", project=studio.project).id,
                    frame=job.start,
                    type="rectangle",
                    points=list(CAT.xyxy),
                )
        server.jobs_of(studio.first)[0].assignee = server.user_id("ben")
        return studio

    def push(self, zoo: Studio, mode: ReviewMode, names: str, who: Who) -> tuple[Cvat, list[str]]:
        client = CvatClient(zoo.server.url, Login(user="olga", password="secret"), organization="zoo")
        plan = ReviewPlan(mode, names)
        tool = Cvat(client, parse_target(f"cvat:project/{zoo.project}"), Remembered(), plan)
        records = [r for r in every_record(tool) if r.submissions[0].annotations]
        found = [finding(tool, r, ErrorType.EXTRA, Fix("delete"), r.submissions[0].annotations[0]) for r in records]
        people = share(tool.seats(found, who), who, {}, None)
        cases = [
            ReviewCase(f, r.item, reviewer=name)
            for f, r, name in zip(found, records, people, strict=True)
            if name is not None
        ]
        tool.push_cases(tool.open_review(tool.describe().labels, "Review"), cases)
        return tool, [case.reviewer for case in cases]

    def test_others_get_the_jobs_and_the_issues(self, zoo: Studio) -> None:
        _, people = self.push(zoo, ReviewMode.ISSUES, "ben,mia", "others")
        assert people == ["mia", "ben", "ben"], "the first job is ben's own"
        jobs = [job for task in (zoo.first, zoo.second) for job in zoo.server.jobs_of(task)]
        names = {zoo.server.user_id(name): name for name in ("ann", "ben", "mia", "zoe")}
        assert [names[job.assignee or 0] for job in jobs] == people
        assert [names[i.assignee or 0] for i in zoo.server.state.issues.values()] == people
        assert {job.stage for job in jobs} == {"validation"}

    def test_each_gets_a_review_task_of_their_own(self, zoo: Studio) -> None:
        tool, people = self.push(zoo, ReviewMode.TASK, "mia,zoe", "others")
        project = max(zoo.server.state.projects)
        tasks = [t for t in zoo.server.state.tasks.values() if t.project == project]
        assert {t.assignee for t in tasks} == {zoo.server.user_id("mia"), zoo.server.user_id("zoe")}
        assert sorted(Counter(people)) == ["mia", "zoe"]
        jobs = [job for t in tasks for job in zoo.server.jobs_of(t.id)]
        assert [job.assignee for job in jobs] == [t.assignee for t in tasks]
        assert tool.notes == ()

    def test_back_to_the_annotators(self, zoo: Studio) -> None:
        _, people = self.push(zoo, ReviewMode.ISSUES, "", "annotator")
        assert people == ["ben", "ann", "ann"]
        assert [j.assignee for j in zoo.server.jobs_of(zoo.first)] == [zoo.server.user_id("ben")]

    def test_words_that_cannot_be_kept(self, zoo: Studio) -> None:
        with pytest.raises(UsageError, match=r"CVAT does not say who may review.*--reviewer others,mia,zoe"):
            self.push(zoo, ReviewMode.ISSUES, "", "others")
        with pytest.raises(NotFound, match="CVAT shows no user 'nobody'"):
            self.push(zoo, ReviewMode.ISSUES, "mia,nobody", "others")
        assert zoo.server.state.issues == {}


class TestIssues:
    @pytest.fixture
    def one(self, server: FakeCvat) -> CvatHarness:
        return CvatHarness(server, [Photo(((("cat", CAT), ("dog", DOG)),))])

    def case(self, one: CvatHarness, error: ErrorType, fix: Fix, *which: int) -> ReviewCase:
        record = one.tool.read_page(None, 1).records[0]
        annotations = [record.submissions[0].annotations[n] for n in which]
        return ReviewCase(finding(one.tool, record, error, fix, *annotations), record.item)

    def push(self, one: CvatHarness, case: ReviewCase) -> int:
        review = one.tool.open_review(one.tool.describe().labels, "Review")
        (pushed,) = one.tool.push_cases(review, [case])
        return int(pushed.ref)

    def verdicts(self, one: CvatHarness) -> list[tuple[str, Fix | None]]:
        review = one.tool.open_review(one.tool.describe().labels, "Review")
        return [(v.decision, v.fix) for v in one.tool.read_verdicts(review, None)]

    def resolve(self, one: CvatHarness, issue: int) -> None:
        one.client.call("PATCH", f"/api/issues/{issue}", json={"resolved": True})

    def test_says_what_where_and_how_to_answer(self, one: CvatHarness) -> None:
        case = self.case(one, ErrorType.MISSING, Fix("add", "dog", FREE))
        issue = self.push(one, case)
        stored = one.client.row("GET", f"/api/issues/{issue}")
        assert stored["position"] == [397, 177, 503, 253]
        (comment,) = one.client.comments(issue_id=issue)
        assert comment["message"].splitlines() == [
            "Missing dog? (90%)",
            "The model sees it so. Accept adds 'dog' at (400, 180) to (500, 250).",
            'Answer with a comment "accept" or "reject"; or correct it yourself, then resolve the issue.',
            f"[labelbridge {case.finding.id} new 400.0,180.0,500.0,250.0]",
        ]

    @pytest.mark.parametrize(
        ("said", "decision"),
        [
            (["accept"], "accept"),
            (["Yes, clearly a dog"], "accept"),
            (["ok"], "accept"),
            (["No!"], "reject"),
            (["rejected: it is a poster"], "reject"),
            (["accept", "no, wait: reject"], "reject"),
            (["reject", "who drew this?"], "reject"),
        ],
    )
    def test_words(self, one: CvatHarness, said: Sequence[str], decision: str) -> None:
        issue = self.push(one, self.case(one, ErrorType.EXTRA, Fix("delete"), 0))
        for text in said:
            one.client.call("POST", "/api/comments", json={"issue": issue, "message": text})
        assert [d for d, _ in self.verdicts(one)] == [decision]

    @pytest.mark.parametrize("text", ["hm", "notable", "acceptance test?", ""])
    def test_conversation_is_no_answer(self, one: CvatHarness, text: str) -> None:
        issue = self.push(one, self.case(one, ErrorType.EXTRA, Fix("delete"), 0))
        one.client.call("POST", "/api/comments", json={"issue": issue, "message": text}, accept=(400,))
        assert self.verdicts(one) == []

    def test_resolved_and_left_as_it_was_is_a_reject(self, one: CvatHarness) -> None:
        self.resolve(one, self.push(one, self.case(one, ErrorType.EXTRA, Fix("delete"), 0)))
        assert self.verdicts(one) == [("reject", None)]

    def test_resolved_after_it_was_deleted(self, one: CvatHarness) -> None:
        case = self.case(one, ErrorType.EXTRA, Fix("delete"), 0)
        self.resolve(one, self.push(one, case))
        one.edit(case.finding.submission_id, drop=case.finding.annotation_ids)
        assert self.verdicts(one) == [("edit", Fix("delete"))]

    def test_resolved_after_it_was_relabelled(self, one: CvatHarness) -> None:
        case = self.case(one, ErrorType.WRONG_CLASS, Fix("relabel", "dog"), 0)
        self.resolve(one, self.push(one, case))
        one.edit(case.finding.submission_id, relabel="dog")
        ((decision, fix),) = self.verdicts(one)
        assert (decision, fix) == ("edit", Fix("reshape", "dog", CAT))
        assert fix is not None
        assert [r.outcome for r in one.tool.apply_fixes([FixOrder(case.finding, fix)])] == [Outcome.ALREADY]

    def test_a_missing_object_that_nobody_drew(self, one: CvatHarness) -> None:
        self.resolve(one, self.push(one, self.case(one, ErrorType.MISSING, Fix("add", "dog", FREE))))
        assert self.verdicts(one) == [("reject", None)]

    def test_what_was_there_already_is_not_what_was_missing(self, server: FakeCvat) -> None:
        near = Box(405, 180, 505, 250)
        one = CvatHarness(server, [Photo(((("cat", near),),))])
        case = self.case(one, ErrorType.MISSING, Fix("add", "dog", FREE))
        record = one.tool.read_page(None, 1).records[0]
        self.resolve(one, self.push(one, replace(case, context=record.submissions[0].annotations)))
        assert self.verdicts(one) == [("reject", None)]
        one.edit(case.finding.submission_id, add=[("dog", FREE)])
        assert [(d, f and f.label) for d, f in self.verdicts(one)] == [("edit", "dog")]

    def test_peoples_own_issues_are_left_alone(self, one: CvatHarness) -> None:
        job = one.server.jobs_of(one.task)[0]
        mine = one.client.create_issue(job.id, 0, [1, 1, 5, 5], "accept")
        one.client.call("POST", "/api/comments", json={"issue": mine["id"], "message": "accept"})
        assert self.verdicts(one) == []

    def test_without_the_right_to_make_issues(self, studio: Studio) -> None:
        """Ann is assigned to another job than the finding's."""
        studio.server.add_user("eve")
        studio.submit(studio.first)
        tool = open_cvat(studio.server, f"cvat:task/{studio.first}")
        record = tool.read_page(None, 1).records[0]
        case = ReviewCase(finding(tool, record, ErrorType.MISSING, Fix("add", "dog", FREE)), record.item)
        with pytest.raises(ToolError):
            open_cvat(studio.server, f"cvat:task/{studio.first}", user="eve").push_cases(
                tool.open_review(tool.describe().labels, "x"), [case]
            )
        assert studio.server.state.issues == {}


class TestFixes:
    @pytest.fixture
    def one(self, server: FakeCvat) -> CvatHarness:
        return CvatHarness(server, [Photo(((("cat", CAT), ("dog", DOG)),))])

    def fix(self, one: CvatHarness, error: ErrorType, fix: Fix, *which: int) -> tuple[Outcome, str]:
        record = one.tool.read_page(None, 1).records[0]
        annotations = [record.submissions[0].annotations[n] for n in which]
        order = FixOrder(finding(one.tool, record, error, fix, *annotations), fix)
        (result,) = one.tool.apply_fixes([order])
        return result.outcome, result.message

    def test_ids_stay(self, one: CvatHarness) -> None:
        job = one.server.jobs_of(one.task)[0].id
        before = {s["id"] for s in one.server.shapes(job)}
        assert self.fix(one, ErrorType.WRONG_CLASS, Fix("relabel", "dog"), 0)[0] is Outcome.APPLIED
        assert {s["id"] for s in one.server.shapes(job)} == before

    def test_what_a_person_judged_is_no_untouched_suggestion_any_more(self, one: CvatHarness) -> None:
        job = one.server.jobs_of(one.task)[0].id
        one.server.shapes(job)[0]["source"] = "auto"
        self.fix(one, ErrorType.WRONG_CLASS, Fix("relabel", "dog"), 0)
        self.fix(one, ErrorType.MISSING, Fix("add", "dog", FREE))
        assert sorted(s["source"] for s in one.server.shapes(job)) == ["manual", "semi-auto", "semi-auto"]

    def test_a_box_that_leaves_the_frame_is_cut(self, one: CvatHarness) -> None:
        assert self.fix(one, ErrorType.MISSING, Fix("add", "dog", Box(480, 200, 600, 300)))[0] is Outcome.APPLIED
        job = one.server.jobs_of(one.task)[0].id
        assert one.server.shapes(job)[-1]["points"] == [480, 200, 512, 256]

    def test_a_label_that_was_renamed_meanwhile(self, one: CvatHarness) -> None:
        record = one.tool.read_page(None, 1).records[0]
        found = finding(one.tool, record, ErrorType.MISSING, Fix("add", "dog", FREE))
        project = one.server.state.tasks[one.task].project
        one.server.label("dog", project=project).name = "hound"
        (result,) = one.tool.apply_fixes([FixOrder(found, found.fix)])
        assert result.outcome is Outcome.CONFLICT
        assert "'dog'" in result.message

    @pytest.mark.parametrize("name", ["tag:5", "track:5@3"])
    def test_tags_and_other_frames_are_for_people(self, one: CvatHarness, name: str) -> None:
        record = one.tool.read_page(None, 1).records[0]
        found = finding(one.tool, record, ErrorType.EXTRA, Fix("delete"), record.submissions[0].annotations[0])
        (result,) = one.tool.apply_fixes([FixOrder(replace(found, annotation_ids=(name,)), found.fix)])
        assert (result.outcome, "by hand" in result.message) == (Outcome.CONFLICT, True)

    def test_without_the_right_to_edit(self, one: CvatHarness) -> None:
        record = one.tool.read_page(None, 1).records[0]
        found = finding(one.tool, record, ErrorType.MISSING, Fix("add", "dog", FREE))
        one.server.add_user("eve")
        with pytest.raises(ToolError):
            open_cvat(one.server, one.tool.target, user="eve").apply_fixes([FixOrder(found, found.fix)])

    def test_no_finding_outside_of_the_target(self, one: CvatHarness) -> None:
        assert one.tool.read_records(["1/99", f"{one.task}/99"]) == {}


class TestSuggestions:
    def prelabels(self, tool: Cvat, model: str = "m-1") -> list[Prelabel]:
        """A cat for every frame that is still to be predicted."""
        cat = (Prediction("cat", CAT, 0.75, model),)
        records = tool.read_page(None, 100, model).records
        return [Prelabel(r.item, cat) for r in records if model not in r.predicted_by]

    def test_are_objects_of_the_source_auto(self, studio: Studio) -> None:
        tool = open_cvat(studio.server, f"cvat:task/{studio.second}")
        assert tool.write_predictions("m-1", self.prelabels(tool)) == 5
        shapes = [s for job in studio.server.jobs_of(studio.second) for s in studio.server.shapes(job.id)]
        assert [(s["frame"], s["source"], s["points"]) for s in shapes] == [
            (n, "auto", [16, 16, 80, 64]) for n in range(5)
        ]
        scores = [s.get("score") for s in shapes]
        assert scores == [0.75] * 5 if studio.server.version.minor >= 62 else not any(scores)

    def test_score_in_a_text_attribute(self, server: FakeCvat) -> None:
        owner = server.add_user("olga")
        attribute = {"name": "score", "input_type": "text", "mutable": False, "values": [], "default_value": ""}
        task = server.add_task("T", images(1), owner=owner, labels=[{"name": "cat", "attributes": [attribute]}])
        tool = open_cvat(server, f"cvat:task/{task}")
        tool.write_predictions("m-1", self.prelabels(tool))
        (shape,) = server.shapes(server.jobs_of(task)[0].id)
        assert [a["value"] for a in shape["attributes"]] == ["0.7500"]

    def test_a_second_run_writes_nothing(self, studio: Studio) -> None:
        tool = open_cvat(studio.server, f"cvat:project/{studio.project}")
        assert tool.write_predictions("m-1", self.prelabels(tool)) == 7
        assert self.prelabels(open_cvat(studio.server, f"cvat:project/{studio.project}"), "m-2") == []

    def test_of_another_model_take_the_place_of_those_that_nobody_touched(self, studio: Studio) -> None:
        """One frame as it was, one with a moved suggestion, one with a drawn object too, one that somebody cleared."""
        memory, target = Remembered(), f"cvat:task/{studio.second}"
        tool = open_cvat(studio.server, target, memory=memory)
        tool.write_predictions("m-1", self.prelabels(tool))
        first, second = studio.server.jobs_of(studio.second)
        by_frame = {s["frame"]: s for job in (first, second) for s in studio.server.shapes(job.id)}
        by_frame[1].update(points=[20.0, 16.0, 80.0, 64.0], source="semi-auto")
        studio.draw(first.id, 2, DOG)
        studio.server.shapes(second.id).remove(by_frame[4])
        before = {s["id"] for s in by_frame.values()}

        again = open_cvat(studio.server, target, memory=memory)
        assert self.prelabels(again, "m-1") == []
        dog = (Prediction("dog", DOG, 0.5, "m-2"),)
        wanted = [Prelabel(p.item, dog) for p in self.prelabels(again, "m-2")]
        assert [p.item.id for p in wanted] == [f"{studio.second}/{n}" for n in (0, 3, 4)]
        assert again.write_predictions("m-2", wanted) == 3
        now = {
            (s["frame"], s["label_id"], s["id"] in before)
            for job in (first, second)
            for s in studio.server.shapes(job.id)
        }
        cat, dog_id = studio.cat, studio.server.label("dog", project=studio.project).id
        assert now == {
            (0, dog_id, False),
            (1, cat, True),
            (2, cat, True),
            (2, cat, False),
            (3, dog_id, False),
            (4, dog_id, False),
        }
        assert self.prelabels(open_cvat(studio.server, target, memory=memory), "m-2") == []

    @pytest.mark.parametrize("number", range(1, 6))
    @pytest.mark.parametrize("how", ["500", "reset-after"])
    def test_a_replacement_that_is_cut_off_is_completed(self, studio: Studio, number: int, how: str) -> None:
        memory, target = Remembered(), f"cvat:task/{studio.first}"
        tool = open_cvat(studio.server, target, memory=memory)
        tool.write_predictions("m-1", self.prelabels(tool))
        dog = (Prediction("dog", DOG, 0.5, "m-2"), Prediction("cat", CAT, 0.9, "m-2"))
        wanted = [Prelabel(p.item, dog) for p in self.prelabels(tool, "m-2")]
        studio.server.fail(number, how)
        with suppress(ToolError):
            tool.write_predictions("m-2", wanted)
        again = open_cvat(studio.server, target, memory=memory)
        again.write_predictions("m-2", [Prelabel(p.item, dog) for p in self.prelabels(again, "m-2")])
        found = [(s["frame"], s["points"]) for s in studio.server.shapes(studio.server.jobs_of(studio.first)[0].id)]
        assert sorted(found) == sorted((n, list(box.xyxy)) for n in range(2) for box in (CAT, DOG))

    def test_how_they_fared(self, studio: Studio) -> None:
        memory, target = Remembered(), f"cvat:task/{studio.second}"
        tool = open_cvat(studio.server, target, memory=memory)
        tool.write_predictions("m-1", self.prelabels(tool))
        assert tool.acceptance() == []
        first, second = studio.server.jobs_of(studio.second)
        shapes = studio.server.shapes(first.id)
        shapes[1].update(points=[20.0, 16.0, 80.0, 64.0], source="semi-auto")
        shapes[2].update(points=[300.0, 16.0, 380.0, 64.0], source="semi-auto")
        first.state = "completed"
        frames = len(first.frames)
        (counts,) = open_cvat(studio.server, target, memory=memory).acceptance()
        assert (counts.model, counts.label) == ("m-1", "cat")
        assert (counts.suggested, counts.kept, counts.changed, counts.removed) == (frames, frames - 2, 1, 1)
        assert second.state != "completed"

    def test_leave_alone_what_anybody_has_begun(self, studio: Studio) -> None:
        """A drawn frame, one with a tag, those behind a track's start, a finished job and one in validation."""
        first, second = studio.server.jobs_of(studio.second)
        studio.draw(first.id, 1)
        studio.server.annotate(first.id, "tags", label_id=studio.cat, frame=2)
        second.stage = "validation"
        (other,) = studio.server.jobs_of(studio.first)
        other.state = "completed"
        tool = open_cvat(studio.server, f"cvat:project/{studio.project}")
        assert [p.item.id for p in self.prelabels(tool)] == [f"{studio.second}/0"]

    def test_a_job_that_was_finished_meanwhile(self, studio: Studio) -> None:
        tool = open_cvat(studio.server, f"cvat:task/{studio.first}")
        prelabels = self.prelabels(tool)
        studio.submit(studio.first)
        assert tool.write_predictions("m-1", prelabels) == 0
        assert studio.server.shapes(studio.server.jobs_of(studio.first)[0].id) == []

    def test_a_frame_that_was_begun_meanwhile(self, studio: Studio) -> None:
        tool = open_cvat(studio.server, f"cvat:task/{studio.first}")
        prelabels = self.prelabels(tool)
        job = studio.server.jobs_of(studio.first)[0].id
        studio.draw(job, 0, DOG)
        assert tool.write_predictions("m-1", prelabels) == 1
        assert [s["points"] for s in studio.server.shapes(job)] == [list(DOG.xyxy), list(CAT.xyxy)]

    def test_survive_a_lost_answer(self, studio: Studio) -> None:
        tool = open_cvat(studio.server, f"cvat:task/{studio.first}")
        prelabels = self.prelabels(tool)
        # The labels, the version, the job, what it holds, and then the objects.
        studio.server.fail(5, "reset-after")
        with pytest.raises(ToolError):
            tool.write_predictions("m-1", prelabels)
        assert studio.server.calls[-1].method == "PATCH"
        tool.write_predictions("m-1", prelabels)
        assert len(studio.server.shapes(studio.server.jobs_of(studio.first)[0].id)) == 2

    def test_a_label_that_is_not_there(self, studio: Studio) -> None:
        tool = open_cvat(studio.server, f"cvat:task/{studio.first}")
        item = tool.read_page(None, 1).records[0].item
        with pytest.raises(DataError, match="'cow'"):
            tool.write_predictions("m-1", [Prelabel(item, (Prediction("cow", CAT, 0.5, "m-1"),))])

    def test_many_in_parcels(self, server: FakeCvat) -> None:
        owner = server.add_user("olga")
        task = server.add_task("Crowd", images(5), owner=owner, labels=LABELS)
        tool = open_cvat(server, f"cvat:task/{task}")
        crowd = tuple(Prediction("cat", Box(n % 400, 5, n % 400 + 9, 20), 0.5, "m-1") for n in range(900))
        items = [r.item for r in tool.read_page(None, 10).records]
        before = len([c for c in server.calls if c.method == "PATCH"])
        assert tool.write_predictions("m-1", [Prelabel(item, crowd) for item in items]) == 5
        assert len([c for c in server.calls if c.method == "PATCH"]) - before == 3
        assert len(server.shapes(server.jobs_of(task)[0].id)) == 4500


class TestIssueList:
    @pytest.fixture
    def listed(self, studio: Studio) -> Cvat:
        job, other = studio.server.jobs_of(studio.second)
        tool = open_cvat(studio.server, f"cvat:project/{studio.project}")
        first = tool.client.create_issue(job.id, 1, [1, 2, 30, 40], "=1+1 is it a cat?")
        tool.client.create_issue(other.id, 4, [5, 5], "here, too")
        tool.client.call("POST", "/api/comments", json={"issue": first["id"], "message": 'no, "a dog"'})
        tool.client.call("PATCH", f"/api/issues/{first['id']}", json={"resolved": True})
        return tool

    def test_all_with_comments_and_links(self, listed: Cvat) -> None:
        first, second = read_issues(listed)
        assert (first.frame_name, first.state, first.position) == ("photo 1.png", "resolved", (1, 2, 30, 40))
        assert [c.text for c in first.comments] == ["=1+1 is it a cat?", 'no, "a dog"']
        assert {c.author for c in first.comments} == {"olga"}
        assert first.url == f"{listed.client.url}/tasks/{first.task}/jobs/{first.job}?frame=1"
        assert [i.id for i in read_issues(listed, only_open=True)] == [second.id]

    def test_table(self, listed: Cvat) -> None:
        rows = list(csv.DictReader(io.StringIO(to_csv(list(read_issues(listed))))))
        assert [row["frame"] for row in rows] == ["1", "4"]
        assert rows[0]["position"] == "1 2 30 40"
        assert rows[0]["comments"].count("\n") == 1

    def test_no_cell_is_a_formula(self, listed: Cvat) -> None:
        issues = [replace(issue, assignee="=cmd()") for issue in read_issues(listed)]
        assert all(row["assignee"] == "'=cmd()" for row in csv.DictReader(io.StringIO(to_csv(issues))))

    @pytest.mark.parametrize("name", ["issues.csv", "issues.json"])
    def test_command(self, listed: Cvat, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_up(monkeypatch, listed.client.url, tmp_path)
        result = CliRunner().invoke(app, ["issues", listed.target, "--out", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        assert "2 issues" in result.output
        assert "a dog" in (tmp_path / name).read_text()
        shown = CliRunner().invoke(app, ["issues", listed.target])
        assert "photo 1.png" in shown.output
        assert len(json.loads(CliRunner().invoke(app, ["issues", listed.target, "--json"]).stdout)) == 2


def set_up(monkeypatch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    for name, value in (("URL", url), ("USER", "olga"), ("PASSWORD", "secret")):
        monkeypatch.setenv(f"LABELBRIDGE_CVAT_{name}", value)
    monkeypatch.setenv("LABELBRIDGE_HOME", str(home))


class TestSettings:
    def test_doctor_says_who_we_are(self, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_up(monkeypatch, studio.server.url, tmp_path)
        result = CliRunner().invoke(app, ["doctor"])
        assert "olga, in no organization" in result.output
        assert str(studio.server.version) in result.output or "2." in result.output

    def test_doctor_says_what_is_wrong(self, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_up(monkeypatch, studio.server.url, tmp_path)
        monkeypatch.setenv("LABELBRIDGE_CVAT_PASSWORD", "wrong")
        assert "LABELBRIDGE_CVAT_PASSWORD" in CliRunner().invoke(app, ["doctor"]).output

    def test_score_wants_a_model(self, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_up(monkeypatch, studio.server.url, tmp_path)
        result = CliRunner().invoke(app, ["score", f"cvat:task/{studio.first}"])
        assert isinstance(result.exception, UsageError)
        assert "--detector" in result.exception.todo
