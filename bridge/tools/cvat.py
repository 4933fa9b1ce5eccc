"""CVAT as an annotation tool: a project, a task or a job is one target, and one frame is one item.

An item's id is ``TASK/FRAME``. A job's objects on a frame are one submission, ``JOB/FRAME``, once the job is submitted:
completed, or past the stage of annotation and not sent back. Where several people annotated the same frames in replica
jobs, a frame has several submissions. What a ground truth job holds is nobody's work to be judged, and neither are
honeypots, which CVAT shows a second time on purpose.

CVAT keeps no predictions beside people's work: a suggestion *is* an object, of the source ``auto``. So a record has no
predictions, and scoring wants a model (``--detector``) or a file with predictions. To whoever asks for one model's, an
item that takes no suggestions (any more) counts as predicted by it.
"""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from bridge.core.annotations import Annotation, Item, LabelSet, Problem, Record, Submission
from bridge.core.assignment import Seat, Seating, Who
from bridge.core.findings import Finding, Verdict
from bridge.core.tool_memory import Suggestion, ToolMemory
from bridge.dialects.cvat_labels import CvatLabels, parse_labels
from bridge.dialects.cvat_shapes import Size
from bridge.errors import (
    ConfigError,
    DataError,
    ImageError,
    LabelbridgeError,
    NotFound,
    ToolError,
    ToolUnreachable,
    UsageError,
)
from bridge.tools import (
    Changes,
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
    UnshownCases,
    forget,
)
from bridge.tools.cvat_acceptance import Acceptance, acceptance
from bridge.tools.cvat_changes import JobWatch
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_fixes import JobFixes
from bridge.tools.cvat_handover import Handover, SentBack
from bridge.tools.cvat_issues import IssueDesk
from bridge.tools.cvat_job_content import JobContent
from bridge.tools.cvat_layout import (
    Frame,
    Job,
    Layout,
    frames_of,
    is_people_job,
    parse_frame_reference,
    parse_item_id,
    read_job,
)
from bridge.tools.cvat_new_task import NewTask
from bridge.tools.cvat_overlay import Overlay
from bridge.tools.cvat_review_plan import ReviewMode, ReviewPlan
from bridge.tools.cvat_review_task import ReviewTasks
from bridge.tools.cvat_suggestions import Suggestions, by_frame, takes, takes_suggestions
from bridge.tools.cvat_target import CvatTarget
from bridge.tools.fix_rules import InTheWay

Order = TypeVar("Order", FixOrder, UndoOrder)

_TO_SUBMIT = "Complete a job in CVAT first (Menu > Finish the job), or set its stage to validation"
_LAYOUTS = 4
_JOBS = 8
_OLD_FRAMES = "CVAT 2.15 gives out no frames of a task with a start frame or a frame step: use a newer one"


