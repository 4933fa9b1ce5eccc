"""Snapshots: read back exactly, stored once, frozen by sealing, and damage is noticed."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest
from sqlalchemy import text

from bridge.core.annotations import (
    Annotation,
    Box,
    Item,
    Mask,
    Polygon,
    Problem,
    Record,
    Submission,
    Tag,
    TextSpan,
    snapshot_hash,
)
from bridge.errors import DataError, StoreError
from bridge.store import Run, Store

Begin = Callable[..., Run]
Records = Callable[..., list[Record]]


def run_sql(store: Store, statement: str) -> list[object]:
    with store._write() as db:
        result = db.execute(text(statement))
        return list(result.scalars()) if result.returns_rows else []


def test_chunks_come_back_in_order(store: Store, begin: Begin, make_records: Records) -> None:
    begin(store, "r1")
    for position, start in ((1, 3), (0, 0), (2, 6)):
        assert store.put_chunk("r1", position, make_records(start, start + 3, confidence=0.5))
    assert list(store.chunks("r1")) == [make_records(i, i + 3, confidence=0.5) for i in (0, 3, 6)]
    assert store.seal_snapshot("r1") == snapshot_hash(make_records(0, 9))
    assert store.run("r1").snapshot == snapshot_hash(make_records(0, 9))


def test_every_shape_and_odd_text_survives(store: Store, begin: Begin) -> None:
    shapes = (
        Box(0.1 + 0.2, -1e-9, 3.0, 4.0, 33.3),
        Polygon(((0.0, 1.5), (2.0, 3.0), (4.0, 5.0))),
        Mask(2, 3, (1, 2, 3)),
        Tag(),
        TextSpan(1, 5),
    )
    annotations = tuple(Annotation(f"a{k}", "Ä\u0000🙂", shape) for k, shape in enumerate(shapes))
    record = Record(
        Item("1", "näme.jpg", "/data/1.jpg"),
        (Submission("s", "ann", annotations), Submission("t", "bob", ())),
        (),
        (Problem("degenerate_shape", "why", "a0", "s"), Problem("no_image", "a name that is no UTF-8: \udcff.jpg")),
    )
    begin(store, "r1")
    store.put_chunk("r1", 0, [record])
    assert list(store.chunks("r1")) == [[record]]


def test_a_coordinate_that_is_no_number_is_kept(store: Store, begin: Begin) -> None:
    box = Box(float("-inf"), 0.0, float("inf"), 1.0)
    record = Record(Item("1", "1", "1"), (Submission("s", "a", (Annotation("a", "nut", box),)),))
    begin(store, "r1")
    store.put_chunk("r1", 0, [record])
    assert list(store.chunks("r1")) == [[record]]


def test_writing_the_same_again_changes_nothing(store: Store, begin: Begin, make_records: Records) -> None:
    begin(store, "r1")
    assert store.put_chunk("r1", 0, make_records(0, 3))
    assert not store.put_chunk("r1", 0, make_records(0, 3))
    assert list(store.chunks("r1")) == [make_records(0, 3)]


def test_equal_chunks_of_two_runs_are_stored_once(store: Store, begin: Begin, make_records: Records) -> None:
    for run in ("r1", "r2"):
        begin(store, run)
        store.put_chunk(run, 0, make_records(0, 50))
        store.put_chunk(run, 1, make_records(0, 50))
    assert run_sql(store, "SELECT count(*) FROM chunks") == [1]
    store.put_chunk("r1", 0, make_records(1, 50))
    assert run_sql(store, "SELECT count(*) FROM chunks") == [2]
    assert list(store.chunks("r2")) == [make_records(0, 50)] * 2


def test_a_chunk_is_replaced_until_the_snapshot_is_sealed(store: Store, begin: Begin, make_records: Records) -> None:
    begin(store, "r1")
    store.put_chunk("r1", 0, make_records(0, 3))
    assert store.put_chunk("r1", 0, make_records(0, 3, label="bolt"))
    assert run_sql(store, "SELECT count(*) FROM chunks") == [1]
    sealed = store.seal_snapshot("r1")
    assert sealed == snapshot_hash(make_records(0, 3, label="bolt"))
    with pytest.raises(DataError, match="run r1 is sealed, and chunk 0 would change"):
        store.put_chunk("r1", 0, make_records(0, 3))
    with pytest.raises(DataError, match="run r1 is sealed, and chunk 1 would change"):
        store.put_chunk("r1", 1, [])
    assert not store.put_chunk("r1", 0, make_records(0, 3, label="bolt"))
    assert store.seal_snapshot("r1") == sealed
    assert [e.kind for e in store.events("r1")] == ["run.started", "snapshot.sealed"]
    detail = store.events("r1")[-1].detail
    assert detail["sha256"] == sealed
    assert detail["annotators"]["ann"]["submissions"] == 3


def test_predictions_may_come_after_the_seal(store: Store, begin: Begin, make_records: Records) -> None:
    begin(store, "r1")
    store.put_chunk("r1", 0, make_records(0, 3))
    sealed = store.seal_snapshot("r1")
    assert store.put_chunk("r1", 0, make_records(0, 3, confidence=0.7))
    assert list(store.chunks("r1")) == [make_records(0, 3, confidence=0.7)]
    assert store.seal_snapshot("r1") == sealed


def test_an_empty_target_has_a_snapshot_too(store: Store, begin: Begin) -> None:
    begin(store, "r1")
    assert list(store.chunks("r1")) == []
    assert store.seal_snapshot("r1") == snapshot_hash([])


def test_a_gap_is_noticed(store: Store, begin: Begin, make_records: Records) -> None:
    begin(store, "r1")
    store.put_chunk("r1", 0, make_records(0, 1))
    store.put_chunk("r1", 2, make_records(2, 3))
    with pytest.raises(StoreError, match="chunk 1 of run r1 is missing"):
        store.seal_snapshot("r1")
    with pytest.raises(StoreError, match="chunk 1 of run r1 is missing"):
        list(store.chunks("r1"))


@pytest.mark.parametrize("body", ["68656c6c6f", zlib.compress(b"[]").hex()])
def test_damage_is_noticed(store: Store, begin: Begin, make_records: Records, body: str) -> None:
    begin(store, "r1")
    store.put_chunk("r1", 0, make_records(0, 3))
    with store._write() as db:
        db.execute(text("UPDATE chunks SET body = :body"), {"body": bytes.fromhex(body)})
    with pytest.raises(StoreError, match="chunk 0 of run r1 is damaged"):
        list(store.chunks("r1"))


def test_a_change_while_sealing_is_noticed(
    store: Store, begin: Begin, make_records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(store, "r1")
    store.put_chunk("r1", 0, make_records(0, 3))
    chunks = store.chunks

    def meddle(run_id: str) -> object:
        yield from chunks(run_id)
        store.put_chunk("r1", 0, make_records(0, 3, label="bolt"))

    monkeypatch.setattr(store, "chunks", meddle)
    with pytest.raises(StoreError, match="changed while it was sealed"):
        store.seal_snapshot("r1")
    assert store.run("r1").snapshot is None
