"""Reviews: where findings went to be judged."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from bridge.store import audit
from bridge.store.engine import upsert
from bridge.store.lookup import finding_row
from bridge.store.rows import Push, ReviewPlace
from bridge.store.tables import pushes, reviews


def put(db: Connection, place: ReviewPlace) -> None:
    row = {"target": place.target, "mode": place.mode, "ref": place.ref, "url": place.url}
    upsert(db, reviews, [row], ["target", "mode"], ["ref", "url"])


def of_target(db: Connection, target: str) -> list[ReviewPlace]:
    query = select(reviews).where(reviews.c.target == target).order_by(reviews.c.mode)
    return [ReviewPlace(row.target, row.ref, row.url, row.mode) for row in db.execute(query)]


def record_push(db: Connection, finding_id: str, review_ref: str, ref: str, url: str, at: str, by: str) -> bool:
    finding_row(db, finding_id)
    here = (pushes.c.finding_id == finding_id) & (pushes.c.review_ref == review_ref)
    known = db.execute(select(pushes.c.ref, pushes.c.url).where(here)).one_or_none()
    if known is not None and (known.ref, known.url) == (ref, url):
        return False
    row = {"finding_id": finding_id, "review_ref": review_ref, "ref": ref, "url": url, "pushed_at": at}
    upsert(db, pushes, [row], ["finding_id", "review_ref"], ["ref", "url", "pushed_at"])
    audit.append(db, [audit.Entry(at, by, "push", finding_id, {"review": review_ref, "ref": ref, "url": url})])
    return True


def pushed_refs(db: Connection, review_ref: str) -> dict[str, str]:
    query = select(pushes.c.finding_id, pushes.c.ref).where(pushes.c.review_ref == review_ref)
    return {row.finding_id: row.ref for row in db.execute(query)}


def pushes_of(db: Connection, finding_ids: Sequence[str]) -> dict[str, tuple[Push, ...]]:
    """The pushes of some findings, oldest first."""
    query = select(pushes).where(pushes.c.finding_id.in_(finding_ids)).order_by(pushes.c.pushed_at, pushes.c.review_ref)
    found: dict[str, tuple[Push, ...]] = {}
    for row in db.execute(query):
        push = Push(row.review_ref, row.ref, row.url, row.pushed_at)
        found[row.finding_id] = (*found.get(row.finding_id, ()), push)
    return found
