"""Policies: when the standing service pre-labels, scores, pushes and syncs a target by itself.

Pure: the clock is handed in, and what waits is told by the caller. All moments are aware datetimes of our own clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from bridge.core.assignment import Who
from bridge.core.findings import REVIEWED_TYPES, ErrorType
from bridge.errors import ConfigError


class Journey(StrEnum):
    """What the service does by itself."""

    PRELABEL = "prelabel"
    SCORE = "score"
    PUSH = "push"
    SYNC = "sync"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From ``start`` to ``end`` on the clock of ``zone`` nothing is pushed; over midnight where ``end`` is earlier.

    Where the clock is put back or forward and shows one of the two twice, or not at all, it is quiet in doubt.

    Raises:
        ConfigError: they are the same, which could mean always as well as never.
    """

    start: time
    end: time
    zone: ZoneInfo

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise ConfigError(
                f"the quiet hours begin and end at {self.start:%H:%M}", expected="two different times of the day"
            )

    def over(self, now: datetime) -> datetime:
        """``now`` where it is not quiet, else the moment at which it no longer is."""
        while ends := [end for start, end in self._around(now) if start <= now < end]:
            now = max(ends)
        return now

    def _around(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The quiet hours of the nights that may hold ``now``; a change of the clock may move them to the next day."""
        today = now.astimezone(self.zone).date()
        for days in (-2, -1, 0, 1):
            begun = today + timedelta(days=days)
            ended = begun + timedelta(days=self.end < self.start)
            yield min(self._moments(begun, self.start)), max(self._moments(ended, self.end))

    def _moments(self, day: date, clock: time) -> list[datetime]:
        """When the clock shows it; where it is put forward over it, as the clock before and the one after would."""
        return [datetime.combine(day, clock.replace(fold=fold), self.zone).astimezone(UTC) for fold in (0, 1)]


@dataclass(frozen=True, slots=True)
class ScorePolicy:
    """When submitted work is scored.

    Attributes:
        settle_s: seconds since the last change of an item before it counts: somebody may still be drawing.
        at_least: so many settled items make a batch.
        at_latest_s: a settled item waits no longer than this since it was first seen to change, however few there are.
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
        synced_at: the last sync; None for never, so that one is due.
    """

    new_items: int = 0
    changed: tuple[tuple[datetime, datetime], ...] = ()
    run_to_push: bool = False
    answers: bool = False
    synced_at: datetime | None = None


def due(policy: Policy, waiting: Waiting, now: datetime) -> tuple[Journey, ...]:
    """What is to be done now, in the order in which to do it.

    Suggestions come first, as annotators wait for them. Verdicts come before scoring, which then judges the corrected
    work and knows which findings were wrong; and pushing comes last, with all that is known by then.
    """
    return tuple(journey for journey, moment in _moments(policy, waiting, now).items() if moment <= now)


def next_due(policy: Policy, waiting: Waiting, now: datetime) -> datetime | None:
    """When something is due though nothing new comes; ``now`` where it is already, None for never."""
    moments = _moments(policy, waiting, now).values()
    return max(now, min(moments)) if moments else None


def _moments(policy: Policy, waiting: Waiting, now: datetime) -> dict[Journey, datetime]:
    """From when on each journey is due, as far as can be told ``now``; without those that nothing waits for."""
    moments: dict[Journey, datetime] = {}
    if policy.prelabel and waiting.new_items:
        moments[Journey.PRELABEL] = now
    if policy.sync_every_s is not None:
        pause = timedelta(seconds=policy.sync_every_s)
        last = None if waiting.answers else waiting.synced_at
        moments[Journey.SYNC] = now if last is None else last + pause
    if policy.score is not None and waiting.changed:
        moments[Journey.SCORE] = _batch_at(policy.score, waiting.changed)
    if policy.push is not None and waiting.run_to_push:
        quiet = policy.push.quiet
        moments[Journey.PUSH] = now if quiet is None else quiet.over(now)
    return moments


def _batch_at(policy: ScorePolicy, changed: tuple[tuple[datetime, datetime], ...]) -> datetime:
    """When enough items have settled, or the first that has settled has waited long enough."""
    settle, patience = timedelta(seconds=policy.settle_s), timedelta(seconds=policy.at_latest_s)
    settled = sorted(last + settle for _, last in changed)
    at_latest = min(max(first + patience, last + settle) for first, last in changed)
    return min(at_latest, settled[policy.at_least - 1]) if policy.at_least <= len(settled) else at_latest
