"""Webhooks as hints: each kept once, taken once, and forgotten after a while."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.store.rows import Hint, WaitingHint
from bridge.store.tables import hints
from bridge.store.texts import dump, load, time_key

_INSERTS = {
    "sqlite": sqlite.insert(hints).on_conflict_do_nothing().returning(hints.c.digest),
    "postgresql": postgresql.insert(hints).on_conflict_do_nothing().returning(hints.c.digest),
}


def put(db: Connection, given: Sequence[Hint]) -> list[bool]:
    if not given:
        return []
    fresh = set(db.scalars(_INSERTS[db.dialect.name], [_row(hint) for hint in given]))
    stored = []
    for hint in given:
        stored.append(hint.digest in fresh)
        fresh.discard(hint.digest)  # the second of two alike
    return stored


def waiting(db: Connection, limit: int) -> list[WaitingHint]:
    query = select(hints).where(hints.c.taken_at.is_(None)).order_by(hints.c.seq).limit(limit)
    return [
        WaitingHint(
            row.seq, Hint(row.tool, tuple(load(row.places)), row.event, row.moment, row.digest, row.received_at)
        )
        for row in db.execute(query)
    ]


def take(db: Connection, seqs: Collection[int], at: str) -> None:
    db.execute(update(hints).where(hints.c.seq.in_(seqs) & hints.c.taken_at.is_(None)).values(taken_at=time_key(at)))


def forget(db: Connection, before: str) -> int:
    return db.execute(delete(hints).where(hints.c.received_at < time_key(before))).rowcount


def _row(hint: Hint) -> dict[str, str | None]:
    return {
        "tool": hint.tool,
        "places": dump(hint.places),
        "event": hint.event,
        "moment": hint.moment,
        "digest": hint.digest,
        "received_at": time_key(hint.received_at),
    }
