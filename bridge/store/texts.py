"""How values are spelt in text columns."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any


def _plain(value: Any) -> Any:
    """A numpy number as Python's own: scorers compute their evidence with numpy."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON")


# One encoder for all: making one costs as much as a short text.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_plain)


def dump(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, ASCII only, so that equal values are equal texts.

    Coordinates that are no finite number are kept (as ``NaN``): a snapshot holds what was there.
    """
    return _ENCODER.encode(value)


def load(text: str) -> Any:
    return json.loads(text)


def time_key(text: str) -> str:
    """An ISO 8601 time as UTC with six decimals, so that texts sort as times do; any other text as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    # A time without a zone is read as UTC: the tools that leave it out mean that.
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time.isoformat(timespec="microseconds")
