"""CVAT's tracks as labelbridge's annotations: one for each frame on which the object is to be seen.

Pure: no I/O. A track lists keyframes; between two of them CVAT interpolates:

* boxes and ellipses linearly, their rotation the short way round (over half a turn either way will do);
* polygons with the same number of points linearly, point by point; else the earlier keyframe holds. CVAT's own page
  spreads new points along such outlines, so the frames between may differ by some pixels from what it draws;
* masks hold.

Attributes, ``occluded`` and ``z_order`` are those of the keyframe before. The last keyframe holds for all frames that
follow. A keyframe that is ``outside`` ends what is to be seen until the next one that is not; such a gap is no error.
Annotations are named ``track:<id>@<frame>``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from bridge.core.annotations import Annotation, Problem, Shape
from bridge.core.findings import ErrorType
from bridge.dialects.cvat_labels import CvatLabels
from bridge.dialects.cvat_shapes import (
    READ_TYPES,
    Entry,
    Size,
    origin_of,
    shape_from_entry,
    shape_problem,
)
from bridge.errors import DataError

#: The types whose points are interpolated where two keyframes have as many of them.
_MOVING = ("rectangle", "ellipse", "polygon")


@dataclass(frozen=True, slots=True)
class TrackedObject:
    """A track on one frame.

    Attributes:
        keyframe: whether a person (or a model) placed it on this very frame; else it is interpolated, and changing it
            would make a keyframe.
    """

    frame: int
    annotation: Annotation
    keyframe: bool


@dataclass(frozen=True, slots=True)
class TrackReading:
    """What tracks hold on the frames that were asked for.

    Attributes:
        objects: track by track, by rising frame.
        problems: each with its frame; None where a track as a whole cannot be read.
        passed_over: the tracks that were left alone (polylines, points, cuboids, skeletons), with their type, by
            ``track:<id>``.
    """

    objects: tuple[TrackedObject, ...] = ()
    problems: tuple[tuple[int | None, Problem], ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict)


def read_tracks(
    tracks: object,
    frames: Iterable[int],
    labels: CvatLabels,
    size_of: Callable[[int], Size | None],
    submission_id: str = "",
) -> TrackReading:
    """The tracks of an annotation answer on some frames.

    An object without area, or with a label that is not in the list, is both given and reported, the former on its
    keyframes only, the latter once for the track. A keyframe that cannot be read is reported where it was asked for,
    and nothing is given from the sound keyframe before it to the one behind it, those two left out (a mask holds until
    there). An object that is wholly outside of the frame is not given, and reported on its keyframes. Memory grows with
    the objects on the frames asked for, not with the length of the tracks. Never raises, whatever the tracks hold.

    Args:
        tracks: ``tracks`` of the answer of ``GET /api/jobs|tasks/{id}/annotations``.
        frames: task frame numbers, in any order. The last keyframe of a track holds to their end, so they must not go
            beyond the job; leave deleted frames out.
        size_of: a frame's width and height in pixels; None where they are not known.
    """
    asked = frames if isinstance(frames, range) and frames.step > 0 else sorted(set(frames))
    if not isinstance(tracks, list):
        problem = _problem(f"the tracks are {type(tracks).__name__}, not a list", None, submission_id)
        return TrackReading(problems=((None, problem),))
    objects: list[TrackedObject] = []
    problems: list[tuple[int | None, Problem]] = []
    passed_over: dict[str, str] = {}
    seen: set[int] = set()
    for track in tracks:
        number = track.get("id") if isinstance(track, dict) else None
        keys = _keyframes(track)
        if type(number) is not int or number in seen or not keys:
            wrong = "has no keyframe" if type(number) is int and number not in seen else "cannot be told from others"
            name = f"track:{number}" if type(number) is int else None
            problems.append((None, _problem(f"track {str(number)[:20]} {wrong}", name, submission_id)))
            continue
        seen.add(number)
        kind = "skeleton" if track.get("elements") else str(keys[0].get("type"))
        if kind not in READ_TYPES:
            passed_over[f"track:{number}"] = kind
            continue
        reader = _TrackReader(track, keys, labels, size_of, submission_id)
        objects.extend(reader.objects(asked))
        problems.extend(reader.problems)
    return TrackReading(tuple(objects), tuple(problems), passed_over)


class _TrackReader:
    """One track that has an id, and keyframes of a type that can be read."""

    def __init__(
        self,
        track: Entry,
        keys: Sequence[Entry],
        labels: CvatLabels,
        size_of: Callable[[int], Size | None],
        submission_id: str,
    ) -> None:
        self._track = track
        self._keys = list({key["frame"]: key for key in reversed(keys)}.values())[::-1]
        self._repeated = sorted({b["frame"] for a, b in pairwise(keys) if a["frame"] == b["frame"]})
        self._labels = labels
        self._size_of = size_of
        self._submission_id = submission_id
        self._label = labels.name_of(track.get("label_id"))
        self._told = False
        self._last: tuple[Entry, Size | None, Shape] | None = None
        self.problems: list[tuple[int | None, Problem]] = []

    def objects(self, asked: Sequence[int]) -> Iterator[TrackedObject]:
        """The track on those of the frames (rising) on which it is to be seen."""
        for frame in self._repeated:
            if frame in asked:
                self._report(ErrorType.DEGENERATE_SHAPE, frame, "there are several keyframes; the first one counts")
        for here, key in enumerate(self._keys):
            behind = self._keys[here + 1] if here + 1 < len(self._keys) else None
            first = bisect_left(asked, key["frame"])
            stop = len(asked) if behind is None else bisect_left(asked, behind["frame"])
            if first == stop:
                continue
            if key.get("outside") is True or not self._sound(key, asked[first] == key["frame"]):
                continue
            if asked[first] == key["frame"]:
                yield from self._object(key, key["frame"], True)
                first += 1
            if first < stop and (behind is None or key["type"] == "mask" or self._sound(behind, False)):
                for frame, entry in _between(key, behind, asked[first:stop]):
                    yield from self._object(entry, frame, False)

    def _sound(self, key: Entry, report: bool) -> bool:
        try:
            self._shape(key, self._size_of(key["frame"]))
        except DataError as error:
            if report:
                self._report(ErrorType.DEGENERATE_SHAPE, key["frame"], f"it cannot be read: {error}")
            return False
        return True

    def _object(self, key: Entry, frame: int, keyframe: bool) -> Iterator[TrackedObject]:
        size = self._size_of(frame)
        try:
            shape = self._shape(key, size)
        except DataError as error:
            self._report(ErrorType.DEGENERATE_SHAPE, frame, f"it cannot be read: {error}")
            return
        if problem := shape_problem(shape, size):
            kind, message, usable = problem
            if keyframe:
                self._report(kind, frame, message)
            if not usable:
                return
        label = self._label
        if label is None:
            label = f"#{str(self._track.get('label_id'))[:20]}"
            if not self._told:
                message = f"it has the label {label}, which CVAT's label list does not have any more"
                self._report(ErrorType.UNKNOWN_LABEL, frame, message)
            self._told = True
        annotation = Annotation(self._name(frame), label, shape, origin_of(self._track))
        yield TrackedObject(frame, annotation, keyframe)

    def _shape(self, key: Entry, size: Size | None) -> Shape:
        """The geometry of a keyframe; a mask that holds is read once."""
        if self._last is None or self._last[0] is not key or self._last[1] != size:
            self._last = (key, size, shape_from_entry(key, size))
        return self._last[2]

    def _name(self, frame: int) -> str:
        return f"track:{self._track['id']}@{frame}"

    def _report(self, kind: ErrorType, frame: int, message: str) -> None:
        text = f"track {self._track['id']} on frame {frame}: {message}"
        self.problems.append((frame, Problem(str(kind), text, self._name(frame), self._submission_id)))


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """What a track says of one frame.

    Attributes:
        entry: a keyframe, or the form of one that is not there: without an id, moved between the two around it.
        keyframe: whether it is one.
        repeated: whether there are several for this frame, or for one of those that it is moved between.
        morphing: whether it is an outline between two keyframes that differ.
    """

    entry: Entry
    keyframe: bool
    repeated: bool
    morphing: bool


def track_on(track: Entry, frame: int) -> TrackPoint | None:
    """What a track that can be read there says of a frame; None where it begins later."""
    keys = _keyframes(track)
    at = bisect_right(keys, frame, key=lambda key: int(key["frame"]))
    if not at:
        return None
    key, behind = keys[at - 1], keys[at] if at < len(keys) else None
    around = [k["frame"] for k in keys[max(at - 2, 0) : at + 2]]
    repeated = len(set(around)) < len(around)
    if key["frame"] == frame:
        return TrackPoint(key, True, repeated, False)
    ((_, entry),) = _between(key, behind, [frame])
    entry = {name: value for name, value in entry.items() if name != "id"} | {"frame": frame}
    morphing = key["type"] == "polygon" and behind is not None and behind.get("points") != key["points"]
    return TrackPoint(entry, False, repeated, morphing)


def _between(key: Entry, behind: Entry | None, frames: Sequence[int]) -> Iterator[tuple[int, Entry]]:
    """A keyframe moved towards the next one, for frames between the two, or behind the last one."""
    if behind is None or not _moves(key, behind):
        yield from ((frame, key) for frame in frames)
        return
    span = behind["frame"] - key["frame"]
    shares = np.array([(frame - key["frame"]) / span for frame in frames], dtype=np.float64)
    start, end = (np.array(k["points"], dtype=np.float64) for k in (key, behind))
    turns = key["type"] != "polygon"
    turn_start, turn_end = (float(k.get("rotation") or 0.0) if turns else 0.0 for k in (key, behind))
    turn = (turn_end - turn_start + 180.0) % 360.0 - 180.0
    rotations = (turn_start + shares * turn) % 360.0 if turn else np.full(len(shares), turn_start)
    for frame, share, rotation in zip(frames, shares.tolist(), rotations.tolist(), strict=True):
        yield frame, {**key, "points": (start * (1 - share) + end * share).tolist(), "rotation": rotation}


def _moves(key: Entry, behind: Entry) -> bool:
    same = key.get("type") == behind.get("type") and len(key["points"]) == len(behind["points"])
    return same and key.get("type") in _MOVING


def _keyframes(track: object) -> list[Entry]:
    """The keyframes of a track by frame; of several for one frame all, so that they can be told."""
    shapes = _list(track.get("shapes")) if isinstance(track, Mapping) else []
    keys = [key for key in shapes if isinstance(key, dict) and type(key.get("frame")) is int]
    return sorted(keys, key=lambda key: key["frame"])


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _problem(message: str, annotation_id: str | None, submission_id: str) -> Problem:
    return Problem(str(ErrorType.DEGENERATE_SHAPE), message, annotation_id, submission_id)
