"""Verdicts of reviewers, and how often the reviewers agreed with the scorers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Subquery, case, func, insert, select

from bridge.core.findings import BULK, Fix, State, Verdict
from bridge.store import audit
from bridge.store.lookup import finding_row
from bridge.store.rows import JudgedFinding, PrecisionRow
from bridge.store.tables import findings, verdicts
from bridge.store.texts import dump, load, time_key


def record(db: Connection, verdict: Verdict, at: str) -> bool:
    finding = finding_row(db, verdict.finding_id)
    same = (
        (verdicts.c.finding_id == verdict.finding_id)
        & (verdicts.c.source == verdict.source)
        & (verdicts.c.decided_at == verdict.decided_at)
        & (verdicts.c.decision == verdict.decision)
    )
    if db.execute(select(verdicts.c.seq).where(same)).first() is not None:
        return False
    fix = None if verdict.fix is None else verdict.fix.to_dict()
    judged = {name: finding[name] for name in ("scorer", "error", "label", "score")}
    db.execute(
        insert(verdicts).values(
            finding_id=verdict.finding_id,
            decision=verdict.decision,
            reviewer=verdict.reviewer,
            decided_at=verdict.decided_at,
            decided_key=time_key(verdict.decided_at),
            source=verdict.source,
            **judged,
            fix=None if fix is None else dump(fix),
            recorded_at=at,
        )
    )
    told = {"decision": verdict.decision, "decided_at": verdict.decided_at, "source": verdict.source, "fix": fix}
    audit.append(db, [audit.Entry(at, verdict.reviewer, "verdict", verdict.finding_id, told | judged)])
    return True


def of_finding(db: Connection, finding_id: str) -> list[Verdict]:
    finding_row(db, finding_id)
    query = select(verdicts).where(verdicts.c.finding_id == finding_id).order_by(verdicts.c.decided_key, verdicts.c.seq)
    return [_verdict(row) for row in db.execute(query)]


def of_batch(db: Connection, batch_id: str) -> list[str]:
    query = select(verdicts.c.finding_id).where(verdicts.c.source == BULK + batch_id).order_by(verdicts.c.seq)
    return list(db.execute(query).scalars())


def latest_of(db: Connection, finding_ids: Sequence[str]) -> dict[str, Verdict]:
    """The latest verdict of each of some findings that has one."""
    query = (
        select(verdicts).where(verdicts.c.finding_id.in_(finding_ids)).order_by(verdicts.c.decided_key, verdicts.c.seq)
    )
    return {row.finding_id: _verdict(row) for row in db.execute(query)}


def last_time(db: Connection, target: str) -> str | None:
    query = (
        select(verdicts.c.decided_at)
        .join(findings, findings.c.id == verdicts.c.finding_id)
        .where(findings.c.target == target, _is_answer())
        .order_by(verdicts.c.decided_key.desc(), verdicts.c.seq.desc())
        .limit(1)
    )
    found: str | None = db.execute(query).scalar()
    return found


def judged(db: Connection, target: str) -> list[JudgedFinding]:
    ranked = _ranked(target)
    query = select(ranked).where(ranked.c.place == 1).order_by(ranked.c.finding_id)
    return [
        JudgedFinding(row.finding_id, row.scorer, row.error, row.label, row.score, not row.rejected, row.recorded_at)
        for row in db.execute(query)
    ]


def precision(db: Connection, target: str) -> list[PrecisionRow]:
    ranked = _ranked(target)
    key = (ranked.c.scorer, ranked.c.error, ranked.c.label)
    query = (
        select(*key, func.count().label("judged"), func.sum(ranked.c.rejected).label("rejected"))
        .where(ranked.c.place == 1)
        .group_by(*key)
        .order_by(*key)
    )
    return [
        PrecisionRow(row.scorer, row.error, row.label, row.judged - row.rejected, row.rejected)
        for row in db.execute(query)
    ]


def _ranked(target: str) -> Subquery:
    """The answers to a target's findings that teach something; the latest on each has ``place`` 1.

    That a finding was accepted with many others is no evidence that it is right, nor is an answer that was undone.
    """
    newest_first = func.row_number().over(
        partition_by=verdicts.c.finding_id, order_by=(verdicts.c.decided_key.desc(), verdicts.c.seq.desc())
    )
    v = verdicts.c
    return (
        select(
            *(v.finding_id, v.scorer, v.error, v.label, v.score, v.recorded_at),
            case((v.decision == "reject", 1), else_=0).label("rejected"),
            newest_first.label("place"),
        )
        .join(findings, findings.c.id == v.finding_id)
        .where(findings.c.target == target, findings.c.state != State.UNDONE, _is_answer())
        .subquery()
    )


def _is_answer() -> ColumnElement[bool]:
    """Whether a verdict is a reviewer's, who looked at this finding in the tool."""
    return ~verdicts.c.source.startswith(BULK)


def _verdict(row: Row[Any]) -> Verdict:
    return Verdict(
        finding_id=row.finding_id,
        decision=row.decision,
        reviewer=row.reviewer,
        decided_at=row.decided_at,
        source=row.source,
        fix=None if row.fix is None else Fix.from_dict(load(row.fix)),
    )
