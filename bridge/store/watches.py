"""What the standing service watches, and what changed there and was not dealt with yet. Times are our own clock's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, get_args

from sqlalchemy import Connection, Row, and_, bindparam, case, delete, func, select, update

from bridge.core.changes import Change, ChangeKind
from bridge.core.moments import parse_moment
from bridge.core.policy import Waiting
from bridge.store.engine import upsert
from bridge.store.rows import StoredChange, Watch
from bridge.store.tables import changes as change_table
from bridge.store.tables import watches as watch_table
from bridge.store.texts import time_key

#: Items named in one query; SQLite takes some thousands.
_MANY = 500
#: Changes by which it is decided whether to score: a target that was just connected may have any number of them.
_MOST = 5000
_TICK = timedelta(microseconds=1)


def put_poll(db: Connection, target: str, changes: Sequence[Change], cursor: str, at: str, next_poll_at: str) -> None:
    now = time_key(at)
    _turn_back(db, target, now)
    for kind in get_args(ChangeKind):
        _put_changes(db, target, [c for c in changes if c.kind == kind], kind, now)
    fields = {"cursor": cursor, "polled_at": now, "next_poll_at": time_key(next_poll_at)}
    _put(db, target, **fields, failures=0, error="")


def note_work(db: Connection, target: str, item_ids: Sequence[str], at: str) -> None:
    _put_changes(db, target, [Change(item_id, "work", at) for item_id in item_ids], "work", time_key(at))


def put_failed_poll(db: Connection, target: str, error: str, at: str, next_poll_at: str) -> None:
    known = get(db, target)
    failures = known.failures + 1 if known else 1
    _put(db, target, polled_at=time_key(at), next_poll_at=time_key(next_poll_at), failures=failures, error=error)


def get(db: Connection, target: str) -> Watch | None:
    row = db.execute(select(watch_table).where(watch_table.c.target == target)).one_or_none()
    return Watch(**row._mapping) if row else None


def waiting(db: Connection, target: str) -> Waiting:
    table, known = change_table, get(db, target)
    new = select(func.count()).where((table.c.target == target) & (table.c.kind == "new"))
    work = select(table.c.first_at, table.c.last_at).where((table.c.target == target) & (table.c.kind == "work"))
    work = work.order_by(table.c.last_at).limit(_MOST)
    return Waiting(
        new_items=db.execute(new).scalar_one(),
        changed=tuple((parse_moment(r.first_at), parse_moment(r.last_at)) for r in db.execute(work)),
        run_to_push=known is not None and known.run_to_push is not None,
        answers=known is not None and known.answers_since is not None,
        synced_at=parse_moment(known.synced_at) if known and known.synced_at else None,
    )


def changes(db: Connection, target: str, kind: ChangeKind) -> list[StoredChange]:
    table = change_table
    query = select(table).where((table.c.target == target) & (table.c.kind == kind))
    rows = db.execute(query.order_by(table.c.first_at, table.c.item_id))
    return [StoredChange(r.item_id, r.kind, r.moment, r.first_at, r.last_at) for r in rows]


def strike(db: Connection, target: str, kind: ChangeKind, seen: Mapping[str, str]) -> None:
    table = change_table
    one = and_(table.c.target == target, table.c.kind == kind, table.c.item_id == bindparam("seen_id"))
    dealt_with = delete(table).where(one & (table.c.last_at == bindparam("seen_at")))
    if seen:
        db.execute(dealt_with, [{"seen_id": item_id, "seen_at": last_at} for item_id, last_at in seen.items()])


def note_run(db: Connection, target: str, run_id: str | None) -> None:
    _put(db, target, run_to_push=run_id)


def note_answers(db: Connection, target: str, at: str | None) -> None:
    _put(db, target, answers_since=time_key(at) if at else None)


def note_sync(db: Connection, target: str, at: str) -> None:
    now, known = time_key(at), get(db, target)
    later = known.answers_since if known and (known.answers_since or "") > now else None
    _put(db, target, synced_at=now, answers_since=later)


def _put(db: Connection, target: str, **fields: Any) -> None:
    first = {"target": target, "failures": 0, "error": ""}
    upsert(db, watch_table, [first | fields], ["target"], list(fields))


def _turn_back(db: Connection, target: str, now: str) -> None:
    """Where our clock went back, what was noted in its future was noted now: else it would have to wait for that."""
    table = change_table
    future = (table.c.target == target) & (table.c.last_at > now)
    first = case((table.c.first_at > now, now), else_=table.c.first_at)
    db.execute(update(table).where(future).values(last_at=now, first_at=first))


def _put_changes(db: Connection, target: str, found: Sequence[Change], kind: ChangeKind, now: str) -> None:
    known: dict[str, Row[Any]] = {}
    table = change_table
    ids = [change.item_id for change in found]
    for at in range(0, len(ids), _MANY):
        these = (table.c.target == target) & (table.c.kind == kind) & table.c.item_id.in_(ids[at : at + _MANY])
        known.update((row.item_id, row) for row in db.execute(select(table).where(these)))
    rows = []
    for change in found:
        old = known.get(change.item_id)
        # Whoever deals with what was noted before must not strike this change off with it.
        last = time_key((parse_moment(old.last_at) + _TICK).isoformat()) if old and old.last_at == now else now
        row = {"target": target, "kind": kind, "item_id": change.item_id, "moment": change.moment}
        rows.append(row | {"first_at": old.first_at if old else now, "last_at": last})
    upsert(db, table, rows, ["target", "kind", "item_id"], ["moment", "last_at"])
