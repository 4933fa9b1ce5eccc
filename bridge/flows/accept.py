"""ACCEPT: many findings at once, by somebody who does not look at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bridge.core.findings import BULK, REVIEWED_TYPES, UNDECIDED, ErrorType, Event, State, Verdict
from bridge.core.worth import Worth
from bridge.flows.durable import Step
from bridge.flows.progress import Progress
from bridge.flows.ranking import rank
from bridge.flows.score import Journal
from bridge.store import Run, Store, StoredFinding
from bridge.tools import AnnotationTool, Review


@dataclass(frozen=True, slots=True)
class AcceptOptions:
    """Which findings: undecided ones with a fix to write.

    Attributes:
        min_score: the lowest probability, given the verdicts so far.
        label: only objects that are labelled so; for a missing object, the class that is missing. None: any.
        limit: at most so many, the likeliest first.
    """

    min_score: float
    errors: tuple[ErrorType, ...] = REVIEWED_TYPES
    label: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class AcceptResult:
    """``batch`` undoes it. ``left`` names findings that a reviewer has begun to judge, or has judged."""

    batch: str
    accepted: int
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Batch:
    id: str
    at: str
    ids: tuple[str, ...]


def chosen(store: Store, run: Run, options: AcceptOptions) -> list[StoredFinding]:
    """The findings of a run that would be accepted, the likeliest first."""
    rows = [
        row
        for row in rank(store, run, Worth()).rows
        if row.head.state in UNDECIDED
        and row.head.error in options.errors
        and options.label in (None, row.head.label)
        and row.probability >= options.min_score
    ]
    rows.sort(key=lambda row: (-row.probability, row.head.id))
    found = store.findings_of([row.head.id for row in rows])
    return [stored for stored in found if stored.finding.fix.action != "none"][: options.limit]


def accept(
    tool: AnnotationTool,
    reviews: Sequence[Review],
    run: Run,
    journal: Journal,
    *,
    options: AcceptOptions,
    by: str,
    chunk: int,
    progress: Progress,
) -> AcceptResult:
    """Accept findings of a run as one batch; the next sync writes their fixes.

    What is up for review is taken out of it first. What a reviewer has begun to judge is left to them.

    Args:
        by: who answers for it.

    Raises:
        ToolError: the tool failed; what was accepted stays, and running again goes on with the same batch.
    """

    def journey(step: Step) -> AcceptResult:
        batch: _Batch = step("choose", lambda: _begin(journal, run, options))
        left: list[str] = []
        for start in range(0, len(batch.ids), chunk):
            ids = batch.ids[start : start + chunk]
            left += step(f"accept {start}", partial(_accept, tool, reviews, ids, batch, by, journal))
            progress("accepting", min(start + chunk, len(batch.ids)), len(batch.ids))
        return AcceptResult(batch.id, len(batch.ids) - len(left), tuple(left))

    return journal.durable.run(f"accept {tool.target}", [run.id, repr(options), by], journey)


def _begin(journal: Journal, run: Run, options: AcceptOptions) -> _Batch:
    ids = tuple(stored.finding.id for stored in chosen(journal.store, run, options))
    return _Batch(journal.new_id(), journal.now(), ids)


def _accept(
    tool: AnnotationTool, reviews: Sequence[Review], ids: Sequence[str], batch: _Batch, by: str, journal: Journal
) -> list[str]:
    """Accept some findings of a batch; the names of those that are left to reviewers."""
    store, left = journal.store, list[str]()
    every = store.findings_of(ids)
    standing = {(s.finding.id, p.review_ref) for s in every if s.state is State.PUSHED for p in s.pushed}
    for review in reviews:
        up = [key for key, ref in standing if ref == review.ref]
        for key in tool.withdraw_cases(review, up) if up else ():
            store.record_withdrawal(key, review.ref, journal.now())
            standing.remove((key, review.ref))
    judged = {key for key, _ in standing}
    source = BULK + batch.id
    for stored in every:
        key = stored.finding.id
        if key in judged or not (stored.state in UNDECIDED or (stored.verdict and stored.verdict.source == source)):
            left.append(f"{key} ({stored.finding.item_name})")
            continue
        store.record_verdict(Verdict(key, "accept", by, batch.at, source), journal.now())
        if stored.state in UNDECIDED:
            store.transition(key, Event.ACCEPT, journal.now(), by, {"source": source})
    return left
