"""How the journeys of the standing service went."""

from __future__ import annotations

from sqlalchemy import Connection, select

from bridge.store.engine import upsert
from bridge.store.rows import Turn
from bridge.store.tables import turns


def put(db: Connection, turn: Turn) -> None:
    row = {name: getattr(turn, name) for name in Turn.__dataclass_fields__}
    upsert(db, turns, [row], ["target", "journey"], ["ended_at", "outcome", "failures", "retry_at"])


def select_turns(db: Connection, target: str | None) -> list[Turn]:
    query = select(turns).order_by(turns.c.target, turns.c.journey)
    if target is not None:
        query = query.where(turns.c.target == target)
    return [Turn(**row) for row in db.execute(query).mappings()]
