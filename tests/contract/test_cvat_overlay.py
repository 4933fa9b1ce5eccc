"""Overlays in CVAT, on every version; and with each of their requests going wrong."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from cvat_harness import picture
from fakes.cvat_server import FakeCvat
from fakes.cvat_server.state import Job
from fakes.tool_memory import Remembered
from harness import finding

from bridge.core.annotations import Annotation, Box, Polygon
from bridge.core.findings import ErrorType, Fix
from bridge.errors import LabelbridgeError, ToolError
from bridge.tools import ReviewCase
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_client import CvatClient, Login
from bridge.tools.cvat_issue_list import read_issues
from bridge.tools.cvat_overlay import Overlay
from bridge.tools.cvat_target import parse_target

Row = dict[str, Any]
#: Label, type, points in whole pixels and whether the attribute says yes.
Drawn = tuple[str, str, tuple[int, ...], bool]

CAT, DOG, FREE, LOOSE = Box(16, 16, 80, 64), Box(200, 100, 300, 180), Box(400, 180, 500, 250), Box(10, 10, 100, 90)
RING = ((20.0, 120.0), (90.0, 120.0), (90.0, 200.0))
TAME: Row = {"name": "tame", "input_type": "select", "values": ["no", "yes"]}
LABELS: list[Row] = [{"name": "cat", "attributes": [TAME]}, {"name": "dog", "attributes": [TAME]}]
VERSIONS = ["2.80", "2.62", "2.22", "2.15"]


def box(label: str, shape: Box, tame: bool = True) -> Drawn:
    return (label, "rectangle", tuple(int(n) for n in shape.xyxy), tame)


class Studio:
    """A task of five frames in two jobs, and mia, who is an administrator unless told otherwise.

    Frame 0 has a cat and a dog, 1 a cat on a track, 2 a polygon and a tag, 3 a loose cat, 4 nothing.
    """

    def __init__(self, server: FakeCvat, *, role: str = "superuser", org: str = "") -> None:
        self.server, self.org = server, org
        self.mia = server.add_user("mia", is_superuser=role == "superuser")
        zoe = server.add_user("zoe")
        home = server.add_organization(org, zoe, {self.mia: "worker" if role == "owner" else role}) if org else None
        owner = self.mia if role in ("owner", "supervisor") else zoe
        project = server.add_project("Pets", LABELS, owner, org=home)
        images = [(f"{n}.png", picture(512, 256)) for n in range(5)]
        self.task = server.add_task("Photos", images, owner=owner, project=project, segment_size=3)
        self.labels = {name: server.label(name, project=project) for name in ("cat", "dog")}
        self.first, self.second = (job.id for job in server.jobs_of(self.task))
        for job in server.jobs_of(self.task):
            job.state = "completed"
        self.draw(self.first, 0, "cat", points=list(CAT.xyxy))
        self.draw(self.first, 0, "dog", points=list(DOG.xyxy))
        keys = [{"type": "rectangle", "frame": n, "points": list(CAT.xyxy), "outside": n > 1} for n in (1, 2)]
        spec = self.labels["cat"].attributes[0].id
        more = {"attributes": [{"spec_id": spec, "value": "yes"}], "shapes": keys}
        server.annotate(self.first, "tracks", label_id=self.labels["cat"].id, frame=1, **more)
        self.draw(self.first, 2, "dog", type="polygon", points=[n for point in RING for n in point])
        server.annotate(self.first, "tags", label_id=self.labels["dog"].id, frame=2)
        self.draw(self.second, 3, "cat", points=list(LOOSE.xyxy))

    def draw(self, job: int, frame: int, label: str, **more: object) -> int:
        number, spec = self.labels[label].id, self.labels[label].attributes[0].id
        fields = {"type": "rectangle", "label_id": number, "frame": frame, "z_order": 2, **more}
        return self.server.annotate(job, **fields, attributes=[{"spec_id": spec, "value": "yes"}])

    def client(self) -> CvatClient:
        login = Login(user="mia", password="secret")
        return CvatClient(self.server.url, login, organization=self.org, sleep=lambda _: None)

    @property
    def tool(self) -> Cvat:
        return Cvat(self.client(), parse_target(f"cvat:task/{self.task}"), Remembered())

    def overlay(self, **more: Any) -> Overlay:
        tool = self.tool
        return Overlay(tool.client, tool._label_list, **{"sleep": lambda _: None, **more})

    def case(self, frame: int, error: ErrorType, fix: Fix, which: int | None = None) -> ReviewCase:
        tool = self.tool
        (record,) = tool.read_records([f"{self.task}/{frame}"]).values()
        about: list[Annotation] = [] if which is None else [record.submissions[0].annotations[which]]
        return ReviewCase(finding(tool, record, error, fix, *about), record.item)

    def cases(self) -> list[ReviewCase]:
        """One of each kind, the last of them on a track."""
        return [
            self.case(0, ErrorType.MISSING, Fix("add", "dog", FREE)),
            self.case(0, ErrorType.WRONG_CLASS, Fix("relabel", "dog", CAT), 0),
            self.case(0, ErrorType.EXTRA, Fix("delete"), 1),
            self.case(3, ErrorType.IMPRECISE, Fix("reshape", "cat", CAT), 0),
            self.case(1, ErrorType.WRONG_CLASS, Fix("relabel", "dog", CAT), 0),
        ]

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def truth(self) -> Job:
        (job,) = self.server.jobs_of(self.task, "ground_truth")
        return job

    def shown(self) -> dict[int, list[Drawn]]:
        """What the overlay draws, by frame."""
        names = {label.id: label for label in self.labels.values()}
        found: dict[int, list[Drawn]] = {frame: [] for frame in self.truth.frames}
        for row in self.truth.annotations.shapes:
            assert row["source"] == "auto"
            tame = [a["value"] for a in row["attributes"]] == ["yes"]
            points = tuple(round(n) for n in row["points"])
            found[row["frame"]].append((names[row["label_id"]].name, row["type"], points, tame))
        return {frame: sorted(rows) for frame, rows in found.items()}

    def conflicts(self) -> list[tuple[int, str]]:
        """Those of the newest report."""
        report = max((r for r in self.server.state.reports.values() if r.job is None), key=lambda r: r.id)
        assert report.truth_updated == self.truth.updated
        return sorted((row["frame"], row["type"]) for row in report.conflicts)

    def people(self) -> Row:
        jobs = self.server.jobs_of(self.task)
        return {job.id: copy.deepcopy((job.annotations, job.stage, job.state, job.assignee)) for job in jobs}

    def journals(self) -> list[str]:
        return [c.message for c in self.server.state.comments.values() if "[labelbridge draws " in c.message]

    def writes(self, start: int = 0) -> list[str]:
        calls = [c for c in self.server.calls[start:] if c.method != "GET" and c.path != "/api/auth/login"]
        return [f"{c.method} {c.path}" for c in calls]


ALL_DRAWN: dict[int, list[Drawn]] = {
    0: sorted([box("dog", CAT), box("dog", FREE, tame=False)]),
    1: [box("dog", CAT)],
    3: [box("cat", CAT)],
}


@pytest.fixture(params=VERSIONS)
def studio(request: pytest.FixtureRequest) -> Iterator[Studio]:
    with FakeCvat(request.param) as server:
        yield Studio(server)


def test_what_is_drawn(studio: Studio) -> None:
    before, records = studio.people(), studio.tool.read_page(None, 9)
    overlay = studio.overlay()
    overlay.check([studio.task])
    assert studio.writes() == []
    assert overlay.draw(studio.cases()) == ()
    assert studio.shown() == ALL_DRAWN
    assert (studio.truth.stage, studio.truth.state) == ("acceptance", "completed")
    # The fake's reports know nothing of tracks.
    found = [(frame, kind) for frame, kind in studio.conflicts() if frame != 1]
    loose = [(3, "low_overlap")] if studio.server.version.minor < 80 else []
    assert [one for one in found if one[0] == 0] == [
        (0, "extra_annotation"),
        (0, "mismatching_label"),
        (0, "missing_annotation"),
    ]
    assert [one for one in found if one[0] == 3] in (loose, [(3, "extra_annotation"), (3, "missing_annotation")])
    assert studio.people() == before
    assert studio.tool.read_page(None, 9) == records
    assert not any(call.method == "PUT" for call in studio.server.calls)


def test_its_note_is_nobodys_issue(studio: Studio) -> None:
    studio.overlay().draw(studio.cases())
    (issue,) = studio.server.state.issues.values()
    assert (issue.job, issue.resolved) == (studio.first, True)
    assert list(read_issues(studio.tool)) == []
    review = studio.tool.open_review(studio.tool.describe().labels, "Review")
    assert list(studio.tool.read_verdicts(review, None)) == []


def test_drawing_again_writes_nothing(studio: Studio) -> None:
    cases = studio.cases()
    studio.overlay().draw(cases)
    start, before = len(studio.server.calls), copy.deepcopy(studio.server.state.jobs)
    studio.overlay().draw(cases)
    studio.overlay().draw(cases[1:3])
    assert studio.writes(start) == []
    assert studio.server.state.jobs == before


def test_more_findings_on_drawn_frames_go_into_the_same_job(studio: Studio) -> None:
    cases = studio.cases()
    studio.overlay().draw([cases[0], cases[3]])
    first = studio.truth.id
    assert studio.shown()[0] == sorted([box("cat", CAT), box("dog", DOG), box("dog", FREE, tame=False)])
    start = len(studio.server.calls)
    studio.overlay().draw(cases[1:4])
    assert studio.truth.id == first
    assert studio.shown() == {n: rows for n, rows in ALL_DRAWN.items() if n != 1}
    assert [w for w in studio.writes(start) if "quality" not in w] == [
        f"POST {path}" if method == "POST" else f"PATCH {path}"
        for method, path in [
            ("POST", "/api/comments"),
            ("PATCH", f"/api/jobs/{first}/annotations"),
            ("PATCH", f"/api/jobs/{first}/annotations"),
        ]
    ]


def test_further_frames_make_it_again(studio: Studio) -> None:
    """What the earlier findings suggest stays drawn, though nobody names them again."""
    cases = studio.cases()
    studio.overlay().draw(cases[:3])
    first = studio.truth.id
    assert studio.truth.frames == (0,)
    studio.overlay().draw(cases[3:])
    assert studio.truth.id != first
    assert studio.shown() == ALL_DRAWN
    assert len(studio.server.state.issues) == 1
    assert len(studio.journals()) == 2
    assert studio.conflicts()


def test_what_people_did_meanwhile(studio: Studio) -> None:
    """An object that was changed since is drawn as it is now; a fix that was written agrees with the overlay."""
    cases = studio.cases()
    cat, dog = studio.server.shapes(studio.first)[:2]
    cat["label_id"] = studio.labels["dog"].id
    cat["attributes"][0]["spec_id"] = studio.labels["dog"].attributes[0].id
    dog["points"] = [float(n) for n in LOOSE.xyxy]
    studio.overlay().draw(cases)
    assert studio.shown()[0] == sorted([box("dog", CAT), box("dog", LOOSE), box("dog", FREE, tame=False)])
    studio.draw(studio.first, 0, "dog", points=list(FREE.xyxy))
    studio.overlay().draw(cases)
    assert studio.shown()[0] == sorted([box("dog", CAT), box("dog", LOOSE), box("dog", FREE)])


def test_polygons_masks_and_tags_are_copied(studio: Studio) -> None:
    mask = [0.0, 1.0, 2.0, 1.0, 300.0, 20.0, 301.0, 21.0]
    studio.draw(studio.first, 2, "cat", type="mask", points=mask)
    studio.draw(studio.first, 2, "cat", type="polyline", points=[1.0, 2.0, 3.0, 4.0])
    cases = [studio.case(2, ErrorType.MISSING, Fix("add", "cat", FREE))]
    studio.overlay().draw(cases)
    ring = tuple(int(n) for point in RING for n in point)
    assert studio.shown()[2] == sorted(
        [
            ("dog", "polygon", ring, True),
            ("cat", "mask", tuple(map(int, mask)), True),
            ("cat", "polyline", (1, 2, 3, 4), True),
            box("cat", FREE, tame=False),
        ]
    )
    assert [t["label_id"] for t in studio.truth.annotations.tags] == [studio.labels["dog"].id]
    start = len(studio.server.calls)
    studio.overlay().draw(cases)
    assert studio.writes(start) == []


def test_a_polygon_is_reshaped(studio: Studio) -> None:
    ring = ((30.0, 120.0), (90.0, 120.0), (90.0, 210.256))
    studio.overlay().draw([studio.case(2, ErrorType.IMPRECISE, Fix("reshape", "dog", Polygon(ring)), 0)])
    (row,) = studio.truth.annotations.shapes
    assert row["points"] == [30.0, 120.0, 90.0, 120.0, 90.0, 210.26]


def test_what_cannot_be_drawn(studio: Studio) -> None:
    tag = studio.case(2, ErrorType.EXTRA, Fix("delete"), 1)
    assert tag.finding.annotation_ids[0].startswith("tag:")
    studio.overlay().draw([tag, studio.case(0, ErrorType.DEGENERATE_SHAPE, Fix("none"), 0)])
    assert studio.writes() == []


def test_frames_that_are_counted_otherwise_in_the_source(studio: Studio) -> None:
    task = studio.server.state.tasks[studio.task]
    task.start_frame, task.step = 100, 5
    cases = studio.cases()
    studio.overlay().draw(cases[:3])
    studio.overlay().draw(cases)
    assert studio.shown() == ALL_DRAWN


def test_frames_in_two_jobs_are_drawn_as_in_the_first_findings(studio: Studio) -> None:
    state = studio.server.state
    state.jobs[studio.second].start = 2
    studio.draw(studio.second, 2, "cat", points=list(CAT.xyxy))
    case = studio.case(2, ErrorType.MISSING, Fix("add", "cat", FREE))
    assert case.finding.submission_id == f"{studio.first}/2"
    studio.overlay().draw([case])
    assert [label for label, *_ in studio.shown()[2]] == ["cat", "dog"]


class TestNotOurs:
    def test_the_users_ground_truth(self, studio: Studio) -> None:
        client = studio.client()
        client.create_truth(studio.task, [0, 3])
        self.refused(studio, studio.cases(), "which is not labelbridge's.*--mode issues")

    def test_honeypots(self) -> None:
        with FakeCvat("2.80") as server:
            studio = Studio(server)
            more = {"segment_size": 2, "ground_truth": [4, 5], "honeypots": {1: 4}}
            images = [(f"{n}.png", picture(64, 64)) for n in range(6)]
            task = server.add_task("Pool", images, owner=studio.mia, labels=LABELS, **more)
            with pytest.raises(ToolError, match="honeypots"):
                studio.overlay().check([studio.task, task])

    def test_one_of_other_frames_than_the_journals(self, studio: Studio) -> None:
        """Ours was deleted, and the user made one."""
        cases = studio.cases()
        studio.overlay().draw(cases)
        client = studio.client()
        client.delete_job(studio.truth.id)
        client.create_truth(studio.task, [0, 1, 2, 3])
        self.refused(studio, cases, "not labelbridge's")

    def test_objects_that_somebody_changed(self, studio: Studio) -> None:
        cases = studio.cases()
        studio.overlay().draw(cases[:3])
        studio.truth.annotations.shapes[0]["source"] = "semi-auto"
        self.refused(studio, cases, "1 object in job")

    def test_a_track_that_somebody_drew(self, studio: Studio) -> None:
        cases = studio.cases()
        studio.overlay().draw(cases[:3])
        studio.server.annotate(studio.truth.id, "tracks", label_id=studio.labels["cat"].id, frame=0, shapes=[])
        self.refused(studio, cases, "1 object in job")

    def test_issues_in_it_are_not_deleted_with_it(self, studio: Studio) -> None:
        cases = studio.cases()
        studio.overlay().draw(cases[:3])
        truth = studio.truth
        issue = studio.client().create_issue(truth.id, 0, [1.0, 1.0], "Is this so?")
        with pytest.raises(ToolError, match="there are issues in it: 1"):
            studio.overlay().draw(cases)
        assert studio.truth is truth
        studio.client().delete_issue(int(issue["id"]))
        studio.overlay().draw(cases)
        assert studio.shown() == ALL_DRAWN

    def test_a_journal_that_somebody_changed(self, studio: Studio) -> None:
        cases = studio.cases()
        studio.overlay().draw(cases)
        (comment,) = studio.server.state.comments.values()
        comment.message = comment.message.replace('"frame":0', '"frame":"?"')
        self.refused(studio, cases, f"wrote into issue {comment.issue}")

    def refused(self, studio: Studio, cases: Sequence[ReviewCase], message: str) -> None:
        start, before = len(studio.server.calls), copy.deepcopy(studio.server.state.jobs)
        with pytest.raises(ToolError, match=message):
            studio.overlay().check([studio.task])
        with pytest.raises(ToolError, match=message):
            studio.overlay().draw(cases)
        assert studio.writes(start) == []
        assert studio.server.state.jobs == before


class TestRights:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_worker_of_the_organization_leaves_no_trace(self, version: str) -> None:
        with FakeCvat(version) as server:
            studio = Studio(server, role="owner", org="zoo")
            with pytest.raises(ToolError, match="a maintainer of the organization") as error:
                studio.overlay().draw(studio.cases())
            assert "--mode issues" in str(error.value)
            assert server.state.issues == {}
            assert server.jobs_of(studio.task, "ground_truth") == []

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize(("role", "org"), [("owner", ""), ("supervisor", "zoo"), ("maintainer", "zoo")])
    def test_markers_may_need_an_administrator(self, version: str, role: str, org: str) -> None:
        with FakeCvat(version) as server:
            studio = Studio(server, role=role, org=org)
            notes = studio.overlay().draw(studio.cases())
            assert studio.shown() == ALL_DRAWN
            if version in ("2.15", "2.22"):
                assert len(notes) == 1
                assert f"Task {studio.task} shows the suggestions without conflict markers" in notes[0]
                assert "403" in notes[0]
                assert "administrators" in notes[0]
            else:
                assert notes == ()
                assert studio.conflicts()


class TestReports:
    def test_one_that_takes_long(self, studio: Studio) -> None:
        studio.server.state.polls_until_done = 10
        studio.overlay().draw(studio.cases())
        assert studio.conflicts()

    def test_one_that_takes_too_long(self, studio: Studio) -> None:
        studio.server.state.polls_until_done = 10**6
        pauses: list[float] = []
        overlay = studio.overlay(patience_s=60, sleep=pauses.append)
        with pytest.raises(ToolError, match=r"within 60 s.*cvat_worker_quality_reports"):
            overlay.draw(studio.cases())
        assert 60 <= sum(pauses) <= 70
        assert studio.shown() == ALL_DRAWN
        studio.server.state.polls_until_done = 1
        studio.server.state.requests.clear()
        studio.overlay().draw(studio.cases())
        assert studio.conflicts()

    def test_one_that_fails(self, studio: Studio) -> None:
        state = studio.server.state

        def broken() -> object:
            raise ValueError("out of memory")

        def sleep(_: float) -> None:
            for request in state.requests.values():
                request.work = broken

        with pytest.raises(ToolError, match=r"could not make the quality report.*out of memory"):
            studio.overlay(sleep=sleep).draw(studio.cases())

    def test_another_is_under_way(self, studio: Studio) -> None:
        """It may have been begun before what is drawn now was there; then a second one is made."""
        cases = studio.cases()
        studio.overlay().draw(cases[:2])
        studio.client().start_quality_report(studio.task)
        studio.overlay().draw(cases[:3])
        assert studio.conflicts()


# --- every request goes wrong ---------------------------------------------------------------------------------------

EVERY = [
    *(("2.15", how) for how in ("500-after", "reset-after")),
    *(("2.22", how) for how in ("500", "500-after")),
    *(("2.62", how) for how in ("reset-before", "reset-after")),
    *(("2.80", how) for how in ("500", "500-after", "504-after", "reset-before", "reset-after")),
]


TABLES = ("jobs", "issues", "comments", "reports")


def save(studio: Studio) -> Row:
    return copy.deepcopy({name: getattr(studio.server.state, name) for name in TABLES})


def restore(studio: Studio, saved: Row) -> None:
    for name in TABLES:
        setattr(studio.server.state, name, copy.deepcopy(saved[name]))
    studio.server.state.requests.clear()


def draw(studio: Studio, cases: Sequence[ReviewCase]) -> bool:
    """Whether it went well."""
    try:
        studio.overlay().draw(cases)
    except LabelbridgeError:
        return False
    return True


def check(studio: Studio, cases: Sequence[ReviewCase], told: object) -> None:
    """Everything is drawn, once, and written down once."""
    assert studio.shown() == ALL_DRAWN, told
    assert (studio.truth.stage, studio.truth.state) == ("acceptance", "completed"), told
    assert len(studio.server.state.issues) == 1, told
    noted = [name for text in studio.journals() for name in re.findall(r'"finding":"(\w+)"', text)]
    assert sorted(noted) == sorted(case.finding.id for case in cases), told
    assert studio.conflicts(), told


@pytest.mark.slow
@pytest.mark.parametrize("drawn_before", [False, True], ids=["first", "again"])
@pytest.mark.parametrize(("version", "how"), EVERY)
def test_when_a_request_goes_wrong(version: str, how: str, drawn_before: bool) -> None:
    """Each request of an overlay once, which is new or needs further frames; then it is drawn again, and is right."""
    with FakeCvat(version) as server:
        studio = Studio(server)
        cases = studio.cases()
        if drawn_before:
            studio.overlay().draw(cases[:3])
        saved, start = save(studio), len(server.calls)
        assert draw(studio, cases)
        check(studio, cases, "nothing went wrong")
        calls, failed = len(server.calls) - start, 0
        for number in range(1, calls + 1):
            restore(studio, saved)
            start = len(server.calls)
            server.fail(number, how)
            failed += not draw(studio, cases)
            call = server.calls[start + number - 1]
            assert call.status == (int(how[:3]) if how[:3].isdigit() else 0)
            assert draw(studio, cases)
            check(studio, cases, f"call {number} of {calls} went wrong: {call}")
        print(f"\n{calls} calls, each with {how}: {failed} runs failed, all were made good")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.15", "2.80"])
def test_when_request_after_request_goes_wrong(version: str) -> None:
    """Several runs, each with other findings and cut off elsewhere, before one that is not."""
    choose = random.Random(7)
    with FakeCvat(version) as server:
        studio = Studio(server)
        cases, saved = studio.cases(), save(studio)
        for _ in range(60):
            restore(studio, saved)
            story = []
            for _ in range(choose.randint(2, 4)):
                how = choose.choice(["500", "500-after", "reset-after"])
                number, part = choose.randint(1, 20), choose.sample(cases, choose.randint(1, 5))
                server.fail(number, how)
                story.append((number, how, [c.finding.fix.action for c in part], draw(studio, part)))
                server._wire.failures.planned.clear()
            assert draw(studio, cases), story
            check(studio, cases, story)
            start = len(server.calls)
            assert draw(studio, cases), story
            assert studio.writes(start) == [], story
