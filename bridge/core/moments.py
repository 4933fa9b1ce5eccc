"""Points in time as tools write them."""

from __future__ import annotations

from datetime import UTC, datetime


def parse_moment(text: str) -> datetime:
    """A date or a time in ISO 8601; UTC where it names no zone.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def stamp(text: str) -> str:
    """A moment in UTC with six digits of a second and ``Z``: such texts sort by time, and tools' filters take them.

    Raises:
        ValueError: it is none.
    """
    return parse_moment(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
