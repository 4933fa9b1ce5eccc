"""CVAT's serverless dialect: what a function is, what CVAT asks of it, and what it takes for an answer.

CVAT lists the *functions* of a Nuclio dashboard as its models. It is unforgiving about their form, and differs by
version: where one function lacks a field, a server may show no model at all. :func:`problems` knows what all versions
from 2.15 on take.

CVAT sends an image as base64 of the frame, nothing else about it. Where a photo carries an EXIF orientation, CVAT turns
it upright before annotators see it, so all coordinates here are those of the upright image: floats in pixels, half-open
``xyxy``. Only a mask's box has inclusive corners, as CVAT wants it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bridge.core.annotations import Polygon, Xyxy
from bridge.core.masks import MaskCrop
from bridge.core.predictor import Detections
from bridge.errors import DataError, PluginError

Shape = Literal["rectangle", "mask", "tag"]
Point = tuple[float, float]
Outline = Callable[[MaskCrop], Polygon]

#: The text attribute that keeps a detection's confidence: CVAT itself drops it.
SCORE = "score"
#: CVAT's page takes a function of this id for SAM's image encoder alone, and expects another kind of answer from it.
RESERVED_ID = "pth-facebookresearch-sam-vit-h"
#: CVAT shows interactors of an older version, but does not let anybody start them.
INTERACTOR_VERSION = "2"

NAMESPACE = "nuclio"

_ID = re.compile(r"[a-zA-Z0-9_.-]+")
_KINDS = frozenset({"detector", "interactor"})
_WHOLE_NUMBERS = ("version", "min_pos_points", "min_neg_points")
#: CVAT takes any text in these for true, "false" too.
_SWITCHES = ("startswith_box", "startswith_box_optional")
_MOST_POINTS = 1000
#: No image has that many pixels on a side; what claims so is damaged.
_FAR = 1e6

_HELP = (
    "Click on the object, or draw a box around it first where CVAT offers that. Further clicks correct the mask: left "
    "on the object, right beside it."
)


@dataclass(frozen=True, slots=True)
class DetectorCall:
    """What CVAT asks of a detector.

    Attributes:
        image: base64 text of an image file.
        threshold: of the confidence; None where the caller leaves it to the function.
    """

    image: str
    threshold: float | None


@dataclass(frozen=True, slots=True)
class InteractorCall:
    """What CVAT asks of an interactor.

    Attributes:
        image: base64 text of an image file.
        positive, negative: points ``(x, y)`` on the object and beside it, pixels.
        box: ``xyxy`` around it, with area; None where there is none.
    """

    image: str
    positive: tuple[Point, ...]
    negative: tuple[Point, ...]
    box: Xyxy | None

    @property
    def empty(self) -> bool:
        """Whether nothing says where the object is; CVAT sends that too, when the last point is taken away."""
        return not self.positive and self.box is None


def detector_function(
    name: str, *, title: str, description: str, labels: Sequence[str], shape: Shape, port: int = 0
) -> dict[str, Any]:
    """A detector as CVAT lists it.

    Args:
        name: its id: letters, digits and ``_ . -``.
        title, description: for people.
        labels: what it answers with; they must differ.
        shape: in which form.
        port: where it can be called directly; 0 where it cannot.
    """
    spec = [
        {"name": label, "type": shape, "attributes": [{"name": SCORE, "input_type": "text", "values": []}]}
        for label in labels
    ]
    return _function(name, {"name": title, "type": "detector", "version": "1", "spec": _spec(spec)}, description, port)


def interactor_function(name: str, *, title: str, description: str, port: int = 0) -> dict[str, Any]:
    """An interactor as CVAT lists it: clicks of both kinds, with or without a box; arguments as in
    :func:`detector_function`."""
    annotations = {
        "name": title,
        "type": "interactor",
        "version": INTERACTOR_VERSION,
        "spec": _spec([]),
        # With 0, a box alone is a question. CVAT 2.15, which knows no optional box, then also asks after a click beside
        # the object; that question is empty, and so is the answer.
        "min_pos_points": "0",
        "min_neg_points": "0",
        "startswith_box_optional": "true",
        "help_message": _HELP,
    }
    return _function(name, annotations, description, port)


def is_id(name: str) -> bool:
    """Whether CVAT's own addresses can hold this id."""
    return _ID.fullmatch(name) is not None


def problems(function: Any) -> list[str]:
    """What some version of CVAT would not forgive, for one function of a list; empty where there is nothing.

    With any of these a server may answer with no model at all, so such a function must not be listed.
    """
    if not isinstance(function, dict):
        return [f"it is a JSON {type(function).__name__}, not an object"]
    found = [
        f"{'.'.join(path)} is missing"
        for path in (("metadata", "name"), ("metadata", "annotations"), ("spec", "description"), ("status", "state"))
        if _at(function, *path) is None
    ]
    annotations = _at(function, "metadata", "annotations")
    if annotations is None:
        return found
    if not isinstance(annotations, dict):
        return [*found, "metadata.annotations is no object"]
    found += [
        f"metadata.annotations.{key} is {annotations[key]!r}, not a whole number"
        for key in _WHOLE_NUMBERS
        if key in annotations and not _whole(annotations[key])
    ]
    return found + _label_problems(annotations.get("spec"))


