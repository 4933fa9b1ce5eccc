"""What an annotation tool forgets: who annotated a job before its review, and which model suggested what."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete, insert, select

from bridge.core.annotations import shape_from_list, shape_to_list
from bridge.core.tool_memory import Suggestion
from bridge.store import audit
from bridge.store.engine import insert_many, upsert
from bridge.store.tables import handovers as handover_table
from bridge.store.tables import suggestions as suggestion_table
from bridge.store.texts import dump, load


def put_handover(db: Connection, place: str, annotator: str, at: str, by: str) -> None:
    known = db.execute(select(handover_table.c.annotator).where(handover_table.c.place == place)).scalar()
    if known == annotator:
        return
    row = {"place": place, "annotator": annotator, "recorded_at": at}
    upsert(db, handover_table, [row], ["place"], ["annotator", "recorded_at"])
    audit.append(db, [audit.Entry(at, by, "handover", place, {"annotator": annotator})])


def handovers(db: Connection, prefix: str) -> dict[str, str]:
    query = select(handover_table).where(handover_table.c.place.startswith(prefix, autoescape=True))
    return {row.place: row.annotator for row in db.execute(query)}


def put_suggestions(
    db: Connection, place: str, frames: Collection[int], suggested: Sequence[Suggestion], at: str
) -> None:
    table = suggestion_table
    db.execute(delete(table).where((table.c.place == place) & table.c.frame.in_(frames)))
    rows = {
        (s.frame, s.revision, s.model): {
            "place": place,
            "frame": s.frame,
            "revision": s.revision,
            "model": s.model,
            "label": s.label,
            "shape": dump(shape_to_list(s.shape)),
            "confidence": s.confidence,
            "recorded_at": at,
        }
        for s in suggested
    }
    insert_many(db, insert(table), list(rows.values()))


def suggestions(db: Connection, place: str) -> list[Suggestion]:
    table = suggestion_table
    query = select(table).where(table.c.place == place).order_by(table.c.frame, table.c.revision, table.c.model)
    return [
        Suggestion(row.frame, row.model, row.label, shape_from_list(load(row.shape)), row.confidence)
        for row in db.execute(query)
    ]
