"""SYNC: verdicts come home, accepted fixes are written and judged again, and what was withdrawn leaves the tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from bridge.core.annotations import shape_to_list
from bridge.core.findings import UNDECIDED, Event, Finding, State, Verdict
from bridge.core.moments import parse_moment
from bridge.errors import DataError, NotFound
from bridge.flows.durable import Step
from bridge.flows.failures import Failure
from bridge.flows.fixed import is_fixed, order_of
from bridge.flows.progress import Progress
from bridge.flows.rejudge import still_suspected
from bridge.flows.score import Journal
from bridge.tools import AnnotationTool, FixNote, Outcome, Review

_OVERLAP = timedelta(minutes=5)
"""Answers this much older than the latest one known are read again: a tool may show one later than it dates it."""

_LATE = timedelta(minutes=1)
"""A tool may still do what it was asked to this long ago, though it never answered."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What changed now. ``verdicts`` counts new answers by decision, ``fixes`` outcomes of writing them.

    ``foreign`` counts the answers about findings that are not in this data folder: several people may push to one tool.
    ``withdrawn`` findings were taken out of review. ``doubted`` names fixes that are as a person wanted them, and that
    the formulas would still suspect.
    """

    verdicts: dict[str, int]
    fixes: dict[str, int]
    verified: int
    reopened: int
    conflicts: tuple[str, ...]
    failures: tuple[Failure, ...]
    foreign: int = 0
    withdrawn: int = 0
    doubted: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.verdicts or self.fixes or self.verified or self.reopened or self.withdrawn)


@dataclass(frozen=True, slots=True)
class _Read:
    verdicts: dict[str, int]
    foreign: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class _Written:
    outcomes: tuple[str, ...]
    conflicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Checked:
    states: dict[str, int]
    doubted: tuple[str, ...]


def sync(
    tool: AnnotationTool, reviews: Sequence[Review], journal: Journal, *, chunk: int, progress: Progress
) -> SyncResult:
    """Bring verdicts home from all places where the target is reviewed, and write accepted fixes. Running again changes
    nothing until a reviewer answers again.

    A fix is written only where the object is unchanged since it was scored; otherwise the finding becomes a
    ``conflict`` and keeps its verdict.

    Raises:
        ToolError: the tool failed; what was written stays, and running again goes on.
    """
    target = tool.target

    def journey(step: Step) -> SyncResult:
        read: _Read = step("verdicts", partial(_read, tool, reviews, journal))
        accepted: list[str] = step("choose", lambda: _in_state(journal, target, State.ACCEPTED))
        written: list[_Written] = []
        for start in range(0, len(accepted), chunk):
            written.append(step(f"fix {start}", partial(_fix, tool, accepted[start : start + chunk], journal)))
            progress("writing fixes", min(start + chunk, len(accepted)), len(accepted))
        applied: list[str] = step("applied", lambda: _in_state(journal, target, State.APPLIED))
        checked: list[_Checked] = []
        for start in range(0, len(applied), chunk):
            checked.append(step(f"verify {start}", partial(_verify, tool, applied[start : start + chunk], journal)))
            progress("verifying", min(start + chunk, len(applied)), len(applied))
        withdrawn = sum(step(f"withdraw {n}", partial(_withdraw, tool, r, journal)) for n, r in enumerate(reviews))
        outcomes = Counter(o for w in written for o in w.outcomes)
        again = sum((Counter(c.states) for c in checked), Counter[str]())
        return SyncResult(
            verdicts=read.verdicts,
            fixes=dict(outcomes),
            verified=again[State.VERIFIED],
            reopened=again[State.REOPENED],
            conflicts=tuple(c for w in written for c in w.conflicts),
            failures=read.failures,
            foreign=read.foreign,
            withdrawn=withdrawn,
            doubted=tuple(d for c in checked for d in c.doubted),
        )

    return journal.durable.run(f"sync {target}", [r.ref for r in reviews], journey)


def _in_state(journal: Journal, target: str, state: State) -> list[str]:
    """Ordered so that those of one submission come together, and where a tool counts in places, those of one place."""
    found = journal.store.findings(target=target, states=(state,))
    return [s.finding.id for s in sorted(found, key=lambda s: s.finding.submission_id)]


def _read(tool: AnnotationTool, reviews: Sequence[Review], journal: Journal) -> _Read:
    counts: Counter[str] = Counter()
    failures: list[Failure] = []
    foreign = 0
    last = journal.store.last_verdict_time(tool.target)
    since = (parse_moment(last) - _OVERLAP).isoformat() if last else None
    # The next sync begins at the latest answer known, so an older one must never be left behind a newer one.
    read = [verdict for review in reviews for verdict in tool.read_verdicts(review, since)]
    for verdict in sorted(read, key=lambda v: parse_moment(v.decided_at)):
        try:
            if _take(verdict, journal):
                counts[verdict.decision] += 1
        except NotFound:
            foreign += 1
        except DataError as error:
            failures.append(Failure(f"finding {verdict.finding_id}", str(error)))
    return _Read(dict(counts), foreign, tuple(failures))


def _take(verdict: Verdict, journal: Journal) -> bool:
    """Move the finding as the verdict says and record it; False when it was known already.

    The finding moves first: cut off in between, the verdict is still new to the next attempt.
    """
    store, at = journal.store, journal.now()
    stored = store.finding(verdict.finding_id)
    if _is_known(verdict, stored.state, store.verdicts(verdict.finding_id)):
        return False
    event = Event.REJECT if verdict.decision == "reject" else Event.ACCEPT
    settled = State.REJECTED if event is Event.REJECT else State.ACCEPTED
    is_written = stored.state in (State.APPLIED, State.VERIFIED)
    if not is_written and stored.state is not settled:
        store.transition(verdict.finding_id, event, at, verdict.reviewer, {"source": verdict.source})
    store.record_verdict(verdict, at)
    if is_written and (event is Event.REJECT or (verdict.fix or stored.finding.fix) != order_of(stored).fix):
        raise DataError(
            f"{verdict.reviewer} changed the answer to finding {verdict.finding_id} after its fix was written",
            todo=f"If that is meant, run `labelbridge undo {stored.finding.target} {verdict.finding_id}`, or change "
            f"item {stored.finding.item_name} by hand in the tool",
        )
    return True


def _is_known(verdict: Verdict, state: State, known: Sequence[Verdict]) -> bool:
    """Whether an answer was read before, from the same source.

    Of one time it is the same, whatever it says: where a tool reads an answer from what an object became, it would
    follow later edits. Of a later time it is the same too if it repeats that source's last, unless an answer is awaited
    again or could not be carried out: some tools only tell when anything was last answered there.
    """
    said = [v for v in known if v.source == verdict.source]
    if any(v.decided_at == verdict.decided_at for v in said):
        return True
    is_repeated = bool(said) and (said[-1].decision, said[-1].fix) == (verdict.decision, verdict.fix)
    return is_repeated and state not in (*UNDECIDED, State.CONFLICT)


def _fix(tool: AnnotationTool, ids: Sequence[str], journal: Journal) -> _Written:
    store = journal.store
    orders = [order_of(store.finding(i)) for i in ids]
    outcomes: list[str] = []
    conflicts: list[str] = []

    def note(change: FixNote) -> None:
        store.plan_fix(change.finding_id, change.before, change.after, journal.now())

    for order, result in zip(orders, tool.apply_fixes(orders, note), strict=True):
        at = journal.now()
        event = Event.CONFLICT if result.outcome is Outcome.CONFLICT else Event.APPLY
        before = _before(order.finding)
        store.record_fix(order.finding.id, result.outcome, result.message, before, order.fix.to_dict(), at)
        if store.finding(order.finding.id).state is State.ACCEPTED:
            store.transition(order.finding.id, event, at, "labelbridge", {"message": result.message})
        outcomes.append(str(result.outcome))
        if result.outcome is Outcome.CONFLICT:
            conflicts.append(f"{order.finding.item_name}: {result.message}")
    return _Written(tuple(outcomes), tuple(conflicts))


def _before(finding: Finding) -> dict[str, Any]:
    shape = finding.current_shape
    return {
        "submission": finding.submission_id,
        "objects": list(finding.annotation_ids),
        "label": finding.label,
        "shape": None if shape is None else shape_to_list(shape),
        "revisions": list(finding.revisions),
    }


def _verify(tool: AnnotationTool, ids: Sequence[str], journal: Journal) -> _Checked:
    """Read the fixed items again, and judge those whose fix is there; one that is not there reopens its finding.

    A person's answer outranks the scorer: where the formulas would still suspect what somebody wanted, that is noted
    with the finding and told once, and the finding is verified all the same.
    """
    store = journal.store
    every = [store.finding(i) for i in ids]
    # Those in another state were judged by an attempt that was cut off.
    counts: Counter[str] = Counter(s.state for s in every if s.state is not State.APPLIED)
    left = [s for s in every if s.state is State.APPLIED]
    records = tool.read_records({s.finding.item_id for s in left}) if left else {}
    held = [s for s in left if is_fixed(order_of(s), records.get(s.finding.item_id))]
    doubts = still_suspected(store, held, records)
    holds = {s.finding.id for s in held}
    for stored in left:
        key = stored.finding.id
        event = Event.VERIFY if key in holds else Event.REOPEN
        detail = {"still_suspected": doubts[key]} if key in doubts else {}
        counts[store.transition(key, event, journal.now(), "labelbridge", detail)] += 1
    doubted = [s.finding for s in held if s.finding.id in doubts]
    return _Checked(
        dict(counts), tuple(f"{f.item_name}: still {f.error} to the scorer ({doubts[f.id]:.2f})" for f in doubted)
    )


def _withdraw(tool: AnnotationTool, review: Review, journal: Journal) -> int:
    """Take out of a review what stands there for nothing, or twice, unless somebody has begun to judge it."""
    store = journal.store
    ids = store.to_withdraw(tool.target, review.ref)
    gone = tool.withdraw_cases(review, ids) if ids else set()
    left = store.cut_off(tool.target, review.ref, (parse_moment(journal.now()) - _LATE).isoformat(timespec="seconds"))
    if left:
        tool.withdraw_cases(review, left, keep={ref for ref in left.values() if ref})
        store.end_push(list(left), review.ref, tidied=True)
    return sum(store.record_withdrawal(i, review.ref, journal.now()) for i in ids if i in gone)
