"""Findings drawn into CVAT's own review page: dashed suggestions over the work, and a marker at each conflict.

CVAT shows a task's ground truth beside the work of people. So each task gets a ground truth job of ours with the
flagged frames, which holds how they would be labelled if every finding were accepted; it is accepted and completed, and
a quality report is asked for, whose conflicts are the markers.

A task has one ground truth job at most, so where there is one that is not ours, or whose objects somebody has changed,
nothing is written. How ours is known: :mod:`bridge.tools.cvat_overlay_journal`. What was decided meanwhile stays drawn
until the ground truth job and the journal's issue are deleted by hand; what was withdrawn is drawn as it is labelled.
The objects around are drawn as they are at each push.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.core.moments import parse_moment
from bridge.dialects.cvat_labels import CvatLabels
from bridge.dialects.cvat_new_shapes import NewObject, create_body
from bridge.dialects.cvat_shapes import entry_revision
from bridge.errors import AuthError, ToolError, ToolUnreachable
from bridge.tools import ReviewCase
from bridge.tools.cvat_client import CvatClient, RequestState, Row
from bridge.tools.cvat_layout import Job, frames_of, is_people_job, parse_item_id, read_job
from bridge.tools.cvat_overlay_content import SOURCE, as_accepted
from bridge.tools.cvat_overlay_journal import DrawnFix, Journal, chapter_text, drawn_fix, erasure_text, read_journal

_OBJECTS = 2000
"""Objects that one request creates or deletes."""
_DONE = {"stage": "acceptance", "state": "completed"}
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 10.0


@dataclass(slots=True)
class _Task:
    """One task as it is found, and as it becomes.

    Attributes:
        people: the jobs that people annotate in, by id; the first one has the journal.
        truth: our ground truth job; None where there is none.
        included: its frames, as CVAT counts them in what was uploaded.
        has: the tags and shapes in it.
    """

    id: int
    people: list[Job]
    meta: Row
    journal: Journal
    truth: Row | None = None
    included: list[int] = field(default_factory=list)
    has: list[NewObject] = field(default_factory=list)


class Overlay:
    """The overlays of one CVAT.

    Args:
        labels: gives the label list of the target.
        patience_s: how long CVAT may take to make a quality report.
        sleep: replaced in tests.
    """

    def __init__(
        self,
        client: CvatClient,
        labels: Callable[[], CvatLabels],
        *,
        patience_s: float = 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._labels = labels
        self._patience_s = patience_s
        self._sleep = sleep

    def check(self, tasks: Iterable[int]) -> None:
        """Make sure that nothing stands in the way of an overlay; reads only.

        Raises:
            ToolError: a task has a ground truth job (with honeypots or without) that is not ours, or in which somebody
                has worked.
        """
        for task in sorted(set(tasks)):
            self._look(task)

    def draw(self, cases: Sequence[ReviewCase]) -> tuple[str, ...]:
        """Draw findings over the tasks that they are about; those that are drawn already cost no writing request.

        Where a frame is in several jobs, it is drawn as in the job of the finding that was drawn first, and findings
        about other jobs are not drawn there; neither are findings without a fix, or about tags.

        Returns:
            What a person should know about tasks that have the suggestions, but no markers: one sentence each.

        Raises:
            ToolError: as :meth:`check`, before anything is written; or the user may not draw overlays, or CVAT failed.
                What was written by then is found to be there by the next attempt.
        """
        by_task: dict[int, list[DrawnFix]] = {}
        for case in cases:
            place, suggestion = parse_item_id(case.finding.item_id), drawn_fix(case.finding)
            if place is not None and suggestion is not None:
                by_task.setdefault(place[0], []).append(suggestion)
        tasks = [self._look(task) for task in sorted(by_task)]
        return tuple(note for task in tasks for note in self._draw(task, by_task[task.id]))

    def erase(self, first_jobs: Mapping[int, int], finding_ids: Collection[str]) -> tuple[str, ...]:
        """Draw findings no longer, where they are drawn; one request for a task without any of them.

        Args:
            first_jobs: by task, the first job that people annotate in.

        Returns:
            What a person should know of tasks where they stay drawn, or that show no markers: one sentence each.

        Raises:
            ToolError: the user may not draw overlays, or CVAT failed.
        """
        notes: list[str] = []
        for number, job in sorted(first_jobs.items()) if finding_ids else ():
            journal = read_journal(self._client.comments(job_id=job))
            if not {s.finding_id for s in journal.everything} & set(finding_ids):
                continue
            try:
                task = self._look(number)
            except (AuthError, ToolUnreachable):
                raise
            except ToolError as error:
                notes.append(f"Task {number} still shows suggestions that were withdrawn: {error.found}.")
                continue
            gone = sorted({s.finding_id for s in journal.suggestions} & set(finding_ids))
            if gone and journal.issue is not None:
                self._client.create_comment(journal.issue, erasure_text(gone))
                task.journal = task.journal.without(gone)
            notes += self._draw(task, ()) if task.truth is not None else ()
        return tuple(notes)

    def _look(self, number: int) -> _Task:
        """Read what a task has; see :meth:`check`."""
        rows = {int(row["id"]): row for row in self._client.jobs_of(number)}
        jobs = [read_job(rows[i]) for i in sorted(rows)]
        people = [job for job in jobs if is_people_job(job)]
        if not people:
            raise ToolError(f"CVAT lists no jobs of task {number}", todo="Check the organization in the settings")
        journal = read_journal(self._client.comments(job_id=people[0].id))
        task = _Task(number, people, self._client.task_meta(number), journal)
        for job in jobs:
            if not is_people_job(job):
                self._require_ours(task, job.id)
                task.truth = rows[job.id]
        return task

    def _require_ours(self, task: _Task, job: int) -> None:
        """Read a ground truth job, which must be ours and untouched."""
        task.included = sorted(int(n) for n in self._client.job_meta(job).get("included_frames") or [])
        if not any(task.included == _source_frames(task.meta, frames) for frames in task.journal.frame_sets):
            raise ToolError(
                f"task {task.id} has a ground truth job already, {job}, which is not labelbridge's",
                expected="a task without ground truth and honeypots: CVAT has room for one such job, and the overlay "
                "needs it",
                todo="Use --mode issues. Nothing was written",
            )
        answer = self._client.annotations(job)
        task.has = [NewObject("tags", row) for row in answer.get("tags") or []]
        task.has += [NewObject("shapes", row) for row in answer.get("shapes") or []]
        foreign = sum(one.body.get("source") != SOURCE for one in task.has) + len(answer.get("tracks") or [])
        if foreign:
            raise ToolError(
                f"somebody has drawn or changed {foreign} object{'s'[: foreign != 1]} in job {job}, the ground truth "
                f"that labelbridge made for its overlay of task {task.id}",
                expected="only what labelbridge drew",
                todo="Use --mode issues; or delete that job, and push again. Nothing was written",
            )

    def _draw(self, task: _Task, suggestions: Sequence[DrawnFix]) -> list[str]:
        known = {s.finding_id for s in task.journal.suggestions}
        chapter = list({s.finding_id: s for s in suggestions if s.finding_id not in known}.values())
        journal_is_new = task.journal.issue is None
        try:
            if chapter:
                self._write_down(task, chapter)
            truth = self._job_for(task, journal_is_new=journal_is_new)
            self._fill(task, truth)
            row = self._client.job(truth)
            if any(row.get(key) != value for key, value in _DONE.items()):
                row = self._client.patch_job(truth, _DONE)
        except AuthError as error:
            raise ToolError(
                f"the overlay of task {task.id} cannot be drawn: {error.found}",
                expected="an administrator, a maintainer of the organization, or a supervisor in it who is the owner "
                "or assignee of the task or its project; outside of organizations that owner or assignee",
                todo="Push as such a user, or use --mode issues",
            ) from None
        try:
            self._report(task.id, row)
        except AuthError as error:
            return [
                f"Task {task.id} shows the suggestions without conflict markers, for its quality report was refused: "
                f"{error.found}. Older versions of CVAT make one for administrators only."
            ]
        return []

    def _write_down(self, task: _Task, chapter: Sequence[DrawnFix]) -> None:
        issue = task.journal.issue
        text = chapter_text(chapter, is_first=issue is None)
        if issue is None:
            home = task.people[0]
            issue = int(self._client.create_issue(home.id, home.start, [0.0, 0.0], text, resolved=True)["id"])
        else:
            self._client.create_comment(issue, text)
        task.journal = task.journal.with_chapter(issue, chapter)

    def _job_for(self, task: _Task, *, journal_is_new: bool) -> int:
        """Our ground truth job, with all frames of the journal: it is made, or made again where there are more now.

        Args:
            journal_is_new: whether the journal was begun just now, and goes again where no such job may be made.
        """
        frames = _source_frames(task.meta, task.journal.frames)
        if task.truth is not None:
            job = int(task.truth["id"])
            if task.included == frames:
                return job
            _require_no_issues(task.id, task.truth)
            self._client.delete_job(job)
            task.has = []
        try:
            return int(self._client.create_truth(task.id, frames)["id"])
        except AuthError:
            if journal_is_new and task.journal.issue is not None:
                self._client.delete_issue(task.journal.issue)
            raise

    def _fill(self, task: _Task, truth: int) -> None:
        """Delete and create what differs; what is right is not written again."""
        labels = self._labels()
        wanted, there = _by_content(self._wanted(task, labels), labels), _by_content(task.has, labels)
        gone = [one for key, objects in there.items() for one in objects[len(wanted.get(key, ())) :]]
        new = [one for key, objects in wanted.items() for one in objects[len(there.get(key, ())) :]]
        for action, objects in (("delete", gone), ("create", new)):
            for start in range(0, len(objects), _OBJECTS):
                self._client.patch_annotations(truth, action, create_body(objects[start : start + _OBJECTS]))

    def _wanted(self, task: _Task, labels: CvatLabels) -> list[NewObject]:
        """What the ground truth job has to hold, as the jobs of people are now."""
        frames = {f.number: f for f in frames_of(task.meta, 0, task.people)}
        drawn_as: dict[int, int] = {}
        for suggestion in task.journal.everything:
            frame = frames.get(suggestion.frame)
            if frame is not None and suggestion.job in [job.id for job in frame.jobs]:
                drawn_as.setdefault(frame.number, suggestion.job)
        objects: list[NewObject] = []
        for job in sorted(set(drawn_as.values())):
            mine = [frames[n] for n, of in drawn_as.items() if of == job]
            about = [s for s in task.journal.suggestions if s.job == job]
            objects += as_accepted(self._client.annotations(job), mine, about, labels)
        return objects

    def _report(self, task: int, truth: Row) -> None:
        """Make sure that there is a quality report of what the ground truth job holds now."""
        waited, pause = 0.0, _PAUSE_S
        while not self._is_reported(task, truth):
            request, state = self._client.start_quality_report(task), "running"
            while state == "running":
                if waited >= self._patience_s:
                    raise ToolError(
                        f"CVAT has not made the quality report of task {task} within {self._patience_s:.0f} s",
                        expected="that its worker for quality reports is running",
                        todo="Look at CVAT's service cvat_worker_quality_reports, then push again",
                    )
                self._sleep(pause)
                waited, pause = waited + pause, min(pause * 2, _LONGEST_PAUSE_S)
                state = self._state_of(task, request)
            if state == "done":
                return

    def _state_of(self, task: int, request: str) -> RequestState:
        """How our request gets on; unknown where it is another's, or done and forgotten."""
        state, said = self._client.request_state(request) if request else ("unknown", "")
        if request and state == "unknown":
            state, said = self._client.quality_report_state(request)
        if state == "failed":
            raise ToolError(
                f"CVAT could not make the quality report of task {task}: {said or 'it does not say why'}",
                todo="Look at the log of CVAT's service cvat_worker_quality_reports, then push again",
            )
        return state

    def _is_reported(self, task: int, truth: Row) -> bool:
        seen = [str(r["gt_last_updated"]) for r in self._client.quality_reports(task) if r.get("gt_last_updated")]
        return any(parse_moment(text) >= parse_moment(str(truth["updated_date"])) for text in seen)


def _require_no_issues(task: int, truth: Row) -> None:
    """Deleting the job would delete them too."""
    issues = truth.get("issues")
    count = issues.get("count") if isinstance(issues, Mapping) else 0
    if count:
        raise ToolError(
            f"job {truth['id']}, the ground truth that labelbridge made for its overlay of task {task}, has to be made "
            f"again for further frames, and there are issues in it: {count}",
            expected="issues in the jobs of people",
            todo="Delete those issues, and push again",
        )


def _by_content(objects: Iterable[NewObject], labels: CvatLabels) -> dict[tuple[str, int, str], list[NewObject]]:
    """Objects by all that makes two of them the same to CVAT's users."""
    found: dict[tuple[str, int, str], list[NewObject]] = {}
    for one in objects:
        found.setdefault((one.place, int(one.body["frame"]), entry_revision(one.body, labels)), []).append(one)
    return found


def _source_frames(meta: Row, frames: Iterable[int]) -> list[int]:
    """Frames of a task by their numbers in what was uploaded, of which it may leave some out."""
    step = re.search(r"step\s*=\s*(\d+)", str(meta.get("frame_filter") or ""))
    first = int(meta.get("start_frame") or 0)
    return sorted(first + n * (int(step[1]) if step else 1) for n in frames)
