"""The whole journey on CVAT, for everybody who may make it; and again with every one of its requests going wrong."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cvat_world import ALL_KINDS, Case, CvatDesk, CvatWorld, Held, Picture, open_desk, writes
from fakes.cvat_server import FakeCvat
from fakes.pictures import CAT, DOG, ELSEWHERE, LOOSE_CAT, TRUTH

from bridge.errors import LabelbridgeError, NotFound, ToolError
from bridge.store import StoredFinding
from bridge.tools.cvat_review_plan import ReviewMode, ReviewPlan

CASES = [
    Case("2.15", "owner"),
    Case("2.15", "maintainer", "zoo", "project"),
    Case("2.15", "superuser", "zoo"),
    Case("2.22", "superuser", kind="project"),
    Case("2.22", "owner", "zoo"),
    Case("2.22", "maintainer", "zoo", "job"),
    Case("2.62", "maintainer", "zoo"),
    Case("2.62", "owner", kind="project"),
    Case("2.62", "superuser", "zoo", "project"),
    Case("2.80", "owner", kind="job"),
    Case("2.80", "owner", "zoo", "project"),
    Case("2.80", "maintainer", "zoo", "project"),
    Case("2.80", "superuser"),
    Case("2.15", "owner", video=True),
    Case("2.80", "maintainer", "zoo", "project", video=True),
]
PICTURES = [
    Picture(TRUTH, (("cat", CAT),)),
    Picture(TRUTH, (("dog", CAT), ("dog", DOG))),
    Picture(TRUTH, (*TRUTH, ("cat", ELSEWHERE))),
    Picture(TRUTH, (("cat", LOOSE_CAT), ("dog", DOG))),
    Picture(TRUTH, TRUTH),
    Picture(TRUTH, (("dog", DOG), ("dog", ELSEWHERE))),
]
ERRORS = ["extra", "extra", "imprecise", "missing", "missing", "wrong_class"]


def finding_of(desk: CvatDesk, picture: int, error: str) -> StoredFinding:
    frame = f"{desk.world.tasks[0]}/{picture}"
    (found,) = [f for f in desk.likely() if f.finding.item_id == frame and f.finding.error == error]
    return found


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[CvatWorld]:
    case: Case = request.param
    with FakeCvat(case.version) as server:
        yield CvatWorld(server, case, PICTURES, begun=False)


@pytest.mark.parametrize("world", CASES, ids=str, indirect=True)
def test_journey(world: CvatWorld, tmp_path: Path) -> None:
    (task,) = world.tasks
    (job,) = world.server.jobs_of(task)
    with open_desk(world, tmp_path) as desk:
        suggested = desk.prelabel()
        assert (suggested.written, suggested.predictions) == (len(PICTURES), 2 * len(PICTURES))
        assert {row["source"] for row in world.held().values()} == {"auto"}
        world.annotate()
        before = world.held()
        desk.score()
        likely = desk.likely()
        assert sorted(f.finding.error for f in likely) == ERRORS

        pushed, calls = desk.calls(desk.push)
        assert pushed.pushed == len(likely)
        assert writes(calls) == [f"PATCH /api/jobs/{job.id}", *["POST /api/issues"] * len(likely)]
        assert (job.stage, job.state) == ("validation", "new")
        assert world.marks() == Counter(f.finding.id for f in likely)
        assert world.held() == before
        desk.score()
        pushed, calls = desk.calls(desk.push)
        assert (pushed.pushed, writes(calls)) == (0, [])

        answered = {f.finding.id: world.issue_of(f) for f in desk.likely()}
        relabelled, reshaped = finding_of(desk, 1, "wrong_class"), finding_of(desk, 3, "imprecise")
        rejected, deleted = finding_of(desk, 2, "extra"), finding_of(desk, 5, "extra")
        by_hand, added = finding_of(desk, 5, "missing"), finding_of(desk, 0, "missing")
        for finding in (relabelled, reshaped, deleted, added):
            world.say(answered[finding.finding.id], "Accept, please.")
        world.say(answered[rejected.finding.id], "reject: it is a cat")
        drawn = world.draw(job.id, 5, "cat", CAT)
        world.resolve(answered[by_hand.finding.id])
        edited = world.held()

        result, calls = desk.calls(desk.sync)
        assert result.verdicts == {"accept": 4, "reject": 1, "edit": 1}
        assert result.fixes == {"applied": 4, "already": 1}
        assert (result.verified, result.reopened, result.conflicts, result.failures) == (5, 0, (), ())
        assert set(writes(calls)) == {f"PATCH /api/jobs/{job.id}/annotations"}
        truth = sorted((label, [float(n) for n in box.xyxy]) for label, box in TRUTH)
        extra = ("cat", [float(n) for n in ELSEWHERE.xyxy])
        for frame in range(len(PICTURES)):
            assert world.objects(task, frame) == (sorted([*truth, extra]) if frame == 2 else truth)
        check_others(edited, world.held(), [relabelled, reshaped, deleted, added])
        assert ("shapes", drawn) in world.held()
        states = Counter(str(f.state) for f in desk.likely())
        assert states == {"verified": 5, "rejected": 1}

        after = world.held()
        result, calls = desk.calls(desk.sync)
        assert (result.changed, result.failures, writes(calls)) == (False, (), [])
        assert world.held() == after


@pytest.mark.parametrize("world", CASES, ids=str, indirect=True)
def test_journey_through_a_review_task(world: CvatWorld, tmp_path: Path) -> None:
    """The same errors; the reviewer answers in shapes, with and without a word."""
    world.annotate()
    (task,) = world.tasks
    state = world.server.state
    with open_desk(world, tmp_path) as desk:
        desk.plan = ReviewPlan(ReviewMode.TASK)
        desk.score()
        before = world.held()
        pushed = desk.push(chunk=10)
        likely = desk.likely()
        assert (pushed.pushed, pushed.failures) == (len(likely), ())
        assert pushed.review
        project = state.projects[int(pushed.review.ref)]
        (review,) = [t for t in state.tasks.values() if t.project == project.id]
        (job,) = world.server.jobs_of(review.id)
        assert len(review.frames) == len({f.finding.item_id for f in likely})
        assert {key: world.held()[key] for key in before} == before
        assert state.issues == {}
        desk.score()
        again, calls = desk.calls(lambda: desk.push(chunk=10))
        assert (again.pushed, writes(calls)) == (0, [])
        assert desk.sync().verdicts == {}

        relabelled, reshaped = finding_of(desk, 1, "wrong_class"), finding_of(desk, 3, "imprecise")
        rejected, deleted = finding_of(desk, 2, "extra"), finding_of(desk, 5, "extra")
        moved, added = finding_of(desk, 5, "missing"), finding_of(desk, 0, "missing")
        world.look(job.id, "accept", relabelled.finding.id)
        world.look(job.id, "accept", added.finding.id)
        world.look(job.id, "reject", rejected.finding.id)
        assert desk.sync().verdicts == {"accept": 2, "reject": 1}
        corrected = [float(n) + 2 for n in CAT.xyxy]
        world.look(job.id, "", moved.finding.id, points=corrected)
        gone = world.review_shape(job.id, deleted.finding.id)
        body = {"version": 0, "tags": [], "tracks": [], "shapes": [gone]}
        world.client().call("PATCH", f"/api/jobs/{job.id}/annotations", params={"action": "delete"}, json=body)
        assert desk.sync().verdicts == {}, "without a word, and the job is not completed"
        job.state = "completed"
        result = desk.sync()
        assert result.verdicts == {"edit": 1, "accept": 1}
        assert (result.fixes, result.verified, result.conflicts) == ({"applied": 2}, 2, ())
        assert ("cat", corrected) in world.objects(task, 5)
        assert {str(desk.store.finding(f.finding.id).state) for f in (relabelled, added, moved, deleted)} == {
            "verified"
        }
        assert desk.store.finding(reshaped.finding.id).state == "pushed", "it was left as it is"
        world.look(job.id, "accept", reshaped.finding.id)
        assert desk.sync().verdicts == {"accept": 1}, "what was answered before is not told again"

        after = world.held()
        result, calls = desk.calls(desk.sync)
        assert (result.changed, result.failures, writes(calls)) == (False, (), [])
        assert world.held() == after


@pytest.mark.parametrize("world", CASES, ids=str, indirect=True)
def test_journey_with_an_overlay(world: CvatWorld, tmp_path: Path) -> None:
    """As issues, and drawn over the work: what the ground truth job holds is nobody's work and changes nothing else."""
    world.annotate()
    (task,) = world.tasks
    server = world.server
    with open_desk(world, tmp_path) as desk:
        desk.plan = ReviewPlan(ReviewMode.OVERLAY)
        desk.score()
        before = world.held()
        desk.push()
        likely = desk.likely()
        (truth,) = server.jobs_of(task, "ground_truth")
        assert set(truth.frames) == {int(f.finding.item_id.partition("/")[2]) for f in likely}
        assert (truth.stage, truth.state) == ("acceptance", "completed")
        assert {key: world.held()[key] for key in before} == before
        assert world.marks() == Counter(f.finding.id for f in likely)
        names = {number: name for name, number in world.labels.items()}
        drawn = {(s["frame"], names[s["label_id"]], tuple(map(round, s["points"]))) for s in truth.annotations.shapes}
        truly = {(f, label, tuple(map(round, box.xyxy))) for f in truth.frames for label, box in TRUTH}
        assert drawn == truly, "every finding accepted"
        desk.score()
        again, calls = desk.calls(desk.push)
        assert (again.pushed, writes(calls)) == (0, [])

        for finding in likely:
            world.say(world.issue_of(finding), "accept")
        result = desk.sync()
        assert (result.verified, result.conflicts, result.failures) == (len(likely), (), ())
        after = world.held()
        result, calls = desk.calls(desk.sync)
        assert (result.changed, result.failures, writes(calls)) == (False, (), [])
        assert world.held() == after


