"""A model's predictions as suggestions in CVAT, where they are objects of the annotation itself.

So they go only where nobody has begun: into jobs that are not submitted, on frames that hold no object yet. What a
person drew, moved or accepted is never touched, and a repeated run finds its own suggestions there and leaves them.
Replicas get none: their annotators are to be independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bridge.dialects.cvat_labels import CvatLabels
from bridge.dialects.cvat_new_shapes import NewObject, create_body, new_prediction
from bridge.errors import AuthError, DataError, ToolError
from bridge.tools import Prelabel
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_layout import Frame, Job, read_job

_SCORES_SINCE = (2, 62)
_OBJECTS = 2000
"""Objects that one request creates, unless one frame has more."""


class Suggestions:
    """Writes suggestions into the jobs of one CVAT."""

    def __init__(self, client: CvatClient, labels: CvatLabels) -> None:
        self._client = client
        self._labels = labels

    def write(self, batch: Sequence[Prelabel], frames: Sequence[Frame]) -> int:
        """Write one job after the other: two requests read it, and one creates about 2,000 objects.

        Args:
            frames: of each item of ``batch``.

        Returns:
            The number of items that took the suggestions, those included for which there were none.

        Raises:
            DataError: an item's size is not known, or a label is none of CVAT's, before anything is written.
            ToolError: the user may not edit a job.
        """
        if not batch:
            return 0
        has_scores = self._client.version() >= _SCORES_SINCE
        by_job: dict[int, list[tuple[int, list[NewObject]]]] = {}
        for prelabel, frame in zip(batch, frames, strict=True):
            objects = self._objects(prelabel, frame, has_scores)
            for job in frame.jobs:
                if takes_suggestions(job):
                    by_job.setdefault(job.id, []).append((frame.number, objects))
        return sum(self._fill(job, wanted) for job, wanted in by_job.items())

    def _objects(self, prelabel: Prelabel, frame: Frame, has_scores: bool) -> list[NewObject]:
        item = prelabel.item
        if not item.width or not item.height:
            raise DataError(
                f"the size of item {item.id} ({item.name}) is not known", expected="width and height in pixels"
            )
        size = (item.width, item.height)
        return [
            new_prediction(prediction, frame.number, self._labels, size, server_score=has_scores)
            for prediction in prelabel.predictions
        ]

    def _fill(self, number: int, wanted: Iterable[tuple[int, list[NewObject]]]) -> int:
        """Write into one job what it still takes, and answer how many of its frames that were."""
        # Asked again: it may have been finished, or begun, since its page was read.
        job = read_job(self._client.job(number))
        if not takes_suggestions(job):
            return 0
        taken = occupied(self._client.annotations(number), job)
        free = [(frame, objects) for frame, objects in wanted if frame not in taken]
        try:
            for new in _parcels(objects for _, objects in free):
                self._client.patch_annotations(number, "create", create_body(new))
        except AuthError as error:
            raise ToolError(
                f"suggestions cannot be written into job {number}: {error.found}",
                expected="a user who may edit it: its assignee, the owner of its task or project, or a maintainer",
                todo="Run as such a user; what was written stays, and is not written twice",
            ) from None
        return len(free)


def _parcels(frames: Iterable[list[NewObject]]) -> Iterator[list[NewObject]]:
    """The objects of whole frames, so that a frame never holds a part of its suggestions."""
    parcel: list[NewObject] = []
    for objects in frames:
        if parcel and len(parcel) + len(objects) > _OBJECTS:
            yield parcel
            parcel = []
        parcel = [*parcel, *objects]
    if parcel:
        yield parcel


def takes_suggestions(job: Job) -> bool:
    """Whether its annotator has still to do it, as the main work on its frames."""
    return job.type == "annotation" and job.stage == "annotation" and job.state in ("new", "in progress")


def occupied(answer: Row, job: Job) -> set[int]:
    """The frames of a job that hold any object; a track holds all from its first keyframe on."""
    frames: set[int] = set()
    for key in ("tags", "shapes", "intervals"):
        frames.update(int(one["frame"]) for one in answer.get(key) or [] if isinstance(one.get("frame"), int))
    starts = [one["frame"] for one in answer.get("tracks") or [] if isinstance(one.get("frame"), int)]
    if starts:
        frames.update(range(min(starts), job.stop + 1))
    return frames
