"""The audit log: append-only rows, each bound to the one before by its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select, update

from bridge.errors import StoreError
from bridge.store.engine import insert_many
from bridge.store.rows import AuditEvent
from bridge.store.tables import event_head, events
from bridge.store.texts import dump, load

#: What the first event names as the hash before it.
GENESIS = "0" * 64


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
        previous = row["hash"] = _hash(row)
        rows.append(row)
    if rows:
        insert_many(db, insert(events), rows)
        db.execute(update(event_head).where(event_head.c.id == 1).values(seq=seq, hash=previous))


def head(db: Connection) -> tuple[int, str]:
    row = db.execute(select(event_head.c.seq, event_head.c.hash).where(event_head.c.id == 1)).one_or_none()
    if row is None:
        raise StoreError("the end mark of the audit log was removed", todo="Put a backup of the store in its place")
    return row.seq, row.hash


def select_events(db: Connection, subject: str | None, limit: int | None) -> list[AuditEvent]:
    query = select(events).order_by(events.c.seq.desc())
    if subject is not None:
        query = query.where(events.c.subject == subject)
    if limit is not None:
        query = query.limit(limit)
    found = [AuditEvent(**{**row, "detail": load(row["detail"])}) for row in db.execute(query).mappings()]
    return found[::-1]


def verify(db: Connection) -> list[str]:
    """One sentence for each break in the chain."""
    problems = []
    last, previous = 0, GENESIS
    stream = db.execution_options(stream_results=True, max_row_buffer=1000)
    for row in map(dict, stream.execute(select(events).order_by(events.c.seq)).mappings()):
        seq = row["seq"]
        if seq != last + 1:
            problems.append(f"{_span(last + 1, seq - 1)} removed")
        elif row["prev_hash"] != previous:
            problems.append(f"event {seq} does not follow event {last}: one of them was moved, replaced or changed")
        if row["hash"] != _hash(row):
            problems.append(f"event {seq} ({row['kind']} of {row['subject']}) was changed")
        last, previous = seq, row["hash"]
    end, end_hash = head(db)
    if last < end:
        problems.append(f"{_span(last + 1, end)} removed from the end")
    elif last > end:
        problems.append(f"{_span(end + 1, last)} added from outside")
    elif previous != end_hash:
        problems.append(f"event {last} is not the one that was written last")
    return problems


def _locked_head(db: Connection) -> tuple[int, str]:
    """The end of the chain, kept from other writers until this transaction ends.

    SQLite has one writer at a time anyway and knows no row locks; SQLAlchemy leaves the clause out there.
    """
    db.execute(select(event_head.c.id).where(event_head.c.id == 1).with_for_update())
    return head(db)


def _hash(row: Mapping[str, Any]) -> str:
    """SHA-256 over the row without its number, so that a row that was only moved still fits its own hash.

    Each part goes in behind its length, so that no text can be shifted from one column into the next.
    """
    parts = [row[name] for name in ("at", "actor", "kind", "subject", "detail", "prev_hash")]
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


def _span(first: int, last: int) -> str:
    return f"event {first} was" if first == last else f"events {first} to {last} were"