@pytest.mark.parametrize("version", ["2.15", "2.80"])
def test_reviewers_get_jobs_and_annotators_get_them_back(version: str, tmp_path: Path) -> None:
    with FakeCvat(version) as server:
        world = CvatWorld(server, Case(version, "maintainer", "zoo", "project"), PICTURES)
        (job,) = server.jobs_of(world.tasks[0])
        ann, rob = server.user_id("ann"), server.add_user("rob")
        with open_desk(world, tmp_path) as desk:
            desk.score()
            desk.plan = ReviewPlan(reviewer="rob")
            with pytest.raises(NotFound, match="CVAT shows no user 'rob'"):
                desk.push()
            assert server.state.issues == {}
            server.add_member("zoo", rob, "worker")
            desk.push()
            assert (job.stage, job.state, job.assignee) == ("validation", "new", rob)
            desk.score()
            run = desk.store.runs(world.target)[0]
            submissions = [s for chunk in desk.store.chunks(run.id) for record in chunk for s in record.submissions]
            assert {s.annotator for s in submissions} == {"ann"}, "it is rob's turn, and ann's work"

            assert desk.tool.send_back_rejected() == []
            world.client("rob").call("PATCH", f"/api/jobs/{job.id}", json={"state": "rejected"})
            (sent,) = desk.tool.send_back_rejected()
            assert (sent.job, sent.annotator) == (job.id, "ann")
            assert (job.stage, job.state, job.assignee) == ("annotation", "rejected", ann)
            assert desk.tool.send_back_rejected() == []


