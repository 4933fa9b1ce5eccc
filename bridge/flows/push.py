"""PUSH: the findings that are worth most back into the tool as review work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from bridge.core.annotations import Annotation, Box, Record
from bridge.core.assignment import Who, share
from bridge.core.findings import REVIEWED_TYPES, TO_PUSH, ErrorType, Event, Finding
from bridge.core.geometry import pair_iou
from bridge.core.worth import Worth
from bridge.errors import DataError, NotFound
from bridge.flows.durable import Step
from bridge.flows.failures import Failure
from bridge.flows.progress import Progress
from bridge.flows.ranking import rank
from bridge.flows.sample import SampleSize, draw
from bridge.flows.score import Journal
from bridge.store import Run, Store
from bridge.tools import AnnotationTool, PushedCase, Review, ReviewCase, UnshownCases


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Which findings go.

    Attributes:
        min_score: the lowest probability, given the verdicts so far; with ``by_score``, the scorer's own instead.
        limit: at most so many, those first that are worth most.
        reviewer: who is to judge, as far as the tool can see to it.
        open_per_reviewer: so many findings await an answer at most, for each reviewer, or in all where the tool asks
            nobody in particular; None is no cap.
        sample: an unbiased sample of this size instead; what chooses among findings is of no account then.
    """

    min_score: float = 0.5
    by_score: bool = False
    limit: int | None = None
    errors: tuple[ErrorType, ...] = REVIEWED_TYPES
    worth: Worth = field(default_factory=Worth)
    reviewer: Who = "anyone"
    open_per_reviewer: int | None = None
    sample: SampleSize | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Ids of the findings that go, in order; ``held_back`` more would, had not verdicts spoken against their like."""

    ids: tuple[str, ...]
    held_back: int = 0


@dataclass(frozen=True, slots=True)
class PushResult:
    """``pushed`` findings went now; ``review`` is where, None when there was nothing to push.

    ``held_back`` is as in :class:`Choice`; ``no_room`` more would go, were there a reviewer who may judge them and has
    not as many as they can.
    """

    pushed: int
    review: Review | None
    urls: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    held_back: int = 0
    no_room: int = 0


_Pushed = tuple[tuple[PushedCase, ...], tuple[Failure, ...]]


def push(
    tool: AnnotationTool, run: Run, journal: Journal, *, options: PushOptions, chunk: int, progress: Progress
) -> PushResult:
    """Send a run's undecided findings to review. Pushing again sends only what is new.

    A finding whose item cannot be shown, for want of its image, fails alone.

    Raises:
        ToolError: the tool failed, or cannot take reviews; what went stays, and running again sends the rest.
    """
    store = journal.store

    def journey(step: Step) -> PushResult:
        every = replace(options, limit=None)
        chosen: Choice = step("choose", lambda: choose(store, run, every, journal.now()))
        shared: _Shared = step("share", lambda: _share(tool, store, chosen.ids, options))
        if not shared.reviewers:
            return PushResult(0, None, held_back=chosen.held_back, no_room=shared.no_room)
        review: Review = step("open review", lambda: _open(tool, run, journal))
        findings = [stored.finding for stored in store.findings_of(list(shared.reviewers))]
        records = _records(store, run, {f.item_id for f in findings})
        urls: list[str] = []
        failures: list[Failure] = []
        for start in range(0, len(findings), chunk):
            batch = findings[start : start + chunk]
            pushed: _Pushed = step(f"push {start}", partial(_push_chunk, tool, review, batch, records, shared, journal))
            urls.extend(case.url for case in pushed[0])
            failures.extend(pushed[1])
            progress("pushing", len(urls) + len(failures), len(findings))
        return PushResult(len(urls), review, tuple(urls), tuple(failures), chosen.held_back, shared.no_room)

    if not store.run(run.id).finished_at:
        raise DataError(
            f"run {run.id} has not finished", todo="Run `labelbridge score` again: it goes on where it stopped"
        )
    return journal.durable.run(f"push {tool.target}", [run.id, repr(options)], journey)


def choose(store: Store, run: Run, options: PushOptions, now: str) -> Choice:
    """The findings of a run that are not up for review and should be."""
    if options.sample is not None:
        drawn = store.findings_of(draw(store, run, options.sample, now))
        return Choice(tuple(s.finding.id for s in drawn if s.state in TO_PUSH))
    rows = [
        row
        for row in rank(store, run, options.worth).rows
        if row.head.state in TO_PUSH and row.head.error in options.errors
    ]
    if options.by_score:
        return Choice(tuple(r.head.id for r in rows if r.head.score >= options.min_score)[: options.limit])
    likely = tuple(r.head.id for r in rows if r.probability >= options.min_score)
    held_back = sum(r.probability < options.min_score <= r.head.score for r in rows)
    return Choice(likely[: options.limit], held_back)


@dataclass(frozen=True, slots=True)
class _Shared:
    """Who judges what, by finding in order; ``no_room`` more that nobody can judge now."""

    reviewers: Mapping[str, str]
    no_room: int


def _share(tool: AnnotationTool, store: Store, ids: Sequence[str], options: PushOptions) -> _Shared:
    if not ids:
        return _Shared({}, 0)
    # A sample of which a part goes is none.
    at_most = None if options.sample else options.open_per_reviewer
    if options.reviewer == "anyone" and at_most is None:
        ids = ids[: options.limit]  # somebody can judge each of them, so no further one will be needed
    seating = tool.seats([stored.finding for stored in store.findings_of(ids)], options.reviewer)
    people = share(seating, options.reviewer, store.awaited(tool.target), at_most)
    seated = [(key, name) for key, name in zip(ids, people, strict=True) if name is not None]
    return _Shared(dict(seated[: options.limit]), len(ids) - len(seated))


def _open(tool: AnnotationTool, run: Run, journal: Journal) -> Review:
    review = tool.open_review(run.labels, f"Review: {run.title}")
    journal.store.put_review(run.target, review.ref, review.url, review.mode)
    return review


def _records(store: Store, run: Run, item_ids: set[str]) -> dict[str, Record]:
    """The snapshot's records of these items, in one pass over its chunks."""
    return {r.item.id: r for chunk in store.chunks(run.id) for r in chunk if r.item.id in item_ids}


