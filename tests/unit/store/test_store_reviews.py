"""Pushes, verdicts and fixes: recorded once, read back, and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bridge.core.annotations import Box
from bridge.core.findings import ErrorType, Event, Finding, Fix, Verdict
from bridge.core.tool_memory import Suggestion
from bridge.errors import NotFound
from bridge.store import (
    FixRecord,
    JudgedFinding,
    PrecisionRow,
    Push,
    ReviewPlace,
    Run,
    SampledFinding,
    Store,
    WrittenFix,
)

Begin = Callable[..., Run]
Make = Callable[..., Finding]
AT = "2026-11-20T12:00:00Z"


def test_a_review_is_found_again_and_replaced(store: Store) -> None:
    assert store.reviews_of("ls:project/7") == []
    store.put_review("ls:project/7", "8", "http://x/8")
    store.put_review("files:coco", "1", "")
    assert store.reviews_of("ls:project/7") == [ReviewPlace("ls:project/7", "8", "http://x/8")]
    store.put_review("ls:project/7", "9", "http://x/9")
    assert store.reviews_of("ls:project/7") == [ReviewPlace("ls:project/7", "9", "http://x/9")]
    store.put_review("ls:project/7", "10", "http://x/10", "task")
    assert [(p.ref, p.mode) for p in store.reviews_of("ls:project/7")] == [("9", ""), ("10", "task")]


def test_a_push_that_was_cut_off_is_known_until_it_is_tidied(store: Store, begin: Begin, make_finding: Make) -> None:
    target, later = "ls:project/7", "2026-11-20T13:00:00Z"
    begin(store, "r1", target=target)
    twice, withdrawn, waiting, fine = (make_finding(k, target=target) for k in range(4))
    store.put_findings("r1", [twice, withdrawn, waiting, fine])
    ids = [f.id for f in (twice, withdrawn, waiting, fine)]
    store.begin_push(ids[:3], "8", AT)
    store.transition(withdrawn.id, Event.WITHDRAW, AT, "labelbridge")
    assert store.cut_off(target, "8", AT) == {}
    assert store.cut_off(target, "8", later) == {withdrawn.id: ""}
    again = [twice.id, fine.id]
    store.begin_push(again, "8", AT)
    for finding_id in again:
        store.record_push(finding_id, "8", f"at {finding_id}", "", AT)
        store.transition(finding_id, Event.PUSH, AT, "labelbridge")
    store.end_push(again, "8")
    assert store.cut_off(target, "8", later) == {twice.id: f"at {twice.id}", withdrawn.id: ""}
    assert store.cut_off(target, "9", later) == store.cut_off("ls:project/8", "8", later) == {}
    store.end_push([twice.id, withdrawn.id], "8", tidied=True)
    assert store.cut_off(target, "8", later) == {}


def test_a_push_is_recorded_once(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    one, two = make_finding(1), make_finding(2)
    store.put_findings("r1", [one, two])
    assert store.record_push(one.id, "8", "100", "http://x/100", AT)
    head = store.audit_head()
    assert not store.record_push(one.id, "8", "100", "http://x/100", "2026-11-20T13:00:00Z")
    assert store.audit_head() == head
    assert store.record_push(one.id, "9", "200", "http://x/200", "2026-11-20T14:00:00Z")
    assert store.record_push(two.id, "8", "101", "http://x/101", AT)
    assert store.record_push(two.id, "8", "102", "http://x/102", AT, by="ann")
    assert store.pushed_refs("8") == {one.id: "100", two.id: "102"}
    assert store.pushed_refs("7") == {}
    assert store.finding(one.id).pushed == (
        Push("8", "100", "http://x/100", AT),
        Push("9", "200", "http://x/200", "2026-11-20T14:00:00Z"),
    )
    assert [(e.kind, e.actor) for e in store.events(two.id)][1:] == [("push", "labelbridge"), ("push", "ann")]
    with pytest.raises(NotFound):
        store.record_push("f" * 16, "8", "1", "", AT)


def test_a_verdict_is_recorded_once(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    finding = make_finding(1)
    store.put_findings("r1", [finding])
    edit = Verdict(
        finding.id,
        "edit",
        "ann",
        "2026-11-20T12:00:00.5Z",
        "annotation/5",
        Fix("reshape", "nut", Box(1.0, 2.0, 3.0, 4.0)),
    )
    assert store.record_verdict(edit, AT)
    head = store.audit_head()
    assert not store.record_verdict(edit, "2026-11-20T13:00:00Z")
    assert not store.record_verdict(replace(edit, reviewer="renamed", fix=None), AT)
    assert store.audit_head() == head
    others = [
        replace(edit, decision="reject", fix=None),
        replace(edit, decided_at="2026-11-20T11:59:00Z"),
        replace(edit, source="annotation/6"),
    ]
    for other in others:
        assert store.record_verdict(other, AT)
    assert store.verdicts(finding.id) == [others[1], edit, others[0], others[2]]
    assert store.finding(finding.id).verdict == others[2]
    assert [e.actor for e in store.events(finding.id)][1:] == ["ann"] * 4
    assert store.events(finding.id)[1].detail["fix"] == edit.fix.to_dict()  # type: ignore[union-attr]
    for call in (
        lambda: store.record_verdict(replace(edit, finding_id="f" * 16), AT),
        lambda: store.verdicts("f" * 16),
    ):
        with pytest.raises(NotFound):
            call()


def test_the_last_verdict_is_told_in_the_tools_own_words(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    begin(store, "other", target="files:coco")
    one, two = make_finding(1), make_finding(2, target="files:coco")
    store.put_findings("r1", [one])
    store.put_findings("other", [two])
    assert store.last_verdict_time("ls:project/7") is None
    # As texts these sort the other way round.
    times = ["2026-11-20T12:00:00Z", "2026-11-20T12:00:00.074163Z", "2026-11-20T13:59:00+02:00"]
    for k, time in enumerate(times):
        store.record_verdict(Verdict(one.id, "accept", "ann", time, f"annotation/{k}"), AT)
    store.record_verdict(Verdict(two.id, "accept", "ann", "2027-01-01T00:00:00Z", "annotation/9"), AT)
    assert store.last_verdict_time("ls:project/7") == times[1]
    assert store.last_verdict_time("files:coco") == "2027-01-01T00:00:00Z"


def test_precision_counts_the_latest_verdict_as_it_was_judged(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    findings = [make_finding(k, label="bolt" if k < 4 else "nut") for k in range(6)]
    findings.append(make_finding(6, error=ErrorType.MISSING, annotation_ids=()))
    store.put_findings("r1", findings)
    decisions = ["accept", "edit", "reject", "reject", "accept", "reject", "accept"]
    for finding, decision in zip(findings, decisions, strict=True):
        verdict = Verdict(finding.id, decision, "ann", "2026-11-20T12:00:00Z", "annotation/5")  # type: ignore[arg-type]
        store.record_verdict(verdict, AT)
    # The reviewer thinks again about number 3, and an older answer to number 4 arrives late.
    store.record_verdict(Verdict(findings[3].id, "accept", "ann", "2026-11-20T12:30:00Z", "annotation/5"), AT)
    store.record_verdict(Verdict(findings[4].id, "reject", "ann", "2026-11-20T11:30:00Z", "annotation/5"), AT)
    expected = [
        PrecisionRow("evidence-1", "missing", "bolt", 1, 0),
        PrecisionRow("evidence-1", "wrong_class", "bolt", 3, 1),
        PrecisionRow("evidence-1", "wrong_class", "nut", 1, 1),
    ]
    assert store.precision("ls:project/7") == expected
    begin(store, "r2")
    store.put_findings("r2", [replace(f, scorer="evidence-2") for f in findings])
    assert store.precision("ls:project/7") == expected
    assert store.precision("files:coco") == []


def test_a_share_and_its_interval() -> None:
    row = PrecisionRow("s", "extra", "cat", 0, 6)
    assert row.share == 0
    assert row.interval == pytest.approx((0, 0.39), abs=0.01)


def test_judged_findings_are_as_they_were_when_judged(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    findings = [make_finding(1, 0.9), make_finding(2, 0.6), make_finding(3, 0.4)]
    store.put_findings("r1", findings)
    for finding, decision in zip(findings, ("edit", "reject"), strict=False):
        verdict = Verdict(finding.id, decision, "ann", "2026-11-20T12:00:00Z", "annotation/5")  # type: ignore[arg-type]
        store.record_verdict(verdict, AT)
    begin(store, "r2")
    store.put_findings("r2", [replace(f, scorer="evidence-2", score=0.1) for f in findings])
    judged = [
        JudgedFinding(findings[0].id, "evidence-1", "wrong_class", "bolt", 0.9, True, AT),
        JudgedFinding(findings[1].id, "evidence-1", "wrong_class", "bolt", 0.6, False, AT),
    ]
    assert store.judged("ls:project/7") == judged
    # The reviewer thinks again, and sees what the second run says.
    store.record_verdict(Verdict(findings[1].id, "accept", "ann", "2026-11-20T12:30:00Z", "annotation/5"), AT)
    again = JudgedFinding(findings[1].id, "evidence-2", "wrong_class", "bolt", 0.1, True, AT)
    assert store.judged("ls:project/7") == [judged[0], again]
    assert store.judged("files:coco") == []


def test_a_run_has_one_sample(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    begin(store, "r2", started_at="2026-11-20T11:00:00Z")
    findings = [make_finding(k) for k in range(4)]
    store.put_findings("r1", findings)
    drawn = [SampledFinding(findings[k].id, k // 2, 7, AT) for k in (1, 2)]
    assert store.latest_sampled_run("ls:project/7") is None
    assert not store.put_sample("r1", [])
    assert store.put_sample("r1", drawn)
    assert not store.put_sample("r1", [SampledFinding(findings[3].id, 0, 1, AT)])
    assert store.sample("r1") == drawn
    assert store.sample("r2") == []
    assert store.latest_sampled_run("ls:project/7") == "r1"
    assert store.latest_sampled_run("files:coco") is None
    (event,) = [e for e in store.events("r1") if e.kind == "sample"]
    assert event.detail == {"findings": [d.finding_id for d in drawn]}
    assert store.verify_events() == []


def test_a_fix_is_recorded_once(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    finding = make_finding(1)
    store.put_findings("r1", [finding])
    before = {"label": "bolt", "shape": ["box", 1.0, 2.0, 3.0, 4.0, 0.0]}
    assert store.record_fix(finding.id, "conflict", "changed since", before, None, AT)
    assert not store.record_fix(finding.id, "conflict", "changed since", dict(reversed(before.items())), None, AT)
    assert store.record_fix(finding.id, "applied", "relabelled", before, {"label": "nut"}, AT, by="ann")
    assert store.record_fix(finding.id, "conflict", "changed since", before, None, AT)
    assert store.fixes(finding.id) == [
        FixRecord("conflict", "changed since", before, None, AT),
        FixRecord("applied", "relabelled", before, {"label": "nut"}, AT),
        FixRecord("conflict", "changed since", before, None, AT),
    ]
    assert [(e.kind, e.actor, e.detail["outcome"]) for e in store.events(finding.id)[1:]] == [
        ("fix", "labelbridge", "conflict"),
        ("fix", "ann", "applied"),
        ("fix", "labelbridge", "conflict"),
    ]
    for call in (lambda: store.record_fix("f" * 16, "applied", "", None, None, AT), lambda: store.fixes("f" * 16)):
        with pytest.raises(NotFound):
            call()


def test_who_annotated_before_the_review(store: Store) -> None:
    store.put_handover("http://a/tasks/1/jobs/2", "ann", AT)
    store.put_handover("http://a/tasks/1/jobs/2", "ann", AT)
    store.put_handover("http://ab/tasks/1/jobs/2", "bob", AT)
    assert store.handovers("http://a/") == {"http://a/tasks/1/jobs/2": "ann"}
    store.put_handover("http://a/tasks/1/jobs/2", "eve", AT)
    assert store.handovers("http://a/") == {"http://a/tasks/1/jobs/2": "eve"}
    assert [e.detail["annotator"] for e in store.events() if e.kind == "handover"] == ["ann", "bob", "eve"]
    assert store.verify_events() == []


def test_what_was_suggested(store: Store) -> None:
    one, two = Suggestion(0, "m", "cat", Box(1, 2, 3, 4), 0.5), Suggestion(3, "m", "dog", Box(1, 2, 3, 4), 0.25)
    store.put_suggestions("http://a/tasks/1/jobs/2", {0, 3}, [one, two], AT)
    assert store.suggestions("http://a/tasks/1/jobs/2") == [one, two]
    same = Suggestion(0, "n", "cat", Box(1, 2, 3, 4), 0.75)
    store.put_suggestions("http://a/tasks/1/jobs/2", {0}, [one, same], AT)
    assert store.suggestions("http://a/tasks/1/jobs/2") == [one, same, two]
    store.put_suggestions("http://a/tasks/1/jobs/2", {0}, [], AT)
    assert store.suggestions("http://a/tasks/1/jobs/2") == [two]
    assert store.suggestions("http://a/tasks/1/jobs/3") == []


def test_a_withdrawn_case_stands_no_more(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    store.put_findings("r1", [make_finding(1), make_finding(2)])
    first, second = make_finding(1).id, make_finding(2).id
    for key, reviewer in ((first, "mia"), (second, "")):
        store.record_push(key, "9", key[-1], "url", AT, reviewer=reviewer)
        store.transition(key, Event.PUSH, AT, "test")
    assert store.awaited("ls:project/7") == {"mia": 1, "": 1}
    assert store.to_withdraw("ls:project/7", "9") == []
    store.transition(first, Event.WITHDRAW, AT, "test")
    assert store.to_withdraw("ls:project/7", "9") == [first]
    assert store.record_withdrawal(first, "9", AT)
    assert not store.record_withdrawal(first, "9", AT)
    assert store.to_withdraw("ls:project/7", "9") == []
    assert (store.finding(first).pushed, store.pushed_refs("9")) == ((), {second: "2"})
    assert store.awaited("ls:project/7") == {"": 1}
    assert store.record_push(first, "9", "1", "url", AT, reviewer="mia"), "the same place, once more"
    assert store.finding(first).pushed == (Push("9", "1", "url", AT, "mia"),)


def test_an_answer_in_one_place_takes_the_finding_out_of_the_other(
    store: Store, begin: Begin, make_finding: Make
) -> None:
    begin(store, "r1")
    store.put_findings("r1", [make_finding(1)])
    key = make_finding(1).id
    for review in ("9", "10"):
        store.record_push(key, review, "1", "url", AT)
    store.transition(key, Event.REJECT, AT, "ann")
    assert store.to_withdraw("ls:project/7", "9") == store.to_withdraw("ls:project/7", "10") == [key]
    store.record_withdrawal(key, "10", AT)
    assert store.to_withdraw("ls:project/7", "9") == []


def test_what_was_accepted_in_bulk_is_no_answer(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    store.put_findings("r1", [make_finding(1), make_finding(2)])
    for n in (1, 2):
        store.record_verdict(Verdict(make_finding(n).id, "accept", "lea", AT, "bulk:b1"), AT)
    assert store.batch("b1") == [make_finding(1).id, make_finding(2).id]
    assert store.batch("b2") == []
    assert (store.judged("ls:project/7"), store.precision("ls:project/7")) == ([], [])
    assert store.last_verdict_time("ls:project/7") is None
    store.record_verdict(Verdict(make_finding(1).id, "reject", "ann", AT, "ls:annotation/1"), AT)
    assert [j.real for j in store.judged("ls:project/7")] == [False]


def test_what_undoes_a_fix(store: Store, begin: Begin, make_finding: Make) -> None:
    begin(store, "r1")
    store.put_findings("r1", [make_finding(1), make_finding(2)])
    first, second = make_finding(1).id, make_finding(2).id
    for n, key in enumerate((first, second)):
        store.transition(key, Event.ACCEPT, AT, "ann")
        assert store.plan_fix(key, {"old": n}, None, AT)
        assert not store.plan_fix(key, {"old": n}, None, AT), "the same attempt once more"
    assert store.written_fixes("ls:project/7") == []
    for key in (first, second):
        store.transition(key, Event.APPLY, AT, "labelbridge")
    assert store.written_fixes("ls:project/7") == [
        WrittenFix(second, {"old": 1}, None, AT),
        WrittenFix(first, {"old": 0}, None, AT),
    ]
    store.transition(second, Event.UNDO, AT, "lea")
    assert [w.finding_id for w in store.written_fixes("ls:project/7")] == [first]


def test_objects_that_got_another_id_more_than_once(store: Store) -> None:
    store.put_renewal("cvat:task/1", "shape:7", "shape:3")
    store.put_renewal("cvat:task/1", "shape:9", "shape:7")
    store.put_renewal("cvat:task/1", "shape:9", "shape:9")
    assert store.former_ids("cvat:task/1") == {"shape:7": "shape:3", "shape:9": "shape:3"}
    assert store.former_ids("cvat:task/2") == {}