def test_who_may_not_set_the_stage_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with FakeCvat() as server:
        world = CvatWorld(server, Case("2.80", "maintainer", "zoo", "job"), PICTURES)
        with open_desk(world, tmp_path) as desk:
            desk.score()
            world.user = "ann"
            with pytest.raises(ToolError, match="cannot go to review") as caught:
                desk.push()
            assert "--no-hand-over" in caught.value.todo
            assert server.state.issues == {}
            desk.plan = ReviewPlan(hand_over=False)
            assert desk.push().pushed == len(desk.likely())
            (job,) = server.jobs_of(world.tasks[0])
            assert (job.stage, job.state) == ("annotation", "completed")


def check_others(before: Held, after: Held, fixed: list[StoredFinding]) -> None:
    """What the fixes are not about is as it was, and what they changed has kept its id and all else."""
    concerned = {("shapes", int(a.partition(":")[2])): f for f in fixed for a in f.finding.annotation_ids}
    others = {key: row for key, row in before.items() if key not in concerned}
    assert {key: after.get(key) for key in others} == others
    kept = {key for key, found in concerned.items() if found.finding.fix.action != "delete"}
    assert {key for key in concerned if key in after} == kept
    for key in kept:
        old, new = before[key], after[key]
        assert {name for name, value in old.items() if new[name] != value} <= {"label_id", "points", "attributes"}
        assert [a["value"] for a in new["attributes"]] == [a["value"] for a in old["attributes"]]
    added = [f for f in fixed if f.finding.fix.action == "add"]
    assert len(after.keys() - before.keys()) == len(added)


