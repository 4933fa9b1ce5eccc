"""CVAT's shapes and tags as labelbridge's annotations.

Pure: no I/O. CVAT gives coordinates in pixels of the upright frame, half-open, as labelbridge has them, so boxes and
polygons keep their numbers. ``rotation`` is in degrees clockwise about the centre. An ellipse is ``[cx, cy, right_x,
top_y]`` before its rotation; here it is the box around it, turned with it, which holds the same four numbers. A mask is
run lengths in its box, then that box with inclusive corners (:mod:`bridge.core.rle`).

Annotations are named ``shape:<id>`` and ``tag:<id>``. CVAT keeps these ids while an object lives, and tells no versions
apart; :func:`entry_revision` does. CVAT stores nearly anything, so what is read here may be damaged in any way.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bridge.core.annotations import (
    Annotation,
    Box,
    Mask,
    Polygon,
    Problem,
    Shape,
    Tag,
    Xyxy,
    digest,
)
from bridge.core.findings import ErrorType
from bridge.core.geometry import box_envelope, envelope
from bridge.core.rle import decode_cvat
from bridge.dialects.cvat_labels import CvatLabels, attribute_values
from bridge.errors import DataError

Entry = Mapping[str, Any]
#: ``(width, height)`` of a frame in pixels.
Size = tuple[int, int]
Origin = Literal["manual", "prediction", "prediction-changed"]

#: The types whose geometry labelbridge reads; objects of every other type are left alone.
READ_TYPES = ("rectangle", "polygon", "mask", "ellipse")

_ORIGINS: Mapping[str, Origin] = {"auto": "prediction", "semi-auto": "prediction-changed"}


@dataclass(slots=True)
class FrameObjects:
    """The tags and shapes of one frame, as CVAT gave them."""

    tags: list[Entry] = field(default_factory=list)
    shapes: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FrameReading:
    """What one frame holds.

    Attributes:
        annotations: the objects whose geometry labelbridge reads.
        problems: what is wrong with objects; one that is broken may be here only.
        passed_over: the objects that were left alone (polylines, points, cuboids, skeletons and types of a later
            CVAT), with their type, by annotation id.
    """

    annotations: tuple[Annotation, ...] = ()
    problems: tuple[Problem, ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict)


def split_frames(
    answer: object, frames: Container[int] | None = None
) -> tuple[dict[int, FrameObjects], tuple[Problem, ...]]:
    """The tags and shapes of ``GET /api/jobs|tasks/{id}/annotations`` by frame, and what belongs to none.

    Args:
        frames: those that there are; CVAT stores objects on others too, and never shows them. None takes any.

    Raises:
        DataError: it is no such answer.
    """
    if not isinstance(answer, Mapping) or not all(isinstance(answer.get(k, []), list) for k in ("tags", "shapes")):
        raise DataError(
            "CVAT's answer holds no annotations",
            expected="an object with the lists tags, shapes and tracks",
            todo="Check that the address is that of a CVAT server",
        )
    found: dict[int, FrameObjects] = {}
    problems: list[Problem] = []
    for key, name in (("tags", "tag"), ("shapes", "shape")):
        for entry in answer.get(key, []):
            frame = entry.get("frame") if isinstance(entry, dict) else None
            if type(frame) is int and (frames is None or frame in frames):
                getattr(found.setdefault(frame, FrameObjects()), key).append(entry)
                continue
            annotation_id = annotation_id_of(name, entry)
            message = (
                f"{_called(name, entry)} is on frame {str(frame)[:20]}, which is none of the job's, so that nobody "
                "is shown it. Delete it, or correct what wrote it."
            )
            problems.append(Problem(str(ErrorType.OUT_OF_IMAGE), message, annotation_id))
    return found, tuple(problems)


def read_frame(objects: FrameObjects, labels: CvatLabels, size: Size | None, submission_id: str = "") -> FrameReading:
    """The tags and shapes of one frame as annotations.

    A box without area, and an object with a label that is not in the list, are both given and reported (the latter
    under the name ``#<label_id>``); one that cannot be read, or lies wholly outside of the frame, is only reported.
    Never raises, whatever the entries hold.

    Args:
        size: of the frame; without it no mask can be read, and nothing is known to lie outside.
    """
    annotations: list[Annotation] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    passed_over: dict[str, str] = {}

    def report(kind: ErrorType, message: str, annotation_id: str | None) -> None:
        problems.append(Problem(str(kind), message, annotation_id, submission_id))

    for name, entries in (("tag", objects.tags), ("shape", objects.shapes)):
        for entry in entries:
            annotation_id, called = annotation_id_of(name, entry), _called(name, entry)
            if annotation_id is None:
                report(ErrorType.DEGENERATE_SHAPE, f"{called} cannot be told from others", None)
                continue
            if annotation_id in seen:
                report(ErrorType.DEGENERATE_SHAPE, f"{called} occurs twice; the first one counts", annotation_id)
                continue
            seen.add(annotation_id)
            if name == "shape" and (entry.get("type") not in READ_TYPES or entry.get("outside") is True):
                passed_over[annotation_id] = str(entry.get("type"))
                continue
            try:
                shape = Tag() if name == "tag" else shape_from_entry(entry, size)
            except DataError as error:
                report(ErrorType.DEGENERATE_SHAPE, f"{called} cannot be read: {error}", annotation_id)
                continue
            if problem := shape_problem(shape, size):
                kind, message, usable = problem
                report(kind, f"{called}: {message}", annotation_id)
                if not usable:
                    continue
            label = labels.name_of(entry.get("label_id"))
            if label is None:
                label = f"#{str(entry.get('label_id'))[:20]}"
                message = f"{called} has the label {label}, which CVAT's label list does not have any more"
                report(ErrorType.UNKNOWN_LABEL, message, annotation_id)
            annotations.append(Annotation(annotation_id, label, shape, origin_of(entry)))
    return FrameReading(tuple(annotations), tuple(problems), passed_over)


def annotation_id_of(name: str, entry: object) -> str | None:
    """``shape:<id>`` or ``tag:<id>`` (``name`` says which); None where CVAT gave no id."""
    number = entry.get("id") if isinstance(entry, Mapping) else None
    return f"{name}:{number}" if type(number) is int else None


def origin_of(entry: Entry) -> Origin:
    """Where an object comes from, by its ``source``; one that is not known counts as a person's work."""
    return _ORIGINS.get(str(entry.get("source")).strip().casefold(), "manual")


def shape_from_entry(entry: Entry, size: Size | None) -> Shape:
    """The geometry of a shape of one of :data:`READ_TYPES`.

    Raises:
        DataError: it cannot be read, or is of another type; a mask also where ``size`` is None.
    """
    match entry.get("type"):
        case "rectangle":
            xa, ya, xb, yb = _numbers(entry, 4)
            return Box(min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb), _rotation(entry))
        case "ellipse":
            x, y, right, top = _numbers(entry, 4)
            rx, ry = abs(right - x), abs(y - top)
            return Box(x - rx, y - ry, x + rx, y + ry, _rotation(entry))
        case "polygon":
            numbers = _numbers(entry)
            if len(numbers) < 6 or len(numbers) % 2:
                raise DataError(
                    f"the polygon has {len(numbers)} coordinates",
                    expected="x and y of three points or more",
                    todo="Draw it again, or delete it",
                )
            return Polygon(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
        case "mask":
            if size is None:
                raise DataError("the size of the frame is not known", expected="its width and height in pixels")
            return mask_from_points(_numbers(entry), size[1], size[0])
    raise DataError(f"its type is {str(entry.get('type'))[:40]!r}", expected=f"one of {', '.join(READ_TYPES)}")


def shape_problem(shape: Shape, size: Size | None) -> tuple[ErrorType, str, bool] | None:
    """What is wrong with a shape that could be read, as kind and message, and whether it can be given all the same."""
    if isinstance(shape, Box) and (problem := shape.problem()):
        return ErrorType.DEGENERATE_SHAPE, problem, all(map(math.isfinite, (*shape.xyxy, shape.rotation)))
    if size is not None and isinstance(shape, Box | Polygon):
        around = outer(shape)
        if is_outside(around, size):
            where = ", ".join(f"{n:g}" for n in around)
            message = (
                f"it lies at {where}, outside of the frame of {size[0]} x {size[1]} px. Draw it again, or delete it."
            )
            return ErrorType.OUT_OF_IMAGE, message, False
    return None


def entry_revision(entry: Entry, labels: CvatLabels) -> str:
    """16 hex digits over all of a tag or a shape that a person can change.

    These are label, type, points and rotation (to 1/100), ``occluded``, ``outside``, ``z_order``, ``group``, attributes
    (those not mentioned have their default) and elements. Ids, frame, ``source`` and ``score`` do not count: no edit
    changes them alone, and a later CVAT may add a score by itself. So the digest stays the same when an object is saved
    again untouched. Never raises.
    """
    return digest(_content(entry, labels))


def mask_from_points(points: Sequence[float], height: int, width: int) -> Mask:
    """A CVAT mask's ``points`` as run lengths of the whole frame of ``height`` x ``width`` pixels.

    Raises:
        DataError: as :func:`bridge.core.rle.decode_cvat`; or the mask is empty.
    """
    whole = decode_cvat(points, height, width)
    left, top, right, bottom = (int(n) for n in points[-4:])
    bits = whole[top : bottom + 1, left : right + 1]
    if not bits.any():
        raise DataError("the mask is empty", todo="Draw it again, or delete it")
    rows, columns = bits.shape
    framed = np.zeros((columns, rows + 2), dtype=np.bool_)
    framed[:, 1:-1] = bits.T
    column, row = np.divmod(np.flatnonzero(framed[:, 1:] != framed[:, :-1]), rows + 1)
    edges = (left + column) * height + top + row
    # Where a run ends with its column and another begins with the next one, they are one.
    joints = np.flatnonzero(edges[1:] == edges[:-1])
    edges = np.delete(edges, np.concatenate([joints, joints + 1]))
    counts = np.diff(np.concatenate([[0], edges, [height * width]])).tolist()
    return Mask(height, width, tuple(counts if counts[-1] else counts[:-1]))


def _content(entry: Entry, labels: CvatLabels) -> list[Any]:
    label_id = entry.get("label_id")
    label = labels.by_id.get(label_id) if type(label_id) is int else None
    elements = entry.get("elements")
    return [
        entry.get("type"),
        f"#{label_id}" if label is None else label.name,
        _rounded(entry.get("points") or []),
        _rounded([entry.get("rotation") or 0]),
        bool(entry.get("occluded")),
        bool(entry.get("outside")),
        entry.get("z_order") or 0,
        entry.get("group") or 0,
        attribute_values(entry.get("attributes"), label),
        [_content(e, labels) for e in elements if isinstance(e, dict)] if isinstance(elements, list) else [],
    ]


def _rounded(values: object) -> object:
    try:
        # Adding 0 makes one of the two zeros.
        with np.errstate(over="ignore"):
            return (np.round(np.array(values, dtype=np.float64), 2) + 0.0).tolist()
    except (TypeError, ValueError, OverflowError):
        return values


def _called(name: str, entry: object) -> str:
    number = entry.get("id") if isinstance(entry, Mapping) else None
    return f"{name} {number}" if type(number) is int else f"a {name} without an id"


def _numbers(entry: Entry, count: int | None = None) -> list[float]:
    """A shape's ``points``, all finite, ``count`` of them where that is given."""
    points = entry.get("points")
    if not isinstance(points, list):
        raise DataError(f"its points are {type(points).__name__}", expected="a list of numbers")
    if count is not None and len(points) != count:
        raise DataError(
            f"the {entry.get('type')} has {len(points)} coordinates",
            expected=str(count),
            todo="Draw it again, or delete it",
        )
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in points):
        raise DataError("one of its points is no number", expected="numbers of pixels")
    try:
        numbers = np.array(points, dtype=np.float64)
    except OverflowError:
        numbers = np.array([np.inf])
    if not np.isfinite(numbers).all():
        raise DataError(
            "one of its points is not finite", expected="numbers of pixels", todo="Draw it again, or delete it"
        )
    return list(numbers.tolist())


def _rotation(entry: Entry) -> float:
    rotation = entry.get("rotation") or 0.0
    try:
        if isinstance(rotation, int | float) and math.isfinite(rotation):
            return float(rotation)
    except OverflowError:
        pass  # JSON allows whole numbers of any length
    raise DataError(f"its rotation is {str(rotation)[:40]}", expected="a finite number of degrees")


def outer(shape: Box | Polygon) -> Xyxy:
    """The upright box around a box or a polygon."""
    with np.errstate(over="ignore", invalid="ignore"):
        return box_envelope(shape) if isinstance(shape, Box) else envelope(shape.points)


def is_outside(xyxy: Xyxy, size: Size) -> bool:
    """Whether nothing of a box is in a frame."""
    return xyxy[2] <= 0 or xyxy[3] <= 0 or xyxy[0] >= size[0] or xyxy[1] >= size[1]
