"""Old runs are forgotten, what is still needed of them is not, and the log keeps everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from bridge.core.annotations import Record
from bridge.core.findings import Event, Finding
from bridge.errors import DataError
from bridge.store import Run, Store
from bridge.store.tables import chunks

Begin = Callable[..., Run]
MakeFinding = Callable[..., Finding]
Records = Callable[..., list[Record]]
AT = "2026-11-29T12:00:00+00:00"


def scored(store: Store, begin: Begin, make_records: Records, numbers: range, *found: Finding) -> None:
    """Runs ``r1``, ``r2``, ...: half of what each saw is what every run saw."""
    for number in numbers:
        begin(store, f"r{number}")
        store.put_chunk(f"r{number}", 0, make_records(0, 2))
        store.put_chunk(f"r{number}", 1, make_records(10 * number, 10 * number + 2))
        store.put_findings(f"r{number}", found)
        store.seal_snapshot(f"r{number}")
        store.finish_run(f"r{number}", AT, {})


def bodies(store: Store) -> int:
    with store._read() as db:
        return int(db.execute(select(func.count()).select_from(chunks)).scalar_one())


def test_only_the_latest_are_kept(store: Store, begin: Begin, make_records: Records, make_finding: MakeFinding) -> None:
    finding = make_finding(1)
    scored(store, begin, make_records, range(1, 6), finding)
    assert bodies(store) == 6
    assert store.forget_runs("ls:project/7", 2, AT) == 3
    assert store.forget_runs("ls:project/7", 2, AT) == 0
    assert bodies(store) == 3  # what all runs saw is still there, and what the last two saw
    assert [len(chunk) for chunk in store.chunks("r4")] == [2, 2]
    assert [head.id for head in store.heads("r5")] == [finding.id]
    for read in (lambda: list(store.chunks("r3")), lambda: store.heads("r3")):
        with pytest.raises(DataError, match="what run r3 saw and found was forgotten"):
            read()
    assert store.chunk("r3", 0) == []
    assert [run.id for run in store.runs("ls:project/7")] == ["r5", "r4", "r3", "r2", "r1"]
    assert store.finding(finding.id).finding == finding
    assert [event.subject for event in store.events() if event.kind == "run.forgotten"] == ["r1", "r2", "r3"]
    assert store.verify_events() == []


def test_the_run_of_a_finding_at_work_is_kept(
    store: Store, begin: Begin, make_records: Records, make_finding: MakeFinding
) -> None:
    finding = make_finding(1)
    scored(store, begin, make_records, range(1, 2), finding)
    store.transition(finding.id, Event.ACCEPT, AT, "ann")
    scored(store, begin, make_records, range(2, 5))
    assert store.forget_runs("ls:project/7", 1, AT) == 2
    assert len(list(store.chunks("r1"))) == 2
    store.transition(finding.id, Event.REJECT, AT, "ann")
    assert store.forget_runs("ls:project/7", 1, AT) == 1


def test_other_targets_are_left_alone(store: Store, begin: Begin, make_records: Records) -> None:
    scored(store, begin, make_records, range(1, 4))
    assert store.forget_runs("ls:project/8", 1, AT) == 0
    assert len(list(store.chunks("r1"))) == 2


def test_the_latest_finished_run(store: Store, begin: Begin, make_records: Records) -> None:
    assert store.latest_finished_run("ls:project/7") is None
    scored(store, begin, make_records, range(1, 3))
    begin(store, "r9")
    latest = store.latest_finished_run("ls:project/7")
    assert latest is not None
    assert latest.id == "r2"