class Cvat:
    """One target of one CVAT, as an :class:`~bridge.tools.AnnotationTool`.

    ``notes`` are sentences for the person who pushes.

    Args:
        client: calls to the server.
        what: the project, task or job.
        memory: what CVAT forgets.
        plan: how findings go to review; None: the plain way.
        max_image_bytes: larger image files are refused.
    """

    def __init__(
        self,
        client: CvatClient,
        what: CvatTarget,
        memory: ToolMemory,
        plan: ReviewPlan | None = None,
        *,
        max_image_bytes: int = 64 * 2**20,
    ) -> None:
        self.client = client
        self.what = what
        self._memory = memory
        self._plan = plan or ReviewPlan()
        self._handover = Handover(client, memory)
        self._annotators: Mapping[str, str] | None = None
        self.notes: tuple[str, ...] = ()
        new_task = NewTask(client, lambda frame: self.read_image(frame.item))
        self._issues = IssueDesk(client, self._label_list, self._handover.user_id)
        self._overlay = Overlay(client, self._label_list, sleep=client.sleep)
        self._review_tasks = ReviewTasks(client, self._label_list, new_task, self._handover.user_id)
        self._max_image_bytes = max_image_bytes
        self._labels: CvatLabels | None = None
        self._tasks: list[int] | None = None
        self._job_counts: dict[int, int] = {}
        self._subsets: dict[int, str] = {}
        self._layouts: OrderedDict[int, Layout] = OrderedDict()
        self._contents: OrderedDict[int, JobContent] = OrderedDict()
        self._next: str | None = None

    @property
    def target(self) -> str:
        return self.what.text

    @property
    def url(self) -> str:
        """The target in a browser."""
        if self.what.kind == "job":
            job = read_job(self.client.job(self.what.id))
            return f"{self.client.url}/tasks/{job.task}/jobs/{job.id}"
        return f"{self.client.url}/{self.what.kind}s/{self.what.id}"

    def describe(self) -> TargetInfo:
        """See :meth:`bridge.tools.AnnotationTool.describe`.

        ``items`` counts the frames of the jobs that the filters take; deleted ones and honeypots are among them.

        Raises:
            DataError: the label list cannot be used.
            ConfigError: the target is in another organization than the settings name.
        """
        self._forget()
        what, client = self.what, self.client
        if what.kind == "project":
            project = client.project(what.id)
            title, items = str(project.get("name") or self.target), sum(self._count(t) for t in self._task_rows())
        elif what.kind == "task":
            task = client.task(what.id)
            title, items = str(task.get("name") or self.target), self._count(task)
        else:
            row = client.job(what.id)
            title = f"job {what.id} of task {row.get('task_id')}"
            items = int(row.get("frame_count") or read_job(row).stop - read_job(row).start + 1)
        names = self._label_list().names
        return TargetInfo(self.target, title, names, items, self.url, to_submit=_TO_SUBMIT)

    def read_page(self, after: str | None, limit: int, model: str | None = None) -> Page:
        """See :meth:`bridge.tools.AnnotationTool.read_page`. The cursor is the id of the last item.

        Two requests for a task, one or two more for each of its jobs. What a job holds is kept from one page to the
        next of the same pass, so that it is read once.
        """
        if after != self._next or after is None:
            self._forget()
        position = parse_item_id(after) if after is not None else None
        if after is not None and position is None:
            raise ToolError(f"{after!r} is no cursor of {self.target}", expected="one that an earlier page gave")
        frames: list[Frame] = []
        for frame in self._frames(position):
            if len(frames) == limit:
                self._next = frames[-1].item.id
                return Page(tuple(self._records(frames, model)), self._next)
            frames.append(frame)
        self._next = None
        return Page(tuple(self._records(frames, model)), None)

    def read_records(self, item_ids: Collection[str]) -> dict[str, Record]:
        """See :meth:`bridge.tools.AnnotationTool.read_records`. As many requests as a page over the same jobs."""
        self._forget()
        self._task_ids()
        records: dict[str, Record] = {}
        # In the order of the jobs, so that each is read once.
        for item_id in sorted(item_ids, key=lambda i: parse_item_id(i) or (0, 0)):
            with contextlib.suppress(NotFound):
                records[item_id] = self._record(self._frame(item_id), any_state=True)
        return records

    def read_image(self, item: Item) -> bytes:
        place = parse_frame_reference(item.image)
        if place is None:
            raise ImageError(
                f"the reference of item {item.id} ({item.name}) is {item.image[:60]!r}", expected="jobs/6/frames/17"
            )
        try:
            return self.client.frame(*place, max_bytes=self._max_image_bytes)
        except ToolUnreachable:
            raise
        except ToolError as error:
            is_old = "frame number" in error.found and self.client.version() < (2, 22)
            raise ImageError(
                f"the image of item {item.id} ({item.name}) cannot be had: {error.found}",
                todo=_OLD_FRAMES if is_old else error.todo,
            ) from None

    def write_predictions(self, model: str, batch: Sequence[Prelabel]) -> int:
        """See :meth:`bridge.tools.AnnotationTool.write_predictions`, and :mod:`bridge.tools.cvat_suggestions`.

        Suggestions of another model are replaced where they are just as they were written.
        """
        self._contents.clear()
        self._labels = None
        there: list[tuple[Prelabel, Frame]] = []
        for prelabel in batch:
            with contextlib.suppress(NotFound):  # deleted while the model was looking at it
                there.append((prelabel, self._frame(prelabel.item.id)))
        return Suggestions(self.client, self._label_list(), self._memory, model).write(there)

    def open_review(self, labels: LabelSet, title: str) -> Review:
        """The issues of the target's own jobs, for which nothing has to be made; or a project for review tasks."""
        del labels
        if self._plan.mode is ReviewMode.TASK:
            return self._review_tasks.open(title, self.url)
        return Review(self.target, self.url, created=False, mode=ReviewMode.ISSUES)

    def seats(self, findings: Sequence[Finding], who: Who) -> Seating:
        """See :meth:`bridge.tools.AnnotationTool.seats`: a job, or the issues in it, or review tasks of somebody's own.

        Raises:
            UsageError: others are to judge, and none are named.
            NotFound: CVAT shows no user of a name that is given.
        """
        names = self._plan.reviewers
        if who == "others" and not names:
            raise UsageError(
                "CVAT does not say who may review",
                expected="the users who do, among them others than the annotators",
                todo="Name them: --reviewer others,mia,zoe",
            )
        for name in names:
            self._handover.user_id(name)
        if who == "anyone" and not names:
            return Seating((Seat(),) * len(findings))
        self._forget()
        return Seating(tuple(map(self._seat, findings)), names)

    def _seat(self, finding: Finding) -> Seat:
        place = parse_item_id(finding.submission_id)
        try:
            jobs = self._frame(finding.item_id).jobs
        except NotFound:
            return Seat()
        job = next((job for job in jobs if place is not None and job.id == place[0]), jobs[0])
        annotator = self._handover.annotator_name(job, self._remembered())
        moves = self._plan.mode is not ReviewMode.TASK and self._plan.hand_over
        return Seat(str(job.id), annotator, job.assignee if moves and job.stage != "annotation" else "")

    def push_cases(self, review: Review, cases: Sequence[ReviewCase]) -> list[PushedCase]:
        self._forget()
        frames: dict[str, Frame] = {}
        gone: dict[str, LabelbridgeError] = {}
        for case in cases:
            try:
                frames[case.item.id] = self._frame(case.item.id)
            except NotFound as error:
                gone[case.finding.id] = error
        if gone:
            raise UnshownCases(gone)
        if self._plan.mode is ReviewMode.TASK:
            return self._review_tasks.push(review, cases, frames)
        if self._plan.mode is ReviewMode.OVERLAY:
            self.notes += self._overlay.draw(cases)  # first, as it is what may be refused
        handover = self._handover if self._plan.hand_over else None
        return self._issues.push(cases, frames, handover)

    def read_verdicts(self, review: Review, since: str | None) -> Iterator[Verdict]:
        """See :meth:`bridge.tools.AnnotationTool.read_verdicts`.

        The filters of the target do not count: a job in review has another state and assignee than when it was scored.
        """
        if review.mode == ReviewMode.TASK:
            return self._review_tasks.verdicts(review, since)
        self._forget()
        jobs = [job.id for here in self._people_jobs().values() for job in here]
        return self._issues.verdicts(jobs, since)

    def send_back_rejected(self) -> list[SentBack]:
        """Return the jobs whose reviewer rejected them to their annotators, where those are remembered."""
        self._forget()
        known = self._memory.annotators()
        jobs = [job for here in self._people_jobs().values() for job in here]
        rejected = [j for j in jobs if j.stage == "validation" and j.state == "rejected"]
        return self._handover.send_back(job for job in rejected if self._handover.place(job) in known)

    def send_back(self) -> list[SentBack]:
        """Return the target's jobs that are in review, or accepted, to their annotators.

        Raises:
            UsageError: the target is neither a job nor filtered.
        """
        if self.what.kind != "job" and not self.what.filters:
            raise UsageError(
                f"{self.target} would send back every job that is past annotation",
                expected="a job, as in cvat:job/45, or a filter, as in cvat:project/3?state=rejected",
            )
        self._forget()
        return self._handover.send_back(job for _, jobs in self.jobs() for job in jobs)

    def withdraw_cases(self, review: Review, finding_ids: Collection[str], keep: Collection[str] = ()) -> set[str]:
        """See :meth:`bridge.tools.AnnotationTool.withdraw_cases`: an issue is resolved, with a word why; a shape leaves
        its review task; a suggestion is no longer drawn over the work."""
        if review.mode == ReviewMode.TASK:
            return self._review_tasks.withdraw(review, finding_ids, keep)
        self._forget()
        jobs = {task: [job.id for job in here] for task, here in self._people_jobs().items()}
        every = [job for here in jobs.values() for job in here]
        gone = self._issues.withdraw(every, finding_ids, keep)
        self.notes += self._overlay.erase({task: min(here) for task, here in jobs.items() if here}, gone)
        return gone

    def apply_fixes(self, orders: Sequence[FixOrder], note: Callable[[FixNote], None] = forget) -> list[FixResult]:
        """See :meth:`bridge.tools.AnnotationTool.apply_fixes`.

        All fixes of one job are written together: one request reads it, and one each creates, updates and deletes.
        A few more read anew what may have changed: the label list, and each task's jobs and frames.
        """
        return self._in_jobs(orders, lambda fixes, group: fixes.apply(group, note))

    def undo_fixes(self, orders: Sequence[UndoOrder]) -> list[FixResult]:
        """See :meth:`bridge.tools.AnnotationTool.undo_fixes`. As many requests as writing the fixes took."""
        return self._in_jobs(orders, lambda fixes, group: fixes.undo(group))

    def _in_jobs(
        self, orders: Sequence[Order], work: Callable[[JobFixes, Sequence[Order]], list[FixResult]]
    ) -> list[FixResult]:
        self._forget()
        self._task_ids()
        groups: dict[Job, list[int]] = {}
        results: dict[int, FixResult] = {}
        for index, order in enumerate(orders):
            try:
                groups.setdefault(self._job_of(order.finding), []).append(index)
            except InTheWay as reason:
                results[index] = FixResult(order.finding.id, Outcome.CONFLICT, str(reason))
        for job, indices in groups.items():
            fixes = JobFixes(self.client, job, self._label_list(), self._size)
            results.update(zip(indices, work(fixes, [orders[i] for i in indices]), strict=True))
        return [results[i] for i in range(len(orders))]

    def read_changes(self, cursor: str | None) -> Changes:
        """See :meth:`bridge.tools.AnnotationTool.read_changes`, and :mod:`bridge.tools.cvat_changes`.

        One request where nothing changed.
        """
        return JobWatch(self.client, self.what, self._doubt_none).read(cursor)

    def jobs(self) -> Iterator[tuple[int, list[Job]]]:
        """The jobs that the target takes, task by task."""
        for task in self._task_ids():
            jobs, taken, _ = self._jobs(task)
            yield task, [job for job in jobs if job.id in taken]

    def acceptance(self) -> list[Acceptance]:
        """What people made of the suggestions, in the jobs that are submitted."""
        self._forget()
        return acceptance(self._suggested_and_submitted())

    def frame_name(self, task: int, number: int) -> str:
        """A frame's name; empty where there is no such frame, which CVAT lets an issue be on."""
        return next((f.name for f in self._layout(task).frames if f.number == number), "")

    def _suggested_and_submitted(self) -> Iterator[tuple[Sequence[Suggestion], Sequence[Annotation]]]:
        for task, jobs in self.jobs():
            for job in jobs:
                suggested = by_frame(self._memory.suggestions(self._handover.place(job))) if job.is_submitted else {}
                for frame in self._layout(task).frames if suggested else ():
                    if frame.number in suggested and job in frame.jobs:
                        yield suggested[frame.number], self._content(job).on(frame)[0]

    # --- inside -----------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._labels = self._tasks = self._next = self._annotators = None
        self._layouts.clear()
        self._contents.clear()

    def _count(self, task: Row) -> int:
        """Frames of a task's jobs that the filters take."""
        if not set(self.what.filters) - {"subset"}:
            return int(task.get("size") or 0) if self.what.takes_task(task) else 0
        if not self.what.takes_task(task):
            return 0
        jobs, taken, _ = self._jobs(int(task["id"]))
        return len({n for job in jobs if job.id in taken for n in range(job.start, job.stop + 1)})

    def _task_rows(self) -> list[Row]:
        # In the wrong organization nothing is listed, and in none only what is this user's own.
        has_all = bool(self.client.organization)
        expected = 0 if has_all else _count_of(self.client.project(self.what.id), "tasks")
        rows = sorted(self.client.tasks_of(self.what.id), key=lambda t: int(t["id"]))
        if has_all and not rows:
            expected = _count_of(self.client.project(self.what.id), "tasks")
        if len(rows) < expected:
            raise self._elsewhere(f"project {self.what.id} has {expected} tasks, and CVAT lists {len(rows)} of them")
        return [t for t in rows if str(t.get("dimension") or "2d") == "2d"]

    def _task_ids(self) -> list[int]:
        """The tasks, by id."""
        if self._tasks is None and self.what.kind == "job":
            self._tasks = [read_job(self.client.job(self.what.id)).task]
        elif self._tasks is None:
            rows = self._task_rows() if self.what.kind == "project" else [self.client.task(self.what.id)]
            self._job_counts = {int(t["id"]): _count_of(t, "jobs") for t in rows}
            self._subsets = {int(t["id"]): str(t.get("subset") or "") for t in rows}
            self._tasks = [int(t["id"]) for t in rows if self.what.takes_task(t)]
        return self._tasks

    def _jobs(self, task: int) -> tuple[list[Job], set[int], bool]:
        """People's jobs by id, which of them the filters take, and whether there may be honeypots among the frames."""
        if self.what.kind == "job":
            rows = [self.client.job(self.what.id)]
        else:
            rows = list(self.client.jobs_of(task))
            # Asked again before it is believed: a ground truth job may have been deleted since the task was read.
            is_short = not rows or len(rows) < self._job_counts.get(task, 0)
            expected = _count_of(self.client.task(task), "jobs") if is_short else 0
            if len(rows) < expected:
                raise self._elsewhere(f"task {task} has {expected} jobs, and CVAT lists {len(rows)} of them")
        jobs = [read_job(row) for row in rows]
        taken = {job.id for job, row in zip(jobs, rows, strict=True) if self.what.takes_job(row)}
        # Honeypots are frames of a ground truth job, which the listing of one job does not show.
        checked = self.what.kind == "job" or not all(map(is_people_job, jobs))
        return sorted((j for j in jobs if is_people_job(j)), key=lambda j: j.id), taken, checked

    def _people_jobs(self) -> dict[int, tuple[Job, ...]]:
        """People's jobs by task, whatever the filters; of a project in one listing, where it has them all."""
        listed: dict[int, list[Job]] = {}
        counts: Counter[int] = Counter()
        if self.what.kind == "project":
            for job in map(read_job, self.client.jobs_of_project(self.what.id)):
                counts[job.task] += 1
                if is_people_job(job):
                    listed.setdefault(job.task, []).append(job)
        return {
            task: tuple(sorted(listed[task], key=lambda j: j.id))
            if task in listed and counts[task] >= self._job_counts.get(task, 0)
            else self._layout(task).jobs
            for task in self._task_ids()
        }

    def _doubt_none(self) -> None:
        """Find out why no job is listed: in the wrong organization nothing is."""
        if self.what.kind == "project":
            self._task_rows()
        else:
            expected = _count_of(self.client.task(self.what.id), "jobs")
            if expected:
                raise self._elsewhere(f"task {self.what.id} has {expected} jobs, and CVAT lists none of them")

    def _elsewhere(self, found: str) -> ConfigError:
        mine = repr(self.client.organization) if self.client.organization else "none"
        return ConfigError(
            f"{found}; the organization in the settings is {mine}",
            expected="the organization that the target is in",
            todo="Set LABELBRIDGE_CVAT_ORGANIZATION to its short name, or unset it for a private project",
        )

    def _layout(self, task: int) -> Layout:
        if task not in self._layouts:
            try:
                self._layouts[task] = self._read_layout(task)
            except NotFound:
                if self.what.kind != "project":
                    raise
                # Deleted since the project's tasks were listed, with all its work.
                self._layouts[task] = Layout((), (), frozenset())
            while len(self._layouts) > _LAYOUTS:
                self._layouts.popitem(last=False)
        return self._layouts[task]

    def _read_layout(self, task: int) -> Layout:
        jobs, taken, checked = self._jobs(task)
        hidden = {n for job in jobs for n in self.client.honeypots(job.id)} if checked else set()
        if self.what.kind == "job":
            frames = frames_of(self.client.job_meta(self.what.id), jobs[0].start if jobs else 0, jobs, hidden)
        else:
            meta = self.client.task_meta(task) if jobs else {}
            frames = frames_of(meta, 0, jobs, hidden, self._subsets.get(task, "")) if jobs else []
        return Layout(tuple(jobs), tuple(frames), frozenset(taken))

    def _frames(self, position: tuple[int, int] | None) -> Iterator[Frame]:
        """All frames behind a position that the filters take, task by task."""
        for task in self._task_ids():
            if position is None or task >= position[0]:
                for frame in self._layout(task).chosen():
                    if position is None or (task, frame.number) > position:
                        yield frame

    def _frame(self, item_id: str) -> Frame:
        """A frame with all jobs that it is in: what was scored is found again whatever became of its job."""
        place = parse_item_id(item_id)
        if place is not None and place[0] in self._task_ids():
            for frame in self._layout(place[0]).frames:
                if frame.number == place[1]:
                    return frame
        raise NotFound(f"{self.target} has no frame {item_id}", todo="It may have been deleted; score the target again")

    def _job_of(self, finding: Finding) -> Job:
        """The job that a fix goes into.

        Raises:
            InTheWay: its frame or its job is gone, or somebody is at work in it.
        """
        place = parse_item_id(finding.submission_id)
        if place is None:
            raise InTheWay("the finding is about the item, not about somebody's submission")
        try:
            frame = self._frame(finding.item_id)
        except NotFound:
            raise InTheWay(f"frame {finding.item_id} was deleted since it was scored") from None
        job = next((job for job in frame.jobs if job.id == place[0]), None)
        if job is None:
            raise InTheWay(f"frame {finding.item_id} is no longer in job {place[0]}")
        if job.is_in_work and "state" not in self.what.filters:
            who = job.assignee or "somebody"
            raise InTheWay(f"job {job.id} was taken up again since it was scored, and {who} is at work in it")
        return job

    def _size(self, item_id: str) -> Size:
        frame = self._frame(item_id)
        if frame.width is None or frame.height is None:
            raise DataError(f"CVAT does not know the size of frame {item_id}", expected="width and height in pixels")
        return frame.width, frame.height

    def _label_list(self) -> CvatLabels:
        if self._labels is None:
            self._labels = parse_labels(self.client.labels(**{f"{self.what.kind}_id": self.what.id}))
        return self._labels

    def _records(self, frames: Iterable[Frame], model: str | None) -> Iterator[Record]:
        for frame in frames:
            try:
                yield self._record(frame, model)
            except NotFound:
                if self.what.kind != "project":
                    raise
                # Deleted since its task was listed, with all its work.

    def _record(self, frame: Frame, model: str | None = None, *, any_state: bool = False) -> Record:
        any_state = any_state or "state" in self.what.filters or "stage" in self.what.filters
        submissions: list[Submission] = []
        problems: list[Problem] = []
        for job in frame.jobs:
            if job.is_submitted or any_state:
                annotations, wrong = self._content(job).on(frame)
                submissions.append(Submission(f"{job.id}/{frame.number}", self._annotator(job), annotations))
                problems += wrong
        is_done = model is not None and not any(self._takes(job, frame.number, model) for job in frame.jobs)
        predicted_by = (model,) if model is not None and is_done else ()
        return Record(frame.item, tuple(submissions), problems=tuple(problems), predicted_by=predicted_by)

    def _annotator(self, job: Job) -> str:
        return self._handover.annotator(job, self._remembered())

    def _remembered(self) -> Mapping[str, str]:
        """Who annotated the jobs that are in review."""
        if self._annotators is None:
            self._annotators = self._memory.annotators()
        return self._annotators

    def _takes(self, job: Job, frame: int, model: str) -> bool:
        if not takes_suggestions(job):
            return False
        content = self._content(job)
        if content.suggested is None:
            content.suggested = by_frame(self._memory.suggestions(self._handover.place(job)))
        return takes(frame, content.standing, content.suggested, model)

    def _content(self, job: Job) -> JobContent:
        if job.id not in self._contents:
            frames = {f.number: f for f in self._layout(job.task).frames}
            self._contents[job.id] = JobContent(job, self.client.annotations(job.id), frames, self._label_list())
            while len(self._contents) > _JOBS:
                self._contents.popitem(last=False)
        return self._contents[job.id]


def _count_of(row: Row, what: str) -> int:
    """How many ``tasks`` a project has, or ``jobs`` a task, whoever may list them; 0 where CVAT does not say."""
    counted = row.get(what)
    return int(counted.get("count") or 0) if isinstance(counted, dict) else 0
