"""What one job of CVAT holds, as it was read at one time."""

from __future__ import annotations

from typing import Any

from bridge.core.annotations import Annotation, Problem
from bridge.dialects.cvat_labels import CvatLabels
from bridge.dialects.cvat_shapes import FrameObjects, read_frame, split_frames
from bridge.dialects.cvat_tracks import TrackedObject, read_tracks
from bridge.tools.cvat_client import Row
from bridge.tools.cvat_layout import Frame, Job
from bridge.tools.cvat_suggestions import Remembered, standing


class JobContent:
    """What a job holds, by frame.

    Attributes:
        standing: see :func:`bridge.tools.cvat_suggestions.standing`.
        suggested: what is remembered, by frame; None until it is asked for.
    """

    def __init__(self, job: Job, answer: Row, frames: dict[int, Frame], labels: CvatLabels) -> None:
        self._job = job
        self._labels = labels
        self.suggested: Remembered | None = None
        own = [n for n in range(job.start, job.stop + 1) if n in frames]
        sizes = {n: frames[n].size for n in own}
        self.standing = standing(answer, job, labels, sizes)
        self._objects, self._astray = split_frames(answer, range(job.start, job.stop + 1))
        self._first = own[0] if own else job.start
        read = read_tracks(answer.get("tracks"), own, labels, lambda n: sizes.get(n))
        self._tracked: dict[int, list[TrackedObject]] = {}
        for one in read.objects:
            self._tracked.setdefault(one.frame, []).append(one)
        self._track_problems = read.problems

    def on(self, frame: Frame) -> tuple[tuple[Annotation, ...], list[Problem]]:
        """The objects on a frame, and what is wrong with them; what belongs to no frame is told with the first."""
        submission = f"{self._job.id}/{frame.number}"
        here = read_frame(self._objects.get(frame.number, FrameObjects()), self._labels, frame.size, submission)
        tracked = tuple(one.annotation for one in self._tracked.get(frame.number, ()))
        is_first = frame.number == self._first
        loose: list[Any] = [p for n, p in self._track_problems if n == frame.number or (n is None and is_first)]
        problems = [*here.problems, *loose, *(self._astray if is_first else ())]
        # An update moves an object to the end of CVAT's answer, and what was read before must compare equal.
        ordered = sorted((*here.annotations, *tracked), key=_number)
        return tuple(ordered), [Problem(p.kind, p.message, p.annotation_id, submission) for p in problems]


def _number(annotation: Annotation) -> tuple[str, int]:
    name, _, number = annotation.id.partition(":")
    return name, int(number.partition("@")[0])
