"""What should be true after the storm, from people's own record, and in sentences what is not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from chaos.ledger import Answer, Change, Ledger, Objects, Row

from bridge.core.findings import REVIEWED_TYPES, State
from bridge.store import Store, StoredFinding

_PX = 0.6
_SETTLED = {"reject": (State.REJECTED,), "accept": (State.VERIFIED, State.CONFLICT)}
#: A person may have undone a fix that was written: then it is found again, or not.
_UNDONE = (State.REOPENED, State.PUSHED, State.WITHDRAWN)
_WAITING = (State.OPEN, State.REOPENED, State.PUSHED)


class Tool(Protocol):
    """What the tool holds at the end, as the people see it."""

    target: str
    ledger: Ledger

    def submissions(self) -> dict[str, Objects]:
        """The objects of every submission."""

    def asked(self) -> Counter[str]:
        """How many review objects ask about each finding."""

    def waiting(self) -> set[str]:
        """The findings about which something in the tool waits for an answer."""

    def flaws(self) -> Iterator[str]:
        """What only this tool can have wrong: doubled predictions, doubled places of review."""

    def drawn(self, row: Row) -> tuple[str, list[float]]:
        """Label and box of an object."""

    def object_of(self, annotation_id: str) -> str:
        """The tool's id of an object by the product's name for it."""

    def submission_of(self, finding: StoredFinding) -> str:
        """The submission that a finding is about."""

    def is_as_shown(self, answer: Answer, row: Row) -> bool:
        """Whether an object is just as the reviewer was told that it is."""

    def wanted(self, answer: Answer, stored: StoredFinding) -> tuple[str, list[float]] | None:
        """Label and box that an answer wants; None where nothing is to be there."""

    def untouched(self, before: Row, after: Row) -> bool:
        """Whether all is as it was, but for label and place and the note of who was last at it."""


def compare(tool: Tool, home: Path, fresh: Path) -> list[str]:
    """Every difference between what is and what should be, in sentences.

    Args:
        home: the data folder of the product that went through the storm.
        fresh: one that has just scored the target, as the storm left it, for the first time.
    """
    store_url, fresh_url = (f"sqlite:///{folder}/labelbridge.db" for folder in (home, fresh))
    with Store.open(store_url) as store, Store.open(fresh_url) as new:
        every = {s.finding.id: s for s in store.findings(target=tool.target)}
        told: dict[str, list[Answer]] = defaultdict(list)
        for answer in tool.ledger.answers:
            told[answer.finding].append(answer)
        expected = {s.finding.id for s in new.findings(target=tool.target)}
        found = [
            *_annotations(tool),
            *_writes(tool, every),
            *_findings(tool, store, every, expected),
            *_answers(tool, store, every, told),
            *_pushed(tool, every, expected, told),
            *tool.flaws(),
            *(f"The audit log: {sentence}" for sentence in store.verify_events()),
        ]
    left = sorted(p.name for p in (home / "workflows").glob("*"))
    return [*found, *([f"Unfinished journeys are left behind: {', '.join(left)}."] if left else [])]


def _annotations(tool: Tool) -> Iterator[str]:
    """The tool holds what people wrote last, with what the product wrote and nothing else."""
    holds, should = tool.submissions(), tool.ledger.now
    for submission in sorted(should.keys() - holds.keys()):
        yield f"Submission {submission} is gone, and nobody deleted it."
    for submission in sorted(holds.keys() - should.keys()):
        yield f"Submission {submission} is there, and nobody made it."
    for submission in sorted(holds.keys() & should.keys()):
        if holds[submission] != should[submission]:
            yield f"Submission {submission} is {holds[submission]}, and was left as {should[submission]}."


def _writes(tool: Tool, every: dict[str, StoredFinding]) -> Iterator[str]:
    """Each change that the product made was asked for, of the object as the reviewer saw it."""
    about: dict[str, list[str]] = defaultdict(list)
    adding: dict[str, list[str]] = defaultdict(list)
    for key, stored in every.items():
        for name in stored.finding.annotation_ids:
            about[tool.object_of(name)].append(key)
        if stored.finding.fix.action == "add":
            adding[tool.submission_of(stored)].append(key)
    for change in tool.ledger.changes:
        if change.by_product:
            ids = about[change.object_id] if change.before else adding[change.submission]
            asked = [a for a in tool.ledger.answers if a.finding in ids and a.decision != "reject" and a.at < change.at]
            wrong = _wrong(tool, change, asked, every)
            if wrong:
                yield f"Object {change.object_id} of submission {change.submission}: {wrong} (findings {sorted(ids)})."


def _wrong(tool: Tool, change: Change, asked: list[Answer], every: dict[str, StoredFinding]) -> str:
    """Why a change of the product's should not have been; empty where it is right."""
    if not asked:
        return "nobody asked for this change"
    if change.before is None:
        after = tool.drawn(change.after or {})
        wanted = [tool.wanted(a, every[a.finding]) for a in asked]
        return "" if any(w and _same(w, after) for w in wanted) else f"{after} was added, and wanted was {wanted}"
    before = tool.drawn(change.before)
    seen = [a for a in asked if tool.is_as_shown(a, change.before)]
    if not seen:
        return f"the reviewers saw {[a.shown for a in asked]}, and it was {before}: a newer edit was overwritten"
    wishes = [tool.wanted(a, every[a.finding]) for a in seen]
    if change.after is None:
        return "" if None in wishes else "it was deleted, and nobody wanted that"
    label, box = tool.drawn(change.after)
    wanted = [before, *(w for w in wishes if w)]
    if label not in [w[0] for w in wanted] or not any(_near(box, w[1]) for w in wanted):
        return f"it became {(label, box)}, and wanted was {wanted[1:]}"
    return "" if tool.untouched(change.before, change.after) else f"more changed than that: {change.after}"


