"""labelbridge's shapes as objects that CVAT takes: cut to the frame, in the form that the label has.

Pure: no I/O. The forms are those of :mod:`bridge.dialects.cvat_shapes`, which reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bridge.core.annotations import Box, Mask, Polygon, Prediction, Shape, Tag, TextSpan
from bridge.core.geometry import Point, box_corners, clip_to_image, envelope, polygon_area
from bridge.core.masks import MaskCrop
from bridge.core.rle import MAX_PIXELS, encode_cvat
from bridge.dialects.cvat_functions import Outline
from bridge.dialects.cvat_labels import CvatLabels, Label
from bridge.dialects.cvat_shapes import Size, is_outside, outer, shape_from_entry, shape_problem
from bridge.errors import DataError


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to create: ``body`` goes into the list ``place`` of the request."""

    place: Literal["tags", "shapes"]
    body: dict[str, Any]


def score_text(confidence: float) -> str:
    """A confidence as the score attribute holds it: four decimals."""
    return f"{confidence:.4f}"


def new_object(
    label: str,
    shape: Shape,
    frame: int,
    labels: CvatLabels,
    size: Size,
    *,
    confidence: float | None = None,
    server_score: bool = False,
    outline: Outline | None = None,
    source: str = "auto",
) -> NewObject:
    """A shape or a tag to create.

    Where the label's type does not take the geometry, a mask becomes its outline, else its box; a polygon its box; a
    box its four corners, else the ellipse in it. What leaves the frame is cut off, save from turned boxes and
    ellipses, which stay whole. Coordinates are rounded to 1/100 pixel.

    Args:
        label: the name of one of ``labels``.
        shape: in pixels of the frame; a mask of just its size.
        confidence: in [0, 1]; goes into the label's score attribute, where it has one.
        server_score: whether the server has scores of its own (CVAT from 2.62 on); shapes then have it there too.
        outline: the polygon around a mask.
        source: 16 characters at most; CVAT's page turns ``auto`` into ``semi-auto`` at the first edit.

    Raises:
        DataError: no such label; it cannot take the geometry; the shape has no area in the frame; or the confidence
            is no number from 0 to 1.
    """
    kind = labels.require(label)
    body: dict[str, Any] = {"label_id": kind.id, "frame": frame, "group": 0, "source": source, "attributes": []}
    if confidence is not None:
        if not 0 <= confidence <= 1:
            raise DataError(f"the confidence is {confidence}", expected="a number from 0 to 1")
        if kind.score_attribute is not None:
            value = {"spec_id": kind.score_attribute.spec_id, "value": score_text(confidence)}
            body["attributes"].append(value)
    if isinstance(shape, Tag):
        if "tag" not in kind.takes:
            raise _refused(kind, "a tag")
        return NewObject("tags", body)
    body["type"], body["points"], body["rotation"] = _form(kind, shape, size, outline)
    if body["type"] != "mask":
        _require_area(shape_from_entry(body, size), size)
    body.update(occluded=False, outside=False, z_order=0, elements=[])
    if server_score and confidence is not None:
        body["score"] = float(confidence)
    return NewObject("shapes", body)


def new_prediction(
    prediction: Prediction,
    frame: int,
    labels: CvatLabels,
    size: Size,
    *,
    server_score: bool = False,
    outline: Outline | None = None,
) -> NewObject:
    """A prediction as an object to create; see :func:`new_object`."""
    return new_object(
        prediction.label,
        prediction.shape,
        frame,
        labels,
        size,
        confidence=prediction.confidence,
        server_score=server_score,
        outline=outline,
    )


def create_body(objects: Iterable[NewObject]) -> dict[str, Any]:
    """The body of ``PATCH /api/jobs|tasks/{id}/annotations?action=create``."""
    body: dict[str, Any] = {"version": 0, "tags": [], "shapes": [], "tracks": []}
    for new in objects:
        body[new.place].append(new.body)
    return body


def mask_to_points(mask: Mask) -> list[int]:
    """Inverse of :func:`mask_from_points`: lengths of runs, beginning with one of 0, then the inclusive box.

    Raises:
        DataError: the run lengths do not fill the frame, or the mask is empty.
    """
    return _crop_points(_crop(mask))


def _form(
    label: Label, shape: Shape, size: Size, outline: Outline | None
) -> tuple[str, list[float] | list[int], float]:
    """Type, points and rotation of a shape, in the form that the label takes."""
    match shape:
        case Box():
            return _box_form(label, shape, size)
        case Polygon(points):
            return _polygon_form(label, points, size)
        case Mask():
            if (shape.width, shape.height) != size:
                raise DataError(
                    f"the mask is of a frame of {shape.width} x {shape.height} px",
                    expected=f"{size[0]} x {size[1]} px, as the frame has",
                )
            return _mask_form(label, _crop(shape), outline)
        case TextSpan():
            raise _refused(label, "a part of a text")
        case Tag():
            raise _refused(label, "a tag")


