"""A model's predictions as suggestions in CVAT, where they are objects of the annotation itself.

So they go only where nobody has begun: into jobs that are not submitted, on frames that hold no object yet, or none but
suggestions of another model that are just as they were written. What a person drew, moved or accepted is never touched,
and a repeated run finds its own suggestions there, or that somebody deleted them, and leaves it at that. Replicas get
none: their annotators are to be independent.

CVAT does not keep which model an object comes from, so that is remembered outside of it. Suggestions that nobody
remembers are somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bridge.core.annotations import Annotation
from bridge.core.tool_memory import Suggestion, ToolMemory
from bridge.dialects.cvat_labels import CvatLabels
from bridge.dialects.cvat_new_shapes import NewObject, create_body, new_prediction
from bridge.dialects.cvat_shapes import FrameObjects, Size, read_frame, split_frames
from bridge.errors import AuthError, DataError, NotFound, ToolError
from bridge.tools import Prelabel
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_layout import Frame, Job, job_url, read_job

_SCORES_SINCE = (2, 62)
_OBJECTS = 2000
"""Objects that one request creates, unless one frame has more."""

Remembered = Mapping[int, Sequence[Suggestion]]
"""What was suggested, by frame."""


class Suggestions:
    """Writes one model's suggestions into the jobs of one CVAT."""

    def __init__(self, client: CvatClient, labels: CvatLabels, memory: ToolMemory, model: str) -> None:
        self._client = client
        self._labels = labels
        self._memory = memory
        self._model = model

    def write(self, batch: Sequence[tuple[Prelabel, Frame]]) -> int:
        """Write one job after the other: two requests read it, one creates about 2,000 objects, one deletes, and one
        looks whether the job was finished meanwhile: then all of it is taken back.

        Args:
            batch: the suggestions of each item, and where it is.

        Returns:
            The number of items that took the suggestions, those included for which there were none.

        Raises:
            DataError: an item's size is not known, or a label is none of CVAT's, before anything is written.
            ToolError: the user may not edit a job.
        """
        if not batch:
            return 0
        has_scores = self._client.version() >= _SCORES_SINCE
        by_job: dict[int, list[tuple[Frame, list[NewObject], Sequence[float]]]] = {}
        for prelabel, frame in batch:
            objects = self._objects(prelabel, frame, has_scores)
            for job in frame.jobs:
                if takes_suggestions(job):
                    entry = (frame, objects, [p.confidence for p in prelabel.predictions])
                    by_job.setdefault(job.id, []).append(entry)
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

    def _fill(self, number: int, wanted: Sequence[tuple[Frame, list[NewObject], Sequence[float]]]) -> int:
        """Write into one job what it still takes, and answer how many of its frames that were."""
        # Asked again: it may have been finished, begun or deleted since its page was read.
        try:
            job = read_job(self._client.job(number))
        except NotFound:
            return 0
        if not takes_suggestions(job):
            return 0
        place = job_url(self._client.url, job)
        known = by_frame(self._memory.suggestions(place))
        answer = self._client.annotations(number)
        sizes = {frame.number: frame.size for frame, _, _ in wanted}
        here = standing(answer, job, self._labels, sizes)
        free = [one for one in wanted if takes(one[0].number, here, known, self._model)]
        suggested = [s for frame, objects, sure in free for s in self._as_suggestions(frame, objects, sure)]
        numbers = {frame.number for frame, _, _ in free}
        # What is replaced and what replaces it are both ours until only one of them is left: a run that is cut off in
        # between is completed by the next.
        old = [s for n in numbers for s in known.get(n, ()) if here.get(n)]
        if old:
            self._memory.remember_suggestions(place, numbers, [*old, *suggested])
        made: list[Row] = []
        try:
            for new in _parcels(self._missing(frame, objects, here) for frame, objects, _ in free):
                made += [self._client.patch_annotations(number, "create", create_body(new))]
            if made and not takes_suggestions(read_job(self._client.job(number))):
                # Finished meanwhile: what its annotator never saw must not be taken for their work.
                for answer in made:
                    self._client.patch_annotations(number, "delete", answer)
                self._memory.remember_suggestions(place, numbers, old)
                return 0
            if old:
                self._withdraw(number, answer, here, numbers, suggested)
        except AuthError as error:
            raise ToolError(
                f"suggestions cannot be written into job {number}: {error.found}",
                expected="a user who may edit it: its assignee, the owner of its task or project, or a maintainer",
                todo="Run as such a user; what was written stays, and is not written twice",
            ) from None
        self._memory.remember_suggestions(place, numbers, suggested)
        return len(free)

    def _as_suggestions(
        self, frame: Frame, objects: Sequence[NewObject], confidences: Sequence[float]
    ) -> Iterator[Suggestion]:
        """The objects as they will be read back."""
        for new, confidence in zip(objects, confidences, strict=True):
            read = self._read(new.place, {**new.body, "id": 0}, frame.size)
            if read is not None:
                yield Suggestion(frame.number, self._model, read.label, read.shape, confidence)

    def _missing(
        self, frame: Frame, objects: Sequence[NewObject], here: Mapping[int, Sequence[Annotation] | None]
    ) -> list[NewObject]:
        there = {a.revision for a in here.get(frame.number) or ()}
        read = ((new, self._read(new.place, {**new.body, "id": 0}, frame.size)) for new in objects)
        return [new for new, one in read if one is None or one.revision not in there]

    def _read(self, place: str, entry: Row, size: Size | None) -> Annotation | None:
        objects = FrameObjects(tags=[entry]) if place == "tags" else FrameObjects(shapes=[entry])
        found = read_frame(objects, self._labels, size).annotations
        return found[0] if found else None

    def _withdraw(
        self,
        job: int,
        answer: Row,
        here: Mapping[int, Sequence[Annotation] | None],
        frames: set[int],
        suggested: Sequence[Suggestion],
    ) -> None:
        """Delete what other models suggested on these frames, as it was read before anything was created."""
        kept = {(s.frame, s.revision) for s in suggested}
        gone = {a.id for n in frames for a in here.get(n) or () if (n, a.revision) not in kept}
        body: Row = {"version": 0, "tracks": []}
        for kind in ("tags", "shapes"):
            body[kind] = [e for e in answer.get(kind) or [] if f"{kind[:-1]}:{e.get('id')}" in gone]
        if gone:
            self._client.patch_annotations(job, "delete", body)


