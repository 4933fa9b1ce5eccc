"""Findings as shapes of review tasks, which show only the flagged frames; and what reviewers make of the shapes.

A review project stands beside the target, with its labels. Each push makes one task in it (about a hundred findings),
with one shape for each finding: the object as it is suggested, or, where it may be one too many, as it is. A shape has
an attribute ``verdict``, so that a reviewer goes from one to the next in CVAT's attribute annotation mode with a key
for each answer. The other objects around are there too, with the verdict ``context``.

An explicit verdict counts at once: ``accept`` (as edited, where the shape or its label was changed) or ``reject``. Once
the job is completed, what was done without a word counts too: a changed shape is an edit; a deleted one is a reject, or
where the question was whether the object is one too many, an accept. A shape that was left as it is answers nothing.

A finding that is withdrawn leaves its task, shape and all, where nobody has touched the shape; a task that asks nothing
any more is deleted.

CVAT keeps a shape's id but gives it fresh attributes with another label. So which shape stands for which finding, and
how it was, is kept in the task's guide. That is written last: a task without one is unfinished. Nobody is shown it, as
people who work in a job see the guide of the project, which says how to review.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.core.annotations import Annotation, Item, Shape, Tag, TextSpan, digest
from bridge.core.findings import Fix, Verdict
from bridge.core.moments import parse_moment
from bridge.dialects.cvat_labels import CvatLabels, attribute_values, parse_labels
from bridge.dialects.cvat_new_shapes import NewObject, create_body, new_object
from bridge.dialects.cvat_shapes import FrameObjects, Size, read_frame
from bridge.errors import AuthError, DataError, ToolError
from bridge.tools import PushedCase, Review, ReviewCase, UnshownCases
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_layout import Frame, Job, read_job
from bridge.tools.cvat_new_task import BrokenFrames, NewTask
from bridge.tools.cvat_review_plan import ReviewMode
from bridge.tools.questions import title_of

VERDICT, QUESTION, FINDING = "verdict", "question", "finding"
UNDECIDED, ACCEPT, REJECT, CONTEXT = "undecided", "accept", "reject", "context"
_ATTRIBUTES = (
    (VERDICT, "select", [UNDECIDED, ACCEPT, REJECT, CONTEXT]),
    (QUESTION, "text", [""]),
    (FINDING, "text", [""]),
)
_TYPES = ("any", "rectangle", "polygon", "mask", "ellipse")
_LINE = re.compile(r"\[labelbridge ([0-9a-f]{16}) (shape:\d+) ([0-9a-f]{16}) (add|delete|relabel|reshape|none)\]")
_WITHDRAWN_LINE = re.compile(_LINE.pattern.replace("labelbridge", "labelbridge withdrawn"))
_QUESTION_CHARACTERS = 300
_GUIDE = """# How to review

Each shape is one question; its attribute `{question}` says which. Answer with its attribute `{verdict}`:

- `{accept}`: do what is suggested. If the shape or its label is not quite right, correct it first.
- `{reject}`: the annotation is right as it is.