@pytest.mark.parametrize("version", ["2.15", "2.80"])
def test_pushed_from_another_data_folder(version: str, tmp_path: Path) -> None:
    """The issues themselves say which findings they are of."""
    with FakeCvat(version) as server:
        world = CvatWorld(server, Case(version, "owner"), PICTURES)
        refs = []
        for name in ("one", "two"):
            with open_desk(world, tmp_path / name) as desk:
                desk.score()
                desk.push()
                refs.append({f.finding.id: world.issue_of(f) for f in desk.likely()})
        assert refs[0] == refs[1]
        assert set(world.marks().values()) == {1}


@pytest.mark.parametrize("version", ["2.15", "2.80"])
def test_a_project_of_several_tasks_and_jobs(version: str, tmp_path: Path) -> None:
    """Each issue goes to the job it is about, and each fix; a job in work is left alone."""
    with FakeCvat(version) as server:
        case = Case(version, "maintainer", "zoo", "project")
        world = CvatWorld(server, case, PICTURES[:4], PICTURES[2:], segment_size=2)
        in_work = server.jobs_of(world.tasks[1])[1]
        in_work.state = "in progress"
        with open_desk(world, tmp_path) as desk:
            desk.score()
            desk.push(chunk=2)
            likely = desk.likely()
            assert sorted(f.finding.error for f in likely) == sorted(
                ["missing", "wrong_class", "extra", "imprecise", "extra", "imprecise"]
            )
            for found in likely:
                issue = server.state.issues[world.issue_of(found)]
                assert found.finding.submission_id == f"{issue.job}/{issue.frame}"
                world.say(issue.id, "accept")
            before = world.held()
            result = desk.sync(chunk=2)
            assert (result.verified, result.reopened) == (6, 0)
            check_others(before, world.held(), likely)
            assert in_work.id not in {i.job for i in server.state.issues.values()}


# --- every request goes wrong ---------------------------------------------------------------------------------------

FAILURES = {
    "2.15": ("500-after", "reset-after"),
    "2.80": ("500", "500-after", "504-after", "reset-before", "reset-after", "timeout-before"),
}
EVERY = [(version, how) for version, hows in FAILURES.items() for how in hows]
SOME = [("2.15", "500-after"), ("2.80", "500-after"), ("2.80", "reset-before")]
SLOW_S = 0.25


