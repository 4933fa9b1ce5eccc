"""Samples: which findings of a run were drawn by chance, to estimate how many of all are real errors."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from bridge.store import audit
from bridge.store.rows import SampledFinding
from bridge.store.tables import runs, samples


def put(db: Connection, run_id: str, drawn: Sequence[SampledFinding], by: str) -> bool:
    if not drawn or of_run(db, run_id):
        return False
    db.execute(
        insert(samples),
        [
            {"run_id": run_id, "finding_id": d.finding_id, "stratum": d.stratum, "size": d.size, "drawn_at": d.drawn_at}
            for d in drawn
        ],
    )
    detail = {"findings": sorted(d.finding_id for d in drawn)}
    audit.append(db, [audit.Entry(drawn[0].drawn_at, by, "sample", run_id, detail)])
    return True


def of_run(db: Connection, run_id: str) -> list[SampledFinding]:
    query = select(samples).where(samples.c.run_id == run_id).order_by(samples.c.finding_id)
    return [SampledFinding(row.finding_id, row.stratum, row.size, row.drawn_at) for row in db.execute(query)]


def latest_run(db: Connection, target: str) -> str | None:
    query = (
        select(runs.c.id)
        .where(runs.c.target == target, runs.c.id.in_(select(samples.c.run_id)))
        .order_by(runs.c.started_key.desc(), runs.c.seq.desc())
        .limit(1)
    )
    found: str | None = db.execute(query).scalar()
    return found
