"""Findings as CVAT's issues, and what people do with those as verdicts.

One issue per finding, pinned to a rectangle around it. CVAT ties no issue to a shape, so the finding's id stands in the
last line of its first comment, in brackets, with the object and how it was: that line finds it again.

How answers are read, the latest comment first: one that begins with ``accept`` (also ``yes``, ``ok``, ``agree``,
``right``, ``true``) is an accept, ``reject`` (``no``, ``disagree``, ``wrong``, ``false``) a reject; other comments are
conversation. An issue that was resolved without such a word is judged by what became of the object: changed, deleted or
drawn by hand since the scoring is an edit, and unchanged a reject.

An issue in which nobody has said anything is withdrawn with a comment, and resolved: that is no answer. Pushed again,
it is open again, with the question as a new comment. Only what was said since the last question counts.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bridge.core.annotations import Annotation, Box, Polygon, Shape, Xyxy
from bridge.core.findings import Decision, Finding, Fix, Verdict
from bridge.core.geometry import clip_to_image, iou_matrix
from bridge.core.moments import parse_moment
from bridge.core.objects import outline_envelope
from bridge.dialects.cvat_labels import CvatLabels
from bridge.dialects.cvat_shapes import FrameObjects, outer, read_frame, split_frames
from bridge.dialects.cvat_tracks import read_tracks
from bridge.errors import AuthError, DataError, ToolError
from bridge.tools import PushedCase, ReviewCase
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_handover import Handover
from bridge.tools.cvat_layout import Frame, Job, parse_item_id
from bridge.tools.fix_rules import SAME_OBJECT_IOU
from bridge.tools.questions import title_of

_MARK = re.compile(
    r"\[labelbridge ([0-9a-f]{16})(?: (shape:\d+|track:\d+@\d+) ([0-9a-f]{16})| new ([\d.,-]+)(?: beside ([\d,]+))?)?\]"
)
_WORDS: Mapping[str, Decision] = {
    **dict.fromkeys(("accept", "accepted", "yes", "ok", "okay", "agree", "agreed", "right", "true"), "accept"),
    **dict.fromkeys(("reject", "rejected", "no", "disagree", "wrong", "false"), "reject"),
}
_JOBS_AT_ONCE = 100
_WITHDRAWN = "[labelbridge withdrawn]"
_FAREWELL = f"This is no longer suspected, or it was decided elsewhere: nobody has to judge it.\n{_WITHDRAWN}"
_MARGIN_PX = 3.0
_EFFECTS = {
    "add": "Accept adds {new} at {where}.",
    "delete": "Accept deletes the {old}.",
    "relabel": "Accept makes it {new}.",
    "reshape": "Accept moves it to {where}.",
    "none": "Accept confirms that something is wrong here.",
}
_EFFECTS_ON_TRACKS = {
    **_EFFECTS,
    "delete": "Accept takes the {old} off this frame, and off no other of its track.",
    "relabel": "Accept makes it {new}, on all frames of its track.",
    "reshape": "Accept moves it to {where} on this frame, and towards there on those around it.",
}


@dataclass(frozen=True, slots=True)
class MarkedIssue:
    """An issue that was made for a finding.

    ``mark`` is in the comment that asked last; ``comments`` are what was said since.
    """

    row: Row
    mark: re.Match[str]
    comments: tuple[Row, ...]
    is_withdrawn: bool = False

    @property
    def finding_id(self) -> str:
        return self.mark[1]

    @property
    def is_touched(self) -> bool:
        """Whether somebody has said something, or resolved it."""
        return bool(self.comments) or (self.row.get("resolved") is True and not self.is_withdrawn)


class IssueDesk:
    """The issues of a CVAT.

    Args:
        labels: gives the label list; asked only for issues that were resolved without a word.
        user_id: gives the number of a user, for issues that somebody in particular is to judge.
    """

    def __init__(self, client: CvatClient, labels: Callable[[], CvatLabels], user_id: Callable[[str], int]) -> None:
        self._client = client
        self._labels = labels
        self._user_id = user_id

    def push(
        self, cases: Sequence[ReviewCase], frames: Mapping[str, Frame], handover: Handover | None = None
    ) -> list[PushedCase]:
        """Make an issue of every case that has none yet; one request for each, and one or two to read a hundred jobs.

        Args:
            frames: by item id.
            handover: brings a job to its reviewer before its first issue is made; None: jobs stay where they are.

        Raises:
            DataError: a case's frame is not in its job any more.
            ToolError: the user may not make issues there.
        """
        jobs = [_job_of(case, frames[case.item.id]) for case in cases]
        # Of two about one finding in one job, the older one.
        held = {
            job: {m.finding_id: m for m in reversed(marked)}
            for job, marked in self._marked(sorted({job.id for job in jobs}))
        }
        numbers = {name: int(m.row["id"]) for mine in held.values() for name, m in mine.items() if not m.is_withdrawn}
        handed: set[int] = set()
        pushed: list[PushedCase] = []
        for case, job in zip(cases, jobs, strict=True):
            frame, finding = frames[case.item.id], case.finding
            if finding.id not in numbers:
                if handover is not None and job.id not in handed:
                    handover.to_review(job, case.reviewer)
                    handed.add(job.id)
                old = held.get(job.id, {}).get(finding.id)
                numbers[finding.id] = self._ask_again(old, case) if old else self._create(job, frame, case)
            url = f"{self._client.url}/tasks/{job.task}/jobs/{job.id}?frame={frame.number}"
            pushed.append(PushedCase(finding.id, str(numbers[finding.id]), url))
        return pushed

    def withdraw(self, jobs: Sequence[int], finding_ids: Collection[str], keep: Collection[str] = ()) -> set[str]:
        """Resolve the issues of findings in which nobody has said anything: two requests to read a hundred jobs, four
        for each issue. The ids of those that stand in no open issue now."""
        kept: set[str] = set()
        for _, issues in self._marked(jobs if finding_ids else ()):
            for marked in issues:
                if marked.finding_id not in finding_ids or (marked.is_withdrawn and marked.row.get("resolved")):
                    continue
                if str(marked.row["id"]) in keep or marked.is_touched or not self._withdraw(int(marked.row["id"])):
                    kept.add(marked.finding_id)
        return set(finding_ids) - kept

    def _withdraw(self, number: int) -> bool:
        """Resolve an issue as it is just now: those before it may have taken their time, and people work meanwhile."""
        row = self._client.issue(number)
        marked = _marked_issue(row, sorted(self._client.comments(issue_id=number), key=lambda c: int(c["id"])))
        if marked.is_touched:
            return False
        if not marked.is_withdrawn:
            self._client.create_comment(number, _FAREWELL)
        self._client.resolve_issue(number, True)
        return True

    def verdicts(self, jobs: Sequence[int], since: str | None) -> Iterator[Verdict]:
        """The answers in the issues of some jobs, changed at or after ``since``."""
        start = None if since is None else parse_moment(since)
        for job, issues in self._marked(jobs):
            content = functools.cache(functools.partial(self._content, job, {int(i.row["frame"]) for i in issues}))
            for marked in issues:
                verdict = read_verdict(marked) or read_resolution(marked, content)
                if verdict is not None and (start is None or parse_moment(verdict.decided_at) >= start):
                    yield verdict

    def _create(self, job: Job, frame: Frame, case: ReviewCase) -> int:
        try:
            for_whom = {"assignee": self._user_id(case.reviewer)} if case.reviewer else {}
            place = position(case.finding, frame)
            made = self._client.create_issue(job.id, frame.number, place, message(case), **for_whom)
        except AuthError as error:
            raise ToolError(
                f"no issue can be made in job {job.id}: {error.found}",
                expected="its assignee, the owner or assignee of its task or project, or a maintainer"
                + ("; outside an organization only an administrator may assign others" if case.reviewer else ""),
                todo="Push as such a user; an organization's maintainer may do all that labelbridge does",
            ) from None
        return int(made["id"])

    def _ask_again(self, old: MarkedIssue, case: ReviewCase) -> int:
        # In this order: resolved, and asked since, it would say that somebody has resolved it.
        number = int(old.row["id"])
        self._client.resolve_issue(number, False)
        self._client.create_comment(number, message(case))
        return number

    def _content(self, job: int, frames: Collection[int]) -> dict[int, list[Annotation]]:
        """A job's objects on some frames, as they are now; masks, which no finding is about, are left out."""
        answer, labels = self._client.annotations(job), self._labels()
        objects, _ = split_frames(answer)
        found = {n: list(read_frame(objects.get(n, FrameObjects()), labels, None).annotations) for n in frames}
        for one in read_tracks(answer.get("tracks"), frames, labels, lambda _: None).objects:
            found[one.frame].append(one.annotation)
        return found

    def _marked(self, jobs: Sequence[int]) -> Iterator[tuple[int, list[MarkedIssue]]]:
        """The issues that belong to findings, oldest first, of each job that has any: two requests for each hundred."""
        for start in range(0, len(jobs), _JOBS_AT_ONCE):
            some = jobs[start : start + _JOBS_AT_ONCE]
            comments: dict[int, list[Row]] = {}
            for comment in self._client.comments_in(some):
                comments.setdefault(int(comment["issue"]), []).append(comment)
            for said in comments.values():
                said.sort(key=lambda c: int(c["id"]))
            ours = {issue for issue, said in comments.items() if _MARK.search(str(said[0].get("message")))}
            found: dict[int, list[MarkedIssue]] = {}
            for row in sorted(self._client.issues_in(some), key=lambda i: int(i["id"])) if ours else ():
                if int(row["id"]) in ours:
                    found.setdefault(int(row["job"]), []).append(_marked_issue(row, comments[int(row["id"])]))
            yield from ((job, found[job]) for job in some if job in found)


