"""Fixes of objects that are part of a CVAT track, against the fake server."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.cvat_server import FakeCvat
from fakes.cvat_server.state import Annotations
from harness import finding
from test_cvat import LABELS, images, open_cvat

from bridge.core.annotations import Box
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.errors import ToolError
from bridge.flows.fixed import is_fixed
from bridge.tools import FixNote, FixOrder, FixResult, Outcome, Review, ReviewCase, UndoOrder
from bridge.tools.cvat import Cvat

LAST = 11
#: A cat that moves ten pixels a frame, is gone on frames 6 and 7, comes back on 8 and stays there.
KEYS = ((1, 10, False), (5, 50, False), (6, 50, True), (8, 100, False))
SEEN = {1: 10, 2: 20, 3: 30, 4: 40, 5: 50, 8: 100, 9: 100, 10: 100, 11: 100}


class Film:
    """A video with one track, and a shape beside it."""

    def __init__(self, server: FakeCvat) -> None:
        self.server = server
        hue = {"name": "hue", "input_type": "text", "mutable": False, "values": [], "default_value": "grey"}
        pose = {"name": "pose", "input_type": "text", "mutable": True, "values": [], "default_value": "up"}
        labels = [{**label, "attributes": [hue, pose]} for label in (*LABELS, {"name": "cow"})]
        owner = server.add_user("olga")
        self.task = server.add_task("Film", images(LAST + 1), owner=owner, labels=labels, mode="interpolation")
        (self.job,) = server.jobs_of(self.task)
        self.cat, self.dog = server.label("cat", task=self.task), server.label("dog", task=self.task)
        specs = {a.name: a.id for a in self.cat.attributes}
        keys = [
            {
                "type": "rectangle", "frame": frame, "points": [x, 10, x + 50, 60], "outside": gone, "z_order": 2,
                "attributes": [{"spec_id": specs["pose"], "value": f"pose {frame}"}],
            }
            for frame, x, gone in KEYS
        ]  # fmt: skip
        hues = [{"spec_id": specs["hue"], "value": "red"}]
        self.id = server.annotate(
            self.job.id, "tracks", label_id=self.cat.id, frame=1, shapes=keys, source="auto", group=3, attributes=hues
        )
        server.annotate(self.job.id, type="rectangle", label_id=self.cat.id, frame=3, points=[300, 10, 350, 60])
        self.job.state = "completed"

    @property
    def tool(self) -> Cvat:
        return open_cvat(self.server, f"cvat:task/{self.task}")

    @property
    def track(self) -> dict[str, Any]:
        (track,) = self.job.annotations.tracks
        return track

    def seen(self) -> dict[int, tuple[str, float]]:
        """Label and left edge of the tracked object, by frame."""
        objects = {}
        for number, record in enumerate(self.tool.read_page(None, 100).records):
            for one in record.submissions[0].annotations:
                if one.id.startswith("track"):
                    assert isinstance(one.shape, Box)
                    objects[number] = (one.label, round(one.shape.x1, 6))
        return objects

    def find(self, frame: int, fix: Fix) -> Finding:
        record = self.tool.read_page(None, 100).records[frame]
        (one,) = [a for a in record.submissions[0].annotations if a.id == f"track:{self.id}@{frame}"]
        error = {"delete": ErrorType.EXTRA, "relabel": ErrorType.WRONG_CLASS}.get(fix.action, ErrorType.IMPRECISE)
        return finding(self.tool, record, error, fix, one)

    def fix(self, *findings: Finding) -> list[FixResult]:
        """Write the fixes; what was applied is there, and is not written again."""
        orders = [FixOrder(found, found.fix) for found in findings]
        before, notes = copy.deepcopy(self.job.annotations), list[FixNote]()
        results = self.tool.apply_fixes(orders, notes.append)
        after = copy.deepcopy(self.job.annotations)
        written = [o for o, r in zip(orders, results, strict=True) if r.outcome is not Outcome.CONFLICT]
        records = self.tool.read_records([o.finding.item_id for o in written])
        assert all(is_fixed(o, records[o.finding.item_id]) for o in written)
        assert {r.outcome for r in self.tool.apply_fixes(written)} <= {Outcome.ALREADY}
        assert self.job.annotations == after
        self.check_undo(before, orders, notes)
        return results

    def check_undo(self, before: Annotations, orders: list[FixOrder], notes: list[FixNote]) -> None:
        """Undone, the last fix first, all is seen as it was; then the fixes are written once more."""
        by_id = {order.finding.id: order for order in orders}
        back = [UndoOrder(by_id[note.finding_id].finding, note) for note in reversed(notes)]
        assert {r.outcome for r in self.tool.undo_fixes(back)} <= {Outcome.APPLIED}
        assert without_ids(self.job.annotations) == without_ids(before)
        assert {r.outcome for r in self.tool.undo_fixes(back)} <= {Outcome.ALREADY}
        self.tool.apply_fixes([by_id[note.finding_id] for note in notes])


def without_ids(value: Any) -> Any:
    """What CVAT may number anew is no matter."""
    if isinstance(value, Annotations):
        return without_ids([value.tags, value.shapes, value.tracks])
    if isinstance(value, dict):
        return {k: without_ids(v) for k, v in value.items() if k not in ("id", "source")}
    return [without_ids(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(params=["2.80", "2.15"])
def film(request: pytest.FixtureRequest) -> Iterator[Film]:
    with FakeCvat(request.param) as server:
        yield Film(server)


def cats(**moved: float | None) -> dict[int, tuple[str, float]]:
    """What is seen, but for some frames (``f3=…``); None: nothing is seen there."""
    now = {**SEEN, **{int(name[1:]): x for name, x in moved.items()}}
    return {frame: ("cat", x) for frame, x in sorted(now.items()) if x is not None}


def box(x: float) -> Box:
    return Box(x, 10, x + 50, 60)


def test_the_film(film: Film) -> None:
    """In the gap there is nothing, which is no error."""
    assert film.seen() == cats()
    assert not any(r.problems for r in film.tool.read_page(None, 100).records)


class TestDelete:
    @pytest.mark.parametrize("frame", SEEN)
    def test_takes_the_object_off_that_frame_only(self, film: Film, frame: int) -> None:
        (result,) = film.fix(film.find(frame, Fix("delete")))
        assert result.outcome is Outcome.APPLIED
        assert f"frame {frame}" in result.message
        assert film.seen() == cats(**{f"f{frame}": None})

    def test_on_several_frames_in_any_order(self, film: Film) -> None:
        findings = [film.find(frame, Fix("delete")) for frame in (4, 3, 9, 10, 11)]
        assert {r.outcome for r in film.fix(*findings)} == {Outcome.APPLIED}
        assert film.seen() == cats(f4=None, f3=None, f9=None, f10=None, f11=None)

    def test_keeps_what_it_is_not_about(self, film: Film) -> None:
        before = copy.deepcopy(film.track)
        film.fix(film.find(3, Fix("delete")))
        after = film.track
        assert [after[n] for n in ("id", "label_id", "group", "frame", "attributes")] == [
            before[n] for n in ("id", "label_id", "group", "frame", "attributes")
        ]
        assert after["source"] == "semi-auto"
        old, new = ({k["frame"]: {**k, "id": 0} for k in track["shapes"]} for track in (before, after))
        assert set(new) == {*old, 3, 4}
        assert {frame: new[frame] for frame in old} == old
        assert (new[3]["outside"], new[4]["outside"]) == (True, False)
        assert new[4]["z_order"] == 2
        assert [a["value"] for a in new[4]["attributes"]] == ["pose 1"]

    def test_in_a_gap_it_is_gone_already(self, film: Film) -> None:
        found = film.find(5, Fix("delete"))
        for key in film.track["shapes"]:
            key["outside"] = key["frame"] >= 5
        assert [r.outcome for r in film.fix(found)] == [Outcome.ALREADY]


class TestReshape:
    def test_at_a_keyframe(self, film: Film) -> None:
        (result,) = film.fix(film.find(5, Fix("reshape", "cat", box(90))))
        assert (result.outcome, len(film.track["shapes"])) == (Outcome.APPLIED, 4)
        assert film.seen() == cats(f2=30, f3=50, f4=70, f5=90)

    def test_between_two_makes_one(self, film: Film) -> None:
        film.fix(film.find(3, Fix("reshape", "cat", box(70))))
        assert film.seen() == cats(f2=40, f3=70, f4=60)
        assert film.track["source"] == "semi-auto"
        assert [k["frame"] for k in film.track["shapes"]] == [1, 3, 5, 6, 8]

    def test_behind_the_last(self, film: Film) -> None:
        film.fix(film.find(10, Fix("reshape", "cat", box(140))))
        assert film.seen() == cats(f9=120, f10=140, f11=140)

    def test_of_two_frames_that_touch(self, film: Film) -> None:
        """The second is judged as it was read, although the first has moved it."""
        findings = [film.find(n, Fix("reshape", "cat", box(70))) for n in (3, 4)]
        assert {r.outcome for r in film.fix(*findings)} == {Outcome.APPLIED}
        assert film.seen() == cats(f2=40, f3=70, f4=70)

    def test_where_a_person_moved_it_since(self, film: Film) -> None:
        found = film.find(3, Fix("reshape", "cat", box(70)))
        film.track["shapes"][1]["points"] = [60, 10, 110, 60]
        before = film.seen()
        (result,) = film.fix(found)
        assert (result.outcome, "changed since" in result.message) == (Outcome.CONFLICT, True)
        assert film.seen() == before

    def test_where_there_is_a_gap_now(self, film: Film) -> None:
        found = film.find(9, Fix("reshape", "cat", box(70)))
        film.track["shapes"][3]["outside"] = True
        assert [r.outcome for r in film.fix(found)] == [Outcome.CONFLICT]

    def test_a_track_that_is_gone(self, film: Film) -> None:
        found = film.find(3, Fix("reshape", "cat", box(70)))
        film.job.annotations.tracks.clear()
        (result,) = film.fix(found)
        assert (result.outcome, "deleted since" in result.message) == (Outcome.CONFLICT, True)


class TestRelabel:
    def test_is_one_of_the_whole_track(self, film: Film) -> None:
        (result,) = film.fix(film.find(3, Fix("relabel", "dog", box(30))))
        assert result.message == f"relabelled 'cat' as 'dog' all along track {film.id}"
        assert film.seen() == {frame: ("dog", x) for frame, x in SEEN.items()}
        names = {a.id: a.name for a in film.dog.attributes}
        assert [(names[a["spec_id"]], a["value"]) for a in film.track["attributes"]] == [("hue", "red")]
        assert [[(names[a["spec_id"]], a["value"]) for a in k["attributes"]] for k in film.track["shapes"]] == [
            [("pose", f"pose {frame}")] for frame, _, _ in KEYS
        ]

    def test_on_two_frames_is_one(self, film: Film) -> None:
        findings = [film.find(n, Fix("relabel", "dog", box(SEEN[n]))) for n in (3, 9)]
        assert [r.outcome for r in film.fix(*findings)] == [Outcome.APPLIED, Outcome.ALREADY]

    def test_two_that_contradict_each_other(self, film: Film) -> None:
        dog = film.find(3, Fix("relabel", "dog", box(30)))
        cow = film.find(9, Fix("relabel", "cow", box(100)))
        first, second = film.fix(dog, cow)
        assert (first.outcome, second.outcome) == (Outcome.APPLIED, Outcome.CONFLICT)
        assert "another fix" in second.message

    def test_with_a_shape(self, film: Film) -> None:
        film.fix(film.find(3, Fix("reshape", "dog", box(70))))
        assert film.seen() == {frame: ("dog", x) for frame, (_, x) in cats(f2=40, f3=70, f4=60).items()}

    def test_holds_although_another_fix_moves_the_object(self, film: Film) -> None:
        findings = [film.find(3, Fix("relabel", "dog", box(30))), film.find(4, Fix("reshape", "cat", box(70)))]
        assert {r.outcome for r in film.fix(*findings)} == {Outcome.APPLIED}
        assert film.seen()[3] == ("dog", 50)

    def test_a_type_that_the_label_does_not_take(self, film: Film) -> None:
        found = film.find(3, Fix("relabel", "dog", box(30)))
        film.dog.type = "polygon"
        (result,) = film.fix(found)
        assert (result.outcome, "takes no rectangle" in result.message) == (Outcome.CONFLICT, True)


def test_the_shape_beside_it_is_left_alone(film: Film) -> None:
    before = copy.deepcopy(film.job.annotations.shapes)
    film.fix(film.find(3, Fix("delete")), film.find(8, Fix("reshape", "dog", box(1))))
    assert film.job.annotations.shapes == before


def test_no_object_is_added_over_a_track(film: Film) -> None:
    record = film.tool.read_page(None, 100).records[3]
    found = finding(film.tool, record, ErrorType.MISSING, Fix("add", "cat", box(31)))
    assert [r.outcome for r in film.fix(found)] == [Outcome.ALREADY]


def test_a_lost_answer(film: Film) -> None:
    """The request arrived, so a second attempt finds all of it there."""
    found = [film.find(3, Fix("delete")), film.find(9, Fix("reshape", "cat", box(70)))]
    orders = [FixOrder(f, f.fix) for f in found]
    # Logging in, the task, its jobs, its frames, the labels, the job, and then the track.
    film.server.fail(7, "reset-after")
    with pytest.raises(ToolError, match="connection"):
        film.tool.apply_fixes(orders)
    assert film.server.calls[-1].method == "PATCH"
    after = copy.deepcopy(film.track)
    assert {r.outcome for r in film.tool.apply_fixes(orders)} == {Outcome.ALREADY}
    assert film.track == after


def test_outlines_are_not_placed_between_keyframes(film: Film) -> None:
    """CVAT draws them there in its own way: only at keyframes it is known what they are."""
    for key in film.track["shapes"]:
        x = key["points"][0]
        key.update(type="polygon", points=[x, 10, x + 50, 10, x + 50, 60])
    between, (at, last) = film.find(3, Fix("delete")), (film.find(n, Fix("delete")) for n in (5, 9))
    first, second, third = film.fix(between, at, last)
    assert (first.outcome, second.outcome, third.outcome) == (Outcome.CONFLICT, Outcome.APPLIED, Outcome.APPLIED)
    assert "outline" in first.message


class TestIssues:
    def push(self, film: Film, found: Finding) -> tuple[Review, int]:
        tool = film.tool
        review = tool.open_review(tool.describe().labels, "Review")
        (record,) = tool.read_records([found.item_id]).values()
        (pushed,) = tool.push_cases(review, [ReviewCase(found, record.item)])
        return review, int(pushed.ref)

    def test_say_what_becomes_of_the_track(self, film: Film) -> None:
        _, issue = self.push(film, film.find(3, Fix("relabel", "dog", box(30))))
        (comment,) = film.tool.client.comments(issue_id=issue)
        assert "Accept makes it 'dog', on all frames of its track." in comment["message"]

    @pytest.mark.parametrize(
        ("change", "answer"),
        [
            ({}, ("reject", None)),
            ({"points": [90, 10, 140, 60]}, ("edit", Fix("reshape", "cat", box(90)))),
            ({"outside": True}, ("edit", Fix("delete"))),
        ],
    )
    def test_resolved_without_a_word(self, film: Film, change: dict[str, Any], answer: tuple[str, Fix | None]) -> None:
        """What became of the object on its frame is the answer."""
        found = film.find(5, Fix("delete"))
        review, issue = self.push(film, found)
        film.track["shapes"][1].update(change)
        film.tool.client.call("PATCH", f"/api/issues/{issue}", json={"resolved": True})
        (verdict,) = film.tool.read_verdicts(review, None)
        assert (verdict.decision, verdict.fix) == answer
        if verdict.fix:
            assert [r.outcome for r in film.tool.apply_fixes([FixOrder(found, verdict.fix)])] == [Outcome.ALREADY]
