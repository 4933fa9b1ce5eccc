"""Runs: what was scored, when, by what, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from bridge.core.annotations import LabelSet
from bridge.errors import DataError, NotFound
from bridge.store import audit
from bridge.store.rows import Run
from bridge.store.tables import runs
from bridge.store.texts import dump, load, time_key


def start(db: Connection, run: Run, by: str) -> Run:
    known = _find(db, run.id)
    if known is not None:
        if known.target != run.target:
            raise DataError(
                f"run {run.id} is already there, over {known.target}",
                expected=f"a run over {run.target}",
                todo="Give the new run an id of its own",
            )
        return known
    db.execute(
        insert(runs).values(
            id=run.id,
            target=run.target,
            title=run.title,
            kind=run.kind,
            model=run.model,
            scorer=run.scorer,
            labels=dump(list(run.labels.names)),
            started_at=run.started_at,
            started_key=time_key(run.started_at),
            options=dump(dict(run.options)),
            counts=dump({}),
        )
    )
    detail = {
        "target": run.target,
        "kind": run.kind,
        "model": run.model,
        "scorer": run.scorer,
        "options": dict(run.options),
    }
    audit.append(db, [audit.Entry(run.started_at, by, "run.started", run.id, detail)])
    return get(db, run.id)


def finish(db: Connection, run_id: str, finished_at: str, counts: Mapping[str, Any], by: str) -> Run:
    if get(db, run_id).finished_at is None:
        totals = dict(counts)
        db.execute(update(runs).where(runs.c.id == run_id).values(finished_at=finished_at, counts=dump(totals)))
        audit.append(db, [audit.Entry(finished_at, by, "run.finished", run_id, {"counts": totals})])
    return get(db, run_id)


def seal(db: Connection, run_id: str, snapshot: str, annotators: Mapping[str, Any], by: str) -> str:
    """Set the snapshot hash where there is none yet; answers with the one the run has."""
    run = get(db, run_id)
    if run.snapshot is not None:
        return run.snapshot
    db.execute(update(runs).where(runs.c.id == run_id).values(snapshot=snapshot))
    detail = {"sha256": snapshot} | ({"annotators": dict(annotators)} if annotators else {})
    audit.append(db, [audit.Entry(run.started_at, by, "snapshot.sealed", run_id, detail)])
    return snapshot


def get(db: Connection, run_id: str) -> Run:
    run = _find(db, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id!r}", todo="List the runs to see which there are")
    return run


def select_runs(db: Connection, target: str | None, limit: int | None) -> list[Run]:
    query = select(runs).order_by(runs.c.started_key.desc(), runs.c.seq.desc())
    if target is not None:
        query = query.where(runs.c.target == target)
    if limit is not None:
        query = query.limit(limit)
    return [_run(row) for row in db.execute(query).mappings()]


def _find(db: Connection, run_id: str) -> Run | None:
    row = db.execute(select(runs).where(runs.c.id == run_id)).mappings().one_or_none()
    return None if row is None else _run(row)


def _run(row: RowMapping) -> Run:
    return Run(
        id=row["id"],
        target=row["target"],
        title=row["title"],
        kind=row["kind"],
        model=row["model"],
        scorer=row["scorer"],
        labels=LabelSet(tuple(load(row["labels"]))),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        snapshot=row["snapshot"],
        options=load(row["options"]),
        counts=load(row["counts"]),
    )
