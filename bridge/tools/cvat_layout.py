"""How a CVAT task is laid out: its frames, and the jobs that they are in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from bridge.core.annotations import Item
from bridge.core.splits import split_name
from bridge.errors import ToolError

Row = Mapping[str, Any]

_SUBMITTED_STAGES = ("validation", "acceptance")


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of a task that one person annotates.

    Attributes:
        start, stop: its first and last frame, both included.
        type: ``annotation``; one of several annotators of the same frames works in a ``replica``.
        assignee: the user's name; empty where nobody is assigned.
    """

    id: int
    task: int
    start: int
    stop: int
    type: str
    stage: str
    state: str
    assignee: str

    @property
    def is_submitted(self) -> bool:
        """Whether its annotator is done with it: completed, or past the stage of annotation and not sent back."""
        return self.state == "completed" or (self.stage in _SUBMITTED_STAGES and self.state != "rejected")

    @property
    def is_in_work(self) -> bool:
        """Whether its annotator is at it: CVAT sets the state when they begin."""
        return self.stage == "annotation" and self.state == "in progress"

    @property
    def annotator(self) -> str:
        return self.assignee or f"job {self.id}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: ``name`` is the file's without folders; ``width`` and ``height`` are in pixels where CVAT knows them.

    ``jobs`` are those that it is in, by id; ``split`` is the task's subset.
    """

    task: int
    number: int
    name: str
    width: int | None
    height: int | None
    jobs: tuple[Job, ...]
    split: str = ""

    @property
    def size(self) -> tuple[int, int] | None:
        return (self.width, self.height) if self.width and self.height else None

    @property
    def item(self) -> Item:
        name = item_id(self.task, self.number)
        return Item(name, self.name, frame_reference(self), self.width, self.height, self.split)


@dataclass(frozen=True, slots=True)
class Layout:
    """The people's jobs of a task by id, its frames in order, and the ids of the jobs that the target's filters take.

    The filters choose what is judged. What was judged is found again in all jobs: a review moves them to other states
    and other people.
    """

    jobs: tuple[Job, ...]
    frames: tuple[Frame, ...]
    taken: frozenset[int]

    def chosen(self) -> Iterator[Frame]:
        """The frames of the jobs that are taken, with those jobs only."""
        for frame in self.frames:
            jobs = tuple(job for job in frame.jobs if job.id in self.taken)
            if jobs:
                yield frame if len(jobs) == len(frame.jobs) else replace(frame, jobs=jobs)


def item_id(task: int, frame: int) -> str:
    return f"{task}/{frame}"


def job_url(server: str, job: Job) -> str:
    """A job in a browser."""
    return f"{server}/tasks/{job.task}/jobs/{job.id}"


def parse_item_id(text: str) -> tuple[int, int] | None:
    """Task and frame; None where it is no such id."""
    task, _, frame = text.partition("/")
    return (int(task), int(frame)) if task.isdecimal() and frame.isdecimal() else None


def frame_reference(frame: Frame) -> str:
    return f"jobs/{frame.jobs[0].id}/frames/{frame.number}"


def parse_frame_reference(text: str) -> tuple[int, int] | None:
    """Job and frame; None where it is no such reference."""
    parts = text.split("/")
    fits = len(parts) == 4 and parts[0] == "jobs" and parts[2] == "frames"
    return (int(parts[1]), int(parts[3])) if fits and parts[1].isdecimal() and parts[3].isdecimal() else None


def read_job(row: Row) -> Job:
    """A job as CVAT gives it.

    Raises:
        ToolError: a field that every CVAT has is missing.
    """
    assignee = row.get("assignee")
    try:
        return Job(
            id=int(row["id"]),
            task=int(row["task_id"]),
            start=int(row["start_frame"]),
            stop=int(row["stop_frame"]),
            type=str(row.get("type") or "annotation"),
            stage=str(row.get("stage") or "annotation"),
            state=str(row.get("state") or "new"),
            assignee=str(assignee.get("username") or "") if isinstance(assignee, dict) else "",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ToolError(
            f"CVAT gave a job without a usable {error}",
            expected="id, task_id, start_frame and stop_frame",
            todo="Check that this is CVAT 2.15 or later",
        ) from None


def is_people_job(job: Job) -> bool:
    """Whether people annotate in it. A ground truth job is what others are held against, and is left alone."""
    return job.type != "ground_truth"


def frames_of(
    meta: Row, first: int, jobs: Sequence[Job], left_out: Iterable[int] = (), subset: str = ""
) -> list[Frame]:
    """The frames of one task that are in any of ``jobs``, in order; deleted ones and those ``left_out`` are not among
    them.

    A video has one name for all its frames, which get their number behind it.

    Args:
        meta: of the task, or of a job.
        first: the number of the frame that comes first in it.
        subset: of the task.
    """
    entries = meta.get("frames")
    entries = entries if isinstance(entries, list) else []
    gone = {*_numbers(meta.get("deleted_frames")), *left_out}
    here: dict[int, list[Job]] = {}
    for job in sorted(jobs, key=lambda j: j.id):
        for number in range(job.start, job.stop + 1):
            if number not in gone:
                here.setdefault(number, []).append(job)
    is_video = len(entries) == 1 and int(meta.get("size") or 1) > 1
    frames = []
    for number in sorted(here):
        index = 0 if is_video else number - first
        entry = entries[index] if 0 <= index < len(entries) and isinstance(entries[index], dict) else {}
        task = here[number][0].task
        name = PurePosixPath(str(entry.get("name") or "")).name or f"task {task}"
        known = bool(entry.get("name")) and not is_video
        frames.append(
            Frame(
                task=task,
                number=number,
                name=name if known else f"{name} #{number}",
                width=_pixels(entry.get("width")),
                height=_pixels(entry.get("height")),
                jobs=tuple(here[number]),
                split=split_name(subset),
            )
        )
    return frames


def _numbers(value: object) -> Sequence[int]:
    return [n for n in value if isinstance(n, int)] if isinstance(value, list) else []


def _pixels(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
