"""Findings: put in bulk, searched, and taken from state to state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, exists, func, select, update

from bridge.core.findings import UNDECIDED, ErrorType, Event, Finding, State, once_each, transition
from bridge.errors import DataError, UsageError
from bridge.store import audit, reviews, runs, verdicts
from bridge.store.engine import upsert
from bridge.store.lookup import in_parts, unknown_finding
from bridge.store.retention import require_kept
from bridge.store.rows import FindingHead, PutCounts, StoredFinding
from bridge.store.tables import findings, run_findings
from bridge.store.tables import runs as run_table
from bridge.store.texts import dump, load

#: States in which a reviewer sees the finding or has judged it: what it says about the object must not move.
_HELD = frozenset({State.PUSHED, State.ACCEPTED, State.REJECTED, State.APPLIED, State.VERIFIED})
#: What a finding that is held takes over all the same.
_ALWAYS_NEW = ("score", "reason", "evidence", "scorer")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A search; None is no restriction."""

    target: str | None = None
    run_id: str | None = None
    states: Collection[str] | None = None
    errors: Collection[str] | None = None
    item_ids: Collection[str] | None = None
    min_score: float | None = None
    limit: int | None = None


@dataclass(slots=True)
class _Batch:
    """What one call of :func:`put` is about to write."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    entries: list[audit.Entry] = field(default_factory=list)
    new: int = 0
    reopened: int = 0


def put(db: Connection, run_id: str, found: Sequence[Finding], at: str | None, by: str) -> PutCounts:
    run = runs.get(db, run_id)
    at = run.started_at if at is None else at
    best = _best(found, run.target)
    known = _known(db, best)
    # One that was withdrawn, reopened or in conflict may still stand before a reviewer, as it was.
    shown = {key for part in in_parts(list(known)) for key in reviews.shown(db, part)}
    held = _bodies(db, [key for key, (state, _) in known.items() if state in _HELD or key in shown])
    batch = _Batch()
    for key, finding in best.items():
        state, first_run = known.get(key, (State.OPEN, run_id))
        body = finding.to_dict()
        if key not in known:
            batch.new += 1
            batch.entries.append(audit.Entry(at, by, "finding.new", key, {"run": run_id, **body}))
        elif state is State.WITHDRAWN:
            state = transition(state, Event.REOPEN)
            batch.reopened += 1
            batch.entries.append(_moved(key, Event.REOPEN, State.WITHDRAWN, state, at, by, {"run": run_id}))
        if key in held:
            # An object that was put back may have another id.
            new = (*_ALWAYS_NEW, "annotation_ids") if state is State.UNDONE else _ALWAYS_NEW
            body = held[key] | {name: body[name] for name in new}
        batch.rows.append(_row(body, state, first_run, run_id))
    upsert(db, findings, batch.rows, ["id"], ["label", "scorer", "score", "state", "last_run", "body"])
    links = [{"run_id": run_id, "finding_id": key} for key in best]
    upsert(db, run_findings, links, ["run_id", "finding_id"], [])
    audit.append(db, batch.entries)
    return PutCounts(new=batch.new, known=len(best) - batch.new, reopened=batch.reopened)


def withdraw_missing(db: Connection, run_id: str, errors: Collection[str] | None, at: str | None, by: str) -> int:
    run = runs.get(db, run_id)
    linked = exists().where((run_findings.c.run_id == run_id) & (run_findings.c.finding_id == findings.c.id))
    this_run = select(run_table.c.seq).where(run_table.c.id == run_id).scalar_subquery()
    query = (
        select(findings.c.id, findings.c.state)
        .join(run_table, run_table.c.id == findings.c.last_run)
        .where(findings.c.target == run.target, findings.c.state.in_(UNDECIDED), ~linked, run_table.c.seq < this_run)
        .order_by(findings.c.id)
    )
    if errors is not None:
        query = query.where(findings.c.error.in_([str(error) for error in errors]))
    missing = [(row.id, State(row.state)) for row in db.execute(query)]
    if missing:
        change = update(findings).where(findings.c.id == bindparam("key")).values(state=State.WITHDRAWN)
        db.execute(change, [{"key": key} for key, _ in missing])
    when = run.started_at if at is None else at
    after, detail = State.WITHDRAWN, {"run": run_id}
    audit.append(db, [_moved(key, Event.WITHDRAW, before, after, when, by, detail) for key, before in missing])
    return len(missing)


def advance(db: Connection, finding_id: str, event: Event, at: str, by: str, detail: Mapping[str, Any]) -> State:
    query = select(findings.c.state).where(findings.c.id == finding_id).with_for_update()
    found = db.execute(query).scalar()
    if found is None:
        raise unknown_finding(finding_id)
    before = State(found)
    try:
        after = transition(before, event)
    except DataError as error:
        raise DataError(f"finding {finding_id}: {error.found}", expected=error.expected) from None
    db.execute(update(findings).where(findings.c.id == finding_id).values(state=after))
    audit.append(db, [_moved(finding_id, event, before, after, at, by, detail)])
    return after


def get(db: Connection, finding_id: str) -> StoredFinding:
    key = finding_id.strip().lower()
    if not key:
        raise UsageError("the id of the finding is empty", expected="an id, or the beginning of one")
    query = select(findings).where(findings.c.id == key)
    rows = db.execute(query).mappings().all()
    if not rows:
        query = select(findings).where(findings.c.id.startswith(key, autoescape=True)).order_by(findings.c.id).limit(4)
        rows = db.execute(query).mappings().all()
    if not rows:
        raise unknown_finding(finding_id)
    if len(rows) > 1:
        shown = ", ".join(row["id"] for row in rows[:3]) + (", ..." if len(rows) > 3 else "")
        raise UsageError(f"{finding_id!r} begins several ids: {shown}", todo="Give more digits")
    return _stored(db, rows)[0]


def select_findings(db: Connection, wanted: Wanted) -> list[StoredFinding]:
    query = _query(wanted)
    if wanted.item_ids is None:
        return _stored(db, db.execute(query).mappings().all())
    rows: list[RowMapping] = []
    for part in in_parts(sorted(set(wanted.item_ids))):
        rows.extend(db.execute(query.where(findings.c.item_id.in_(part))).mappings())
    rows.sort(key=lambda row: (-row["score"], row["id"]))
    return _stored(db, rows[: wanted.limit])


def of_ids(db: Connection, ids: Sequence[str]) -> list[StoredFinding]:
    found: dict[str, StoredFinding] = {}
    for part in in_parts(sorted(set(ids))):
        rows = db.execute(select(findings).where(findings.c.id.in_(part))).mappings().all()
        found.update((stored.finding.id, stored) for stored in _stored(db, rows))
    missing = next((key for key in ids if key not in found), None)
    if missing is not None:
        raise unknown_finding(missing)
    return [found[key] for key in ids]


def states(db: Connection, target: str) -> dict[State, int]:
    c = findings.c
    query = select(c.state, func.count()).where(c.target == target).group_by(c.state)
    return {State(state): count for state, count in db.execute(query)}


def heads(db: Connection, run_id: str) -> list[FindingHead]:
    runs.get(db, run_id)
    require_kept(db, run_id)
    c = findings.c
    query = (
        select(c.id, c.error, c.label, c.scorer, c.score, c.state)
        .join(run_findings, run_findings.c.finding_id == c.id)
        .where(run_findings.c.run_id == run_id)
        .order_by(c.id)
    )
    return [
        FindingHead(row.id, ErrorType(row.error), row.label, row.scorer, row.score, State(row.state))
        for row in db.execute(query)
    ]


def counts(db: Connection, run_id: str) -> dict[str, dict[str, int]]:
    runs.get(db, run_id)
    query = (
        select(findings.c.error, findings.c.state, func.count())
        .join(run_findings, run_findings.c.finding_id == findings.c.id)
        .where(run_findings.c.run_id == run_id)
        .group_by(findings.c.error, findings.c.state)
        .order_by(findings.c.error, findings.c.state)
    )
    table: dict[str, dict[str, int]] = {}
    for error, state, number in db.execute(query):
        table.setdefault(error, {})[state] = number
    return table


def _best(found: Iterable[Finding], target: str) -> dict[str, Finding]:
    """Each id once, in order of id; the higher score wins."""
    best = {finding.id: finding for finding in once_each(_of_target(found, target))}
    return dict(sorted(best.items()))


def _of_target(found: Iterable[Finding], target: str) -> Iterator[Finding]:
    for finding in found:
        if finding.target != target:
            raise DataError(
                f"finding {finding.id} of item {finding.item_id} belongs to {finding.target}",
                expected=f"findings of {target}, which the run is over",
            )
        yield finding


def _known(db: Connection, keys: Collection[str]) -> dict[str, tuple[State, str]]:
    """State and first run of those findings that are there already."""
    known: dict[str, tuple[State, str]] = {}
    for part in in_parts(list(keys)):
        query = select(findings.c.id, findings.c.state, findings.c.first_run).where(findings.c.id.in_(part))
        for key, state, first_run in db.execute(query.with_for_update()):
            known[key] = (State(state), first_run)
    return known


def _bodies(db: Connection, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    bodies: dict[str, dict[str, Any]] = {}
    for part in in_parts(keys):
        for key, body in db.execute(select(findings.c.id, findings.c.body).where(findings.c.id.in_(part))):
            bodies[key] = load(body)
    return bodies


def _row(body: Mapping[str, Any], state: State, first_run: str, last_run: str) -> dict[str, Any]:
    columns = {name: body[name] for name in ("id", "target", "item_id", "error", "label", "scorer", "score")}
    return {**columns, "state": str(state), "first_run": first_run, "last_run": last_run, "body": dump(body)}


def _moved(
    key: str, event: Event, before: State, after: State, at: str, by: str, detail: Mapping[str, Any]
) -> audit.Entry:
    told = {"from": str(before), "to": str(after)} | ({"detail": dict(detail)} if detail else {})
    return audit.Entry(at, by, f"finding.{event}", key, told)


def _query(wanted: Wanted) -> Select[Any]:
    query = select(findings).order_by(findings.c.score.desc(), findings.c.id)
    if wanted.run_id is not None:
        query = query.join(run_findings, run_findings.c.finding_id == findings.c.id)
        query = query.where(run_findings.c.run_id == wanted.run_id)
    if wanted.target is not None:
        query = query.where(findings.c.target == wanted.target)
    if wanted.states is not None:
        query = query.where(findings.c.state.in_([str(state) for state in wanted.states]))
    if wanted.errors is not None:
        query = query.where(findings.c.error.in_([str(error) for error in wanted.errors]))
    if wanted.min_score is not None:
        query = query.where(findings.c.score >= wanted.min_score)
    if wanted.limit is not None:
        query = query.limit(wanted.limit)
    return query


def _stored(db: Connection, rows: Sequence[RowMapping]) -> list[StoredFinding]:
    pushed: dict[str, Any] = {}
    latest: dict[str, Any] = {}
    for part in in_parts([row["id"] for row in rows]):
        pushed |= reviews.pushes_of(db, part)
        latest |= verdicts.latest_of(db, part)
    return [
        StoredFinding(
            finding=Finding.from_dict(load(row["body"])),
            state=State(row["state"]),
            pushed=pushed.get(row["id"], ()),
            verdict=latest.get(row["id"]),
            first_run=row["first_run"],
            last_run=row["last_run"],
        )
        for row in rows
    ]
