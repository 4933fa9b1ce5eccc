"""Label Studio's own forms: label configurations, and regions in percent, to and from pixels.

Shared by the tool (:mod:`bridge.tools.label_studio`) and by the model server, so it is pure: no I/O.

Label Studio gives every coordinate in percent of the EXIF-oriented image. ``x, y`` of a rectangle is its top-left
corner before rotation, and ``rotation`` turns it clockwise, in pixel space, about **that corner**; a
:class:`~bridge.core.annotations.Box` turns about its centre. Observed on Label Studio 1.23.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from bridge.core.annotations import Annotation, Box, LabelSet, Polygon, Problem, Shape
from bridge.core.findings import ErrorType
from bridge.core.geometry import box_from_corner_rotation, box_to_corner_rotation
from bridge.errors import DataError

Region = dict[str, Any]
Size = tuple[int, int]

#: Result types whose geometry labelbridge reads; regions of every other type are left alone.
_RECTANGLES = ("rectanglelabels", "rectangle")
_POLYGONS = ("polygonlabels", "polygon")


@dataclass(frozen=True, slots=True)
class Control:
    """One control tag of a label configuration.

    Attributes:
        kind: the tag in lower case, as in ``rectanglelabels`` or ``choices``.
        labels: the values of its ``Label`` or ``Choice`` children as results hold them: the alias where there is one.
        smart: whether the tag asks a model for suggestions.
    """

    name: str
    to_name: str
    kind: str
    labels: tuple[str, ...] = ()
    smart: bool = False


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """What of a label configuration matters to labelbridge.

    A configuration may show several images; labelbridge works with the first one only.

    Attributes:
        image_key: the key of the task's data that holds the image: ``image`` for ``value="$image"``.
        image_name: the name of the Image tag.
        controls: every control tag, for every object, in document order.
    """

    image_key: str
    image_name: str
    controls: tuple[Control, ...]

    @property
    def image_controls(self) -> tuple[Control, ...]:
        """The controls that work on the image."""
        return tuple(c for c in self.controls if self.image_name in c.to_name.split(","))

    @property
    def labels(self) -> LabelSet:
        """The labels that regions of the image can have, in document order; without choices."""
        names = (label for c in self.image_controls if c.kind.endswith("labels") for label in c.labels)
        return LabelSet(tuple(dict.fromkeys(names)))

    def control_for(self, kind: str, label: str | None = None) -> Control | None:
        """The first control of this kind on the image (and with this label), or None."""
        for control in self.image_controls:
            if control.kind == kind and (label is None or label in control.labels):
                return control
        return None

    def box_controls(self, label: str) -> tuple[Control, Control]:
        """The controls that hold the geometry and the label of a box: the same one for RectangleLabels.

        Raises:
            DataError: a person could not draw such a box with this configuration.
        """
        both = self.control_for("rectanglelabels", label)
        if both:
            return both, both
        geometry, name = self.control_for("rectangle"), self.control_for("labels", label)
        if geometry and name:
            return geometry, name
        have = ", ".join(c.kind for c in self.image_controls) or "no control"
        raise DataError(
            f"the label configuration has no tag to draw a box labelled {label!r}: it has {have}",
            expected="RectangleLabels with that label, or Rectangle beside Labels",
            todo="Add the label in the project's labelling settings, or map the model's class to one of its labels",
        )


def parse_label_config(xml: str) -> LabelConfig:
    """Read a project's label configuration.

    Raises:
        DataError: it is no XML, or has no image that labelbridge can work with; says what was found.
    """
    root = _root(xml)
    tags = [(element.tag, {k.lower(): v for k, v in element.attrib.items()}, element) for element in root.iter()]
    image = next((attributes for tag, attributes, _ in tags if tag.lower() == "image"), None)
    if image is None:
        found = ", ".join(dict.fromkeys(tag for tag, _, _ in tags if tag.lower() != "view")) or "no tag at all"
        raise DataError(
            f"the label configuration shows no image: it has {found}",
            expected='an Image tag, as in <Image name="image" value="$image"/>',
            todo="Choose a project that labels images",
        )
    value, name = image.get("value", ""), image.get("name", "")
    if not name or not value.startswith("$") or len(value) < 2:
        shown = "valueList" if "valuelist" in image else f"value={value!r}"
        raise DataError(
            f"the Image tag of the label configuration has name={name!r} and {shown}",
            expected='one image per task, named by the task\'s data, as in <Image name="image" value="$image"/>',
            todo="Correct the project's labelling settings",
        )
    controls = tuple(
        Control(
            name=attributes["name"],
            to_name=attributes["toname"],
            kind=tag.lower(),
            labels=_values(element),
            smart=attributes.get("smart", "").lower() == "true",
        )
        for tag, attributes, element in tags
        if "name" in attributes and "toname" in attributes
    )
    return LabelConfig(value[1:], name, controls)


def label_colours(xml: str) -> dict[str, str]:
    """The colour of each label that has one, as it is written in the configuration."""
    colours: dict[str, str] = {}
    for element in _root(xml).iter():
        colour = element.get("background")
        if element.tag.lower() == "label" and colour:
            colours.setdefault(element.get("alias") or element.get("value") or "", colour)
    return colours


def _root(xml: str) -> Element:
    try:
        return ElementTree.fromstring(xml)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise DataError(
            f"the label configuration is no usable XML: {error}",
            expected="a <View> with an Image tag",
            todo="Correct the project's labelling settings",
        ) from None


def _values(control: Element) -> tuple[str, ...]:
    children = (e for e in control.iter() if e.tag.lower() in ("label", "choice"))
    return tuple(value for e in children if (value := e.get("alias") or e.get("value")))


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


def _number(value: Mapping[str, Any], key: str) -> float:
    number = value.get(key)
    try:
        if not isinstance(number, bool) and isinstance(number, int | float) and math.isfinite(number):
            return float(number)
    except OverflowError:
        pass  # JSON allows whole numbers of any length
    raise DataError(f"{key} is {str(number)[:40]}", expected="a finite number")


def regions_to_annotations(
    result: object, config: LabelConfig, submission_id: str
) -> tuple[list[Annotation], list[Problem], Size | None]:
    """The rectangles and polygons on the image, what is wrong with them, and the image's size as Label Studio saw it.

    Entries that share a region id (``Rectangle`` beside ``Labels``, and per-region choices or notes) are one object.
    Its id is ``{submission_id}:{region id}``. An object without area or with a label that is not in the
    configuration is both given and reported; one that cannot be read is only reported. Where a region holds
    several labels, the first one counts. Brushes, key points, ellipses and regions of other objects are no
    rectangles or polygons and are passed over. Never raises, whatever ``result`` holds.
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
            shape = _shape(geometry, size)
        except DataError as error:
            report(ErrorType.DEGENERATE_SHAPE, f"region {region_id} cannot be read: {error}", annotation_id)
            continue
        if isinstance(shape, Box) and (problem := shape.problem()):
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
    """The entry that says where the object is; None where the group is no rectangle or polygon on the image."""
    for entry in entries:
        on_image = entry.get("to_name", config.image_name) == config.image_name
        if on_image and entry.get("type") in (*_RECTANGLES, *_POLYGONS):
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


