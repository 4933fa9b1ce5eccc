"""What a LabelStudioMLBase answers, as detections: predictions of any generation, regions of any kind on the image.

Pure: no I/O, nothing of theirs is run. A region that cannot be read is left out and reported; the others count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.core.annotations import Box, Polygon, Xyxy
from bridge.core.geometry import box_corners, box_envelope, envelope
from bridge.core.masks import Bools, MaskCrop
from bridge.core.predictor import Detections, Kind
from bridge.core.rle import decode_brush
from bridge.dialects.label_studio import (
    LabelConfig,
    Region,
    Size,
    box_from_value,
    group_regions,
    polygon_from_value,
    region_label,
    region_size,
)
from bridge.errors import DataError, ModelError

_RECTANGLES = ("rectanglelabels", "rectangle")
_POLYGONS = ("polygonlabels", "polygon")
_BRUSHES = ("brushlabels", "brush")
_CHOICES = "choices"

#: Pixels; arithmetic on coordinates beyond would not be exact.
_FARTHEST = 1e7

#: What each kind of control makes of a model; the first control of a configuration decides.
KIND_OF_CONTROL: dict[str, Kind] = {
    **dict.fromkeys(_RECTANGLES, "rectangle"),
    **dict.fromkeys((*_POLYGONS, *_BRUSHES), "mask"),
    _CHOICES: "tag",
}


@dataclass(frozen=True, slots=True)
class Found:
    """One region.

    Attributes:
        label: as the model wrote it; empty where it wrote none.
        confidence: in [0, 1].
        shape: pixels of the image; a mask is (height, width) bool. None for a choice, which is about the whole image.
    """

    label: str
    confidence: float
    shape: Box | Polygon | Bools | None


def wire_form(answer: object) -> Any:
    """What ``predict`` returned as plain JSON values, as it would have travelled to Label Studio.

    pydantic objects (the SDK's ModelResponse, PredictionValue), arrays and tensors are unpacked.

    Raises:
        ModelError: something in it has no JSON form.
    """
    try:
        return json.loads(json.dumps(answer, default=_unpacked))
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(
            f"its answer has no JSON form: {error}", expected="lists, objects, texts and numbers"
        ) from None


def only_prediction(answer: Any) -> Mapping[str, Any] | None:
    """The prediction in the answer to a call with one task, or None where there is none.

    Takes ``[{"result": ...}]``, ``{"predictions": [...]}``, ``{"results": [...]}`` and a bare prediction. Of several
    predictions for the task, which Label Studio takes as those of several versions, the first one counts.

    Raises:
        ModelError: the answer is none of these.
    """
    found = answer
    if isinstance(found, dict) and "result" not in found:
        found = found.get("predictions", found.get("results"))
    while isinstance(found, list):
        found = found[0] if found else None
    if not found:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("result") or [], list):
        raise ModelError(
            f"its answer is {json.dumps(answer)[:80]}",
            expected='one prediction per task, as in [{"result": [...], "score": 0.9}]',
        )
    return found


def read_regions(prediction: Mapping[str, Any], config: LabelConfig, size: Size) -> tuple[list[Found], list[str]]:
    """The regions on an image of ``size`` (width, height), and what is wrong with those that cannot be read.

    Choices come one by one. Regions of other objects and of other kinds (key points, text) are passed over.
    """
    found: list[Found] = []
    problems: list[str] = []
    overall = _share(prediction.get("score")) or 1.0  # the SDK writes 0 where a model gives no score
    for entries in group_regions(list(_identified(prediction.get("result") or []))).values():
        readable = [e for e in entries if _on_image(e, config) and e.get("type") in KIND_OF_CONTROL]
        # Where an entry says where the object is, choices are notes about that object.
        for entry in sorted(readable, key=lambda e: e["type"] == _CHOICES)[:1]:
            score = _share(entry.get("score"))
            confidence = overall if score is None else score
            try:
                if entry["type"] == _CHOICES:
                    found += [Found(label, confidence, None) for label in _choices(entry)]
                else:
                    found.append(Found(region_label(entries) or "", confidence, _shape(entry, size)))
            except DataError as error:
                problems.append(str(error))
    return found, problems


def to_detections(
    found: Sequence[Found], kind: Kind, classes: Sequence[str], size: Size, threshold: float
) -> Detections:
    """The regions that fit ``kind`` and have one of ``classes``, from ``threshold`` on, as a Predictor answers them.

    Labels are matched as :mod:`bridge.core.label_map` matches them: exactly, else by the only class that is equal
    without regard to case.
    """
    rows: list[tuple[float, int, Xyxy, MaskCrop | None]] = []
    for one in found:
        label = _class_of(one.label, classes)
        if label is None or one.confidence < threshold or (one.shape is None) != (kind == "tag"):
            continue
        if one.shape is None:
            rows.append((one.confidence, label, (0.0, 0.0, float(size[0]), float(size[1])), None))
        elif kind == "mask":
            mask = to_mask(one.shape, size)
            if mask is not None:
                rows.append((one.confidence, label, mask.xyxy, mask))
        elif (box := _to_box(one.shape, size)) is not None:
            rows.append((one.confidence, label, box, None))
    rows.sort(key=lambda row: -row[0])
    return Detections(
        np.array([box for _, _, box, _ in rows], dtype=np.float64).reshape(-1, 4),
        np.array([label for _, label, _, _ in rows], dtype=np.int64),
        np.array([confidence for confidence, _, _, _ in rows], dtype=np.float64),
        tuple(mask for _, _, _, mask in rows if mask is not None),
    )


def to_mask(shape: Box | Polygon | Bools, size: Size) -> MaskCrop | None:
    """The part of a shape that lies on an image of ``size`` (width, height); None where that is empty."""
    if isinstance(shape, Box):
        return _filled(box_corners(shape), size)
    return _filled(shape.points, size) if isinstance(shape, Polygon) else MaskCrop.of(shape)


def _unpacked(value: Any) -> Any:
    for method in ("model_dump", "tolist"):
        if callable(getattr(value, method, None)):
            return getattr(value, method)()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _on_image(entry: Region, config: LabelConfig) -> bool:
    return isinstance(entry.get("type"), str) and entry.get("to_name", config.media_name) == config.media_name


def _identified(result: Sequence[Any]) -> Iterator[Region]:
    """The entries, those without an id with one of their own: many models leave it out."""
    for number, entry in enumerate(result):
        if isinstance(entry, dict):
            yield entry if isinstance(entry.get("id"), str | int) else {**entry, "id": f"entry {number}"}


def _share(value: Any) -> float | None:
    """A score as a number in [0, 1]; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(max(float(value), 0.0), 1.0)


def _value(entry: Region) -> dict[str, Any]:
    value = entry.get("value")
    if not isinstance(value, dict):
        raise DataError(f"the value of a region is {type(value).__name__}", expected="an object")
    return value


def _choices(entry: Region) -> list[str]:
    choices = _value(entry).get(_CHOICES)
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise DataError("the choices of a region are no list of texts")
    return choices


def _shape(entry: Region, size: Size) -> Box | Polygon | Bools:
    value = _value(entry)
    if entry["type"] in _BRUSHES:
        return _brush(value, region_size(entry) or size, size)
    if entry["type"] in _POLYGONS:
        polygon = polygon_from_value(value, *size)
        _check_reach(envelope(polygon.points))
        return polygon
    box = box_from_value(value, *size)
    if problem := box.problem():
        raise DataError(problem)
    _check_reach(box_envelope(box))
    return box


def _check_reach(xyxy: Xyxy) -> None:
    if not all(abs(number) <= _FARTHEST for number in xyxy):
        raise DataError(f"a region reaches to {xyxy} px", expected="coordinates near the image, in percent of it")


def _brush(value: Mapping[str, Any], own: Size, size: Size) -> Bools:
    """The mask at the image's size; a model that shrinks images answers in its own."""
    rle = value.get("rle")
    if not isinstance(rle, list):
        raise DataError("a brush region has no rle", expected="value.rle, a list of bytes")
    mask = decode_brush(rle, own[1], own[0])
    if own == size:
        return mask
    rows = (np.arange(size[1]) * own[1]) // size[1]
    columns = (np.arange(size[0]) * own[0]) // size[0]
    return mask[np.ix_(rows, columns)]


def _class_of(label: str, classes: Sequence[str]) -> int | None:
    if label in classes:
        return classes.index(label)
    alike = [i for i, name in enumerate(classes) if name.strip().casefold() == label.strip().casefold()]
    return alike[0] if len(alike) == 1 else None


def _to_box(shape: Box | Polygon | Bools, size: Size) -> Xyxy | None:
    """The smallest upright box around a shape, clipped to the image; None where nothing is left of it."""
    if isinstance(shape, Box):
        x1, y1, x2, y2 = box_envelope(shape)
    elif isinstance(shape, Polygon):
        x1, y1, x2, y2 = envelope(shape.points)
    else:
        mask = MaskCrop.of(shape)
        return None if mask is None else mask.xyxy
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1]))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _filled(points: Sequence[tuple[float, float]], size: Size) -> MaskCrop | None:
    """The pixels whose centres lie inside of a ring, by the even-odd rule."""
    width, height = size
    top = min(max(math.floor(min(y for _, y in points)), 0), height)
    bottom = min(max(math.ceil(max(y for _, y in points)), top), height)
    # A ring crosses a row of centres an even number of times. Left of the first crossing is outside; each one flips.
    flips = np.zeros((bottom - top, width + 1), dtype=np.bool_)
    for (x1, y1), (x2, y2) in zip(points, (*points[1:], points[0]), strict=True):
        low, high = sorted((y1, y2))
        rows = np.arange(max(math.ceil(low - 0.5), top), min(math.ceil(high - 0.5), bottom))
        if rows.size:
            crossing = x1 + (rows + 0.5 - y1) * ((x2 - x1) / (y2 - y1))
            flips[rows - top, np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)] ^= True
    return MaskCrop.of(np.logical_xor.accumulate(flips, axis=1)[:, :-1], 0, top) if flips.size else None