def _marked_issue(row: Row, said: Sequence[Row]) -> MarkedIssue:
    """An issue with what was said in it, in order; the first comment asks."""
    asked, mark, is_withdrawn = 0, _MARK.search(str(said[0].get("message"))), False
    for number, comment in enumerate(said):
        text = str(comment.get("message"))
        found = _MARK.search(text)
        if found or _WITHDRAWN in text:
            asked, mark, is_withdrawn = number, found or mark, not found
    assert mark is not None
    return MarkedIssue(row, mark, tuple(said[asked + 1 :]), is_withdrawn)


def read_verdict(issue: MarkedIssue) -> Verdict | None:
    """The latest decision that somebody wrote into an issue; None where nobody has."""
    for comment in reversed(issue.comments):
        word = re.match(r"\W*([a-z]+)", str(comment.get("message")).casefold())
        decision = _WORDS.get(word[1]) if word else None
        if decision is not None:
            owner = comment.get("owner")
            return Verdict(
                finding_id=issue.finding_id,
                decision=decision,
                reviewer=str(owner.get("username")) if isinstance(owner, dict) else "unknown",
                decided_at=str(comment.get("updated_date") or comment.get("created_date")),
                source=f"issue {issue.row['id']}, comment {comment['id']}",
            )
    return None


