"""Small questions that several parts of the store ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, select

from bridge.errors import NotFound
from bridge.store.tables import findings

_T = TypeVar("_T")

#: Parameters in one ``IN``; SQLite allows 999 in its oldest builds.
_IN = 500


def finding_row(db: Connection, finding_id: str) -> RowMapping:
    """The row of a finding, without its body.

    Raises:
        NotFound: there is no such finding.
    """
    columns: list[Any] = [column for column in findings.c if column.name != "body"]
    row = db.execute(select(*columns).where(findings.c.id == finding_id)).mappings().one_or_none()
    if row is None:
        raise unknown_finding(finding_id)
    return row


def unknown_finding(finding_id: str) -> NotFound:
    return NotFound(f"there is no finding {finding_id!r}", todo="List the findings to see which there are")


def in_parts(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Pieces short enough for one ``IN``."""
    for start in range(0, len(values), _IN):
        yield values[start : start + _IN]