def _box_form(label: Label, box: Box, size: Size) -> tuple[str, list[float], float]:
    if problem := box.problem():
        raise DataError(f"the box cannot be drawn: {problem}")
    if is_outside(outer(box), size):
        raise _outside(size)
    turned = round(box.rotation % 360.0, 2) % 360.0
    if "rectangle" in label.takes:
        xyxy = box.xyxy if turned else tuple(clip_to_image(np.array([box.xyxy]), *size)[0].tolist())
        return "rectangle", _to_hundredths(xyxy), turned
    if "polygon" in label.takes:
        with np.errstate(over="ignore", invalid="ignore"):
            ring = box_corners(box)
        return "polygon", _ring_points(ring, size), 0.0
    if "ellipse" in label.takes:
        middle = (box.x1 / 2 + box.x2 / 2, box.y1 / 2 + box.y2 / 2)
        return "ellipse", _to_hundredths((*middle, box.x2, box.y1)), turned
    raise _refused(label, "a box")


def _polygon_form(label: Label, ring: Sequence[Point], size: Size) -> tuple[str, list[float], float]:
    if len(ring) < 3 or not all(math.isfinite(n) for point in ring for n in point):
        raise DataError(f"the polygon of {len(ring)} points cannot be drawn", expected="three finite points or more")
    if "polygon" in label.takes:
        return "polygon", _ring_points(ring, size), 0.0
    if "rectangle" in label.takes:
        return _box_form(label, Box(*envelope(ring)), size)
    raise _refused(label, "a polygon")


def _mask_form(label: Label, crop: MaskCrop, outline: Outline | None) -> tuple[str, list[float] | list[int], float]:
    x1, y1, x2, y2 = crop.xyxy
    if "mask" in label.takes:
        return "mask", _crop_points(crop), 0.0
    if "polygon" in label.takes:
        ring: Sequence[Point] = () if outline is None else outline(crop).points
        usable = ring if polygon_area(ring) > 0 else ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
        return "polygon", _to_hundredths([n for point in usable for n in point]), 0.0
    if "rectangle" in label.takes:
        return "rectangle", [x1, y1, x2, y2], 0.0
    raise _refused(label, "a mask")


def _ring_points(ring: Sequence[Point], size: Size) -> list[float]:
    """What of a ring lies in the frame, as CVAT lists points."""
    inside = _clip_ring(ring, size)
    if len(inside) < 3:
        raise _outside(size)
    return _to_hundredths([n for point in inside for n in point])


def _clip_ring(ring: Sequence[Point], size: Size) -> list[Point]:
    """A ring cut to the frame, one side after the other (Sutherland and Hodgman).

    The part that is left of a ring that is not convex may be one ring with edges along the frame's border.
    """
    kept = [(float(x), float(y)) for x, y in ring]
    for axis, limit, sign in ((0, 0.0, 1), (1, 0.0, 1), (0, float(size[0]), -1), (1, float(size[1]), -1)):
        if all(sign * (point[axis] - limit) >= 0 for point in kept):
            continue
        before, kept = kept, []
        for start, end in zip(before[-1:] + before[:-1], before, strict=True):
            da, db = sign * (start[axis] - limit), sign * (end[axis] - limit)
            if (da < 0) != (db < 0):
                share = da / (da - db)
                other = start[1 - axis] + share * (end[1 - axis] - start[1 - axis])
                kept.append((limit, other) if axis == 0 else (other, limit))
            if db >= 0:
                kept.append(end)
    return kept


def _to_hundredths(numbers: Iterable[float]) -> list[float]:
    return [round(n, 2) + 0.0 for n in numbers]


def _crop(mask: Mask) -> MaskCrop:
    """The part of a mask that holds the object, found without laying out the columns beside it."""
    height, size = mask.height, mask.height * mask.width
    # Python's own sum, because a hostile number must not wrap around.
    if not 0 < size <= MAX_PIXELS or any(n < 0 for n in mask.counts) or sum(mask.counts) != size:
        raise DataError(f"the mask's run lengths sum to {sum(mask.counts)}", expected=f"{size} pixels in all")
    ends = np.cumsum(np.array(mask.counts, dtype=np.int64))
    starts = np.concatenate([[0], ends[:-1]])
    ones = np.flatnonzero((np.arange(len(ends)) % 2 == 1) & (ends > starts))
    if not ones.size:
        raise DataError("an empty mask has no CVAT form", todo="Leave the object out")
    left, right = int(starts[ones[0]]) // height, (int(ends[ones[-1]]) - 1) // height
    low, high = left * height, (right + 1) * height
    runs = np.clip(ends, low, high) - np.clip(starts, low, high)
    bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(right - left + 1, height).T
    crop = MaskCrop.of(bits, left)
    assert crop is not None
    return crop


def _crop_points(crop: MaskCrop) -> list[int]:
    *runs, x1, y1, x2, y2 = encode_cvat(crop.bits)
    return [*runs, x1 + crop.left, y1 + crop.top, x2 + crop.left, y2 + crop.top]


def _outside(size: Size) -> DataError:
    return DataError(
        f"nothing of the object is in the frame of {size[0]} x {size[1]} px",
        expected="an area of 1/100 px a side at least",
        todo="Leave the object out",
    )


def _refused(label: Label, what: str) -> DataError:
    return DataError(
        f"the label {label.name!r} cannot be given to {what}",
        expected=f"an object for a label of the type {label.type!r}",
        todo="Change the label's type in CVAT to 'any', or map the model's class to another label",
    )


def _require_area(drawn: Shape, size: Size) -> None:
    """Refuse what has lost its area to the frame's border, or to the rounding."""
    if shape_problem(drawn, size) or (isinstance(drawn, Polygon) and polygon_area(drawn.points) <= 0):
        raise _outside(size)
