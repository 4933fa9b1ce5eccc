"""Undo, bulk accept, withdrawal and judging again: nothing is taken back that a person has touched since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes.memory_tool import Objects
from fakes.pictures import CAT, DOG, ELSEWHERE, LOOSE_CAT, TRUTH
from flow_kit import Desk, Killed

from bridge.core.annotations import Box
from bridge.core.findings import ErrorType, Fix, State
from bridge.errors import NotFound, ToolUnreachable, UsageError
from bridge.flows.accept import AcceptOptions, AcceptResult, accept, chosen
from bridge.flows.progress import silent
from bridge.flows.undo import UndoOptions, UndoResult, undo
from bridge.store import StoredFinding
from bridge.tools import Review

SUBMITTED: dict[str, Objects] = {
    "missing": (("cat", CAT),),
    "wrong_class": (("dog", CAT), ("dog", DOG)),
    "extra": (*TRUTH, ("cat", ELSEWHERE)),
    "imprecise": (("cat", LOOSE_CAT), ("dog", DOG)),
}
ITEMS = {error: str(n) for n, error in enumerate(SUBMITTED, 1)}


@pytest.fixture
def four(desk: Desk) -> Desk:
    """Four items with one finding each, one of each kind."""
    for submitted in SUBMITTED.values():
        desk.picture(submitted)
    desk.score()
    return desk


def of(desk: Desk, error: str) -> StoredFinding:
    return desk.finding(ITEMS[error], error)


def fixed(desk: Desk) -> Desk:
    """All four pushed, accepted by ann, and their fixes written."""
    desk.push()
    for minute, error in enumerate(ITEMS):
        desk.tool.answer(of(desk, error).finding.id, "accept", minute)
    assert desk.sync().verified == 4
    return desk


def take_back(desk: Desk, *ids: str, chunk: int = 3, **options: Any) -> UndoResult:
    wanted = UndoOptions(ids=ids, **options)
    return undo(desk.tool, desk.journal, options=wanted, by="lea", chunk=chunk, progress=silent)


def accept_all(desk: Desk, chunk: int = 3, **options: Any) -> AcceptResult:
    run = desk.store.latest_run(desk.tool.target)
    assert run
    wanted = AcceptOptions(**{"min_score": 0.5, **options})
    review = Review("review", "memory://review", created=False)
    return accept(desk.tool, [review], run, desk.journal, options=wanted, by="lea", chunk=chunk, progress=silent)


def in_order(objects: Objects) -> list[tuple[str, Box]]:
    return sorted(objects, key=lambda o: (o[0], o[1].xyxy))


def every_object(desk: Desk) -> list[list[tuple[str, Box]]]:
    return [in_order(desk.tool.objects(item)) for item in ITEMS.values()]


def as_submitted() -> list[list[tuple[str, Box]]]:
    return [in_order(submitted) for submitted in SUBMITTED.values()]


class TestUndo:
    def test_everything_is_as_it_was_and_stays_decided(self, four: Desk) -> None:
        fixed(four)
        ids = [of(four, error).finding.id for error in ITEMS]
        assert take_back(four, *ids) == UndoResult(4, 0, ())
        assert every_object(four) == as_submitted()
        assert four.states() == ["undone"] * 4
        assert four.score().new == 0
        assert four.states() == ["undone"] * 4
        assert four.push().pushed == 0
        assert not four.sync().changed
        assert every_object(four) == as_submitted()

    def test_it_is_told_who_wanted_it(self, four: Desk) -> None:
        key = of(fixed(four), "extra").finding.id
        take_back(four, key)
        written, applied, undone = four.store.fixes(key)
        assert (written.outcome, applied.outcome, undone.outcome) == ("planned", "applied", "undone")
        assert (undone.before, undone.after) == (written.after, written.before)
        last = [e for e in four.store.events(key) if e.kind in ("fix", "finding.undo")][-2:]
        assert [(e.kind, e.actor) for e in last] == [("fix", "lea"), ("finding.undo", "lea")]

    def test_again_changes_nothing(self, four: Desk) -> None:
        key = of(fixed(four), "extra").finding.id
        take_back(four, key)
        head, people = four.store.audit_head(), dict(four.tool.people)
        assert take_back(four, key) == UndoResult(0, 0, ())
        assert (four.store.audit_head(), four.tool.people) == (head, people)

    def test_newer_work_stays(self, four: Desk) -> None:
        fixed(four)
        first, second = four.tool.people["2"][0].annotations
        four.tool.submit("2", [replace(second, shape=Box(0, 0, 55, 45)), replace(first, shape=Box(0, 0, 50, 40))])
        now = four.tool.objects("2")
        key = of(four, "wrong_class").finding.id
        result = take_back(four, key)
        assert result == UndoResult(0, 0, ("2.png: somebody has changed it since the fix",))
        assert four.tool.objects("2") == now
        assert of(four, "wrong_class").state is State.VERIFIED

    def test_since(self, four: Desk) -> None:
        fixed(four)
        by_time = sorted(ITEMS, key=lambda e: four.store.fixes(of(four, e).finding.id)[0].at)
        at = four.store.fixes(of(four, by_time[2]).finding.id)[0].at
        assert take_back(four, since=at).undone == 2
        assert [of(four, e).state for e in by_time] == [State.VERIFIED] * 2 + [State.UNDONE] * 2

    def test_a_persons_new_answer_brings_it_back(self, four: Desk) -> None:
        key = of(fixed(four), "extra").finding.id
        take_back(four, key)
        four.tool.answer(key, "reject", 50)
        four.sync()
        assert of(four, "extra").state is State.REJECTED
        four.tool.answer(key, "accept", 55)
        assert four.sync().verified == 1
        assert four.tool.objects("3") == list(TRUTH)

    def test_what_a_person_had_done_is_not_ours_to_undo(self, four: Desk) -> None:
        four.push()
        key = of(four, "extra").finding.id
        four.tool.submit("3", four.tool.people["3"][0].annotations[:2])
        four.tool.answer(key, "accept", 0)
        assert four.sync().fixes == {"already": 1}
        (conflict,) = take_back(four, key).conflicts
        assert "labelbridge wrote nothing there" in conflict

    def test_words_that_name_nothing_to_undo(self, four: Desk) -> None:
        with pytest.raises(UsageError, match="is open: there is nothing to undo"):
            take_back(four, of(four, "extra").finding.id)
        with pytest.raises(NotFound, match="no findings of memory:1 were accepted as batch 'x'"):
            take_back(four, batch="x")

    def test_an_undone_answer_teaches_nothing(self, four: Desk) -> None:
        fixed(four)
        assert len(four.store.judged("memory:1")) == 4
        take_back(four, of(four, "extra").finding.id)
        assert len(four.store.judged("memory:1")) == 3

    @pytest.mark.parametrize("step", ["choose", "undo 0", "undo 3"])
    @pytest.mark.parametrize("lost", [False, True])
    def test_killed_after_a_step(self, four: Desk, step: str, lost: bool) -> None:
        fixed(four)
        ids = [of(four, error).finding.id for error in ITEMS]
        four.durable.kill_after = step
        with pytest.raises(Killed):
            take_back(four, *ids)
        if lost:
            four.durable.left.clear()
        take_back(four, *ids)
        assert every_object(four) == as_submitted()
        assert four.states() == ["undone"] * 4

    @pytest.mark.parametrize("method", ["record_fix", "transition"])
    @pytest.mark.parametrize("n", [1, 3])
    def test_killed_before_the_store_knows(
        self, four: Desk, killed_in: Callable[..., None], method: str, n: int
    ) -> None:
        fixed(four)
        ids = [of(four, error).finding.id for error in ITEMS]
        killed_in(method, n)
        with pytest.raises(Killed):
            take_back(four, *ids)
        take_back(four, *ids)
        assert every_object(four) == as_submitted()
        assert four.states() == ["undone"] * 4

    def test_a_fix_whose_answer_got_lost_can_be_undone(self, four: Desk) -> None:
        four.push()
        key = of(four, "extra").finding.id
        four.tool.answer(key, "accept", 0)
        four.tool.lose = {"apply_fixes"}
        with pytest.raises(ToolUnreachable):
            four.sync()
        assert four.sync().fixes == {"already": 1}
        assert take_back(four, key).undone == 1
        assert every_object(four) == as_submitted()

    def test_an_object_with_another_id_is_the_same_suspicion(self, four: Desk) -> None:
        """Some tools give an object that is put back another id."""
        found = of(fixed(four), "extra").finding
        take_back(four, found.id)
        *others, last = four.tool.people["3"][0].annotations
        four.tool.submit("3", [*others, replace(last, id="3a:new")])
        four.store.put_renewal("memory:1", "3a:new", last.id)
        assert four.score().new == 0
        again = of(four, "extra")
        assert (again.finding.id, again.finding.annotation_ids, again.state) == (found.id, ("3a:new",), State.UNDONE)


class TestBulkAccept:
    def test_the_fixes_are_written_by_the_next_sync_and_undone_as_a_batch(self, four: Desk) -> None:
        result = accept_all(four)
        assert (result.accepted, result.left) == (4, ())
        assert four.states() == ["accepted"] * 4
        verdict = of(four, "extra").verdict
        assert (verdict.decision, verdict.reviewer, verdict.source) == ("accept", "lea", f"bulk:{result.batch}")
        assert four.sync().verified == 4
        assert take_back(four, batch=result.batch) == UndoResult(4, 0, ())
        assert every_object(four) == as_submitted()

    def test_undone_before_anything_is_written(self, four: Desk) -> None:
        batch = accept_all(four).batch
        assert take_back(four, batch=batch) == UndoResult(0, 4, ())
        assert not four.sync().changed
        assert every_object(four) == as_submitted()

    def test_which(self, four: Desk) -> None:
        run = four.store.latest_run("memory:1")
        assert run
        every = chosen(four.store, run, AcceptOptions(0.0))
        assert len(every) == 4
        assert [s.finding.id for s in chosen(four.store, run, AcceptOptions(0.0, limit=2))] == [
            s.finding.id for s in every[:2]
        ]
        (extra,) = chosen(four.store, run, AcceptOptions(0.0, errors=(ErrorType.EXTRA,)))
        assert extra.finding.error is ErrorType.EXTRA
        dogs = chosen(four.store, run, AcceptOptions(0.0, label="dog"))
        assert {s.finding.label for s in dogs} == {"dog"}
        assert chosen(four.store, run, AcceptOptions(1.0)) == []

    def test_it_teaches_nothing_and_hides_no_answer(self, four: Desk) -> None:
        accept_all(four)
        assert four.store.judged("memory:1") == []
        assert four.store.precision("memory:1") == []
        assert four.store.last_verdict_time("memory:1") is None

    def test_what_is_up_for_review_leaves_it_but_what_a_reviewer_has_begun_stays(self, four: Desk) -> None:
        four.push()
        places = {case.finding.id: ref for ref, case in four.tool.cases.items()}
        begun = of(four, "extra").finding.id
        four.tool.touched = {f"memory:{places[begun]}"}
        result = accept_all(four)
        assert (result.accepted, result.left) == (3, (f"{begun} (3.png)",))
        assert [case.finding.id for case in four.tool.cases.values()] == [begun]
        assert of(four, "extra").state is State.PUSHED
        four.tool.answer(begun, "reject", 0)
        four.sync()
        assert of(four, "extra").state is State.REJECTED

    def test_a_reviewer_outranks_it(self, four: Desk) -> None:
        """Confirmed by somebody who looked, a finding is no longer the batch's."""
        four.push()
        cases = dict(four.tool.cases)
        batch = accept_all(four).batch
        four.tool.cases = cases
        four.tool.answer(of(four, "extra").finding.id, "accept", 60 * 9)
        four.sync()
        assert take_back(four, batch=batch).undone == 3
        assert of(four, "extra").state is State.VERIFIED

    @pytest.mark.parametrize("step", ["choose", "accept 0", "accept 3"])
    def test_killed_after_a_step(self, four: Desk, step: str) -> None:
        four.push()
        four.durable.kill_after = step
        with pytest.raises(Killed):
            accept_all(four)
        result = accept_all(four)
        assert result.accepted == 4
        assert len(four.store.batch(result.batch)) == 4
        assert four.states() == ["accepted"] * 4

    @pytest.mark.parametrize("method", ["record_verdict", "record_withdrawal", "transition"])
    def test_killed_before_the_store_knows(self, four: Desk, killed_in: Callable[..., None], method: str) -> None:
        four.push()
        killed_in(method, 2)
        with pytest.raises(Killed):
            accept_all(four)
        assert accept_all(four).accepted == 4
        assert four.states() == ["accepted"] * 4