def own_problems(function: Mapping[str, Any]) -> list[str]:
    """:func:`problems` of a function that was made here, and what would make it useless though it is listed."""
    found = problems(function)
    name, annotations = str(_at(function, "metadata", "name")), _at(function, "metadata", "annotations") or {}
    if not is_id(name):
        found.append(f"the id {name!r} has other signs than letters, digits and _ . -")
    if name == RESERVED_ID:
        found.append(f"CVAT expects image embeddings from a function of the id {name!r}")
    found += [f"metadata.annotations.{k} is no text" for k, v in annotations.items() if not isinstance(v, str)]
    kind, version = annotations.get("type"), annotations.get("version", "")
    if kind not in _KINDS:
        found.append(f"the type is {kind!r}")
    if kind == "interactor" and _whole(version) and int(version) < int(INTERACTOR_VERSION):
        found.append(f"CVAT does not start interactors of version {version}")
    found += [f"CVAT takes {k} for true" for k in _SWITCHES if str(annotations.get(k, "true")) != "true"]
    port = _at(function, "status", "httpPort")
    if not isinstance(port, int) or not 0 <= port <= 65535:
        found.append(f"status.httpPort is {port!r}")
    if kind == "detector" and not found and not json.loads(annotations["spec"]):
        found.append("it has no labels")
    return found


def read_detector_call(body: Mapping[str, Any]) -> DetectorCall:
    """Read the payload of a call of a detector; what is not known is passed over.

    Raises:
        DataError: there is no image, or the threshold is no number from 0 to 1.
    """
    threshold = body.get("threshold")
    if threshold is not None and not (_is_number(threshold) and 0 <= threshold <= 1):
        raise DataError(
            f"threshold is {_shown(threshold)}",
            expected="a number from 0 to 1",
            todo="Correct the threshold in CVAT, or leave it empty",
        )
    return DetectorCall(_image(body), float(threshold) if threshold else None)


def read_interactor_call(body: Mapping[str, Any]) -> InteractorCall:
    """Read the payload of a call of an interactor; what is not known is passed over.

    Raises:
        DataError: there is no image, or the points or the box are none.
    """
    corners = _points(body, "obj_bbox")
    if len(corners) not in (0, 2):
        raise DataError(
            f"obj_bbox has {len(corners)} corners",
            expected="null, an empty list, or two corners [[x1, y1], [x2, y2]]",
            todo="Draw one box around one object",
        )
    return InteractorCall(_image(body), _points(body, "pos_points"), _points(body, "neg_points"), _box(corners))


def detection_items(
    detections: Detections,
    targets: Sequence[str | None],
    *,
    shape: Shape,
    threshold: float,
    size: tuple[int, int],
    outline: Outline,
) -> list[dict[str, Any]]:
    """The answer of a detector: one item per object, likeliest first.

    Args:
        targets: the label of each class of the model; None where its objects are left out.
        shape: the form that the function's labels have.
        threshold: objects below it are left out.
        size: ``(width, height)`` of the image.
        outline: a mask's polygon, for tasks whose masks shall become polygons.

    Raises:
        PluginError: masks are asked for, and the model gave another number of them than of objects.
    """
    if shape == "mask" and len(detections.masks) != len(detections.label):
        raise PluginError(
            f"the model gave {len(detections.masks)} masks for {len(detections.label)} objects",
            expected="one mask per object",
        )
    items = []
    for k in range(len(detections.label)):
        index, confidence = int(detections.label[k]), float(detections.confidence[k])
        label = targets[index] if 0 <= index < len(targets) else None
        # Written so that a confidence that is no number is left out too.
        if label is None or not confidence >= threshold:
            continue
        form = _form(detections, k, shape, size, outline)
        if form is not None:
            items.append({**_item(shape, label, min(confidence, 1.0)), **form})
    return items


def mask_answer(mask: MaskCrop | None, *, size: tuple[int, int], outline: Outline) -> dict[str, Any]:
    """The answer of an interactor: rows of 0 and 1 of the mask's box, the box with inclusive corners, and a polygon.

    Where nothing was found it is one empty pixel without a polygon: CVAT's page then draws nothing and keeps the
    points, whereas an answer without a mask, or with rows of no length, ends in an error message.

    Args:
        size: ``(width, height)`` of the image.
    """
    crop = None if mask is None else _tight(mask, size)
    if crop is None:
        return {"mask": [[0]], "bounds": [0, 0, 0, 0], "points": []}
    ring = [[round(x, 2), round(y, 2)] for x, y in _ring(crop, outline)]
    return {"mask": crop.bits.astype(np.uint8).tolist(), "bounds": _corners(crop), "points": ring}


def _function(name: str, annotations: dict[str, str], description: str, port: int) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
        "spec": {"description": description},
        "status": {"state": "ready", "httpPort": port},
    }


