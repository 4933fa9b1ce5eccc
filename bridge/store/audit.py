"""The audit log: append-only rows, each bound to the one before by its hash."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from bridge.errors import StoreError
from bridge.store.chain import Chain, Mark, event_hash, span
from bridge.store.engine import insert_many
from bridge.store.rows import AuditEvent
from bridge.store.tables import event_head, events
from bridge.store.texts import dump, load


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; ``subject`` is the id of the run or finding it happened to."""

    at: str
    actor: str
    kind: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def append(db: Connection, entries: Iterable[Entry]) -> None:
    """Add events in the given order, inside the caller's transaction."""
    seq, previous = _locked_head(db)
    rows = []
    for entry in entries:
        seq += 1
        row = {
            "seq": seq,
            "at": entry.at,
            "actor": entry.actor,
            "kind": entry.kind,
            "subject": entry.subject,
            "detail": dump(dict(entry.detail)),
            "prev_hash": previous,
        }
        previous = row["hash"] = event_hash(row)
        rows.append(row)
    if rows:
        insert_many(db, insert(events), rows)
        db.execute(update(event_head).where(event_head.c.id == 1).values(seq=seq, hash=previous))


def note(db: Connection, entry: Entry) -> bool:
    """Add an event, unless the last of its kind and subject says the same."""
    query = select(events.c.detail).where(events.c.subject == entry.subject, events.c.kind == entry.kind)
    last = db.execute(query.order_by(events.c.seq.desc()).limit(1)).scalar()
    if last == dump(dict(entry.detail)):
        return False
    append(db, [entry])
    return True


def head(db: Connection) -> Mark:
    row = db.execute(select(event_head.c.seq, event_head.c.hash).where(event_head.c.id == 1)).one_or_none()
    if row is None:
        raise StoreError("the end mark of the audit log was removed", todo="Put a backup of the store in its place")
    return Mark(row.seq, row.hash)


def select_events(db: Connection, subject: str | None, limit: int | None) -> list[AuditEvent]:
    query = select(events).order_by(events.c.seq.desc())
    if subject is not None:
        query = query.where(events.c.subject == subject)
    if limit is not None:
        query = query.limit(limit)
    return [_event(row) for row in db.execute(query).mappings()][::-1]


def rows_from(db: Connection, first: int, limit: int) -> list[dict[str, Any]]:
    """At most so many events from number ``first`` on, as they are stored: ``detail`` is a text."""
    query = select(events).where(events.c.seq >= first).order_by(events.c.seq).limit(limit)
    return [dict(row) for row in db.execute(query).mappings()]


def verify(db: Connection, kept: Mark | None) -> list[str]:
    """One sentence for each break in the chain."""
    # Where a reader sees what others commit meanwhile, the log may grow between the first look at its end and the last.
    begun, chain, problems = head(db), Chain(kept=kept), list[str]()
    stream = db.execution_options(stream_results=True, max_row_buffer=1000)
    for row in map(dict, stream.execute(select(events).order_by(events.c.seq)).mappings()):
        problems += chain.follow(row)
    last, end = chain.last or begun, head(db)
    if last.seq < begun.seq:
        problems.append(f"{span(last.seq + 1, begun.seq)} removed from the end")
    elif last.seq > end.seq:
        problems.append(f"{span(end.seq + 1, last.seq)} added from outside")
    elif last.seq == end.seq and last.hash != end.hash:
        problems.append(f"event {last.seq} is not the one that was written last")
    return problems + chain.missed()


def _event(row: RowMapping) -> AuditEvent:
    try:
        return AuditEvent(**{**row, "detail": load(row["detail"])})
    except json.JSONDecodeError:
        raise StoreError(
            f"event {row['seq']} of the audit log was changed",
            todo="Run `labelbridge audit verify` to see all that was",
        ) from None


def _locked_head(db: Connection) -> Mark:
    """The end of the chain, kept from other writers until this transaction ends.

    SQLite has one writer at a time anyway and knows no row locks; SQLAlchemy leaves the clause out there.
    """
    db.execute(select(event_head.c.id).where(event_head.c.id == 1).with_for_update())
    return head(db)
