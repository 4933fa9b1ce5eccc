"""Reviews: where findings went to be judged."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select, update

from bridge.core.findings import TO_PUSH, UNDECIDED, State
from bridge.store import audit
from bridge.store.engine import upsert
from bridge.store.lookup import finding_row, in_parts
from bridge.store.rows import Push, ReviewPlace
from bridge.store.tables import findings, pushes, reviews, sendings


def put(db: Connection, place: ReviewPlace) -> None:
    row = {"target": place.target, "mode": place.mode, "ref": place.ref, "url": place.url}
    upsert(db, reviews, [row], ["target", "mode"], ["ref", "url"])


def of_target(db: Connection, target: str) -> list[ReviewPlace]:
    query = select(reviews).where(reviews.c.target == target).order_by(reviews.c.mode)
    return [ReviewPlace(row.target, row.ref, row.url, row.mode) for row in db.execute(query)]


def begin_push(db: Connection, finding_ids: Sequence[str], review_ref: str, at: str) -> None:
    for part in in_parts(finding_ids):
        here = sendings.c.finding_id.in_(part) & (sendings.c.review_ref == review_ref)
        known = set(db.execute(select(sendings.c.finding_id).where(here)).scalars())
        db.execute(update(sendings).where(here).values(sent_at=at, cut_off=True))
        new = [
            {"finding_id": key, "review_ref": review_ref, "sent_at": at, "cut_off": False}
            for key in part
            if key not in known
        ]
        if new:
            db.execute(insert(sendings), new)


def end_push(db: Connection, finding_ids: Sequence[str], review_ref: str, *, tidied: bool) -> None:
    for part in in_parts(finding_ids):
        here = sendings.c.finding_id.in_(part) & (sendings.c.review_ref == review_ref)
        db.execute(delete(sendings).where(here if tidied else here & ~sendings.c.cut_off))


def cut_off(db: Connection, target: str, review_ref: str, before: str) -> dict[str, str]:
    """What is still to be pushed is left out: the push that comes finds what stands there."""
    stands = (pushes.c.finding_id == sendings.c.finding_id) & (pushes.c.review_ref == review_ref)
    query = (
        select(sendings.c.finding_id, pushes.c.ref)
        .join(findings, findings.c.id == sendings.c.finding_id)
        .outerjoin(pushes, stands & pushes.c.withdrawn_at.is_(None))
        .where(
            findings.c.target == target,
            findings.c.state.not_in(TO_PUSH),
            sendings.c.review_ref == review_ref,
            sendings.c.sent_at < before,
        )
        .order_by(sendings.c.finding_id)
    )
    return {row.finding_id: row.ref or "" for row in db.execute(query)}


def record_push(db: Connection, finding_id: str, push: Push, by: str) -> bool:
    finding_row(db, finding_id)
    here = (pushes.c.finding_id == finding_id) & (pushes.c.review_ref == push.review_ref)
    known = db.execute(select(pushes).where(here)).mappings().one_or_none()
    said = {"ref": push.ref, "url": push.url, "reviewer": push.reviewer or None}
    row = said | {"withdrawn_at": None}
    if known is not None and all(known[name] == value for name, value in row.items()):
        return False
    row |= {"finding_id": finding_id, "review_ref": push.review_ref, "pushed_at": push.at}
    upsert(db, pushes, [row], ["finding_id", "review_ref"], ["ref", "url", "pushed_at", "reviewer", "withdrawn_at"])
    detail = {"review": push.review_ref, "ref": push.ref, "url": push.url}
    detail |= {"reviewer": push.reviewer} if push.reviewer else {}
    audit.append(db, [audit.Entry(push.at, by, "push", finding_id, detail)])
    return True


def record_withdrawal(db: Connection, finding_id: str, review_ref: str, at: str, by: str) -> bool:
    here = (pushes.c.finding_id == finding_id) & (pushes.c.review_ref == review_ref) & pushes.c.withdrawn_at.is_(None)
    if not db.execute(update(pushes).where(here).values(withdrawn_at=at)).rowcount:
        return False
    audit.append(db, [audit.Entry(at, by, "withdrawal", finding_id, {"review": review_ref})])
    return True


def to_withdraw(db: Connection, target: str, review_ref: str) -> list[str]:
    """Where a finding stands in several places, an answer in one of them is an answer."""
    standing = pushes.alias()
    places = select(func.count()).where(standing.c.finding_id == findings.c.id, standing.c.withdrawn_at.is_(None))
    is_decided_elsewhere = findings.c.state.not_in(UNDECIDED) & (places.scalar_subquery() > 1)
    query = (
        select(findings.c.id)
        .join(pushes, pushes.c.finding_id == findings.c.id)
        .where(
            findings.c.target == target,
            pushes.c.review_ref == review_ref,
            pushes.c.withdrawn_at.is_(None),
            (findings.c.state == State.WITHDRAWN) | is_decided_elsewhere,
        )
        .order_by(findings.c.id)
    )
    return list(db.execute(query).scalars())


def awaited(db: Connection, target: str) -> dict[str, int]:
    query = (
        select(pushes.c.reviewer, func.count(pushes.c.finding_id.distinct()))
        .join(findings, findings.c.id == pushes.c.finding_id)
        .where(findings.c.target == target, findings.c.state == State.PUSHED, pushes.c.withdrawn_at.is_(None))
        .group_by(pushes.c.reviewer)
    )
    return {reviewer or "": count for reviewer, count in db.execute(query)}


def pushed_refs(db: Connection, review_ref: str) -> dict[str, str]:
    query = select(pushes.c.finding_id, pushes.c.ref).where(
        pushes.c.review_ref == review_ref, pushes.c.withdrawn_at.is_(None)
    )
    return {row.finding_id: row.ref for row in db.execute(query)}


def shown(db: Connection, finding_ids: Sequence[str]) -> set[str]:
    """Those of some findings that stand in a review, or may: a push of theirs was cut off."""
    sent = db.execute(select(sendings.c.finding_id).where(sendings.c.finding_id.in_(finding_ids))).scalars()
    return {*pushes_of(db, finding_ids), *sent}


def pushes_of(db: Connection, finding_ids: Sequence[str]) -> dict[str, tuple[Push, ...]]:
    """Where some findings stand, oldest push first."""
    query = (
        select(pushes)
        .where(pushes.c.finding_id.in_(finding_ids), pushes.c.withdrawn_at.is_(None))
        .order_by(pushes.c.pushed_at, pushes.c.review_ref)
    )
    found: dict[str, tuple[Push, ...]] = {}
    for row in db.execute(query):
        push = Push(row.review_ref, row.ref, row.url, row.pushed_at, row.reviewer or "")
        found[row.finding_id] = (*found.get(row.finding_id, ()), push)
    return found
