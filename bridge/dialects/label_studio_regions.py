"""Regions of Label Studio as labelbridge's annotations: percent of the image to pixels, and back; spans of a text.

Pure: no I/O. Label Studio gives every coordinate in percent of the EXIF-oriented image. ``x, y`` of a rectangle is its
top-left corner before rotation, and ``rotation`` turns it clockwise, in pixel space, about **that corner**; a
:class:`~bridge.core.annotations.Box` turns about its centre. ``start, end`` of a span count Unicode code points of the
task's text as it is stored, half-open. Observed on Label Studio 1.23.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bridge.core.annotations import Annotation, Box, Mask, Polygon, Problem, Shape, TextSpan
from bridge.core.findings import ErrorType
from bridge.core.geometry import box_from_corner_rotation, box_to_corner_rotation
from bridge.core.rle import decode_brush, decode_coco, encode_brush, encode_coco
from bridge.dialects.label_studio_config import LabelConfig
from bridge.errors import DataError

Region = dict[str, Any]
Size = tuple[int, int]

#: Result types whose geometry labelbridge reads; regions of every other type are left alone.
_RECTANGLES = ("rectanglelabels", "rectangle")
_POLYGONS = ("polygonlabels", "polygon")
_BRUSHES = ("brushlabels", "brush")
_SPANS = ("labels",)


def box_from_value(value: Mapping[str, Any], width: int, height: int) -> Box:
    """A rectangle's ``value`` (percent) as a box in pixels of an image of ``width`` x ``height``.

    Raises:
        DataError: ``x``, ``y``, ``width`` or ``height`` is missing, or one of them is no finite number.
    """
    x, y = _number(value, "x") * width / 100, _number(value, "y") * height / 100
    w, h = _number(value, "width") * width / 100, _number(value, "height") * height / 100
    rotation = 0.0 if value.get("rotation") is None else _number(value, "rotation")
    return box_from_corner_rotation(x, y, w, h, rotation)


def box_to_value(box: Box, width: int, height: int) -> dict[str, float]:
    """Inverse of :func:`box_from_value`."""
    x, y, w, h, rotation = box_to_corner_rotation(box)
    return {
        "x": x * 100 / width,
        "y": y * 100 / height,
        "width": w * 100 / width,
        "height": h * 100 / height,
        "rotation": rotation,
    }


def polygon_from_value(value: Mapping[str, Any], width: int, height: int) -> Polygon:
    """A polygon's ``value`` (percent) in pixels.

    Raises:
        DataError: there are fewer than three points, or one of them is no pair of finite numbers.
    """
    points = value.get("points")
    if not isinstance(points, list) or len(points) < 3:
        raise DataError("the polygon has fewer than three points")
    ring: list[tuple[float, float]] = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise DataError(f"a point of the polygon is {point!r}", expected="a pair of numbers")
        pair = {"x": point[0], "y": point[1]}
        ring.append((_number(pair, "x") * width / 100, _number(pair, "y") * height / 100))
    return Polygon(tuple(ring))


def polygon_to_value(polygon: Polygon, width: int, height: int) -> dict[str, Any]:
    """Inverse of :func:`polygon_from_value`."""
    return {"points": [[x * 100 / width, y * 100 / height] for x, y in polygon.points], "closed": True}


def mask_from_value(value: Mapping[str, Any], width: int, height: int) -> Mask:
    """A brush stroke's ``value`` (run lengths of the whole image).

    Raises:
        DataError: there are no run lengths, or they are damaged or of another size.
    """
    rle = value.get("rle")
    if not isinstance(rle, list):
        raise DataError("the brush stroke has no run lengths", expected="a list of bytes under rle")
    return encode_coco(decode_brush(rle, height, width))


def mask_to_value(mask: Mask) -> dict[str, Any]:
    """Inverse of :func:`mask_from_value`."""
    return {"format": "rle", "rle": encode_brush(decode_coco(mask))}


def span_from_value(value: Mapping[str, Any], text: str) -> TextSpan:
    """A span's ``value`` in this text.

    Raises:
        DataError: ``start`` or ``end`` is no whole number, or lies outside of the text.
    """
    start, end = value.get("start"), value.get("end")
    # A bool is an int to Python; the paths that HyperText has here are texts.
    if type(start) is not int or type(end) is not int:
        raise DataError(f"start is {str(start)[:40]!r} and end is {str(end)[:40]!r}", expected="two whole numbers")
    if max(start, end) > len(text):
        raise DataError(
            f"it reaches to character {max(start, end)}", expected=f"at most {len(text)}, where the text ends"
        )
    return TextSpan(start, end, text[max(start, 0) : max(end, 0)])


def span_to_value(span: TextSpan) -> dict[str, Any]:
    """Inverse of :func:`span_from_value`."""
    return {"start": span.start, "end": span.end, "text": span.text}


def _number(value: Mapping[str, Any], key: str) -> float:
    number = value.get(key)
    try:
        if not isinstance(number, bool) and isinstance(number, int | float) and math.isfinite(number):
            return float(number)
    except OverflowError:
        pass  # JSON allows whole numbers of any length
    raise DataError(f"{key} is {str(number)[:40]}", expected="a finite number")


def regions_to_annotations(
    result: object, config: LabelConfig, submission_id: str, text: str = ""
) -> tuple[list[Annotation], list[Problem], Size | None]:
    """The rectangles, polygons and brush strokes on the image, what is wrong with them, and the image's size as Label
    Studio saw it; where the configuration shows a text, the spans of ``text``.

    Entries that share a region id (``Rectangle`` beside ``Labels``, and per-region choices or notes) are one object.
    Its id is ``{submission_id}:{region id}``. An object without area or with a label that is not in the
    configuration is both given and reported; one that cannot be read is only reported. Where a region holds
    several labels, the first one counts. Key points, ellipses and regions of other objects are none of these and are
    passed over. Never raises, whatever ``result`` holds.
    """
    problems: list[Problem] = []

    def report(kind: ErrorType, message: str, annotation_id: str | None = None) -> None:
        problems.append(Problem(str(kind), message, annotation_id, submission_id))

    if not isinstance(result, list):
        report(ErrorType.DEGENERATE_SHAPE, f"the result is {type(result).__name__}, not a list of regions")
        return [], problems, None
    size = next((s for s in map(region_size, result) if s), None)
    known = set(config.labels.names)
    annotations: list[Annotation] = []
    for region_id, entries in group_regions(result).items():
        geometry = geometry_entry(entries, config)
        if geometry is None:
            continue
        annotation_id = f"{submission_id}:{region_id}"
        try:
            shape = _shape(geometry, size, text)
        except DataError as error:
            report(ErrorType.DEGENERATE_SHAPE, f"region {region_id} cannot be read: {error}", annotation_id)
            continue
        if isinstance(shape, Box | TextSpan) and (problem := shape.problem()):
            report(ErrorType.DEGENERATE_SHAPE, f"region {region_id}: {problem}", annotation_id)
        label = region_label(entries)
        if label is None:
            report(ErrorType.UNKNOWN_LABEL, f"region {region_id} has no label", annotation_id)
            continue
        if label not in known:
            message = f"region {region_id} is labelled {label!r}, which the label configuration does not have"
            report(ErrorType.UNKNOWN_LABEL, message, annotation_id)
        annotations.append(Annotation(annotation_id, label, shape, _origin(geometry)))
    if any(s != size for s in map(region_size, result) if s):
        report(ErrorType.SIZE_MISMATCH, f"the regions disagree about the size of the image, {size} and others")
    return annotations, problems, size


def group_regions(result: Sequence[object]) -> dict[str, list[Region]]:
    """The entries of a result by region id, in order; entries without an id (relations) are left out."""
    groups: dict[str, list[Region]] = {}
    for entry in result:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str | int):
            groups.setdefault(str(entry["id"]), []).append(entry)
    return groups


def geometry_entry(entries: Sequence[Region], config: LabelConfig) -> Region | None:
    """The entry that says where the object is; None where the group is no rectangle, polygon, brush stroke or span."""
    kinds = _SPANS if config.media == "text" else (*_RECTANGLES, *_POLYGONS, *_BRUSHES)
    for entry in entries:
        if entry.get("to_name", config.media_name) == config.media_name and entry.get("type") in kinds:
            return entry
    return None


def region_label(entries: Sequence[Region]) -> str | None:
    """The (first) label of a region, from whichever of its entries holds labels."""
    for entry in entries:
        kind, value = entry.get("type"), entry.get("value")
        if isinstance(kind, str) and kind.endswith("labels") and isinstance(value, dict):
            labels = value.get(kind)
            if isinstance(labels, list) and labels and isinstance(labels[0], str):
                return labels[0]
    return None


def region_size(entry: object) -> Size | None:
    """``original_width``, ``original_height`` of a region where both are there and positive."""
    if not isinstance(entry, dict):
        return None
    width, height = entry.get("original_width"), entry.get("original_height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _shape(entry: Region, fallback: Size | None, text: str) -> Shape:
    value = entry.get("value")
    if not isinstance(value, dict):
        raise DataError(f"its value is {type(value).__name__}", expected="an object with coordinates")
    if entry["type"] in _SPANS:
        return span_from_value(value, text)
    size = region_size(entry) or fallback
    if size is None:
        raise DataError("original_width and original_height are missing", expected="the size of the image in pixels")
    if entry["type"] in _POLYGONS:
        return polygon_from_value(value, *size)
    if entry["type"] in _BRUSHES:
        return mask_from_value(value, *size)
    return box_from_value(value, *size)


def _origin(entry: Region) -> Literal["manual", "prediction", "prediction-changed"]:
    match entry.get("origin"):
        case "prediction":
            return "prediction"
        case "prediction-changed":
            return "prediction-changed"
        case _:
            return "manual"
