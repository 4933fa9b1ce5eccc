"""A whole annotation tool in memory, and its people: what the flows' tests work against."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from bridge.core.annotations import (
    Annotation,
    Box,
    Item,
    LabelSet,
    Prediction,
    Problem,
    Record,
    Submission,
    shape_from_list,
    shape_to_list,
)
from bridge.core.assignment import Seat, Seating, Who
from bridge.core.findings import Finding, Fix, Verdict
from bridge.errors import DataError, ImageError, ToolUnreachable
from bridge.tools import (
    FixNote,
    FixOrder,
    FixResult,
    Outcome,
    Page,
    Prelabel,
    PushedCase,
    Review,
    ReviewCase,
    TargetInfo,
    UndoOrder,
    forget,
)

Objects = Sequence[tuple[str, Box]]


@dataclass
class MemoryTool:
    """Keeps everything in dictionaries.

    Attributes:
        images: the image file of each item; None for one that cannot be read.
        people: the submissions of each item.
        models: what each model predicted for an item, by model and item.
        cases: the reviewed findings by the id of their place in the review.
        answers: the verdicts, as reviewers gave them.
        reviewers: who may be asked to judge.
        touched: the sources of those that reviewers are about to give.
        calls: how often each method was called.
        lose: methods whose next answer gets lost: the tool does its work, the caller gets ``ToolUnreachable``.
    """

    target: str = "memory:1"
    labels: tuple[str, ...] = ("cat", "dog")
    images: dict[str, bytes | None] = field(default_factory=dict)
    people: dict[str, list[Submission]] = field(default_factory=dict)
    models: dict[tuple[str, str], tuple[Prediction, ...]] = field(default_factory=dict)
    problems: dict[str, tuple[Problem, ...]] = field(default_factory=dict)
    cases: dict[str, ReviewCase] = field(default_factory=dict)
    answers: list[Verdict] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    lose: set[str] = field(default_factory=set)
    reviewers: tuple[str, ...] = ()
    touched: set[str] = field(default_factory=set)
    review_opened: bool = False

    # --- its people -------------------------------------------------------------------------------------------------

    def add_item(self, pixels: npt.NDArray[np.uint8] | None, *submitted: Objects) -> str:
        """A new item, with what each annotator submitted for it."""
        item_id = str(len(self.images) + 1)
        self.images[item_id] = None if pixels is None else _png(pixels)
        self.people[item_id] = []
        for number, objects in enumerate(submitted):
            submission = f"{item_id}{'abc'[number]}"
            annotations = tuple(Annotation(f"{submission}:{k}", label, box) for k, (label, box) in enumerate(objects))
            self.people[item_id].append(Submission(submission, f"person {number}", annotations))
        return item_id

    def objects(self, item_id: str, annotator: int = 0) -> list[tuple[str, Any]]:
        """What somebody's submission holds now."""
        return [(a.label, a.shape) for a in self.people[item_id][annotator].annotations]

    def submit(self, item_id: str, annotations: Sequence[Annotation], annotator: int = 0) -> None:
        """Somebody changes what they submitted."""
        mine = list(self.people[item_id])
        mine[annotator] = replace(mine[annotator], annotations=tuple(annotations))
        self.people[item_id] = mine

    def answer(
        self, finding_id: str, decision: Literal["accept", "reject", "edit"], minute: int, fix: Fix | None = None
    ) -> None:
        """A reviewer decides, so many minutes after noon."""
        (ref,) = (ref for ref, case in self.cases.items() if case.finding.id == finding_id)
        suggested = self.cases[ref].finding.fix if decision == "accept" else None
        at = f"2026-11-20T{12 + minute // 60:02}:{minute % 60:02}:00+00:00"
        self.answers = [answer for answer in self.answers if answer.finding_id != finding_id]
        self.answers.append(Verdict(finding_id, decision, "ann", at, f"memory:{ref}", fix or suggested))

    # --- the protocol -----------------------------------------------------------------------------------------------

    def describe(self) -> TargetInfo:
        return TargetInfo(self.target, "In memory", LabelSet(self.labels), len(self.images))

    def read_page(self, after: str | None, limit: int, model: str | None = None) -> Page:
        self._count("read_page")
        ids = list(self.images)
        start = ids.index(after) + 1 if after else 0
        chosen = ids[start : start + limit]
        more = start + limit < len(ids)
        return Page(tuple(self._record(i, model) for i in chosen), chosen[-1] if more else None)

    def read_records(self, item_ids: Collection[str]) -> dict[str, Record]:
        self._count("read_records")
        there = [i for i in item_ids if i in self.images]
        return {i: replace(self._record(i, None), predictions=(), predicted_by=()) for i in there}

    def read_image(self, item: Item) -> bytes:
        self._count("read_image")
        data = self.images[item.id]
        if data is None:
            raise ImageError(f"the image of item {item.id} cannot be had")
        return data

    def write_predictions(self, model: str, batch: Sequence[Prelabel]) -> int:
        new = [p for p in batch if (model, p.item.id) not in self.models]
        for prelabel in new:
            self.models[model, prelabel.item.id] = prelabel.predictions
        self._count("write_predictions")
        return len(new)

    def open_review(self, labels: LabelSet, title: str) -> Review:
        created, self.review_opened = not self.review_opened, True
        self._count("open_review")
        return Review("review", "memory://review", created)

    def seats(self, findings: Sequence[Finding], who: Who) -> Seating:
        people = {s.id: s.annotator for submissions in self.people.values() for s in submissions}
        return Seating(tuple(Seat(f.submission_id, people.get(f.submission_id, "")) for f in findings), self.reviewers)

    def push_cases(self, review: Review, cases: Sequence[ReviewCase]) -> list[PushedCase]:
        for case in cases:
            if self.images.get(case.item.id) is None:
                raise DataError(f"item {case.item.id} has no image")
        places = {case.finding.id: ref for ref, case in self.cases.items()}
        for case in cases:
            if case.finding.id not in places:
                places[case.finding.id] = str(len(self.cases) + 1)
                self.cases[places[case.finding.id]] = case
        self._count("push_cases")
        refs = [(case.finding.id, places[case.finding.id]) for case in cases]
        return [PushedCase(finding, ref, f"memory://review/{ref}") for finding, ref in refs]

    def read_verdicts(self, review: Review, since: str | None) -> Iterator[Verdict]:
        """In the order of the places in the review, not of time."""
        self._count("read_verdicts")
        for answer in sorted(self.answers, key=lambda a: int(a.source.rpartition(":")[2])):
            if since is None or answer.decided_at >= since:
                yield answer

    def withdraw_cases(self, review: Review, finding_ids: Collection[str], keep: Collection[str] = ()) -> set[str]:
        begun = {answer.source for answer in self.answers} | self.touched
        kept = {ref for ref in self.cases if ref in keep or f"memory:{ref}" in begun}
        self.cases = {r: case for r, case in self.cases.items() if case.finding.id not in finding_ids or r in kept}
        self._count("withdraw_cases")
        return set(finding_ids) - {case.finding.id for case in self.cases.values()}

    def apply_fixes(self, orders: Sequence[FixOrder], note: Callable[[FixNote], None] = forget) -> list[FixResult]:
        results = [self._apply(order, note) for order in orders]
        self._count("apply_fixes")
        return results

    def undo_fixes(self, orders: Sequence[UndoOrder]) -> list[FixResult]:
        results = [self._undo(order) for order in orders]
        self._count("undo_fixes")
        return results

    # --- inside -----------------------------------------------------------------------------------------------------

    def _count(self, method: str) -> None:
        self.calls[method] += 1
        if method in self.lose:
            self.lose.remove(method)
            raise ToolUnreachable(f"the answer to {method} got lost")

    def _record(self, item_id: str, model: str | None) -> Record:
        data = self.images[item_id]
        width, height = Image.open(io.BytesIO(data)).size if data else (None, None)
        mine = {m: p for (m, i), p in self.models.items() if i == item_id and model in (None, m)}
        return Record(
            item=Item(item_id, f"{item_id}.png", f"memory://{item_id}", width, height),
            submissions=tuple(self.people[item_id]),
            predictions=tuple(p for found in mine.values() for p in found),
            problems=self.problems.get(item_id, ()),
            predicted_by=tuple(mine),
        )

    def _apply(self, order: FixOrder, note: Callable[[FixNote], None]) -> FixResult:
        finding, fix = order.finding, order.fix
        submissions = self.people[finding.item_id]
        position = next((k for k, s in enumerate(submissions) if s.id == finding.submission_id), None)
        if position is None:
            return FixResult(finding.id, Outcome.CONFLICT, "the submission is gone")
        annotations = {a.id: a for a in submissions[position].annotations}
        added = f"{finding.submission_id}:lb-{finding.id}"
        if fix.action == "add":
            if added in annotations:
                return FixResult(finding.id, Outcome.ALREADY, "it was added before")
            assert fix.label is not None
            assert fix.shape is not None
            annotations[added] = Annotation(added, fix.label, fix.shape)
            note(FixNote(finding.id, None, _said(annotations[added])))
        else:
            (annotation_id,) = finding.annotation_ids
            now = annotations.get(annotation_id)
            after = _after(now, fix)
            if now == after:
                return FixResult(finding.id, Outcome.ALREADY, "it is so already")
            if now is None or now.revision != finding.revisions[0]:
                return FixResult(finding.id, Outcome.CONFLICT, "somebody has changed it since")
            note(FixNote(finding.id, _said(now), _said(after)))
            annotations.pop(annotation_id)
            if after is not None:
                annotations[annotation_id] = after
        self.submit(finding.item_id, list(annotations.values()), position)
        return FixResult(finding.id, Outcome.APPLIED, f"{fix.action} done")

    def _undo(self, order: UndoOrder) -> FixResult:
        finding, note = order.finding, order.note
        position = next(k for k, s in enumerate(self.people[finding.item_id]) if s.id == finding.submission_id)
        annotations = {a.id: a for a in self.people[finding.item_id][position].annotations}
        key = (note.before or note.after)[0]
        now = _said(annotations.pop(key, None))
        if now == note.before:
            return FixResult(finding.id, Outcome.ALREADY, "it is so already")
        if now != note.after:
            return FixResult(finding.id, Outcome.CONFLICT, "somebody has changed it since the fix")
        if note.before is not None:
            annotations[key] = Annotation(key, note.before[1], shape_from_list(note.before[2]))
        self.submit(finding.item_id, list(annotations.values()), position)
        return FixResult(finding.id, Outcome.APPLIED, "undone")


def _said(annotation: Annotation | None) -> list[Any] | None:
    return None if annotation is None else [annotation.id, annotation.label, shape_to_list(annotation.shape)]


def _after(now: Annotation | None, fix: Fix) -> Annotation | None:
    if now is None or fix.action == "delete":
        return None
    return replace(now, label=fix.label or now.label, shape=fix.shape or now.shape)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()
