"""What people may do to a CVAT between two commands, and during one: it is told, and nothing is half written."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cvat_world import ALL_KINDS, RIGHT, Case, CvatDesk, CvatWorld, Picture, open_desk, writes
from fakes.cvat_server import Call, FakeCvat
from fakes.pictures import CAT, ELSEWHERE, TRUTH
from fakes.tool_memory import Remembered

from bridge.core.annotations import Box, Mask, Prediction
from bridge.core.rle import encode_coco
from bridge.dialects.cvat_new_shapes import mask_to_points
from bridge.errors import DataError, ToolError
from bridge.flows.progress import silent
from bridge.flows.score import ScoreOptions, score
from bridge.flows.sources import FilePredictions
from bridge.scorers.object_review import ObjectReview
from bridge.store import StoredFinding
from bridge.tools import FixOrder, Outcome, Prelabel
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_target import parse_target

EXTRA = Picture(TRUTH, (*TRUTH, ("cat", ELSEWHERE)))


@pytest.fixture(params=["2.15", "2.80"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeCvat]:
    with FakeCvat(request.param) as running:
        yield running


@pytest.fixture
def open_world(server: FakeCvat, tmp_path: Path) -> Callable[..., CvatWorld]:
    return lambda *pictures: CvatWorld(server, Case(str(server.version), "owner"), pictures)


def accept_all(desk: CvatDesk) -> dict[str, StoredFinding]:
    """Score, push, and accept what was found: the findings by their error and picture."""
    desk.score()
    desk.push()
    for found in desk.likely():
        desk.world.say(desk.world.issue_of(found), "accept")
    return {f"{f.finding.error} {f.finding.item_name[-5]}": f for f in desk.likely()}


def state(desk: CvatDesk, found: StoredFinding) -> str:
    return str(desk.store.finding(found.finding.id).state)


def after(server: FakeCvat, method: str, path: str, act: Callable[[], None]) -> None:
    """Once, when a request was handled and before its answer is sent."""

    def hook(call: Call) -> None:
        if call.method == method and call.path.endswith(path):
            server.on_answer = None
            act()

    server.on_answer = hook


def test_a_label_that_was_renamed(open_world: Callable[..., CvatWorld], tmp_path: Path) -> None:
    """What is about it is a conflict that says so; the rest is written."""
    world = open_world(ALL_KINDS)
    with open_desk(world, tmp_path) as desk:
        found = accept_all(desk)
        world.server.state.labels[world.labels["dog"]].name = "hound"
        result = desk.sync()
        assert {name: state(desk, f) for name, f in found.items()} == {
            "wrong_class 0": "conflict",
            "missing 0": "conflict",
            "extra 0": "verified",
            "imprecise 0": "verified",
        }
        renamed = "the label 'dog' was renamed since it was scored, perhaps to 'hound'"
        assert any(renamed in message for message in result.conflicts)
        assert any("CVAT has no label 'dog'" in message for message in result.conflicts)


class TestDeletedFrames:
    def test_between_score_and_push(self, open_world: Callable[..., CvatWorld], tmp_path: Path) -> None:
        world = open_world(EXTRA, EXTRA, RIGHT)
        with open_desk(world, tmp_path) as desk:
            desk.score()
            world.server.state.tasks[world.tasks[0]].deleted = {0}
            result = desk.push()
            assert result.pushed == 1
            (failure,) = result.failures
            assert "photo 0-0.png" in failure.item
            assert "deleted" in failure.message
            assert len(world.marks()) == 1

    def test_between_push_and_sync(self, open_world: Callable[..., CvatWorld], tmp_path: Path) -> None:
        world = open_world(EXTRA, EXTRA, RIGHT)
        with open_desk(world, tmp_path) as desk:
            found = accept_all(desk)
            world.server.state.tasks[world.tasks[0]].deleted = {0}
            before = world.held()
            result = desk.sync()
            assert [state(desk, found[f"extra {n}"]) for n in (0, 1)] == ["conflict", "verified"]
            (conflict,) = result.conflicts
            assert conflict == f"photo 0-0.png: frame {world.tasks[0]}/0 was deleted since it was scored"
            gone = before.keys() - world.held().keys()
            assert gone == {("shapes", int(a.partition(":")[2])) for a in found["extra 1"].finding.annotation_ids}

    def test_between_a_fix_and_its_verification(self, open_world: Callable[..., CvatWorld], tmp_path: Path) -> None:
        """The fix is not there to be seen, which reopens what is not a deletion."""
        world = open_world(Picture(TRUTH, (("dog", CAT), TRUTH[1])), RIGHT)
        with open_desk(world, tmp_path) as desk:
            found = accept_all(desk)
            task = world.server.state.tasks[world.tasks[0]]
            after(world.server, "PATCH", "/annotations", lambda: task.deleted.add(0))
            result = desk.sync()
            assert (result.fixes, result.verified, result.reopened) == ({"applied": 1}, 0, 1)
            assert state(desk, found["wrong_class 0"]) == "reopened"


class TestJobs:
    def orders(self, desk: CvatDesk) -> list[FixOrder]:
        return [FixOrder(f.finding, f.finding.fix) for f in accept_all(desk).values()]

    def test_taken_up_again(self, open_world: Callable[..., CvatWorld], tmp_path: Path) -> None:
        world = open_world(EXTRA, RIGHT)
        with open_desk(world, tmp_path) as desk:
            accept_all(desk)
            (job,) = world.server.jobs_of(world.tasks[0])
            job.stage, job.state = "annotation", "in progress"
            before = world.held()
            result, calls = desk.calls(desk.sync)
            (conflict,) = result.conflicts
            assert f"job {job.id} was taken up again since it was scored, and ann is at work in it" in conflict
            assert world.held() == before
            assert not [w for w in writes(calls) if "annotations" in w]

    def test_sent_back_after_its_fix(self, open_world: Callable[..., CvatWorld], tmp_path: Path) -> None:
        world = open_world(EXTRA, RIGHT)
        with open_desk(world, tmp_path) as desk:
            found = accept_all(desk)
            (job,) = world.server.jobs_of(world.tasks[0])

            def reopen() -> None:
                job.stage, job.state = "annotation", "rejected"

            after(world.server, "PATCH", "/annotations", reopen)
            assert desk.sync().verified == 1
            assert state(desk, found["extra 0"]) == "verified"

    def test_given_to_somebody_else_before_a_fix(self, open_world: Callable[..., CvatWorld], tmp_path: Path) -> None:
        """Ann may edit the job only while it is hers."""
        world = open_world(ALL_KINDS, RIGHT)
        with open_desk(world, tmp_path) as desk:
            orders, before = self.orders(desk), world.held()
            (job,) = world.server.jobs_of(world.tasks[0])
            other, ann = world.server.add_user("bob"), job.assignee
            tool = Cvat(world.client("ann"), parse_target(f"cvat:job/{job.id}"), Remembered())

            def give() -> None:
                job.assignee = other

            after(world.server, "GET", "/annotations", give)
            with pytest.raises(ToolError, match="given to somebody else") as error:
                tool.apply_fixes(orders)
            assert f"job {job.id}" in error.value.found
            assert world.held() == before

            job.assignee = ann
            after(world.server, "PATCH", "/annotations", give)
            with pytest.raises(ToolError, match="given to somebody else"):
                tool.apply_fixes(orders)
            assert sorted(r.outcome for r in desk.tool.apply_fixes(orders)) == [
                Outcome.ALREADY,
                Outcome.APPLIED,
                Outcome.APPLIED,
                Outcome.APPLIED,
            ]
            right = sorted((label, [float(n) for n in b.xyxy]) for label, b in ALL_KINDS.shows)
            assert world.objects(world.tasks[0], 0) == right

    @pytest.mark.parametrize(("stage", "state"), [("annotation", "completed"), ("validation", "new")])
    def test_finished_while_suggestions_are_written(
        self, open_world: Callable[..., CvatWorld], tmp_path: Path, stage: str, state: str
    ) -> None:
        """They are taken back: nobody has looked at them, and they would count as the annotator's work."""
        world = open_world(Picture(TRUTH, ()), Picture(TRUTH, ()))
        (job,) = world.server.jobs_of(world.tasks[0])
        job.state, job.annotations.tags[:] = "in progress", []
        with open_desk(world, tmp_path) as desk:
            items = [r.item for r in desk.tool.read_page(None, 10).records]
            batch = [Prelabel(item, (Prediction("cat", CAT, 0.5, "m"),)) for item in items]

            def finish() -> None:
                job.stage, job.state = stage, state

            after(world.server, "PATCH", "/annotations", finish)
            assert desk.tool.write_predictions("m", batch) == 0
            assert world.held() == {}
            job.stage, job.state = "annotation", "in progress"
            assert desk.tool.write_predictions("m", batch) == 2
            assert len(world.held()) == 2

    def test_given_to_somebody_else_while_suggestions_are_written(
        self, open_world: Callable[..., CvatWorld], tmp_path: Path
    ) -> None:
        world = open_world(Picture(TRUTH, ()))
        (job,) = world.server.jobs_of(world.tasks[0])
        job.state, job.annotations.tags[:] = "in progress", []
        other = world.server.add_user("bob")
        tool = Cvat(world.client("ann"), parse_target(f"cvat:job/{job.id}"), Remembered())
        items = [r.item for r in tool.read_page(None, 10).records]

        def give() -> None:
            job.assignee = other

        after(world.server, "GET", "/annotations", give)
        with pytest.raises(ToolError, match=f"suggestions cannot be written into job {job.id}"):
            tool.write_predictions("m", [Prelabel(item, (Prediction("cat", CAT, 0.5, "m"),)) for item in items])
        assert world.held() == {}