def _push_chunk(
    tool: AnnotationTool,
    review: Review,
    findings: Sequence[Finding],
    records: Mapping[str, Record],
    shared: _Shared,
    journal: Journal,
) -> _Pushed:
    store = journal.store
    # Checks of image files also find items that nobody has submitted, which no snapshot holds.
    others = {f.item_id for f in findings} - records.keys()
    known = {**records, **tool.read_records(others)} if others else records
    gone = [Failure(_name(f), "the item is gone") for f in findings if f.item_id not in known]
    cases = [_case(f, known[f.item_id], shared.reviewers[f.id]) for f in findings if f.item_id in known]
    ids = [case.finding.id for case in cases]
    store.begin_push(ids, review.ref, journal.now())
    pushed, failures = _push_cases(tool, review, cases)
    at = journal.now()
    for case in pushed:
        reviewer = shared.reviewers[case.finding_id]
        store.record_push(case.finding_id, review.ref, case.ref, case.url, at, reviewer=reviewer)
        if store.finding(case.finding_id).state in TO_PUSH:
            store.transition(case.finding_id, Event.PUSH, at, "labelbridge", {"ref": case.ref})
    store.end_push(ids, review.ref)
    return pushed, (*gone, *failures)


def _case(finding: Finding, record: Record, reviewer: str) -> ReviewCase:
    return ReviewCase(finding, record.item, context(finding, record), reviewer)


def _name(finding: Finding) -> str:
    return f"finding {finding.id} ({finding.item_name})"


def _push_cases(tool: AnnotationTool, review: Review, cases: Sequence[ReviewCase]) -> _Pushed:
    """Push all of them; where one cannot be shown to a reviewer, or its item is gone, it alone fails."""
    try:
        return tuple(tool.push_cases(review, cases)), ()
    except UnshownCases as error:
        failed = tuple(
            Failure(_name(c.finding), str(error.reasons[c.finding.id])) for c in cases if c.finding.id in error.reasons
        )
        others = [c for c in cases if c.finding.id not in error.reasons]
        pushed, more = _push_cases(tool, review, others) if others else ((), ())
        return pushed, (*failed, *more)
    except (DataError, NotFound) as error:
        if len(cases) == 1:
            return (), (Failure(_name(cases[0].finding), str(error)),)
    middle = len(cases) // 2
    parts = [_push_cases(tool, review, half) for half in (cases[:middle], cases[middle:])]
    return tuple(case for done, _ in parts for case in done), tuple(f for _, failed in parts for f in failed)


def context(finding: Finding, record: Record) -> tuple[Annotation, ...]:
    """The other objects of the same submission that a reviewer must see: boxes that touch the finding's; all spans."""
    if record.item.text is not None:
        mine = [a for s in record.submissions if s.id == finding.submission_id for a in s.annotations]
        return tuple(a for a in mine if a.id not in finding.annotation_ids)
    focus = [s for s in (finding.fix.shape, finding.current_shape) if isinstance(s, Box)]
    others = [
        a
        for s in record.submissions
        if s.id == finding.submission_id
        for a in s.annotations
        if a.id not in finding.annotation_ids and isinstance(a.shape, Box) and a.shape.problem() is None
    ]
    if not focus or not others:
        return ()
    boxes = np.array([a.shape.xyxy for a in others if isinstance(a.shape, Box)])
    near = np.zeros(len(others), bool)
    for shape in focus:
        near |= pair_iou(boxes, np.tile(np.array(shape.xyxy), (len(boxes), 1))) > 0
    return tuple(a for a, keep in zip(others, near, strict=True) if keep)