class Rehearsal:
    """A journey that can be made again and again from the same start: the server's and the data folder's."""

    def __init__(
        self, world: CvatWorld, home: Path, prepare: Callable[[CvatDesk], None], plan: ReviewPlan | None = None
    ) -> None:
        self.world, self._home = world, home
        self._plan = plan
        with open_desk(world, home) as desk:
            desk.plan = plan
            prepare(desk)
        self._saved, self.before = world.copy(), world.held()
        self._number = 0

    def start(self, stack: ExitStack) -> CvatDesk:
        self.world.restore(self._saved)
        self._number += 1
        home = self._home.with_name(f"{self._home.name} {self._number}")
        shutil.copytree(self._home, home)
        stack.callback(shutil.rmtree, home)
        desk = stack.enter_context(open_desk(self.world, home))
        desk.plan = self._plan
        return desk

    def everywhere(self, how: str, journey: Callable[[CvatDesk], Any], check: Callable[[CvatDesk], None]) -> str:
        """Make the journey with each of its requests going wrong, and then once more; what happened in words."""
        with ExitStack() as stack:
            desk = self.start(stack)
            _, calls = desk.calls(lambda: journey(desk))
            check(desk)
        raised = 0
        for number in range(1, len(calls) + 1):
            with ExitStack() as stack:
                desk = self.start(stack)
                desk.timeout = SLOW_S if how.startswith("timeout") else 30.0
                self.world.server.fail(number, how)
                before = len(self.world.server.calls)
                try:
                    journey(desk)
                except LabelbridgeError:
                    raised += 1
                failed = self.world.server.calls[before + number - 1]
                assert failed.status == (int(how[:3]) if how[:3].isdigit() else 0), failed
                desk.timeout = 30.0
                journey(desk)
                try:
                    check(desk)
                except (AssertionError, ValueError) as error:
                    error.add_note(f"call {number} of {len(calls)} went wrong with {how}: {failed}")
                    raise
        return f"{len(calls)} calls, each with {how}: {raised} runs failed, all were made good"


def prepare_push(desk: CvatDesk) -> None:
    desk.score()
    assert sorted(f.finding.error for f in desk.likely()) == ["extra", "imprecise", "missing", "wrong_class"]


def prepare_sync(desk: CvatDesk) -> None:
    prepare_push(desk)
    desk.push()
    for finding in desk.likely():
        desk.world.say(desk.world.issue_of(finding), "accept")


def prepare_task_sync(desk: CvatDesk) -> None:
    prepare_push(desk)
    desk.push(chunk=10)
    (job,) = desk.world.review_jobs()
    for finding in desk.likely():
        desk.world.look(job.id, "accept", finding.finding.id)


def fragile(version: str) -> CvatWorld:
    """A picture with an error of each kind, and one without any, whose cat is a track."""
    case = Case(version, "maintainer", "zoo", "project")
    world = CvatWorld(FakeCvat(version), case, [ALL_KINDS, Picture(TRUTH, TRUTH[1:])])
    (job,) = world.server.jobs_of(world.tasks[0])
    key = {"type": "rectangle", "frame": 1, "points": list(CAT.xyxy)}
    world.server.annotate(job.id, "tracks", label_id=world.labels["cat"], frame=1, shapes=[key])
    return world


@pytest.fixture(scope="module")
def pushing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    world = fragile(request.param)
    with world.server:
        yield Rehearsal(world, tmp_path_factory.mktemp("push") / "home", prepare_push)


@pytest.fixture(scope="module")
def syncing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    world = fragile(request.param)
    with world.server:
        yield Rehearsal(world, tmp_path_factory.mktemp("sync") / "home", prepare_sync)


TASK = ReviewPlan(ReviewMode.TASK, reviewer="ann")


@pytest.fixture(scope="module")
def pushing_task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    world = fragile(request.param)
    with world.server:
        yield Rehearsal(world, tmp_path_factory.mktemp("push") / "home", prepare_push, TASK)