def _shape(entry: Region, fallback: Size | None) -> Shape:
    value = entry.get("value")
    if not isinstance(value, dict):
        raise DataError(f"its value is {type(value).__name__}", expected="an object with coordinates")
    size = region_size(entry) or fallback
    if size is None:
        raise DataError("original_width and original_height are missing", expected="the size of the image in pixels")
    if entry["type"] in _POLYGONS:
        return polygon_from_value(value, *size)
    return box_from_value(value, *size)


def _origin(entry: Region) -> Literal["manual", "prediction", "prediction-changed"]:
    match entry.get("origin"):
        case "prediction":
            return "prediction"
        case "prediction-changed":
            return "prediction-changed"
        case _:
            return "manual"


def box_region(
    region_id: str,
    control: Control,
    label: str,
    box: Box,
    width: int,
    height: int,
    score: float | None = None,
    note: str | None = None,
) -> Region:
    """One entry of a result: a box under ``control``, which holds the label too where its kind is one of labels.

    ``score`` (finite, in [0, 1]) is shown beside the region, ``note`` as its text. Region ids must be fresh: a second
    suggestion with the id of an earlier one replaces it in the editor.
    """
    value: dict[str, Any] = dict(box_to_value(box, width, height))
    if control.kind.endswith("labels"):
        value[control.kind] = [label]
    region: Region = {
        "id": region_id,
        "from_name": control.name,
        "to_name": control.to_name.split(",")[0],
        "type": control.kind,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }
    if score is not None:
        region["score"] = finite_score(score)
    if note:
        region["meta"] = {"text": [note]}
    return region


def box_entries(
    config: LabelConfig,
    region_id: str,
    label: str,
    box: Box,
    width: int,
    height: int,
    score: float | None = None,
    note: str | None = None,
) -> list[Region]:
    """A box as this configuration wants it: one entry for RectangleLabels, two for Rectangle beside Labels.

    Raises:
        DataError: the configuration has no tag for such a box.
    """
    geometry, name = config.box_controls(label)
    entries = [box_region(region_id, geometry, label, box, width, height, score, note)]
    if name is not geometry:
        entries.append(box_region(region_id, name, label, box, width, height, score))
    return entries


def prediction_entry(
    result: Sequence[Region], model_version: str, score: float | None = None, task_id: int | None = None
) -> dict[str, Any]:
    """One prediction as Label Studio takes it: from a model server, in an import, or (with ``task_id``) in bulk.

    ``score`` is that of the whole image; without one it is the mean of the regions' scores, 0 where there are none.
    """
    if score is None:
        scores = [region["score"] for region in result if "score" in region]
        score = sum(scores) / len(scores) if scores else 0.0
    entry = {"model_version": model_version, "score": finite_score(score), "result": list(result)}
    return entry if task_id is None else {"task": task_id, **entry}


def finite_score(score: float) -> float:
    """``score`` as a plain float.

    Raises:
        DataError: it is not finite. Label Studio drops the whole batch for one such number.
    """
    if not math.isfinite(score):
        raise DataError(f"a score is {score}", expected="a finite number")
    return float(score)
