"""Findings that are withdrawn from review in CVAT: in each of its review modes, on the oldest and newest version."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.cvat_server import FakeCvat
from fakes.tool_memory import Remembered
from test_cvat_overlay import ALL_DRAWN, CAT, LOOSE, Studio, box

from bridge.errors import ToolError
from bridge.tools import Review
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_client import Row
from bridge.tools.cvat_review_plan import ReviewMode, ReviewPlan
from bridge.tools.cvat_target import parse_target


@pytest.fixture(params=["2.80", "2.15"])
def studio(request: pytest.FixtureRequest) -> Iterator[Studio]:
    with FakeCvat(request.param) as server:
        yield Studio(server)


def open_in(studio: Studio, mode: ReviewMode) -> tuple[Cvat, Review]:
    tool = Cvat(studio.client(), parse_target(f"cvat:task/{studio.task}"), Remembered(), ReviewPlan(mode))
    return tool, tool.open_review(tool.describe().labels, "Review: pets")


def test_an_issue_says_why_nobody_has_to_judge_it(studio: Studio) -> None:
    tool, review = open_in(studio, ReviewMode.ISSUES)
    case = studio.cases()[1]
    (pushed,) = tool.push_cases(review, [case])
    tool.withdraw_cases(review, [case.finding.id])
    (issue,) = studio.server.state.issues.values()
    comments = [c.message for c in studio.server.state.comments.values()]
    assert issue.resolved
    assert comments[1].startswith("This is no longer suspected, or it was decided elsewhere")
    tool.push_cases(review, [case])
    assert not issue.resolved
    assert [c.message for c in studio.server.state.comments.values()][2] == comments[0]
    tool.client.create_comment(int(pushed.ref), "Accept")
    assert [v.decision for v in tool.read_verdicts(review, None)] == ["accept"]


def test_what_somebody_says_in_a_withdrawn_issue_counts(studio: Studio) -> None:
    tool, review = open_in(studio, ReviewMode.ISSUES)
    case = studio.cases()[1]
    (pushed,) = tool.push_cases(review, [case])
    tool.withdraw_cases(review, [case.finding.id])
    tool.client.create_comment(int(pushed.ref), "Accept all the same")
    assert [v.decision for v in tool.read_verdicts(review, None)] == ["accept"]


def test_what_somebody_says_while_others_are_withdrawn_counts(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, review = open_in(studio, ReviewMode.ISSUES)
    cases = studio.cases()[:3]
    commented, resolved = (int(p.ref) for p in tool.push_cases(review, cases)[1:])
    real = tool.client.resolve_issue

    def slow(issue: int, done: bool) -> Row:
        """People do not wait for the first one to end."""
        monkeypatch.setattr(tool.client, "resolve_issue", real)
        tool.client.create_comment(commented, "Accept")
        real(resolved, True)
        return real(issue, done)

    monkeypatch.setattr(tool.client, "resolve_issue", slow)
    ids = [case.finding.id for case in cases]
    assert tool.withdraw_cases(review, ids) == {ids[0]}
    said = {v.finding_id: v.decision for v in tool.read_verdicts(review, None)}
    assert said == {ids[1]: "accept", ids[2]: "reject"}


def test_an_overlay_shows_it_no_longer(studio: Studio) -> None:
    tool, review = open_in(studio, ReviewMode.OVERLAY)
    cases = studio.cases()
    tool.push_cases(review, cases)
    gone = {c.finding.id for c in (cases[0], cases[1], cases[3])}
    frames = list(studio.truth.frames)
    assert tool.withdraw_cases(review, gone) == gone
    assert studio.shown() == {0: [box("cat", CAT)], 1: ALL_DRAWN[1], 3: [box("cat", LOOSE)]}
    assert list(studio.truth.frames) == frames
    assert [one for one in studio.conflicts() if one[0] == 3] == []
    start = len(studio.server.calls)
    assert tool.withdraw_cases(review, gone) == gone
    assert studio.writes(start) == []
    tool.push_cases(review, cases)
    assert studio.shown() == ALL_DRAWN


def test_an_overlay_that_somebody_has_worked_in_stays_and_a_person_is_told(studio: Studio) -> None:
    tool, review = open_in(studio, ReviewMode.OVERLAY)
    cases = studio.cases()
    tool.push_cases(review, cases)
    studio.truth.annotations.shapes[0]["source"] = "manual"
    before = [dict(row) for row in studio.truth.annotations.shapes]
    assert tool.withdraw_cases(review, [cases[0].finding.id]) == {cases[0].finding.id}
    assert studio.truth.annotations.shapes == before
    (note,) = tool.notes
    assert "still shows suggestions that were withdrawn" in note


class TestReviewTasks:
    def test_a_shape_leaves_its_task(self, studio: Studio) -> None:
        tool, review = open_in(studio, ReviewMode.TASK)
        cases = studio.cases()[:4]
        pushed = tool.push_cases(review, cases)
        (task,) = {int(p.ref.partition("/")[0]) for p in pushed}
        (job,) = studio.server.jobs_of(task)
        ids = [c.finding.id for c in cases]
        self.say(studio, job.id, pushed[1].ref, "reject")
        assert tool.withdraw_cases(review, ids[:2]) == {ids[0]}
        shapes = {f"{task}/shape:{s['id']}" for s in job.annotations.shapes}
        assert shapes & {p.ref for p in pushed} == {p.ref for p in pushed[1:]}
        job.state = "completed"
        assert [(v.finding_id, v.decision) for v in tool.read_verdicts(review, None)] == [(ids[1], "reject")]

    def test_pushed_again_it_gets_another_task(self, studio: Studio) -> None:
        tool, review = open_in(studio, ReviewMode.TASK)
        cases = studio.cases()[:2]
        pushed = tool.push_cases(review, cases)
        first = cases[0].finding.id
        tool.withdraw_cases(review, [first])
        again = tool.push_cases(review, cases)
        assert again[1].ref == pushed[1].ref
        assert again[0].ref != pushed[0].ref
        assert [p.ref for p in tool.push_cases(review, cases)] == [p.ref for p in again]

    def test_a_task_that_asks_nothing_any_more_is_deleted(self, studio: Studio) -> None:
        tool, review = open_in(studio, ReviewMode.TASK)
        cases = studio.cases()[:2]
        (task,) = {int(p.ref.partition("/")[0]) for p in tool.push_cases(review, cases)}
        ids = {c.finding.id for c in cases}
        assert tool.withdraw_cases(review, [min(ids)]) == {min(ids)}
        assert task in studio.server.state.tasks
        assert tool.withdraw_cases(review, ids) == ids
        assert task not in studio.server.state.tasks
        assert {int(p.ref.partition("/")[0]) for p in tool.push_cases(review, cases)} != {task}

    def say(self, studio: Studio, job: int, ref: str, word: str) -> None:
        (shape,) = [s for s in studio.server.shapes(job) if ref.endswith(f"shape:{s['id']}")]
        values = {a["spec_id"]: a for a in shape["attributes"]}
        for attribute in values.values():
            if attribute["value"] == "undecided":
                attribute["value"] = word


@pytest.mark.parametrize("mode", list(ReviewMode))
def test_cut_off_anywhere_it_is_finished_later_and_is_no_answer(mode: ReviewMode) -> None:
    with FakeCvat() as server:
        cut_off(Studio(server), mode)


def cut_off(studio: Studio, mode: ReviewMode) -> None:
    """Withdraw a finding again and again, with one more request going well each time."""
    cases = studio.cases()[:3]
    first = cases[0].finding.id
    for number in range(1, 60):
        tool, review = open_in(studio, mode)
        tool.push_cases(review, cases)
        start = len(studio.server.calls)
        studio.server.fail(number, "reset-after")
        try:
            tool.withdraw_cases(review, [first])
        except ToolError:
            tool, review = open_in(studio, mode)
        if len(studio.server.calls) - start < number:
            break
        assert list(tool.read_verdicts(review, None)) == []
        assert tool.withdraw_cases(review, [first]) == {first}
        assert list(tool.read_verdicts(review, None)) == []
        if mode is ReviewMode.OVERLAY:
            assert studio.shown()[0] == sorted([box("dog", CAT)])
    else:
        pytest.fail("never without a failure")