@pytest.fixture(scope="module")
def syncing_task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    world = fragile(request.param)
    with world.server:
        yield Rehearsal(world, tmp_path_factory.mktemp("sync") / "home", prepare_task_sync, TASK)


@pytest.mark.slow
@pytest.mark.parametrize(("pushing_task", "how"), SOME, indirect=["pushing_task"])
def test_push_of_a_task_when_a_request_goes_wrong(pushing_task: Rehearsal, how: str) -> None:
    world, before = pushing_task.world, pushing_task.before

    def check(desk: CvatDesk) -> None:
        likely = desk.likely()
        assert {str(f.state) for f in likely} == {"pushed"}
        jobs = world.review_jobs()
        assert {job.assignee for job in jobs} == {world.server.user_id("ann")}
        asked = Counter(
            (f"{job.task}/shape:{shape['id']}", attribute["value"])
            for job in jobs
            for shape in job.annotations.shapes
            for attribute in shape["attributes"]
        )
        places = {(p.ref, f.finding.id) for f in likely for p in f.pushed}
        assert len(places) == len(likely)
        ids = {f.finding.id for f in likely}
        assert {key: n for key, n in asked.items() if key[1] in ids} == dict.fromkeys(places, 1)
        assert {key: world.held()[key] for key in before} == before
        # The project itself, whose answer may have got lost, is found again by the next run.
        assert len(world.server.state.projects) == 2

    print(f"\npush of a task: {pushing_task.everywhere(how, lambda desk: desk.push(chunk=10), check)}")


@pytest.mark.slow
@pytest.mark.parametrize(("syncing_task", "how"), SOME, indirect=["syncing_task"])
def test_sync_of_a_task_when_a_request_goes_wrong(syncing_task: Rehearsal, how: str) -> None:
    world = syncing_task.world
    (task,) = world.tasks

    def check(desk: CvatDesk) -> None:
        likely = desk.likely()
        assert {str(f.state) for f in likely} == {"verified"}
        right = sorted((label, [float(n) for n in box.xyxy]) for label, box in ALL_KINDS.shows)
        assert world.objects(task, 0) == right
        assert [len(desk.store.verdicts(f.finding.id)) for f in likely] == [1] * len(likely)

    print(f"\nsync of a task: {syncing_task.everywhere(how, CvatDesk.sync, check)}")


@pytest.mark.slow
@pytest.mark.parametrize(("pushing", "how"), EVERY, indirect=["pushing"])
def test_push_when_a_request_goes_wrong(pushing: Rehearsal, how: str) -> None:
    world, before = pushing.world, pushing.before

    def check(desk: CvatDesk) -> None:
        likely = desk.likely()
        assert world.marks() == Counter(f.finding.id for f in likely)
        assert {world.issue_of(f) for f in likely} == set(world.server.state.issues)
        assert {str(f.state) for f in likely} == {"pushed"}
        assert world.held() == before

    print(f"\npush: {pushing.everywhere(how, CvatDesk.push, check)}")


@pytest.mark.slow
@pytest.mark.parametrize(("syncing", "how"), EVERY, indirect=["syncing"])
def test_sync_when_a_request_goes_wrong(syncing: Rehearsal, how: str) -> None:
    world, before = syncing.world, syncing.before
    (task,) = world.tasks

    def check(desk: CvatDesk) -> None:
        likely = desk.likely()
        assert {str(f.state) for f in likely} == {"verified"}
        check_others(before, world.held(), likely)
        right = sorted((label, [float(n) for n in box.xyxy]) for label, box in ALL_KINDS.shows)
        assert world.objects(task, 0) == right
        outcomes = [desk.store.verdicts(f.finding.id) for f in likely]
        assert [len(v) for v in outcomes] == [1] * len(likely)

    print(f"\nsync: {syncing.everywhere(how, CvatDesk.sync, check)}")
