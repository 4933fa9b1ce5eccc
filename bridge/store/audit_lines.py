"""The audit log as JSON lines, one event each, which can be checked without the database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.store.chain import Chain, Mark
from bridge.store.texts import dump, load

_TEXTS = ("at", "actor", "kind", "subject", "prev_hash", "hash")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in some lines: one sentence for each problem, the number of events, and the last of them."""

    problems: list[str]
    events: int
    head: Mark | None


def to_line(row: Mapping[str, Any]) -> str:
    """A stored event as one line, without its end. A ``detail`` that is no JSON any more is told as the text it is."""
    try:
        detail = load(row["detail"])
    except json.JSONDecodeError:
        detail = row["detail"]
    return dump({**row, "detail": detail})


def verify_lines(lines: Iterable[str], kept: Mark | None) -> Checked:
    """Check a chain of lines, which may begin with any event.

    A line that is cut off or no event is a problem too, and the check goes on behind it.
    """
    chain, problems, events = Chain(last=None, kept=kept), list[str](), 0
    for number, line in enumerate(lines, 1):
        row = _row(line)
        if row is None:
            problems.append(f"line {number} is no event")
            continue
        events += 1
        problems += chain.follow(row)
    return Checked(problems + chain.missed(), events, chain.last)


def _row(line: str) -> dict[str, Any] | None:
    """The event as it was stored; None for anything else."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or row.keys() != {"seq", "detail", *_TEXTS}:
        return None
    if type(row["seq"]) is not int or not all(isinstance(row[name], str) for name in _TEXTS):
        return None
    return row if isinstance(row["detail"], str) else {**row, "detail": dump(row["detail"])}
