"""Fixes: what was written into the tool, and what is needed to undo it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, insert, select

from bridge.core.findings import State
from bridge.store import audit
from bridge.store.engine import upsert
from bridge.store.lookup import finding_row
from bridge.store.rows import FixRecord, WrittenFix
from bridge.store.tables import findings, fixes, renewals
from bridge.store.texts import dump, load

#: The outcome of a fix that is about to be written: what undoes it is kept first.
PLANNED = "planned"


def record(db: Connection, finding_id: str, fix: FixRecord, by: str) -> bool:
    finding_row(db, finding_id)
    row = {"outcome": fix.outcome, "message": fix.message, "before": dump(fix.before), "after": dump(fix.after)}
    last = db.execute(
        select(fixes).where(fixes.c.finding_id == finding_id).order_by(fixes.c.seq.desc()).limit(1)
    ).mappings()
    if any(all(known[name] == value for name, value in row.items()) for known in last):
        return False
    db.execute(insert(fixes).values(finding_id=finding_id, recorded_at=fix.at, **row))
    detail = {"outcome": fix.outcome, "message": fix.message, "before": fix.before, "after": fix.after}
    kind = "fix.planned" if fix.outcome == PLANNED else "fix"
    audit.append(db, [audit.Entry(fix.at, by, kind, finding_id, detail)])
    return True


def of_finding(db: Connection, finding_id: str) -> list[FixRecord]:
    finding_row(db, finding_id)
    query = select(fixes).where(fixes.c.finding_id == finding_id).order_by(fixes.c.seq)
    return [
        FixRecord(row.outcome, row.message, load(row.before), load(row.after), row.recorded_at)
        for row in db.execute(query)
    ]


def written(db: Connection, target: str) -> list[WrittenFix]:
    last = (
        select(func.max(fixes.c.seq).label("seq"))
        .join(findings, findings.c.id == fixes.c.finding_id)
        .where(
            findings.c.target == target,
            findings.c.state.in_([State.APPLIED, State.VERIFIED]),
            fixes.c.outcome == PLANNED,
        )
        .group_by(fixes.c.finding_id)
        .subquery()
    )
    query = select(fixes).join(last, last.c.seq == fixes.c.seq).order_by(fixes.c.seq.desc())
    return [WrittenFix(row.finding_id, load(row.before), load(row.after), row.recorded_at) for row in db.execute(query)]


def put_renewal(db: Connection, target: str, object_id: str, former_id: str) -> None:
    row = {"target": target, "object_id": object_id, "former_id": former_id}
    upsert(db, renewals, [row], ["target", "object_id"], [])


def former_ids(db: Connection, target: str) -> dict[str, str]:
    query = select(renewals).where(renewals.c.target == target)
    former = {row.object_id: row.former_id for row in db.execute(query)}
    return {object_id: _first(former, object_id) for object_id in former}


def _first(former: Mapping[str, str], object_id: str) -> str:
    while object_id in former:
        object_id = former[object_id]
    return object_id
