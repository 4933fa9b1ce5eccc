"""bridge.flows.sync: every answer comes home, every accepted fix is written once, and nothing newer is overwritten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes.pictures import CAT, DOG, ELSEWHERE, LOOSE_CAT, TRUTH
from flow_kit import Desk, Killed

from bridge.core.annotations import Box
from bridge.core.findings import Fix, State, Verdict
from bridge.errors import StoreError, ToolUnreachable
from bridge.flows.sync import SyncResult
from bridge.tools import FixOrder, FixResult

MISSING, WRONG, EXTRA, LOOSE = (
    (("cat", CAT),),
    (("dog", CAT), ("dog", DOG)),
    (*TRUTH, ("cat", ELSEWHERE)),
    (("cat", LOOSE_CAT), ("dog", DOG)),
)
KINDS = {"1": "missing", "2": "wrong_class", "3": "extra", "4": "imprecise"}
NOTHING = SyncResult(verdicts={}, fixes={}, verified=0, reopened=0, conflicts=(), failures=())


@pytest.fixture
def four(desk: Desk) -> Desk:
    """Four items with one pushed finding each, one of each kind."""
    for submitted in (MISSING, WRONG, EXTRA, LOOSE):
        desk.picture(submitted)
    desk.score()
    desk.push()
    assert {f.finding.item_id: str(f.finding.error) for f in desk.findings()} == KINDS
    return desk


def finding(desk: Desk, item: str) -> str:
    return desk.finding(item, KINDS[item]).finding.id


def state(desk: Desk, item: str) -> State:
    return desk.finding(item, KINDS[item]).state


def accept_all(desk: Desk) -> None:
    for minute, item in enumerate(KINDS):
        desk.tool.answer(finding(desk, item), "accept", minute)


def now(desk: Desk, item: str) -> list[tuple[str, Any]]:
    return sorted(desk.tool.objects(item), key=lambda o: (o[0], o[1].xyxy))


class TestAnswers:
    @pytest.mark.parametrize("chunk", [1, 3, 4, 100])
    def test_accepted_fixes_are_written_and_verified(self, four: Desk, chunk: int) -> None:
        accept_all(four)
        result = four.sync(chunk)
        assert result == replace(NOTHING, verdicts={"accept": 4}, fixes={"applied": 4}, verified=4)
        assert result.changed
        for item in KINDS:
            assert now(four, item) == list(TRUTH)
        assert four.states() == ["verified"] * 4

    def test_again_changes_nothing(self, four: Desk) -> None:
        accept_all(four)
        four.sync()
        people, events = dict(four.tool.people), four.store.audit_head()
        assert four.sync() == NOTHING
        assert not four.sync().changed
        assert (four.tool.people, four.store.audit_head()) == (people, events)

    def test_an_answer_that_is_read_otherwise_later_stays_what_it_was(self, four: Desk) -> None:
        """A resolved CVAT issue is read from what became of its object, which people may still change afterwards."""
        four.tool.answer(finding(four, "3"), "reject", 0)
        four.sync()
        four.tool.answer(finding(four, "3"), "edit", 0, Fix("delete"))
        assert four.sync() == NOTHING
        assert state(four, "3") is State.REJECTED

    def test_rejected_ones_are_left_alone(self, four: Desk) -> None:
        people = dict(four.tool.people)
        four.tool.answer(finding(four, "2"), "reject", 0)
        assert four.sync() == replace(NOTHING, verdicts={"reject": 1})
        assert four.tool.people == people
        assert four.states() == ["pushed"] * 3 + ["rejected"]

    def test_an_edit_writes_what_the_reviewer_wants(self, four: Desk) -> None:
        mine = Box(88, 58, 152, 112)
        four.tool.answer(finding(four, "1"), "edit", 0, Fix("add", "cat", mine))
        four.tool.answer(finding(four, "2"), "edit", 1, Fix("relabel", "dog", CAT))
        four.tool.answer(finding(four, "4"), "edit", 2, Fix("reshape", "dog", Box(12, 12, 58, 48)))
        result = four.sync()
        assert result.verdicts == {"edit": 3}
        assert result.verified == 3
        assert now(four, "1") == [("cat", CAT), ("cat", mine)]
        assert now(four, "4") == [("dog", Box(12, 12, 58, 48)), ("dog", DOG)]
        assert result.fixes == {"applied": 2, "already": 1}

    def test_no_answer_is_none(self, four: Desk) -> None:
        assert four.sync() == NOTHING
        assert four.states() == ["pushed"] * 4

    def test_they_come_in_one_after_the_other(self, four: Desk) -> None:
        for minute, item in enumerate(KINDS):
            four.tool.answer(finding(four, item), "accept", 10 * minute)
            assert four.sync().verdicts == {"accept": 1}
        assert four.states() == ["verified"] * 4

    def test_an_answer_that_shows_up_late_is_not_lost(self, four: Desk) -> None:
        """The tool dates it before one that is known already."""
        four.tool.answer(finding(four, "2"), "accept", 10)
        four.sync()
        four.tool.answer(finding(four, "1"), "accept", 7)
        assert four.sync().verdicts == {"accept": 1}
        assert state(four, "1") is State.VERIFIED

    def test_about_findings_of_another_data_folder(self, four: Desk) -> None:
        """They are left to it, and are no failure: several people may push to one tool."""
        four.tool.answers.append(Verdict("f" * 16, "accept", "ann", "2026-11-20T12:00:00+00:00", "memory:9"))
        four.tool.answer(finding(four, "2"), "accept", 1)
        result = four.sync()
        assert (result.foreign, result.failures) == (1, ())
        assert state(four, "2") is State.VERIFIED

    def test_a_broken_store_is_no_matter_of_one_answer(self, four: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        accept_all(four)

        def locked(*words: Any) -> bool:
            raise StoreError("it is locked")

        with monkeypatch.context() as patch:
            patch.setattr(four.store, "record_verdict", locked)
            with pytest.raises(StoreError):
                four.sync()
        assert four.sync().verified == 4


class TestChangesOfMind:
    def test_accept_then_reject_before_the_sync(self, four: Desk) -> None:
        four.tool.answer(finding(four, "2"), "accept", 0)
        four.tool.answer(finding(four, "2"), "reject", 1)
        four.sync()
        assert state(four, "2") is State.REJECTED
        assert now(four, "2") == list(WRONG)

    def test_reject_then_accept(self, four: Desk) -> None:
        four.tool.answer(finding(four, "2"), "reject", 0)
        four.sync()
        four.tool.answer(finding(four, "2"), "accept", 1)
        assert four.sync().verified == 1
        assert now(four, "2") == list(TRUTH)

    def test_accept_then_reject_before_the_fix_is_written(self, four: Desk) -> None:
        four.tool.answer(finding(four, "2"), "accept", 0)
        four.tool.lose = {"apply_fixes"}
        before = four.tool.people["2"]
        with pytest.raises(ToolUnreachable):
            four.sync()
        four.tool.people["2"] = before  # the request had never arrived
        assert state(four, "2") is State.ACCEPTED
        four.tool.answer(finding(four, "2"), "reject", 1)
        assert four.sync() == replace(NOTHING, verdicts={"reject": 1})
        assert state(four, "2") is State.REJECTED
        assert now(four, "2") == list(WRONG)

    @pytest.mark.parametrize("decision", ["reject", "edit"])
    def test_after_the_fix_was_written_a_person_is_told_once(self, four: Desk, decision: Any) -> None:
        four.tool.answer(finding(four, "2"), "accept", 0)
        four.sync()
        four.tool.answer(finding(four, "2"), decision, 1, Fix("relabel", "dog", DOG) if decision == "edit" else None)
        result = four.sync()
        (failure,) = result.failures
        assert "ann changed the answer" in failure.message
        assert "after its fix was written" in failure.message
        assert "2.png" in failure.message
        assert now(four, "2") == list(TRUTH)
        assert state(four, "2") is State.VERIFIED
        assert four.sync() == NOTHING

    def test_accepting_once_more_is_no_change(self, four: Desk) -> None:
        four.tool.answer(finding(four, "2"), "accept", 0)
        four.sync()
        four.tool.answer(finding(four, "2"), "accept", 1)
        result = four.sync()
        assert (result.failures, result.fixes) == ((), {})
        assert four.sync() == NOTHING

    def test_an_accepted_fix_becomes_an_edit_before_it_is_written(self, four: Desk) -> None:
        four.tool.answer(finding(four, "1"), "accept", 0)
        four.durable.kill_after = "verdicts"
        with pytest.raises(Killed):
            four.sync()
        four.durable.left.clear()
        mine = Box(88, 58, 152, 112)
        four.tool.answer(finding(four, "1"), "edit", 1, Fix("add", "dog", mine))
        four.sync()
        assert now(four, "1") == [("cat", CAT), ("dog", mine)]
        assert state(four, "1") is State.VERIFIED

    def test_an_old_answer_is_not_taken_for_a_new_one(self, four: Desk) -> None:
        """Reopened and pushed again, a finding waits for a new answer; the old one was about the past."""
        before = four.tool.people["2"]
        four.tool.answer(finding(four, "2"), "accept", 0)
        four.sync()
        four.tool.people["2"] = before
        four.score()
        assert state(four, "2") is State.REOPENED
        four.push()
        assert state(four, "2") is State.PUSHED
        assert four.sync() == NOTHING
        assert state(four, "2") is State.PUSHED
        four.tool.answer(finding(four, "2"), "accept", 3)
        assert four.sync().verified == 1


class TestConflicts:
    def test_newer_work_wins(self, four: Desk) -> None:
        accept_all(four)
        first, second = four.tool.people["2"][0].annotations
        moved = replace(first, shape=Box(0, 0, 55, 45))
        four.tool.submit("2", [moved, second])
        result = four.sync()
        assert result.fixes == {"applied": 3, "conflict": 1}
        assert result.conflicts == ("2.png: somebody has changed it since",)
        assert four.tool.objects("2") == [("dog", Box(0, 0, 55, 45)), ("dog", DOG)]
        assert state(four, "2") is State.CONFLICT
        stored = four.store.finding(finding(four, "2"))
        assert stored.verdict
        assert stored.verdict.decision == "accept"
        assert four.sync() == NOTHING
        assert state(four, "2") is State.CONFLICT

    def test_a_new_answer_tries_again(self, four: Desk) -> None:
        four.tool.answer(finding(four, "2"), "accept", 0)
        before = four.tool.people["2"][0].annotations
        four.tool.submit("2", [replace(before[0], shape=Box(0, 0, 55, 45)), before[1]])
        four.sync()
        four.tool.submit("2", before)
        four.tool.answer(finding(four, "2"), "accept", 1)
        assert four.sync().verified == 1

    def test_a_submission_that_is_gone(self, four: Desk) -> None:
        accept_all(four)
        four.tool.people["3"] = []
        result = four.sync()
        assert result.conflicts == ("3.png: the submission is gone",)
        assert four.states() == ["conflict", *["verified"] * 3]

    def test_two_fixes_of_one_submission(self, desk: Desk) -> None:
        desk.picture((("dog", CAT), ("cat", ELSEWHERE)))
        desk.score()
        desk.push()
        for minute, found in enumerate(desk.findings()):
            desk.tool.answer(found.finding.id, "accept", minute)
        desk.sync()
        assert now(desk, "1") == list(TRUTH)
        assert set(desk.states()) == {"verified"}
        assert len(desk.states()) == 3


class TestVerifying:
    def test_a_fix_that_is_undone_at_once_is_reopened(self, four: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        accept_all(four)
        before = dict(four.tool.people)
        real = four.tool.apply_fixes

        def undone(orders: list[FixOrder], note: Any) -> list[FixResult]:
            results = real(orders, note)
            for order in orders:
                four.tool.people[order.finding.item_id] = before[order.finding.item_id]
            return results

        monkeypatch.setattr(four.tool, "apply_fixes", undone)
        result = four.sync()
        assert (result.verified, result.reopened) == (0, 4)
        assert four.states() == ["reopened"] * 4

    def test_reads_all_items_at_once(self, desk: Desk) -> None:
        desk.picture((("dog", CAT), ("cat", ELSEWHERE)))
        desk.score()
        desk.push()
        for minute, found in enumerate(desk.findings()):
            desk.tool.answer(found.finding.id, "accept", minute)
        desk.sync(chunk=10)
        assert desk.tool.calls["read_records"] == 1

    @pytest.mark.parametrize(("item", "counts"), [("2", (3, 1)), ("3", (4, 0))])
    def test_an_item_that_is_gone(
        self, four: Desk, monkeypatch: pytest.MonkeyPatch, item: str, counts: tuple[int, int]
    ) -> None:
        """What was to be deleted went with it; what was to be changed is not there as it should be."""
        accept_all(four)
        real = four.tool.apply_fixes

        def deleted(orders: list[FixOrder], note: Any) -> list[FixResult]:
            results = real(orders, note)
            four.tool.images.pop(item, None)
            return results

        monkeypatch.setattr(four.tool, "apply_fixes", deleted)
        result = four.sync(chunk=10)
        assert (result.verified, result.reopened) == counts


class TestInterrupted:
    @pytest.mark.parametrize("step", ["verdicts", "choose", "fix 0", "fix 2", "applied", "verify 0", "verify 2"])
    @pytest.mark.parametrize("lost", [False, True])
    def test_killed_after_a_step(self, four: Desk, step: str, lost: bool) -> None:
        """With and without the checkpoints of the first attempt."""
        accept_all(four)
        four.durable.kill_after = step
        with pytest.raises(Killed):
            four.sync()
        if lost:
            four.durable.left.clear()
        four.sync()
        self.check(four)

    @pytest.mark.parametrize("method", ["record_verdict", "transition", "record_fix"])
    @pytest.mark.parametrize("n", [1, 2, 3, 4])
    def test_killed_before_the_store_knows(
        self, four: Desk, killed_in: Callable[..., None], method: str, n: int
    ) -> None:
        accept_all(four)
        killed_in(method, n)
        with pytest.raises(Killed):
            four.sync()
        four.sync()
        self.check(four)

    @pytest.mark.parametrize("n", [5, 6, 7, 8, 9, 10, 11, 12])
    def test_killed_in_the_middle_of_fixing_and_verifying(
        self, four: Desk, killed_in: Callable[..., None], n: int
    ) -> None:
        accept_all(four)
        killed_in("transition", n)
        with pytest.raises(Killed):
            four.sync()
        four.sync()
        self.check(four)

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_killed_between_answers_that_are_not_in_order_of_time(
        self, four: Desk, killed_in: Callable[..., None], n: int
    ) -> None:
        """The tool lists the answers by place; a younger one must not hide an older one."""
        for minute, item in zip((90, 60, 30, 0), KINDS, strict=True):
            four.tool.answer(finding(four, item), "accept", minute)
        killed_in("record_verdict", n + 1)
        with pytest.raises(Killed):
            four.sync()
        four.durable.left.clear()
        four.sync()
        self.check(four)

    def test_a_lost_answer(self, four: Desk) -> None:
        accept_all(four)
        four.tool.lose = {"apply_fixes"}
        with pytest.raises(ToolUnreachable):
            four.sync()
        result = four.sync()
        assert result.fixes == {"already": 2, "applied": 2}
        self.check(four)

    def check(self, desk: Desk) -> None:
        """All four fixes are there exactly once, and every answer is known."""
        for item in KINDS:
            assert now(desk, item) == list(TRUTH)
        assert desk.states() == ["verified"] * 4
        assert all(len(desk.store.verdicts(f.finding.id)) == 1 for f in desk.findings())
        assert desk.durable.left == {}
        assert desk.sync() == NOTHING


def test_the_audit_log_has_what_was_there_and_what_was_written(four: Desk) -> None:
    accept_all(four)
    four.sync()
    for stored in four.findings():
        finding = stored.finding
        (event,) = [e for e in four.store.events(finding.id) if e.kind == "fix"]
        before, after = event.detail["before"], event.detail["after"]
        assert after == finding.fix.to_dict()
        assert (before["label"], before["objects"]) == (finding.label, list(finding.annotation_ids))
        assert before["shape"] == finding.to_dict()["current_shape"]
        (verdict,) = [e for e in four.store.events(finding.id) if e.kind == "verdict"]
        assert (verdict.actor, verdict.detail["score"], verdict.detail["scorer"]) == (
            "ann",
            finding.score,
            finding.scorer,
        )