The attribute annotation mode goes from shape to shape, with a key for each answer. Shapes that say `{context}` are the
other objects around; what you do to them counts for nothing. Set the job to completed at the end: then a shape that you
corrected or deleted without a verdict counts as well.
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A shape of a review task as it was put there."""

    finding_id: str
    annotation_id: str
    revision: str
    action: str


class ReviewTasks:
    """The review tasks of one target.

    Args:
        labels: gives the target's.
        user_id: gives the number of a user, for tasks that somebody in particular is to judge.
    """

    def __init__(
        self,
        client: CvatClient,
        labels: Callable[[], CvatLabels],
        new_task: NewTask,
        user_id: Callable[[str], int],
    ) -> None:
        self._client = client
        self._labels = labels
        self._new_task = new_task
        self._user_id = user_id
        self._texts: dict[int, str] = {}

    def open(self, title: str, home: str) -> Review:
        """The project for the review of a target, found by its name and its link to the target, or made.

        Args:
            home: the target in a browser; the project's issue tracker leads there.

        Raises:
            ToolError: this user may not make projects.
        """
        name = title[:200]
        known = [p for p in self._client.projects_named(name) if p.get("bug_tracker") == home]
        wanted = [_label(label.name, label.type) for label in self._labels().labels if label.type in _TYPES]
        if known:
            project = int(known[0]["id"])
            there = {str(label.get("name")) for label in self._client.labels(project_id=project)}
            missing = [label for label in wanted if label["name"] not in there]
            if missing:
                self._client.row("PATCH", f"/api/projects/{project}", json={"labels": missing}, repeatable=False)
        else:
            try:
                body = {"name": name, "bug_tracker": home, "labels": wanted}
                project = int(self._client.row("POST", "/api/projects", json=body)["id"])
            except AuthError as error:
                raise ToolError(
                    f"a review project cannot be made: {error.found}",
                    expected="a user who may make projects: a supervisor or maintainer of the organization",
                    todo="Push as such a user, or with --mode issues",
                ) from None
        if not known or known[0].get("guide_id") is None:
            words = {"question": QUESTION, "verdict": VERDICT, "accept": ACCEPT, "reject": REJECT, "context": CONTEXT}
            self._client.create_guide(_GUIDE.format(**words), project_id=project)
        return Review(str(project), f"{self._client.url}/projects/{project}", not known, ReviewMode.TASK)

    def push(self, review: Review, cases: Sequence[ReviewCase], frames: Mapping[str, Frame]) -> list[PushedCase]:
        """Make one task of each reviewer's cases that stand in none yet; others are answered with where they are.

        Args:
            frames: by item id.

        Raises:
            UnshownCases: some cases cannot be shown.
            ToolError: the server failed; what was made by then is found and completed by the next attempt.
        """
        project = int(review.ref)
        tasks = list(self._client.tasks_of(project))
        known = self._known(tasks)
        new: dict[str, list[ReviewCase]] = {}
        for case in cases:
            if case.finding.id not in known:
                new.setdefault(case.reviewer, []).append(case)
        for mine in new.values():
            known |= self._make(project, tasks, mine, frames)
        return [PushedCase(case.finding.id, *known[case.finding.id]) for case in cases]

    def withdraw(self, review: Review, finding_ids: Collection[str], keep: Collection[str] = ()) -> set[str]:
        """Take findings out of their tasks: three requests for a task to read, and two to write.

        The guide is written first: a shape that is gone, and that the guide asks about, would be an answer.
        """
        project, kept = int(review.ref), set[str]()
        jobs = {int(row["task_id"]): row for row in self._client.jobs_of_project(project)}
        labels = parse_labels(self._client.labels(project_id=project))
        for task in self._client.tasks_of(project):
            number, asked = int(task["id"]), self._asked(task)
            mine = [a for a in asked if a.finding_id in finding_ids and f"{number}/{a.annotation_id}" not in keep]
            leaving = [a for a in self._withdrawn(task) if a.finding_id in finding_ids]
            if not mine and not leaving:
                continue
            job = read_job(jobs[number])
            now = self._shapes(job, labels)
            touched = {a.finding_id for a in mine if _is_touched(a, *now.get(a.annotation_id, (None, UNDECIDED)))}
            kept |= touched
            free = [a for a in mine if a.finding_id not in touched]
            if len(free) == len(asked):
                self._client.delete_task(number)
                continue
            if free:
                self._client.patch_guide(int(task["guide_id"]), self._without(task, free))
                self._texts.pop(int(task["guide_id"]))
            self._delete_shapes(job, [a.annotation_id for a in (*free, *leaving)])
        return set(finding_ids) - kept

    def verdicts(self, review: Review, since: str | None) -> Iterator[Verdict]:
        """The answers in the tasks that were changed at or after ``since``: four requests for each of them at most."""
        project = int(review.ref)
        start = None if since is None else parse_moment(since)
        jobs = {int(row["task_id"]): row for row in self._client.jobs_of_project(project)}
        labels: CvatLabels | None = None
        for task in self._client.tasks_of(project):
            row = jobs.get(int(task["id"]))
            asked = self._asked(task) if row is not None else []
            if row is None or not asked or (start and parse_moment(str(row["updated_date"])) < start):
                continue
            labels = labels or parse_labels(self._client.labels(project_id=project))
            yield from self._answers(row, asked, labels)

    # --- pushing ----------------------------------------------------------------------------------------------------

    def _known(self, tasks: Iterable[Row]) -> dict[str, tuple[str, str]]:
        """Where findings stand already: the shape and its address, by finding."""
        found: dict[str, tuple[str, str]] = {}
        for task in tasks:
            for asked in self._asked(task):
                number = int(task["id"])
                found[asked.finding_id] = (f"{number}/{asked.annotation_id}", self._url(number))
        return found

    def _make(
        self, project: int, tasks: Iterable[Row], cases: Sequence[ReviewCase], frames: Mapping[str, Frame]
    ) -> dict[str, tuple[str, str]]:
        """One task for some cases. Cut off anywhere, the same cases are found to have it, and it is completed."""
        shown = sorted({frames[c.item.id] for c in cases}, key=lambda f: (f.task, f.number))
        number_of = {(f.task, f.number): index for index, f in enumerate(shown)}
        labels = parse_labels(self._client.labels(project_id=project))
        objects: list[NewObject] = []
        unshown: dict[str, DataError] = {}
        # An object is shown once: as the subject of its own question, else beside the first that it is near.
        shown_already = {(c.item.id, i) for c in cases for i in c.finding.annotation_ids}
        for case in cases:
            around = [a for a in case.context if (case.item.id, a.id) not in shown_already]
            shown_already |= {(case.item.id, a.id) for a in around}
            try:
                objects += _objects(replace(case, context=tuple(around)), frames[case.item.id], number_of, labels)
            except DataError as error:
                unshown[case.finding.id] = error
        if unshown:
            raise UnshownCases(unshown)
        mark = f"[labelbridge {digest(sorted(c.finding.id for c in cases))}]"
        task, name = self._found(tasks, mark), cases[0].reviewer
        reviewer = self._user_id(name) if name else None
        if task is None:
            fields: Row = {"name": f"{len(cases)} findings {mark}", "project_id": project}
            if reviewer is not None:
                fields["assignee_id"] = reviewer
            try:
                task = self._new_task.make(fields, shown)
            except BrokenFrames as error:
                places = {c.finding.id: frames[c.item.id] for c in cases}
                reasons = {i: error.reasons.get((f.task, f.number)) for i, f in places.items()}
                raise UnshownCases({i: reason for i, reason in reasons.items() if reason}) from None
        job = read_job(next(iter(self._client.jobs_of(task))))
        answer = self._client.annotations(job.id)
        if not answer.get("shapes"):
            self._client.patch_annotations(job.id, "create", create_body(objects))
            answer = self._client.annotations(job.id)
        asked = _as_put(answer, cases, labels, _sizes(shown))
        if reviewer is not None:
            self._client.patch_job(job.id, {"assignee": reviewer})
        self._client.create_guide(_manifest(asked), task_id=task)
        return {a.finding_id: (f"{task}/{a.annotation_id}", self._url(task, job.id)) for a in asked}

    def _found(self, tasks: Iterable[Row], mark: str) -> int | None:
        """The task that an earlier attempt has begun to make; one that has got no frames is deleted."""
        for task in tasks:
            if mark in str(task.get("name")) and task.get("guide_id") is None:
                if task.get("size"):
                    return int(task["id"])
                self._client.delete_task(int(task["id"]))
        return None

    def _asked(self, task: Row) -> list[_Asked]:
        return [_Asked(*line.groups()) for line in _LINE.finditer(self._text(task))]

    def _withdrawn(self, task: Row) -> list[_Asked]:
        return [_Asked(*line.groups()) for line in _WITHDRAWN_LINE.finditer(self._text(task))]

    def _text(self, task: Row) -> str:
        """The task's guide; empty where it has none."""
        if task.get("guide_id") is None:
            return ""
        number = int(task["guide_id"])
        if number not in self._texts:
            self._texts[number] = self._client.guide(number)
        return self._texts[number]

    def _without(self, task: Row, gone: Sequence[_Asked]) -> str:
        text = self._text(task)
        for asked in gone:
            text = text.replace(f"[labelbridge {asked.finding_id} ", f"[labelbridge withdrawn {asked.finding_id} ")
        return text

    def _delete_shapes(self, job: Job, annotation_ids: Collection[str]) -> None:
        shapes = self._client.annotations(job.id).get("shapes") or []
        body = {"version": 0, "tags": [], "tracks": []}
        gone = [s for s in shapes if f"shape:{s['id']}" in annotation_ids]
        if gone:
            self._client.patch_annotations(job.id, "delete", {**body, "shapes": gone})

    def _url(self, task: int, job: int | None = None) -> str:
        return f"{self._client.url}/tasks/{task}" + (f"/jobs/{job}" if job is not None else "")

    # --- reading ----------------------------------------------------------------------------------------------------

    def _answers(self, row: Row, asked: Sequence[_Asked], labels: CvatLabels) -> Iterator[Verdict]:
        job = read_job(row)
        shapes = self._shapes(job, labels)
        for one in asked:
            now, word = shapes.get(one.annotation_id, (None, UNDECIDED))
            decided = judge(one, now, word, completed=job.state == "completed")
            if decided is not None:
                decision, fix = decided
                yield Verdict(
                    finding_id=one.finding_id,
                    decision=decision,
                    reviewer=job.assignee or "unknown",
                    decided_at=str(row.get("updated_date")),
                    source=f"task {job.task}, {one.annotation_id.replace(':', ' ')}",
                    fix=fix,
                )

    def _shapes(self, job: Job, labels: CvatLabels) -> dict[str, tuple[Annotation | None, str]]:
        """The shapes of a job, each with its verdict, by id."""
        answer = self._client.annotations(job.id)
        shapes = {f"shape:{s['id']}": s for s in answer.get("shapes") or [] if isinstance(s, dict) and "id" in s}
        sizes: dict[int, Size] = {}
        if any(s.get("type") == "mask" for s in shapes.values()):
            entries = self._client.job_meta(job.id).get("frames") or []
            sizes = {n: (int(e["width"]), int(e["height"])) for n, e in enumerate(entries)}
        return {
            name: (_read(s, labels, sizes.get(int(s["frame"]))), _verdict_of(s, labels)) for name, s in shapes.items()
        }


