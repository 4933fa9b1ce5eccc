"""The chain that binds each audit event to the one before, checked wherever the events come from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bridge.errors import UsageError

#: What the first event names as the hash before it.
GENESIS = "0" * 64
_HASHED = ("at", "actor", "kind", "subject", "detail", "prev_hash")


class Mark(NamedTuple):
    """Where an audit log ends: number and hash of its last event. Written ``SEQ:HASH``."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Inverse of ``str``. Raises ``UsageError``."""
        match = re.fullmatch(r"(\d{1,15}):([0-9a-f]{64})", text.strip().lower())
        if match is None:
            raise UsageError(
                f"{text!r:.100} marks no end of an audit log", expected="SEQ:HASH, as `audit verify` prints it"
            )
        return cls(int(match[1]), match[2])


START = Mark(0, GENESIS)


def event_hash(row: Mapping[str, Any]) -> str:
    """SHA-256 over an event without its number, so that a row that was only moved still fits its own hash.

    Each part goes in behind its length, so that no text can be shifted from one column into the next.
    """
    return hashlib.sha256(
        "".join(f"{len(row[name])}:{row[name]}" for name in _HASHED).encode(errors="surrogatepass")
    ).hexdigest()


@dataclass(slots=True)
class Chain:
    """Follows events in the order in which they come, and says what is wrong with each.

    Attributes:
        last: the last event seen; before any, what the first one has to follow. None: it may be any.
        kept: an end of this log that was noted elsewhere, where nobody could forge it; None when none was.
    """

    last: Mark | None = START
    kept: Mark | None = None
    _is_met: bool = False

    def follow(self, row: Mapping[str, Any]) -> list[str]:
        """One sentence for each thing that is wrong with the next event; ``detail`` is its text."""
        seq = row["seq"]
        last = Mark(seq - 1, row["prev_hash"]) if self.last is None else self.last
        problems = self._met(last)
        if seq <= last.seq:
            problems.append(f"event {seq} stands behind event {last.seq}")
        elif seq != last.seq + 1:
            problems.append(f"{span(last.seq + 1, seq - 1)} removed")
        elif row["prev_hash"] != last.hash:
            problems.append(f"event {seq} does not follow event {last.seq}: one of them was moved, replaced or changed")
        if row["hash"] != event_hash(row):
            problems.append(f"event {seq} ({row['kind']} of {row['subject']}) was changed")
        self.last = Mark(seq, row["hash"])
        return problems + self._met(self.last)

    def missed(self) -> list[str]:
        """What is wrong when no event follows any more."""
        last = self.last or START
        problems = self._met(last)
        if self.kept is None or self._is_met:
            return problems
        if last.seq < self.kept.seq:
            return [f"{span(last.seq + 1, self.kept.seq)} removed from the end: the log was longer once"]
        return [f"event {self.kept.seq}, which was noted elsewhere, is not among them"]

    def _met(self, here: Mark) -> list[str]:
        if self.kept is None or self._is_met or here.seq != self.kept.seq:
            return []
        self._is_met = True
        if here.hash == self.kept.hash:
            return []
        return [f"event {here.seq} is not the one that was noted elsewhere: the log was written anew"]


def span(first: int, last: int) -> str:
    """``event 4 was`` or ``events 4 to 6 were``."""
    return f"event {first} was" if first == last else f"events {first} to {last} were"
