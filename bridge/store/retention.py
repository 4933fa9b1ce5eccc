"""What is no longer kept of old runs: what they saw, and which findings they found. Runs, findings and the log stay."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, exists, select, update

from bridge.core.findings import UNDECIDED, State
from bridge.errors import DataError
from bridge.store import audit
from bridge.store.lookup import in_parts
from bridge.store.tables import chunks, findings, run_chunks, run_findings, runs, samples

#: While a finding is in one of these, the run that found it last is needed: to show it, or to judge its fix.
_AT_WORK = (*UNDECIDED, State.ACCEPTED, State.APPLIED, State.CONFLICT)


def forget(db: Connection, target: str, keep: int, at: str, by: str) -> int:
    """Forget all but the ``keep`` runs of a target that were started last. Returns how many were forgotten now."""
    old = _old_runs(db, target, keep)
    if not old:
        return 0
    held: set[str] = set()
    for part in in_parts(old):
        held.update(db.execute(select(run_chunks.c.chunk).where(run_chunks.c.run_id.in_(part))).scalars())
        db.execute(delete(run_chunks).where(run_chunks.c.run_id.in_(part)))
        db.execute(delete(run_findings).where(run_findings.c.run_id.in_(part)))
        db.execute(update(runs).where(runs.c.id.in_(part)).values(forgotten_at=at))
    for part in in_parts(sorted(held)):
        unused = ~exists().where(run_chunks.c.chunk == chunks.c.hash)
        db.execute(delete(chunks).where(chunks.c.hash.in_(part) & unused))
    audit.append(db, [audit.Entry(at, by, "run.forgotten", run) for run in old])
    return len(old)


def require_kept(db: Connection, run_id: str) -> None:
    """Raise DataError where a run is forgotten."""
    at = db.execute(select(runs.c.forgotten_at).where(runs.c.id == run_id)).scalar()
    if at is not None:
        raise DataError(
            f"what run {run_id} saw and found was forgotten at {at}",
            expected="one of the latest runs: setting keep_runs says how many are kept",
            todo="`labelbridge runs` lists them",
        )


def _old_runs(db: Connection, target: str, keep: int) -> Sequence[str]:
    mine = select(runs.c.id).where(runs.c.target == target)
    latest = mine.order_by(runs.c.started_key.desc(), runs.c.seq.desc()).limit(keep)
    in_use = select(findings.c.last_run).where(findings.c.target == target, findings.c.state.in_(_AT_WORK))
    query = mine.where(
        runs.c.forgotten_at.is_(None),
        runs.c.id.not_in(latest),
        runs.c.id.not_in(in_use),
        runs.c.id.not_in(select(samples.c.run_id)),
    )
    return list(db.execute(query.order_by(runs.c.seq)).scalars())
