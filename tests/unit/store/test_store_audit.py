"""The audit log: whatever is changed, removed or moved behind the store's back is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from bridge.core.findings import Event, Finding
from bridge.errors import StoreError, UsageError
from bridge.store import Run, Store, audit
from bridge.store.chain import GENESIS, Mark, event_hash

Begin = Callable[..., Run]
Make = Callable[..., Finding]
AT = "2026-11-20T12:00:00Z"


def unguard(db: Connection) -> None:
    is_sqlite = db.dialect.name == "sqlite"
    query = "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'"
    if not is_sqlite:
        query = "SELECT tgname, tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal"
    for name, table in db.execute(text(query)).all():
        db.execute(text(f"DROP TRIGGER {name}" + ("" if is_sqlite else f" ON {table}")))


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
    """Change the log as somebody would who knows its guards."""
    with store._write() as db:
        unguard(db)
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


@pytest.mark.parametrize("column", ["prev_hash", "hash"])
def test_a_changed_link_is_named(filled: Store, column: str) -> None:
    problems = tamper(filled, f"UPDATE events SET {column} = '{'0' * 64}' WHERE seq = 4")
    assert any(problem.startswith("event 4 (finding.new") for problem in problems)


def test_a_changed_number_is_named(filled: Store) -> None:
    told = ["event 4 was removed", "events 11 to 39 were removed", "events 11 to 40 were added from outside"]
    assert tamper(filled, "UPDATE events SET seq = 40 WHERE seq = 4") == told


def test_text_cannot_be_shifted_between_columns(filled: Store) -> None:
    assert tamper(filled, "UPDATE events SET actor = 'label', kind = 'bridgefinding.new' WHERE seq = 4") != []


def test_a_changed_event_with_a_new_hash_is_named(filled: Store) -> None:
    with filled._read() as db:
        row = dict(db.execute(text("SELECT * FROM events WHERE seq = 8")).mappings().one())
    forged = event_hash({**row, "actor": "bob"})
    problems = tamper(filled, f"UPDATE events SET actor = 'bob', hash = '{forged}' WHERE seq = 8")
    assert problems == ["event 9 does not follow event 8: one of them was moved, replaced or changed"]


def test_a_forged_last_event_is_named(filled: Store) -> None:
    with filled._read() as db:
        row = dict(db.execute(text("SELECT * FROM events WHERE seq = 10")).mappings().one())
    forged = event_hash({**row, "actor": "bob"})
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
        unguard(db)
        db.execute(text("DELETE FROM event_head"))
    with pytest.raises(StoreError, match="end mark of the audit log was removed"):
        begin(filled, "r2")
    assert [run.id for run in filled.runs()] == ["r1"]
    with pytest.raises(StoreError, match="end mark of the audit log was removed"):
        filled.verify_events()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'bob' WHERE seq = 4",
        "DELETE FROM events WHERE seq = 10",
        "UPDATE event_head SET seq = 9",
        "DELETE FROM event_head",
    ],
)
def test_the_database_refuses_to_change_the_log(filled: Store, statement: str) -> None:
    with pytest.raises(StoreError, match="the audit log only grows"), filled._write() as db:
        db.execute(text(statement))
    assert filled.verify_events() == []


class TestKeptElsewhere:
    """An end of the log that was noted where nobody could forge it."""

    def test_it_is_still_there(self, filled: Store, begin: Begin) -> None:
        kept = filled.audit_head()
        assert filled.verify_events(kept) == []
        begin(filled, "r2")
        assert filled.verify_events(kept) == []
        assert filled.verify_events(Mark(0, GENESIS)) == []

    def test_a_log_cut_off_with_its_end_mark(self, filled: Store) -> None:
        kept = filled.audit_head()
        seven = filled.events()[6].hash
        cut = ("DELETE FROM events WHERE seq > 7", f"UPDATE event_head SET seq = 7, hash = '{seven}'")
        assert tamper(filled, *cut) == []
        assert filled.verify_events(kept) == ["events 8 to 10 were removed from the end: the log was longer once"]

    def test_a_log_written_anew(self, filled: Store) -> None:
        kept = filled.audit_head()
        with filled._write() as db:
            unguard(db)
            previous = GENESIS
            for row in map(dict, db.execute(text("SELECT * FROM events ORDER BY seq")).mappings().all()):
                row |= {"prev_hash": previous, "actor": "bob" if row["seq"] == 4 else row["actor"]}
                previous = row["hash"] = event_hash(row)
                columns = "actor = :actor, prev_hash = :prev_hash, hash = :hash"
                db.execute(text(f"UPDATE events SET {columns} WHERE seq = :seq"), row)
            db.execute(text(f"UPDATE event_head SET hash = '{previous}'"))
        assert filled.verify_events() == []
        told = "event 10 is not the one that was noted elsewhere: the log was written anew"
        assert filled.verify_events(kept) == [told]

    def test_its_event_was_removed(self, filled: Store) -> None:
        kept = Mark(4, filled.events()[3].hash)
        tamper(filled, "DELETE FROM events WHERE seq = 4")
        assert filled.verify_events(kept) == [
            "event 4 was removed",
            "event 4, which was noted elsewhere, is not among them",
        ]

    @pytest.mark.parametrize("word", ["", "7", "7:abc", f"x:{GENESIS}", f"7:{GENESIS}0"])
    def test_words_that_mark_no_end(self, word: str) -> None:
        with pytest.raises(UsageError, match="SEQ:HASH"):
            Mark.parse(word)
        assert Mark.parse(f" {Mark(7, GENESIS)} ") == Mark(7, GENESIS)


def test_notes_are_kept_once(filled: Store) -> None:
    assert filled.note("policy", "ls:project/7", {"push": None}, AT)
    assert not filled.note("policy", "ls:project/7", {"push": None}, "later")
    assert filled.note("policy", "ls:project/8", {"push": None}, AT)
    assert filled.note("policy", "ls:project/7", {"push": 0.5}, AT, by="ann")
    assert filled.note("policy", "ls:project/7", {"push": None}, AT)
    assert [(e.kind, e.actor) for e in filled.events("ls:project/7")] == [
        ("policy", "labelbridge"),
        ("policy", "ann"),
        ("policy", "labelbridge"),
    ]


def test_a_log_that_grows_while_it_is_checked(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PostgreSQL shows it: the end is looked at before the events and behind them."""
    seen = {e.seq: Mark(e.seq, e.hash) for e in filled.events()}
    looks = iter([seen[7], seen[10]])
    monkeypatch.setattr(audit, "head", lambda _: next(looks))
    assert filled.verify_events() == []
    looks = iter([seen[7], seen[9]])
    assert filled.verify_events() == ["event 10 was added from outside"]


def test_a_failed_write_leaves_no_event(filled: Store, make_finding: Make, monkeypatch: pytest.MonkeyPatch) -> None:
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
