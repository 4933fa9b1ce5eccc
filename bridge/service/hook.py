"""What the receiver wants to know of a tool's webhooks. A tool is one file that meets :class:`Hook`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from bridge.core.moments import parse_moment
from bridge.errors import LabelbridgeError


class Fate(StrEnum):
    """What becomes of a webhook; each is counted."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"  # an event that says nothing to us
    ELSEWHERE = "elsewhere"  # in a place that nobody watches
    FORGED = "forged"
    STALE = "stale"  # a replay, or a clock that is far off
    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    SLOW = "slow"  # the body took too long
    UNREADABLE = "unreadable"
    CLOSED = "closed"  # no secret is set
    FULL = "full"  # too many wait to be stored
    LATE = "late"  # it is stored after the answer, if at all
    FAILED = "failed"  # the store cannot be written


class Refusal(Exception):
    """A webhook that is not accepted, and why."""

    def __init__(self, fate: Fate, error: LabelbridgeError) -> None:
        self.fate = fate
        self.error = error
        super().__init__(str(error))


@dataclass(frozen=True, slots=True)
class Told:
    """What a body tells: the event, where it happened (as in :class:`bridge.store.Hint`), when by the tool's clock."""

    event: str
    places: tuple[str, ...]
    moment: datetime | None


class Hook(Protocol):
    """One tool's webhooks.

    Attributes:
        tool: its name in counters and in the store.
        max_body_bytes: larger bodies are refused.
    """

    @property
    def tool(self) -> str: ...

    @property
    def max_body_bytes(self) -> int: ...

    def may_speak(self, headers: Mapping[str, str], secret: str) -> bool:
        """Whether the headers alone justify reading the body."""
        ...

    def is_genuine(self, headers: Mapping[str, str], secret: str, body: bytes) -> bool:
        """Whether it comes from the tool. Takes the same time for every wrong secret."""
        ...

    def read(self, body: Mapping[str, Any], place: str) -> Told | None:
        """What the body of a genuine webhook tells; None for an event that is not known.

        Args:
            place: what the webhook was set up for, where its address says so.

        Raises:
            DataError: the body does not tell where something happened, and should.
        """
        ...


def moment_of(*values: object) -> datetime | None:
    """The latest of some times; what is none is passed over: a hint without a time is a hint."""
    found = []
    for value in values:
        if isinstance(value, str):
            try:
                found.append(parse_moment(value))
            except ValueError:
                continue
    return max(found, default=None)
