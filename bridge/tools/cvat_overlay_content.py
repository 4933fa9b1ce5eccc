"""How frames of a job would be labelled if every suggestion were accepted.

Pure: no I/O. It is what :mod:`bridge.tools.cvat_fixes` would make of the job, by the same rules: an object that was
changed since it was scored is left as it is. Only a track is here one shape for each frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bridge.core.annotations import Mask
from bridge.dialects.cvat_labels import CvatLabels
from bridge.dialects.cvat_new_shapes import NewObject
from bridge.dialects.cvat_shapes import FrameObjects, Size, split_frames
from bridge.dialects.cvat_tracks import TrackedObject, read_tracks
from bridge.errors import DataError
from bridge.tools import FixOrder
from bridge.tools.cvat_client import Row
from bridge.tools.cvat_fixes import JobSheet, geometry_of
from bridge.tools.cvat_layout import Frame, item_id
from bridge.tools.cvat_overlay_journal import DrawnFix

SOURCE = "auto"
"""The source of all that an overlay holds. CVAT's page changes it at the first edit, so that a person's work shows."""


def as_accepted(
    answer: Row, frames: Sequence[Frame], suggestions: Sequence[DrawnFix], labels: CvatLabels
) -> list[NewObject]:
    """The objects of some frames with the suggestions worked in, as copies to create, ordered by frame.

    Tracks of polylines, points, cuboids and skeletons are left out.

    Args:
        answer: what ``GET /api/jobs/{id}/annotations`` says of the job that the suggestions are about.
    """
    by_item = {item_id(f.task, f.number): f for f in frames}
    objects, _ = split_frames(answer, {f.number for f in frames})
    tracked = _TrackedShapes(answer, frames, labels)
    shapes = [shape for here in objects.values() for shape in here.shapes]
    last = max(f.number for f in frames)
    sheet = JobSheet({"shapes": [*shapes, *tracked.shapes]}, last, labels, lambda item: _size(by_item[item]))
    for suggestion in suggestions:
        order = suggestion.order(frames[0].task)
        if by_item.get(order.finding.item_id) is not None:
            sheet.apply(tracked.as_shape(order))
    made: list[NewObject] = []
    for frame in sorted(f.number for f in frames):
        tags = objects.get(frame, FrameObjects()).tags
        made += [NewObject("tags", _copy(tag)) for tag in tags]
        made += [NewObject("shapes", _copy(shape)) for shape in sheet.on(frame)]
    return made


class _TrackedShapes:
    """The tracks of a job as shapes; their ids are negative, to tell them from those that CVAT gave."""

    def __init__(self, answer: Row, frames: Sequence[Frame], labels: CvatLabels) -> None:
        sizes = {f.number: (f.width, f.height) for f in frames}
        read = read_tracks(answer.get("tracks"), sorted(sizes), labels, lambda n: _known(*sizes.get(n, (None, None))))
        tracks = {track.get("id"): track for track in answer.get("tracks") or [] if isinstance(track, dict)}
        self._ids = {one.annotation.id: -number for number, one in enumerate(read.objects, 1)}
        self.shapes = [
            {**_entry(one, tracks[_track_of(one)]), "id": self._ids[one.annotation.id]} for one in read.objects
        ]

    def as_shape(self, order: FixOrder) -> FixOrder:
        """An order about a track on a frame as one about its shape there."""
        finding = order.finding
        ids = tuple(f"shape:{self._ids[i]}" if i in self._ids else i for i in finding.annotation_ids)
        if ids == finding.annotation_ids:
            return order
        return FixOrder(replace(finding, annotation_ids=ids), order.fix)


def _track_of(one: TrackedObject) -> int:
    return int(one.annotation.id.partition(":")[2].partition("@")[0])


def _entry(one: TrackedObject, track: Mapping[str, Any]) -> Row:
    """A track on one frame as CVAT would hold it if it were a shape there."""
    keys = [
        k for k in track["shapes"] if isinstance(k, dict) and type(k.get("frame")) is int and k["frame"] <= one.frame
    ]
    key = max(keys, key=lambda k: int(k["frame"]))
    entry: Row = {
        "type": key["type"],
        "frame": one.frame,
        "label_id": track.get("label_id"),
        "group": track.get("group") or 0,
        "occluded": key.get("occluded") is True,
        "outside": False,
        "z_order": key.get("z_order") or 0,
        "points": key["points"],
        "rotation": key.get("rotation") or 0.0,
        "attributes": [*(track.get("attributes") or []), *(key.get("attributes") or [])],
        "elements": [],
    }
    return entry if isinstance(one.annotation.shape, Mask) else entry | geometry_of(entry, one.annotation.shape)


def _copy(entry: Mapping[str, Any]) -> Row:
    """An object to create, with the numbers as CVAT gives them back."""
    row = {k: v for k, v in entry.items() if k != "id"}
    for name, value in row.items():
        if name == "points":
            row[name] = list(_hundredths(value))
        elif name == "rotation":
            row[name] = round(float(value or 0), 2) + 0.0
        elif name == "elements":
            row[name] = [_copy(one) for one in value or []]
    return row | {"source": SOURCE}


def _hundredths(numbers: Any) -> Iterator[float]:
    for number in numbers:
        yield round(float(number), 2) + 0.0


def _known(width: int | None, height: int | None) -> Size | None:
    return (width, height) if width and height else None


def _size(frame: Frame) -> Size:
    if frame.width is None or frame.height is None:
        raise DataError(
            f"CVAT does not know the size of frame {frame.number} of task {frame.task}",
            expected="width and height in pixels",
        )
    return frame.width, frame.height