def _is_touched(asked: _Asked, now: Annotation | None, word: str) -> bool:
    """Whether a reviewer has done anything to a shape, finished or not."""
    return now is None or word != UNDECIDED or now.revision != asked.revision


def judge(asked: _Asked, now: Annotation | None, word: str, *, completed: bool) -> tuple[Any, Fix | None] | None:
    """What a reviewer's doing to a shape says: the decision, and the fix where it is theirs; None where it is nothing.

    Args:
        now: the shape as it is; None where it was deleted.
        word: its attribute ``verdict``.
        completed: whether the reviewer is done with the job.
    """
    if word == REJECT:
        return "reject", None
    if now is None:
        if not completed:
            return None
        return ("accept", None) if asked.action == "delete" else ("reject", None)
    is_changed = now.revision != asked.revision
    if word == ACCEPT and (not is_changed or asked.action in ("delete", "none")):
        return "accept", None
    if is_changed and (word == ACCEPT or completed):
        return "edit", Fix("add" if asked.action == "add" else "reshape", now.label, now.shape)
    return None


def _manifest(asked: Sequence[_Asked]) -> str:
    """What tells later which shape stands for which finding."""
    lines = [f"[labelbridge {a.finding_id} {a.annotation_id} {a.revision} {a.action}]" for a in asked]
    return "\n".join(("What labelbridge has asked in this task; leave it as it is.", "", *lines, ""))