class TestWithdrawal:
    def test_what_is_repaired_leaves_the_review_and_comes_back_with_the_error(self, four: Desk) -> None:
        four.push()
        before = four.tool.people["3"][0].annotations
        four.tool.submit("3", before[:2])
        four.score()
        key = of(four, "extra").finding.id
        assert of(four, "extra").state is State.WITHDRAWN
        result = four.sync()
        assert (result.withdrawn, result.changed) == (1, True)
        assert key not in {case.finding.id for case in four.tool.cases.values()}
        assert of(four, "extra").pushed == ()
        assert four.sync().withdrawn == 0
        four.tool.submit("3", before)
        four.score()
        assert of(four, "extra").state is State.REOPENED
        assert four.push().pushed == 1
        four.tool.answer(key, "accept", 30)
        assert four.sync().verified == 1

    def test_an_answer_to_what_was_withdrawn_counts(self, four: Desk) -> None:
        four.push()
        before = four.tool.people["3"][0].annotations
        four.tool.submit("3", before[:2])
        four.score()
        four.tool.answer(of(four, "extra").finding.id, "reject", 0)
        assert four.sync().withdrawn == 0
        assert of(four, "extra").state is State.REJECTED

    def test_what_somebody_has_begun_stays(self, four: Desk) -> None:
        four.push()
        four.tool.submit("3", four.tool.people["3"][0].annotations[:2])
        four.score()
        places = {case.finding.id: ref for ref, case in four.tool.cases.items()}
        four.tool.touched = {f"memory:{places[of(four, 'extra').finding.id]}"}
        assert four.sync().withdrawn == 0
        four.tool.touched = set()
        assert four.sync().withdrawn == 1


