"""Runs: started once, finished once, and listed newest first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.core.annotations import LabelSet
from bridge.errors import DataError, NotFound
from bridge.store import Run, Store

Begin = Callable[..., Run]


def test_a_run_comes_back_as_it_was_put(store: Store, begin: Begin) -> None:
    expected = Run(
        id="r1",
        target="ls:project/7",
        title="Schrauben – Größe 5 ✓",
        kind="review",
        model="parts-1",
        scorer="evidence-1",
        labels=LabelSet(("Ä", "nut")),
        started_at="2026-11-20T10:00:00+00:00",
        finished_at=None,
        snapshot=None,
        options={"min_score": 0.5, "items": [1, 2]},
        counts={},
    )
    given = begin(
        store, "r1", title=expected.title, labels=expected.labels, options={"min_score": 0.5, "items": [1, 2]}
    )
    assert given == expected
    assert store.run("r1") == expected


def test_starting_again_changes_nothing(store: Store, begin: Begin) -> None:
    first = begin(store, "r1")
    assert begin(store, "r1", title="another", started_at="2027-01-01T00:00:00Z") == first
    assert len(store.runs()) == 1
    assert [e.kind for e in store.events("r1")] == ["run.started"]


def test_a_run_id_belongs_to_one_target(store: Store, begin: Begin) -> None:
    begin(store, "r1")
    with pytest.raises(DataError, match="r1 is already there, over ls:project/7"):
        begin(store, "r1", target="ls:project/8")


def test_finishing_again_changes_nothing(store: Store, begin: Begin) -> None:
    begin(store, "r1")
    done = store.finish_run("r1", "2026-11-20T11:00:00Z", {"items": 5, "findings": {"missing": 2}})
    assert (done.finished_at, done.counts) == ("2026-11-20T11:00:00Z", {"items": 5, "findings": {"missing": 2}})
    assert store.finish_run("r1", "2026-11-20T12:00:00Z", {}) == done
    assert store.run("r1") == done
    assert [e.kind for e in store.events("r1")] == ["run.started", "run.finished"]


def test_runs_are_listed_by_time_whatever_its_spelling(store: Store, begin: Begin) -> None:
    begin(store, "noon", started_at="2026-11-20T12:00:00Z")
    begin(store, "half past", started_at="2026-11-20T12:30:00+00:00")
    begin(store, "earlier, in another zone", started_at="2026-11-20T13:00:00+02:00")
    begin(store, "with fraction", started_at="2026-11-20T12:00:00.5Z")
    begin(store, "elsewhere", target="files:coco", started_at="2026-11-21T00:00:00Z")
    begin(store, "at the same time", started_at="2026-11-20T12:30:00Z")
    order = ["at the same time", "half past", "with fraction", "noon", "earlier, in another zone"]
    assert [run.id for run in store.runs("ls:project/7")] == order
    assert [run.id for run in store.runs()] == ["elsewhere", *order]
    assert [run.id for run in store.runs(limit=2)] == ["elsewhere", order[0]]
    latest = store.latest_run("ls:project/7")
    assert latest is not None
    assert latest.id == order[0]


def test_what_is_not_there(store: Store) -> None:
    assert store.runs() == []
    assert store.latest_run("ls:project/7") is None
    for call in (
        lambda: store.run("r1"),
        lambda: store.finish_run("r1", "2026-11-20T11:00:00Z", {}),
        lambda: store.put_findings("r1", []),
        lambda: store.withdraw_missing("r1"),
        lambda: store.put_chunk("r1", 0, []),
        lambda: list(store.chunks("r1")),
        lambda: store.seal_snapshot("r1"),
        lambda: store.counts("r1"),
    ):
        with pytest.raises(NotFound, match="there is no run 'r1'"):
            call()
    assert store.audit_head() == (0, "0" * 64)