def _spec(labels: list[dict[str, Any]]) -> str:
    return json.dumps([{"id": number, **label} for number, label in enumerate(labels, 1)], ensure_ascii=False)


def _label_problems(spec: Any) -> list[str]:
    if not spec:
        return []
    try:
        return _labels_wrong(json.loads(spec), "labels")
    except (TypeError, ValueError, RecursionError) as error:
        return [f"metadata.annotations.spec is no JSON text: {type(error).__name__}"]


def _labels_wrong(labels: Any, what: str) -> list[str]:
    if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
        return [f"the {what} are no list of objects"]
    found = []
    names = [label.get("name") for label in labels]
    if not all(isinstance(name, str) and name for name in names):
        found.append(f"one of the {what} has no name")
    elif len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        found.append(f"the {what} have {twice!r} twice")
    for label in labels:
        found += _attributes_wrong(label.get("attributes", []), label.get("name"))
        if label.get("type") == "skeleton":
            found += _labels_wrong(label.get("sublabels"), "sublabels")
            found += [] if isinstance(label.get("svg"), str) else ["a skeleton has no svg"]
    return found


def _attributes_wrong(attributes: Any, label: Any) -> list[str]:
    if not isinstance(attributes, list) or not all(isinstance(one, dict) for one in attributes):
        return [f"the attributes of {label!r} are no list of objects"]
    found = [
        f"an attribute of {label!r} has no {key}"
        for key in ("name", "input_type", "values")
        if any(one.get(key) is None for one in attributes)
    ]
    names = [str(one.get("name")) for one in attributes]
    return found + ([f"two attributes of {label!r} have one name"] if len(set(names)) != len(names) else [])


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _whole(value: Any) -> bool:
    try:
        int(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _image(body: Mapping[str, Any]) -> str:
    image = body.get("image")
    if not isinstance(image, str) or not image.strip():
        raise DataError(
            f"image is {'missing' if 'image' not in body else _shown(image)}",
            expected='an image file in base64, as in {"image": "iVBORw0..."}',
            todo="Send the frame's file, encoded as base64",
        )
    return image


def _points(body: Mapping[str, Any], key: str) -> tuple[Point, ...]:
    value = body.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MOST_POINTS or not all(map(_is_point, value)):
        raise DataError(
            f"{key} is {_shown(value)}",
            expected=f"at most {_MOST_POINTS:,} points [x, y] in pixels of the image",
            todo="Correct the request",
        )
    return tuple((float(x), float(y)) for x, y in value)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    """Whether it is a number of a size that occurs; not for NaN, of which no comparison is true."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_FAR < value < _FAR


def _box(corners: Sequence[Point]) -> Xyxy | None:
    """The box between two opposite corners. A box without area, as a double click draws it, says nothing."""
    if not corners:
        return None
    (xa, ya), (xb, yb) = corners
    box = (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))
    return box if box[0] < box[2] and box[1] < box[3] else None


def _item(shape: Shape, label: str, confidence: float) -> dict[str, Any]:
    return {
        "type": shape,
        "label": label,
        "confidence": f"{confidence:.4f}",
        "attributes": [{"name": SCORE, "value": f"{confidence:.2f}"}],
    }


def _form(
    detections: Detections, k: int, shape: Shape, size: tuple[int, int], outline: Outline
) -> dict[str, Any] | None:
    """What an item has besides its label; None where there is nothing to draw."""
    if shape == "tag":
        return {}
    if shape == "rectangle":
        x1, y1, x2, y2 = detections.xyxy[k].tolist()
        usable = all(map(math.isfinite, (x1, y1, x2, y2))) and x2 > x1 and y2 > y1
        return {"points": [round(n, 2) for n in (x1, y1, x2, y2)], "rotation": 0} if usable else None
    crop = _tight(detections.masks[k], size)
    if crop is None:
        return None
    ring = [round(n, 2) for point in _ring(crop, outline) for n in point]
    return {"mask": [*crop.bits.ravel().astype(np.uint8).tolist(), *_corners(crop)], "points": ring}


def _tight(mask: MaskCrop, size: tuple[int, int]) -> MaskCrop | None:
    """The smallest crop that holds what of the mask lies in the image; None where that is nothing."""
    width, height = size
    return MaskCrop.of(mask.bits[: max(0, height - mask.top), : max(0, width - mask.left)], mask.left, mask.top)


def _corners(crop: MaskCrop) -> list[int]:
    """Left, top, right, bottom; the last two are the last pixels inside."""
    height, width = crop.bits.shape
    return [crop.left, crop.top, crop.left + width - 1, crop.top + height - 1]


def _ring(crop: MaskCrop, outline: Outline) -> Sequence[Point]:
    """The mask's polygon; the box around it where that has no area: CVAT draws no polygon of two points."""
    points = outline(crop).points
    if len(points) >= 3:
        return points
    x1, y1, x2, y2 = crop.xyxy
    return ((x1, y1), (x2, y1), (x2, y2), (x1, y2))


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'JSON object'} of {len(value)}"
    return repr(value)[:60]