def _label(name: str, kind: str) -> Row:
    attributes = [
        {"name": attribute, "mutable": False, "input_type": input_type, "default_value": values[0], "values": values}
        for attribute, input_type, values in _ATTRIBUTES
    ]
    return {"name": name, "type": kind, "attributes": attributes}


def _objects(
    case: ReviewCase, frame: Frame, number_of: Mapping[tuple[int, int], int], labels: CvatLabels
) -> Iterator[NewObject]:
    """The shape that asks, and those around it."""
    finding = case.finding
    number, size = number_of[frame.task, frame.number], _size(frame, case.item)
    label, shape = _suggested(case)
    question = f"{title_of(finding)} {finding.reason}"[:_QUESTION_CHARACTERS]
    values = {VERDICT: UNDECIDED, QUESTION: question, FINDING: finding.id}
    yield _with(new_object(label, shape, number, labels, size, confidence=finding.score), label, values, labels)
    for other in case.context:
        if other.label in labels.by_name:
            around = new_object(other.label, other.shape, number, labels, size, source="manual")
            yield _with(around, other.label, {VERDICT: CONTEXT}, labels)


def _suggested(case: ReviewCase) -> tuple[str, Shape]:
    finding = case.finding
    shape = finding.fix.shape or finding.current_shape
    if shape is None or isinstance(shape, Tag | TextSpan):
        raise DataError(
            f"finding {finding.id} has no shape that a review task could show", todo="Push it with --mode issues"
        )
    return finding.fix.label or finding.label, shape