def _findings(tool: Tool, store: Store, every: dict[str, StoredFinding], expected: set[str]) -> Iterator[str]:
    """The last run found what a first run finds now; what is gone awaits nobody."""
    run = next((r for r in store.runs(tool.target) if r.finished_at), None)
    if run is None:
        yield "Nothing was ever scored."
        return
    last = {head.id for head in store.heads(run.id)}
    for missing in sorted(expected - last):
        yield f"Finding {missing} is there to be found, and the last run has not found it."
    for extra in sorted(last - expected):
        yield f"Finding {extra} is in the last run, and a first run does not find it."
    for key, stored in every.items():
        if key not in expected and stored.state in _WAITING:
            yield f"Finding {key} of item {stored.finding.item_id} is {stored.state}, and there is nothing to find."
        if key in expected and stored.state is State.WITHDRAWN:
            yield f"Finding {key} is withdrawn, and is there to be found."


def _answers(tool: Tool, store: Store, every: dict[str, StoredFinding], told: dict[str, list[Answer]]) -> Iterator[str]:
    """Every answer is a verdict, once, and the finding went where the answer sent it."""
    given = Counter(a.source for a in tool.ledger.answers)
    for key in sorted(told.keys() - every.keys()):
        yield f"Finding {key} was answered, and is not known."
    for key, stored in every.items():
        verdicts = store.verdicts(key)
        for source, times in Counter(v.source for v in verdicts).items():
            if times > given[source]:
                yield f"Finding {key} has {times} verdicts from {source}, which gave {given[source]} answers."
        if key not in told:
            continue
        last = told[key][-1]
        if last.place in tool.ledger.gone_items:
            continue  # deleted with the item, perhaps before anybody could read it
        if not verdicts or verdicts[-1].decision != last.decision:
            read = verdicts[-1].decision if verdicts else "nothing"
            yield f"Finding {key} was answered {last.decision!r}, and read was {read!r} (it is {stored.state})."
            continue
        written = any(fix.outcome in ("applied", "already") for fix in store.fixes(key))
        allowed = _SETTLED["reject" if last.decision == "reject" else "accept"]
        if stored.state not in (*allowed, *((*_UNDONE, State.VERIFIED) if written else ())):
            yield f"Finding {key} was answered {last.decision!r}, and is {stored.state}."


def _pushed(
    tool: Tool, every: dict[str, StoredFinding], expected: set[str], told: Mapping[str, object]
) -> Iterator[str]:
    """What awaits an answer is in the tool once, and nothing is there twice."""
    asked = tool.asked()
    for key, times in asked.items():
        if key not in every:
            yield f"Finding {key} is up for review, and is not known."
        if times > 1:
            yield f"Finding {key} is up for review {times} times."
    for key in sorted((tool.waiting() & every.keys()) - told.keys()):
        if every[key].state is not State.PUSHED:
            yield f"Finding {key} waits for an answer in the tool, and is {every[key].state}."
    for key, stored in every.items():
        if stored.finding.error not in REVIEWED_TYPES or key not in expected:
            continue
        if stored.state is State.PUSHED and not asked[key]:
            yield f"Finding {key} is pushed, and nothing in the tool asks about it."
        if stored.state in (State.OPEN, State.REOPENED, State.ACCEPTED, State.APPLIED):
            yield f"Finding {key} is {stored.state}, and should have gone on."


def _same(a: tuple[str, list[float]], b: tuple[str, list[float]]) -> bool:
    return a[0] == b[0] and _near(a[1], b[1])


def _near(a: list[float], b: list[float]) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) <= _PX
