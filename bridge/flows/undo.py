"""UNDO: fixes are taken back where the object is as they left it, and their findings stay decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bridge.core.findings import BULK, Event, State
from bridge.core.moments import parse_moment
from bridge.errors import NotFound, UsageError
from bridge.flows.durable import Step
from bridge.flows.progress import Progress
from bridge.flows.score import Journal
from bridge.store import Store, StoredFinding
from bridge.tools import AnnotationTool, FixNote, FixResult, Outcome, UndoOrder

_WRITTEN = (State.APPLIED, State.VERIFIED)
_DECIDED = (*_WRITTEN, State.ACCEPTED, State.CONFLICT)
_NOT_OURS = "labelbridge wrote nothing there: the object was so already"


@dataclass(frozen=True, slots=True)
class UndoOptions:
    """What is undone; just one of the three is given.

    Attributes:
        ids: these findings.
        since: the fixes that were written at this moment or later (ISO 8601, the clock of this machine).
        batch: what was accepted as this batch, but for what a reviewer has confirmed since.
    """

    ids: tuple[str, ...] = ()
    since: str | None = None
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class UndoResult:
    """``undone`` fixes were taken out of the tool, ``unwritten`` findings were accepted and nothing was written yet.

    ``conflicts`` name fixes that stand as they are, with the reason.
    """

    undone: int
    unwritten: int
    conflicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Done:
    counts: dict[str, int]
    conflicts: tuple[str, ...]


def undo(
    tool: AnnotationTool, journal: Journal, *, options: UndoOptions, by: str, chunk: int, progress: Progress
) -> UndoResult:
    """Take fixes back, the one that was written last first. Running again changes nothing.

    A finding whose fix was undone is decided: no run and no sync brings the fix back, only a new answer of a person.

    Args:
        by: who wants it.

    Raises:
        NotFound: there is no such finding, or no such batch.
        UsageError: a finding that is named was never accepted, or belongs to another target.
        ToolError: the tool failed; what was undone stays so, and running again goes on.
    """

    def journey(step: Step) -> UndoResult:
        ids: list[str] = step("choose", lambda: _chosen(journal.store, tool.target, options))
        done: list[_Done] = []
        for start in range(0, len(ids), chunk):
            done.append(step(f"undo {start}", partial(_undo, tool, ids[start : start + chunk], by, journal)))
            progress("undoing", min(start + chunk, len(ids)), len(ids))
        counts = sum((Counter(d.counts) for d in done), Counter[str]())
        return UndoResult(counts["undone"], counts["unwritten"], tuple(c for d in done for c in d.conflicts))

    return journal.durable.run(f"undo {tool.target}", [repr(options), by], journey)


def _chosen(store: Store, target: str, options: UndoOptions) -> list[str]:
    """The findings to undo: those with a fix in the tool first, the latest one leading."""
    written = store.written_fixes(target)
    if options.since is not None:
        since = parse_moment(options.since)
        return [w.finding_id for w in written if parse_moment(w.at) >= since]
    if options.batch is not None:
        found = _of_batch(store, target, options.batch)
    else:
        found = [_named(store, target, key) for key in options.ids]
    place = {w.finding_id: n for n, w in enumerate(written)}
    found = [stored for stored in found if stored.state in _DECIDED]
    found.sort(key=lambda stored: place.get(stored.finding.id, len(place)))
    return list(dict.fromkeys(stored.finding.id for stored in found))


def _of_batch(store: Store, target: str, batch: str) -> list[StoredFinding]:
    found = [s for s in store.findings_of(store.batch(batch)) if s.finding.target == target]
    if not found:
        raise NotFound(f"no findings of {target} were accepted as batch {batch!r}")
    return [s for s in found if s.verdict is not None and s.verdict.source == BULK + batch]


def _named(store: Store, target: str, key: str) -> StoredFinding:
    stored = store.finding(key)
    if stored.finding.target != target:
        raise UsageError(f"finding {stored.finding.id} belongs to {stored.finding.target}, not to {target}")
    if stored.state not in (*_DECIDED, State.UNDONE):
        raise UsageError(
            f"finding {stored.finding.id} is {stored.state}: there is nothing to undo",
            expected="a finding that was accepted",
        )
    return stored


def _undo(tool: AnnotationTool, ids: Sequence[str], by: str, journal: Journal) -> _Done:
    store, counts, conflicts = journal.store, Counter[str](), list[str]()
    every = store.findings_of(ids)
    # An attempt that was cut off has undone some already.
    counts["undone"] = sum(stored.state is State.UNDONE for stored in every)
    for stored in every:
        if stored.state in (State.ACCEPTED, State.CONFLICT):
            store.transition(stored.finding.id, Event.UNDO, journal.now(), by, {})
            counts["unwritten"] += 1
    notes = {w.finding_id: FixNote(w.finding_id, w.before, w.after) for w in store.written_fixes(tool.target)}
    standing = [stored.finding for stored in every if stored.state in _WRITTEN]
    conflicts += [f"{f.item_name}: {_NOT_OURS}" for f in standing if f.id not in notes]
    orders = [UndoOrder(finding, notes[finding.id]) for finding in standing if finding.id in notes]
    for order, result in zip(orders, tool.undo_fixes(orders) if orders else (), strict=True):
        if _record(order, result, by, journal):
            counts["undone"] += 1
        else:
            conflicts.append(f"{order.finding.item_name}: {result.message}")
    return _Done(dict(counts), tuple(conflicts))


def _record(order: UndoOrder, result: FixResult, by: str, journal: Journal) -> bool:
    """Keep what became of an undoing; whether it is undone."""
    store, finding, at = journal.store, order.finding, journal.now()
    is_undone = result.outcome is not Outcome.CONFLICT
    outcome = "undone" if is_undone else "undo conflict"
    store.record_fix(finding.id, outcome, result.message, order.note.after, order.note.before, at, by=by)
    if result.renewed:
        store.put_renewal(finding.target, result.renewed, finding.annotation_ids[0])
    if is_undone:
        store.transition(finding.id, Event.UNDO, at, by, {"message": result.message})
    return is_undone
