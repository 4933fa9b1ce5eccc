"""Regions and predictions as Label Studio takes them: built from boxes, masks, polygons, spans and choices.

Pure: no I/O. Region ids must be fresh: a second suggestion with the id of an earlier one replaces it in the editor.
Observed on Label Studio 1.23.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.core.annotations import Box, Polygon, TextSpan
from bridge.core.masks import MaskCrop
from bridge.core.rle import encode_brush_crop
from bridge.dialects.label_studio_config import Control, LabelConfig, Place
from bridge.dialects.label_studio_regions import Region, box_to_value, polygon_to_value, span_to_value
from bridge.errors import DataError


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
    region = _entry(region_id, control, label, dict(box_to_value(box, width, height)), width, height, score)
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


def rectangle_entries(
    place: Place, region_id: str, box: Box, width: int, height: int, score: float | None = None
) -> list[Region]:
    """A box in pixels as a region of ``place``: one entry for RectangleLabels, two for Rectangle beside Labels."""
    return _entries(place, region_id, box_to_value(box, width, height), width, height, score)


def mask_entries(
    place: Place, region_id: str, mask: MaskCrop, width: int, height: int, score: float | None = None
) -> list[Region]:
    """A mask as a brush region of ``place``: one entry for BrushLabels, two for Brush beside Labels.

    The run lengths are those of the whole image, ``width`` x ``height`` pixels, as Label Studio stores them.
    """
    value = {"format": "rle", "rle": encode_brush_crop(mask, height, width)}
    return _entries(place, region_id, value, width, height, score)


def polygon_entries(
    place: Place, region_id: str, polygon: Polygon, width: int, height: int, score: float | None = None
) -> list[Region]:
    """A polygon in pixels as a region of ``place``: one entry for PolygonLabels, two for Polygon beside Labels."""
    return _entries(place, region_id, polygon_to_value(polygon, width, height), width, height, score)


def span_region(
    region_id: str, control: Control, label: str, span: TextSpan, score: float | None = None, note: str | None = None
) -> Region:
    """One entry of a result: a span of a text under ``control``, which is a Labels tag."""
    value = {**span_to_value(span), control.kind: [label]}
    region: Region = {
        "id": region_id,
        "from_name": control.name,
        "to_name": control.to_name.split(",")[0],
        "type": control.kind,
        "value": value,
    }
    if score is not None:
        region["score"] = finite_score(score)
    if note:
        region["meta"] = {"text": [note]}
    return region


def choices_region(region_id: str, control: Control, choices: Sequence[str], score: float | None = None) -> Region:
    """One entry of a result: what is chosen for the image as a whole."""
    region: Region = {
        "id": region_id,
        "from_name": control.name,
        "to_name": control.to_name.split(",")[0],
        "type": control.kind,
        "value": {control.kind: list(choices)},
    }
    if score is not None:
        region["score"] = finite_score(score)
    return region


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


def _entries(
    place: Place, region_id: str, value: Mapping[str, Any], width: int, height: int, score: float | None
) -> list[Region]:
    return [_entry(region_id, c, place.label, dict(value), width, height, score) for c in place.controls]


def _entry(
    region_id: str,
    control: Control,
    label: str | None,
    value: dict[str, Any],
    width: int,
    height: int,
    score: float | None,
) -> Region:
    """``value`` with the label in it, where the control holds labels, as an entry of a result."""
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
    return region