class TestJudgedAgain:
    def test_what_was_fixed_is_suspected_no_longer(self, four: Desk) -> None:
        four.push()
        for minute, error in enumerate(ITEMS):
            four.tool.answer(of(four, error).finding.id, "accept", minute)
        result = four.sync()
        assert (result.verified, result.doubted) == (4, ())

    def test_a_persons_word_outranks_the_formulas(self, four: Desk) -> None:
        """A dog to the reviewer, a cat to every prediction: noted and told once, and nothing goes round in circles."""
        four.push()
        found = of(four, "imprecise").finding
        mine = Box(LOOSE_CAT.x1 + 1, LOOSE_CAT.y1 + 1, LOOSE_CAT.x2, LOOSE_CAT.y2)
        four.tool.answer(found.id, "edit", 0, Fix("reshape", "cat", mine))
        result = four.sync()
        assert result.verified == 1
        (doubt,) = result.doubted
        assert doubt.startswith("4.png: still imprecise to the scorer (0.")
        (event,) = [e for e in four.store.events(found.id) if e.kind == "finding.verify"]
        assert event.detail["detail"]["still_suspected"] >= 0.5
        four.score()
        assert of(four, "imprecise").state is State.VERIFIED
        assert not four.sync().changed

    def test_without_predictions_nothing_is_judged(self, desk: Desk) -> None:
        """Two people against each other, and no model."""
        desk.picture(SUBMITTED["extra"], TRUTH, TRUTH)
        desk.score_stored()
        desk.push(min_score=0.1)
        assert desk.findings()
        for minute, stored in enumerate(desk.findings()):
            desk.tool.answer(stored.finding.id, "accept", minute)
        result = desk.sync()
        assert (result.verified, result.doubted) == (len(desk.findings()), ())
