"""Findings: nothing is lost or doubled when runs repeat, and what a reviewer judges does not move."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bridge.core.annotations import Box, Mask
from bridge.core.findings import TRANSITIONS, UNDECIDED, ErrorType, Event, Finding, Fix, State, Verdict
from bridge.errors import DataError, NotFound, UsageError
from bridge.store import FindingHead, PutCounts, Run, Store

Begin = Callable[..., Run]
Make = Callable[..., Finding]
AT = "2026-11-20T12:00:00Z"

#: The events that lead from OPEN to each state.
PATHS: dict[State, tuple[Event, ...]] = {
    State.OPEN: (),
    State.PUSHED: (Event.PUSH,),
    State.ACCEPTED: (Event.ACCEPT,),
    State.REJECTED: (Event.REJECT,),
    State.APPLIED: (Event.ACCEPT, Event.APPLY),
    State.CONFLICT: (Event.ACCEPT, Event.CONFLICT),
    State.VERIFIED: (Event.ACCEPT, Event.APPLY, Event.VERIFY),
    State.REOPENED: (Event.ACCEPT, Event.APPLY, Event.REOPEN),
    State.WITHDRAWN: (Event.WITHDRAW,),
    State.UNDONE: (Event.ACCEPT, Event.APPLY, Event.UNDO),
}


def bring(store: Store, finding_id: str, state: State) -> None:
    for event in PATHS[state]:
        store.transition(finding_id, event, AT, "test")
    assert store.finding(finding_id).state is state


def test_a_finding_comes_back_as_it_was_put(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    found = [
        make_finding(1),
        make_finding(2, 0.5, fix=Fix("add", "nut", Mask(2, 3, (1, 5))), annotation_ids=(), error=ErrorType.MISSING),
        make_finding(3, 0.1, fix=Fix("none"), current_shape=None, error=ErrorType.NO_IMAGE, revisions=()),
    ]
    assert store.put_findings("r1", found) == PutCounts(new=3, known=0, reopened=0)
    stored = store.findings()
    assert [s.finding for s in stored] == found
    assert {(s.state, s.pushed, s.verdict, s.first_run, s.last_run) for s in stored} == {
        (State.OPEN, (), None, "r1", "r1")
    }


def test_evidence_of_numpy_numbers_is_kept(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    store.put_findings("r1", [make_finding(1, evidence={"n": np.int64(3), "iou": np.float32(0.5)})])
    assert store.findings()[0].finding.evidence == {"n": 3, "iou": 0.5}


def test_putting_again_doubles_nothing(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    found = [make_finding(k) for k in range(5)]
    store.put_findings("r1", found)
    events = store.audit_head()
    assert store.put_findings("r1", found) == PutCounts(new=0, known=5)
    assert store.put_findings("r1", []) == PutCounts(new=0, known=0)
    assert len(store.findings()) == 5
    assert store.audit_head() == events


def test_of_two_with_one_id_the_higher_score_counts(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    twice = [make_finding(1, 0.4), make_finding(1, 0.8, reason="better"), make_finding(1, 0.6)]
    assert store.put_findings("r1", twice) == PutCounts(new=1, known=0)
    assert store.findings()[0].finding == twice[1]


@pytest.mark.parametrize("state", list(State))
def test_a_known_finding_keeps_what_became_of_it(store: Store, begin: Begin, make_finding: Make, state: State) -> None:
    begin(store, "r1")
    old = make_finding(1, 0.6)
    store.put_findings("r1", [old])
    bring(store, old.id, state)
    store.record_push(old.id, "review", "77", "http://x/77", AT)
    verdict = Verdict(old.id, "accept", "ann", AT, "annotation/5", old.fix)
    store.record_verdict(verdict, AT)

    begin(store, "r2")
    new = replace(
        old,
        score=0.9,
        reason="clearer now",
        evidence={"confidence": 0.99},
        scorer="evidence-2",
        label="washer",
        revisions=("ffff",),
        current_shape=Box(5.0, 5.0, 9.0, 9.0),
        fix=Fix("relabel", "nut", Box(1.2, 2.0, 3.5, 4.0)),
    )
    reopened = state is State.WITHDRAWN
    assert store.put_findings("r2", [new]) == PutCounts(new=0, known=1, reopened=int(reopened))
    now = store.finding(old.id)
    assert now.state is (State.REOPENED if reopened else state)
    assert [push.ref for push in now.pushed] == ["77"]
    assert now.verdict == verdict
    assert (now.first_run, now.last_run) == ("r1", "r2")
    assert now.finding == replace(
        old, score=0.9, reason="clearer now", evidence={"confidence": 0.99}, scorer="evidence-2"
    )
    assert [s.finding.id for s in store.findings(run_id="r1")] == [old.id]
    assert [s.finding.id for s in store.findings(run_id="r2")] == [old.id]


@pytest.mark.parametrize("state", [State.WITHDRAWN, State.REOPENED, State.CONFLICT])
def test_what_a_reviewer_still_sees_does_not_move(store: Store, begin: Begin, make_finding: Make, state: State) -> None:
    """Else an answer about the object as it was would change what somebody made of it since."""
    begin(store, "r1")
    shown = make_finding(1)
    store.put_findings("r1", [shown])
    store.record_push(shown.id, "8", "9", "http://here", AT)
    bring(store, shown.id, state)
    begin(store, "r2")
    moved = replace(shown, label="bolt", revisions=("0" * 16,))
    store.put_findings("r2", [moved])
    assert store.finding(shown.id).finding.revisions == shown.revisions
    store.record_withdrawal(shown.id, "8", AT)
    store.put_findings("r2", [moved])
    assert store.finding(shown.id).finding.revisions == moved.revisions


def test_what_may_be_up_for_review_stays_as_it_was(store: Store, begin: Begin, make_finding: Make) -> None:
    """A push without an answer may have brought it there; who judges it may see what it was then."""
    begin(store, "r1")
    begin(store, "r2")
    sent = make_finding(1)
    store.put_findings("r1", [sent])
    store.begin_push([sent.id], "8", AT)
    moved = replace(sent, label="bolt", revisions=("0" * 16,))
    store.put_findings("r2", [moved])
    assert store.finding(sent.id).finding.revisions == sent.revisions
    store.end_push([sent.id], "8")
    store.put_findings("r2", [moved])
    assert store.finding(sent.id).finding.revisions == moved.revisions


@pytest.mark.parametrize("state", list(State))
def test_only_undecided_findings_are_withdrawn(store: Store, begin: Begin, make_finding: Make, state: State) -> None:
    begin(store, "r1")
    store.put_findings("r1", [make_finding(1), make_finding(2)])
    bring(store, make_finding(1).id, state)
    begin(store, "r2")
    store.put_findings("r2", [make_finding(2)])
    assert store.withdraw_missing("r2") == (state in UNDECIDED)
    assert store.finding(make_finding(1).id).state is (State.WITHDRAWN if state in UNDECIDED else state)
    assert store.finding(make_finding(2).id).state is State.OPEN
    assert store.withdraw_missing("r2") == 0
    assert store.verify_events() == []


def test_only_what_was_looked_for_is_withdrawn(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    store.put_findings("r1", [make_finding(1)])
    begin(store, "r2")
    others = [error for error in ErrorType if error is not make_finding(1).error]
    assert store.withdraw_missing("r2", others) == 0
    assert store.withdraw_missing("r2", [make_finding(1).error]) == 1


def test_withdrawing_leaves_other_targets_and_later_runs_alone(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "other", target="files:coco")
    store.put_findings("other", [make_finding(9, target="files:coco")])
    for run in ("r1", "r2"):
        begin(store, run)
    store.put_findings("r2", [make_finding(2)])
    store.put_findings("r1", [])
    assert store.withdraw_missing("r1") == 0
    assert store.withdraw_missing("r2") == 0
    begin(store, "r3")
    assert store.withdraw_missing("r3", at=AT, by="ann") == 1
    event = store.events(make_finding(2).id)[-1]
    assert (event.kind, event.actor, event.at) == ("finding.withdraw", "ann", AT)
    assert event.detail == {"from": "open", "to": "withdrawn", "detail": {"run": "r3"}}


def test_what_a_run_found_is_not_withdrawn_by_it_when_an_older_run_is_repeated(
    store: Store, begin: Begin, make_finding: Make
) -> None:
    for run in ("r1", "r2"):
        begin(store, run)
    store.put_findings("r2", [make_finding(1)])
    store.put_findings("r1", [make_finding(1)])
    assert store.withdraw_missing("r2") == 0


def test_a_finding_of_another_target_is_refused_whole(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    with pytest.raises(DataError, match="belongs to files:coco"):
        store.put_findings("r1", [make_finding(1), make_finding(2, target="files:coco")])
    assert store.findings() == []


def test_search(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    begin(store, "r2")
    begin(store, "other", target="files:coco")
    found = [make_finding(k, (k * 7 % 10) / 10, error=list(ErrorType)[k % 3]) for k in range(1200)]
    store.put_findings("r1", found[:1100])
    store.put_findings("r2", found[1000:])
    store.put_findings("other", [make_finding(5000, 1.0, target="files:coco")])
    for k in (3, 4):
        store.transition(found[k].id, Event.PUSH, AT, "test")

    def ids(**words: object) -> list[str]:
        return [s.finding.id for s in store.findings(**words)]  # type: ignore[arg-type]

    def expected(*keep: Finding) -> list[str]:
        return [f.id for f in sorted(keep, key=lambda f: (-f.score, f.id))]

    assert ids(target="ls:project/7") == expected(*found)
    assert ids()[0] == f"{5000:016x}"
    assert ids(run_id="r2") == expected(*found[1000:])
    assert ids(run_id="r1", limit=5) == expected(*found[:1100])[:5]
    assert ids(states=[State.PUSHED]) == expected(found[3], found[4])
    assert ids(states=["pushed"]) == expected(found[3], found[4])
    assert ids(states=[]) == []
    assert ids(errors=(ErrorType.EXTRA,), target="ls:project/7") == expected(*found[1::3])
    assert ids(min_score=0.7, target="ls:project/7") == expected(*(f for f in found if f.score >= 0.7))
    many = [str(k) for k in range(2000)] + ["1"]
    assert ids(item_ids=many, target="ls:project/7", limit=30) == expected(*found)[:30]
    assert ids(item_ids={"3"}, run_id="r2") == expected(*(f for f in found[1000:] if f.item_id == "3"))
    assert ids(item_ids=[]) == []
    assert store.counts("r2") == {"extra": {"open": 67}, "missing": {"open": 66}, "wrong_class": {"open": 67}}
    assert store.counts("r1")["missing"] == {"open": 366, "pushed": 1}


def test_a_finding_by_the_beginning_of_its_id(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    ids = ["abcd000000000000", "abcd100000000000", "abce000000000000", "0" * 16, "1" * 16]
    store.put_findings("r1", [make_finding(1, id=key) for key in ids])
    assert store.finding("abcd1").finding.id == ids[1]
    assert store.finding(" ABCE ").finding.id == ids[2]
    assert store.finding(ids[0]).finding.id == ids[0]
    with pytest.raises(UsageError, match="'abc' begins several ids: abcd000000000000, abcd100000000000, abce"):
        store.finding("abc")
    for absent in ("abcf", "%", "_", "abcd0000000000001", "g"):
        with pytest.raises(NotFound, match="there is no finding"):
            store.finding(absent)
    with pytest.raises(UsageError, match="empty"):
        store.finding(" ")


@pytest.mark.parametrize("state", list(State))
def test_transitions_are_those_of_the_core(store: Store, begin: Begin, make_finding: Make, state: State) -> None:
    begin(store, "r1")
    for k, event in enumerate(Event):
        finding = make_finding(k)
        store.put_findings("r1", [finding])
        bring(store, finding.id, state)
        head = store.audit_head()
        after = TRANSITIONS.get((state, event))
        if after is None:
            with pytest.raises(DataError, match=f"finding {finding.id}: a finding that is {state} cannot"):
                store.transition(finding.id, event, AT, "ann")
            assert store.finding(finding.id).state is state
            assert store.audit_head() == head
        else:
            assert store.transition(finding.id, event, AT, "ann", {"why": "because"}) is after
            assert store.finding(finding.id).state is after
            last = store.events(finding.id)[-1]
            assert (last.kind, last.actor, last.at) == (f"finding.{event}", "ann", AT)
            assert last.detail == {"from": state, "to": after, "detail": {"why": "because"}}
    with pytest.raises(NotFound):
        store.transition("f" * 16, Event.PUSH, AT, "ann")
    assert store.verify_events() == []


def test_threads_take_turns(store: Store, begin: Begin, make_finding: Make) -> None:
    """Eight threads race for each transition: exactly one wins each, and the chain stays whole."""
    begin(store, "r1")
    findings = [make_finding(k) for k in range(20)]
    store.put_findings("r1", findings)
    won: list[str] = []
    failed: list[BaseException] = []

    def race() -> None:
        for finding in findings:
            try:
                store.transition(finding.id, Event.PUSH, AT, "thread")
                won.append(finding.id)
            except DataError:
                pass
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(won) == sorted(f.id for f in findings)
    assert store.verify_events() == []
    assert len(store.events()) == 1 + 20 + 20


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_hundred_thousand_findings_at_once(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    found = [make_finding(k, (k % 1000) / 1000) for k in range(100_000)]
    assert store.put_findings("r1", found).new == 100_000
    assert len(store.findings(limit=10)) == 10
    assert store.counts("r1") == {"wrong_class": {"open": 100_000}}


def test_heads_are_what_findings_are_ranked_by(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    begin(store, "r2")
    store.put_findings("r1", [make_finding(2, 0.3), make_finding(1, 0.8, error=ErrorType.EXTRA, label="nut")])
    bring(store, make_finding(1).id, State.PUSHED)
    assert store.heads("r1") == [
        FindingHead(make_finding(1).id, ErrorType.EXTRA, "nut", "evidence-1", 0.8, State.PUSHED),
        FindingHead(make_finding(2).id, ErrorType.WRONG_CLASS, "bolt", "evidence-1", 0.3, State.OPEN),
    ]
    assert store.heads("r2") == []
    with pytest.raises(NotFound):
        store.heads("r3")


def test_findings_of_ids_come_in_the_order_asked_for(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    store.put_findings("r1", [make_finding(k) for k in range(1200)])
    ids = [make_finding(k).id for k in (1100, 3, 600, 3)]
    assert [s.finding.id for s in store.findings_of(ids)] == ids
    assert store.findings_of([]) == []
    with pytest.raises(NotFound, match="ffff"):
        store.findings_of([ids[0], "f" * 16])