def by_frame(suggestions: Iterable[Suggestion]) -> dict[int, list[Suggestion]]:
    found: dict[int, list[Suggestion]] = {}
    for one in suggestions:
        found.setdefault(one.frame, []).append(one)
    return found


def standing(
    answer: Row, job: Job, labels: CvatLabels, sizes: Mapping[int, Size | None]
) -> dict[int, Sequence[Annotation] | None]:
    """What the frames hold on which there is anything: the objects where all are of the source ``auto``, else None.

    Args:
        answer: the annotations of the job.
        sizes: of the frames.
    """
    frames, _ = split_frames(answer)
    found: dict[int, Sequence[Annotation] | None] = {}
    for number, objects in frames.items():
        read = read_frame(objects, labels, sizes.get(number)).annotations
        is_all = len(read) == len(objects.tags) + len(objects.shapes)
        found[number] = read if is_all and all(a.origin == "prediction" for a in read) else None
    for number in _tracked(answer, job):
        found[number] = None
    return found


def takes(frame: int, here: Mapping[int, Sequence[Annotation] | None], known: Remembered, model: str) -> bool:
    """Whether a frame takes suggestions of ``model``.

    It does where it holds nothing, unless the model's suggestions were there and somebody deleted them; and where it
    holds nothing but suggestions that are remembered, as they were written, and another model's are among those.
    """
    mine = known.get(frame, ())
    objects = here.get(frame, ())
    if not objects:
        return objects is not None and all(s.model != model for s in mine)
    written = {s.revision for s in mine}
    return all(a.revision in written for a in objects) and any(s.model != model for s in mine)


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


def _tracked(answer: Row, job: Job) -> Iterable[int]:
    """The frames with intervals or tracks; a track holds all from its first keyframe on."""
    yield from (int(one["frame"]) for one in answer.get("intervals") or [] if isinstance(one.get("frame"), int))
    starts = [one["frame"] for one in answer.get("tracks") or [] if isinstance(one.get("frame"), int)]
    if starts:
        yield from range(min(starts), job.stop + 1)