def test_nothing_completed_says_what_to_do(open_world: Callable[..., CvatWorld], tmp_path: Path) -> None:
    world = open_world(RIGHT)
    world.server.jobs_of(world.tasks[0])[0].state = "in progress"
    with open_desk(world, tmp_path) as desk, pytest.raises(DataError, match="Complete a job in CVAT first"):
        desk.score()


WIDTH, HEIGHT = 3840, 2160


def blob(seed: int) -> Mask:
    """A ragged object in a frame of 4K: some 20,000 runs."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    disc = (rows - 1080) ** 2 + (columns - 1920) ** 2 < 900**2
    return encode_coco(disc & (np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.998))


def test_a_mask_of_a_4k_frame(server: FakeCvat, tmp_path: Path) -> None:
    """Read, scored beside a box, and written as a suggestion; in memory of some copies of its frame."""
    world = CvatWorld(server, Case(str(server.version), "owner"), [RIGHT, Picture(TRUTH, ())], segment_size=1)
    for frame in server.state.tasks[world.tasks[0]].frames:
        frame.width, frame.height = WIDTH, HEIGHT
    first, second = server.jobs_of(world.tasks[0])
    second.state, second.annotations.tags[:] = "in progress", []
    mask = blob(1)
    drawn = server.annotate(first.id, type="mask", label_id=world.labels["cat"], frame=0, points=mask_to_points(mask))
    tracemalloc.start()
    start = time.perf_counter()
    with open_desk(world, tmp_path) as desk:
        record, other = desk.tool.read_page(None, 10).records
        (read,) = [a for a in record.submissions[0].annotations if a.id == f"shape:{drawn}"]
        assert read.shape == mask
        boxes = tuple(Prediction(label, box, 0.9, "m") for label, box in (*TRUTH, ("dog", Box(300, 5, 360, 60))))
        source = FilePredictions("m", {record.item.name: boxes})
        result = score(
            desk.tool, source, ObjectReview(), desk.journal, options=ScoreOptions(), page_size=5, progress=silent
        )
        assert result.findings == {"missing": 1}
        (snapshot,) = desk.store.chunks(result.run_id)
        assert read in snapshot[0].submissions[0].annotations
        assert desk.tool.write_predictions("m", [Prelabel(other.item, (Prediction("cat", blob(2), 0.5, "m"),))]) == 1
        (written,) = server.shapes(second.id)
        assert written["points"] == mask_to_points(blob(2))
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"\n{len(mask.counts):,} runs: {seconds:.1f} s, {peak / 2**20:.0f} MiB")
    assert peak < 200 * 2**20