def read_resolution(issue: MarkedIssue, content: Callable[[], Mapping[int, Sequence[Annotation]]]) -> Verdict | None:
    """What somebody meant who resolved an issue without a word; None where it is open.

    Args:
        content: the objects of the issue's job by frame, as they are now.
    """
    if issue.row.get("resolved") is not True or issue.is_withdrawn:
        return None
    _, annotation_id, revision, corners, beside = issue.mark.groups()
    here = content().get(int(issue.row["frame"]), ())
    fix: Fix | None = None
    if annotation_id:
        now = next((a for a in here if a.id == annotation_id), None)
        if now is None:
            fix = Fix("delete")
        elif now.revision != revision:
            fix = Fix("reshape", now.label, now.shape)
    elif corners:
        known = {f"shape:{number}" for number in (beside or "").split(",")}
        others = [a for a in here if a.id not in known and not a.id.startswith("track:")]
        drawn = _most_alike(Box(*map(float, corners.split(","))), others)
        fix = Fix("add", drawn.label, drawn.shape) if drawn else None
    assignee = issue.row.get("assignee")
    return Verdict(
        finding_id=issue.finding_id,
        decision="reject" if fix is None else "edit",
        reviewer=str(assignee.get("username")) if isinstance(assignee, dict) else "unknown",
        decided_at=str(issue.row.get("updated_date") or issue.row.get("created_date")),
        source=f"issue {issue.row['id']}",
        fix=fix,
    )