def _with(new: NewObject, label: str, values: Mapping[str, str], labels: CvatLabels) -> NewObject:
    specs = {a.name: a.spec_id for a in labels.require(label).attributes}
    given = [{"spec_id": specs[name], "value": value} for name, value in values.items() if name in specs]
    return NewObject(new.place, {**new.body, "attributes": [*new.body["attributes"], *given]})


def _as_put(answer: Row, cases: Sequence[ReviewCase], labels: CvatLabels, sizes: Mapping[int, Size]) -> list[_Asked]:
    """The shapes that ask, by the finding that each names."""
    actions = {case.finding.id: case.finding.fix.action for case in cases}
    found: dict[str, _Asked] = {}
    for shape in answer.get("shapes") or []:
        values = attribute_values(shape.get("attributes"), labels.by_id.get(shape.get("label_id", -1)))
        finding_id = values.get(FINDING, "")
        read = _read(shape, labels, sizes.get(int(shape["frame"]))) if finding_id in actions else None
        if read is not None:
            found[finding_id] = _Asked(finding_id, read.id, read.revision, actions[finding_id])
    lost = actions.keys() - found.keys()
    if lost:
        raise ToolError(f"CVAT did not keep the shapes of {len(lost)} findings", todo="Push again")
    return [found[case.finding.id] for case in cases]


def _read(shape: Mapping[str, Any], labels: CvatLabels, size: Size | None) -> Annotation | None:
    found = read_frame(FrameObjects(shapes=[shape]), labels, size).annotations
    return found[0] if found else None


def _verdict_of(shape: Mapping[str, Any], labels: CvatLabels) -> str:
    values = attribute_values(shape.get("attributes"), labels.by_id.get(shape.get("label_id", -1)))
    return values.get(VERDICT, UNDECIDED)


def _sizes(frames: Sequence[Frame]) -> dict[int, Size]:
    return {n: (f.width, f.height) for n, f in enumerate(frames) if f.width and f.height}


def _size(frame: Frame, item: Item) -> Size:
    width, height = frame.width or item.width, frame.height or item.height
    if not width or not height:
        raise DataError(f"the size of item {item.id} ({item.name}) is not known", expected="width and height in pixels")
    return width, height
