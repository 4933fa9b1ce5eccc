"""The audit log: whatever is changed, removed or moved behind the store's back is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from bridge.core.findings import Event, Finding
from bridge.errors import StoreError
from bridge.store import Run, Store
from bridge.store.audit import GENESIS

Begin = Callable[..., Run]
Make = Callable[..., Finding]
AT = "2026-11-20T12:00:00Z"


@pytest.fixture
def filled(store: Store, begin: Begin, make_finding: Make) -> Store:
    """A store with ten events."""
    begin(store, "r1")
    store.put_findings("r1", [make_finding(k) for k in range(6)])
    store.transition(make_finding(0).id, Event.PUSH, AT, "ann", {"ref": "5"})
    store.record_push(make_finding(0).id, "8", "5", "", AT)
    store.finish_run("r1", AT, {"found": 6})
    assert store.audit_head()[0] == 10
    return store


def tamper(store: Store, *statements: str) -> list[str]:
    with store._write() as db:
        for statement in statements:
            assert db.execute(text(statement)).rowcount > 0
    return store.verify_events()


def test_an_untouched_log_is_whole(filled: Store) -> None:
    assert filled.verify_events() == []
    events = filled.events()
    assert [e.seq for e in events] == list(range(1, 11))
    assert events[0].prev_hash == GENESIS
    assert [e.prev_hash for e in events[1:]] == [e.hash for e in events[:-1]]
    assert filled.audit_head() == (10, events[-1].hash)


def test_events_of_one_subject(filled: Store, make_finding: Make) -> None:
    subject = make_finding(0).id
    assert [e.kind for e in filled.events(subject)] == ["finding.new", "finding.push", "push"]
    assert [e.kind for e in filled.events(subject, limit=1)] == ["push"]
    assert [e.seq for e in filled.events(limit=3)] == [8, 9, 10]
    assert filled.events("nothing") == []
    assert filled.events("r1")[-1].detail == {"counts": {"found": 6}}


@pytest.mark.parametrize("column", ["at", "actor", "kind", "subject", "detail"])
def test_a_changed_event_is_named(filled: Store, column: str) -> None:
    (problem,) = tamper(filled, f"UPDATE events SET {column} = {column} || ' ' WHERE seq = 4")
    assert problem.startswith("event 4 (finding.new")
    assert problem.endswith("was changed")


def test_text_cannot_be_shifted_between_columns(filled: Store) -> None:
    assert tamper(filled, "UPDATE events SET actor = 'label', kind = 'bridgefinding.new' WHERE seq = 4") != []


def test_a_changed_event_with_a_new_hash_is_named(filled: Store) -> None:
    from bridge.store.audit import _hash

    with filled._read() as db:
        row = dict(db.execute(text("SELECT * FROM events WHERE seq = 8")).mappings().one())
    forged = _hash({**row, "actor": "bob"})
    problems = tamper(filled, f"UPDATE events SET actor = 'bob', hash = '{forged}' WHERE seq = 8")
    assert problems == ["event 9 does not follow event 8: one of them was moved, replaced or changed"]


def test_a_forged_last_event_is_named(filled: Store) -> None:
    from bridge.store.audit import _hash

    with filled._read() as db:
        row = dict(db.execute(text("SELECT * FROM events WHERE seq = 10")).mappings().one())
    forged = _hash({**row, "actor": "bob"})
    problems = tamper(filled, f"UPDATE events SET actor = 'bob', hash = '{forged}' WHERE seq = 10")
    assert problems == ["event 10 is not the one that was written last"]


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("seq = 4", "event 4 was removed"),
        ("seq IN (4, 5, 6)", "events 4 to 6 were removed"),
        ("seq = 1", "event 1 was removed"),
        ("seq = 10", "event 10 was removed from the end"),
        ("seq > 7", "events 8 to 10 were removed from the end"),
        ("seq > 0", "events 1 to 10 were removed from the end"),
    ],
)
def test_removed_events_are_named(filled: Store, which: str, told: str) -> None:
    assert tamper(filled, f"DELETE FROM events WHERE {which}") == [told]


def test_a_removed_event_whose_gap_was_closed_is_noticed(filled: Store) -> None:
    problems = tamper(
        filled,
        "DELETE FROM events WHERE seq = 4",
        *(f"UPDATE events SET seq = {k - 1} WHERE seq = {k}" for k in range(5, 11)),
    )
    assert problems == [
        "event 4 does not follow event 3: one of them was moved, replaced or changed",
        "event 10 was removed from the end",
    ]


def test_swapped_events_are_named(filled: Store) -> None:
    problems = tamper(
        filled,
        "UPDATE events SET seq = 99 WHERE seq = 4",
        "UPDATE events SET seq = 4 WHERE seq = 6",
        "UPDATE events SET seq = 6 WHERE seq = 99",
    )
    assert [problem.split(" does not follow")[0] for problem in problems] == [f"event {k}" for k in (4, 5, 6, 7)]


def test_events_added_from_outside_are_named(filled: Store) -> None:
    problems = tamper(
        filled,
        "INSERT INTO events SELECT 11, at, actor, kind, subject, detail, hash, hash FROM events WHERE seq = 10",
    )
    assert any("event 11 was added from outside" in problem for problem in problems)
    assert any("event 11 (run.finished of r1) was changed" in problem for problem in problems)


def test_without_its_end_mark_the_log_takes_nothing_more(filled: Store, begin: Begin) -> None:
    with filled._write() as db:
        db.execute(text("DELETE FROM event_head"))
    with pytest.raises(StoreError, match="end mark of the audit log was removed"):
        begin(filled, "r2")
    assert [run.id for run in filled.runs()] == ["r1"]
    with pytest.raises(StoreError, match="end mark of the audit log was removed"):
        filled.verify_events()


def test_a_failed_write_leaves_no_event(filled: Store, make_finding: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from bridge.store import audit

    def fail(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(audit, "insert_many", fail)
    head = filled.audit_head()
    for call in (
        lambda: filled.put_findings("r1", [make_finding(50)]),
        lambda: filled.transition(make_finding(1).id, Event.PUSH, AT, "ann"),
        lambda: filled.record_push(make_finding(1).id, "8", "6", "", AT),
        lambda: filled.record_fix(make_finding(1).id, "applied", "", None, None, AT),
    ):
        with pytest.raises(RuntimeError, match="killed"):
            call()
    monkeypatch.undo()
    assert filled.audit_head() == head
    assert filled.verify_events() == []
    assert len(filled.findings()) == 6
    assert filled.finding(make_finding(1).id).state == "open"
    assert filled.pushed_refs("8") == {make_finding(0).id: "5"}
    assert filled.fixes(make_finding(1).id) == []


def test_the_log_survives_closing(tmp_path: Path, begin: Begin) -> None:
    url = f"sqlite:///{tmp_path}/labelbridge.db"
    with Store.open(url) as store:
        begin(store, "r1")
    with Store.open(url) as store:
        begin(store, "r2")
        assert store.verify_events() == []
        assert store.audit_head()[0] == 2
