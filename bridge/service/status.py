"""What the standing service is doing, as its store tells; so it can be asked while the service runs, or after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from bridge.core.findings import State
from bridge.core.policy import Journey, next_due
from bridge.plan import Plan
from bridge.store import Store
from bridge.store.rows import Turn


@dataclass(frozen=True, slots=True)
class ProjectStatus:
    """One project. Moments are ISO 8601; None is never.

    Attributes:
        polled_at: when it was last looked at; ``poll_error`` is why the last look failed, empty where it did not.
        new_items, changed: how many items wait to be pre-labelled, and to be scored.
        due_at: when the next journey begins if nothing else happens.
        in_review: findings that await a reviewer.
        conflicts: accepted fixes that were not written, as somebody had changed the object.
        turns: how each journey went last.
    """

    target: str
    polled_at: str | None
    poll_error: str
    new_items: int
    changed: int
    due_at: str | None
    in_review: int
    conflicts: int
    turns: tuple[Turn, ...]

    @property
    def trouble(self) -> str:
        """What keeps it from going on, in a sentence; empty where nothing does."""
        failed = [f"{turn.journey} fails: {turn.outcome}" for turn in self.turns if turn.failures]
        return next(iter([f"cannot be read: {self.poll_error}"] if self.poll_error else failed), "")

    @property
    def last(self) -> str:
        """What the latest journey brought."""
        told = [turn for turn in self.turns if not turn.failures]
        latest = max(told, key=lambda turn: turn.ended_at, default=None)
        return f"{latest.journey}: {latest.outcome}" if latest else ""


def status_of(plan: Plan, store: Store, now: datetime) -> list[ProjectStatus]:
    """Every project of the plan, in its order."""
    return [_project(plan, store, target, now) for target in plan.projects]


def _project(plan: Plan, store: Store, target: str, now: datetime) -> ProjectStatus:
    watch, waiting = store.watch(target), store.waiting(target)
    states = store.states(target)
    due = next_due(plan.projects[target].policy, waiting, now)
    return ProjectStatus(
        target=target,
        polled_at=watch.polled_at if watch else None,
        poll_error=watch.error if watch else "",
        new_items=waiting.new_items,
        changed=len(waiting.changed),
        due_at=due.isoformat() if due else None,
        in_review=states.get(State.PUSHED, 0),
        conflicts=states.get(State.CONFLICT, 0),
        turns=_in_order(store.turns(target)),
    )


def _in_order(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    order = {str(journey): place for place, journey in enumerate(Journey)}
    return tuple(sorted(turns, key=lambda turn: order[turn.journey]))
