"""Policies: when the standing service pre-labels, scores, pushes and syncs a target by itself.

Pure: the clock is handed in, and what waits is told by the caller. All moments are aware datetimes of our own clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo

from bridge.core.assignment import Who
from bridge.core.findings import REVIEWED_TYPES, ErrorType


class Journey(StrEnum):
    """What the service does by itself."""

    PRELABEL = "prelabel"
    SCORE = "score"
    PUSH = "push"
    SYNC = "sync"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From ``start`` to ``end`` on the clock of ``zone`` nothing is pushed; over midnight where ``end`` is earlier."""

    start: time
    end: time
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class ScorePolicy:
    """When submitted work is scored.

    Attributes:
        settle_s: seconds since the last change of an item before it counts: somebody may still be drawing.
        at_least: so many settled items make a batch.
        at_latest_s: the first settled change waits no longer than this, however few there are.
    """

    settle_s: float = 60.0
    at_least: int = 20
    at_latest_s: float = 900.0


@dataclass(frozen=True, slots=True)
class PushPolicy:
    """Which findings go to review, where to and when.

    Attributes:
        min_score: lowest probability.
        errors: only these types.
        reviewer: who is to judge: anybody but the one who annotated, the one who did, or whoever comes first.
        open_per_reviewer: so many findings await an answer at most, for each reviewer; None is no cap.
        quiet: nothing is pushed then.
        dry_run: only note what would go.
    """

    min_score: float = 0.5
    errors: tuple[ErrorType, ...] = REVIEWED_TYPES
    reviewer: Who = "anyone"
    open_per_reviewer: int | None = None
    quiet: QuietHours | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done by itself in one target; None is never. ``sync_every_s`` is the longest pause between two syncs."""

    prelabel: bool = False
    score: ScorePolicy | None = None
    push: PushPolicy | None = None
    sync_every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in one target.

    Attributes:
        new_items: items that came since the last pre-labelling.
        changed: when each item with changed work was first and last seen to change since the last scoring.
        run_to_push: a run has finished whose findings were not yet considered for pushing.
        answers: a reviewer may have answered since the last sync.
        synced_at: the last sync; None for never.
    """

    new_items: int = 0
    changed: tuple[tuple[datetime, datetime], ...] = ()
    run_to_push: bool = False
    answers: bool = False
    synced_at: datetime | None = None