def _most_alike(box: Box, objects: Sequence[Annotation]) -> Annotation | None:
    """The box that overlaps a suggested one enough to be the same object."""
    boxes = [(o, o.shape) for o in objects if isinstance(o.shape, Box) and not o.shape.problem()]
    if not boxes:
        return None
    ious = iou_matrix(np.array([box.xyxy]), np.array([s.xyxy for _, s in boxes]))[0]
    best = int(ious.argmax())
    return boxes[best][0] if ious[best] >= SAME_OBJECT_IOU else None


def message(case: ReviewCase) -> str:
    """The first comment: what is suspected, why, what accepting does, and how to answer."""
    finding = case.finding
    shape = finding.fix.shape
    place = "this place"
    around = None if shape is None else _around(shape)
    if around is not None:
        place = "({:.0f}, {:.0f}) to ({:.0f}, {:.0f})".format(*around)
    effects = _EFFECTS_ON_TRACKS if any(i.startswith("track:") for i in finding.annotation_ids) else _EFFECTS
    words = {"new": repr(finding.fix.label or finding.label), "old": repr(finding.label), "where": place}
    return "\n".join(
        (
            f"{title_of(finding)} ({finding.score:.0%})",
            f"{finding.reason} {effects[finding.fix.action].format(**words)}",
            'Answer with a comment "accept" or "reject"; or correct it yourself, then resolve the issue.',
            f"[labelbridge {finding.id}{_subject(case)}]",
        )
    )


def _subject(case: ReviewCase) -> str:
    """What tells later whether somebody acted: the object and how it was, or where one is missing beside which."""
    finding = case.finding
    is_one = len(finding.annotation_ids) == len(finding.revisions) == 1
    if is_one and finding.annotation_ids[0].startswith(("shape:", "track:")):
        return f" {finding.annotation_ids[0]} {finding.revisions[0]}"
    if finding.fix.action == "add" and isinstance(finding.fix.shape, Box):
        there = [a.id.removeprefix("shape:") for a in case.context if a.id.startswith("shape:")]
        place = ",".join(f"{n:.1f}" for n in finding.fix.shape.xyxy)
        return f" new {place}" + (f" beside {','.join(there)}" if there else "")
    return ""


def position(finding: Finding, frame: Frame) -> list[float]:
    """Opposite corners of a rectangle around all that the finding is about, in pixels; the whole frame without any.

    Raises:
        DataError: there is neither a shape nor a known size of the frame.
    """
    shapes = (finding.fix.shape, finding.current_shape)
    boxes = [box for shape in shapes if shape is not None and (box := _around(shape)) is not None]
    if not boxes and not (frame.width and frame.height):
        raise DataError(f"nothing says where on frame {frame.number} of task {frame.task} finding {finding.id} is")
    if not boxes:
        return [0.0, 0.0, float(frame.width or 0), float(frame.height or 0)]
    corners = np.array(boxes)
    around = np.array([[*(corners[:, :2].min(0) - _MARGIN_PX), *(corners[:, 2:].max(0) + _MARGIN_PX)]])
    if frame.width and frame.height:
        around = clip_to_image(around, frame.width, frame.height)
    return [round(float(n), 1) for n in around[0]]


def _around(shape: Shape) -> Xyxy | None:
    return outer(shape) if isinstance(shape, Box | Polygon) else outline_envelope(shape)


def _job_of(case: ReviewCase, frame: Frame) -> Job:
    """The job whose work the finding is about; where it is about the frame, the first one."""
    place = parse_item_id(case.finding.submission_id)
    if place is None:
        return frame.jobs[0]
    for job in frame.jobs:
        if job.id == place[0]:
            return job
    raise DataError(
        f"frame {frame.number} of task {frame.task} is no longer in job {place[0]}",
        todo="Score the target again",
    )
