"""Masks and polygons of CVAT while fixes are worked into them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bridge.core.annotations import Mask, Polygon, Shape, revision_of
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.rle import encode_coco
from bridge.dialects.cvat_labels import parse_labels
from bridge.dialects.cvat_new_shapes import mask_to_points
from bridge.dialects.cvat_shapes import mask_from_points
from bridge.tools import FixOrder, Outcome
from bridge.tools.cvat_fixes import JobSheet
from bridge.tools.fix_rules import same_shape

SIZE = (120, 80)
_CAT = {"id": 1, "name": "cat", "type": "any", "attributes": []}
LABELS = parse_labels({"results": [_CAT], "next": None, "count": 1})
RING = Polygon(((10.0, 10.0), (50.0, 10.0), (50.0, 40.0), (10.0, 40.0)))


def mask(x1: int, y1: int, x2: int, y2: int) -> Mask:
    bits = np.zeros(SIZE[::-1], dtype=np.bool_)
    bits[y1:y2, x1:x2] = True
    return encode_coco(bits)


WHOLE, PART = mask(10, 10, 50, 40), mask(10, 10, 30, 40)


def drawn(shape: Mask) -> dict[str, Any]:
    """A shape of a job's annotations."""
    rest = {"group": 0, "occluded": False, "outside": False, "z_order": 0, "attributes": [], "elements": []}
    place = {"id": 7, "frame": 0, "label_id": 1, "source": "manual", "rotation": 0.0}
    return {**rest, **place, "type": "mask", "points": mask_to_points(shape)}


def sheet(*shapes: dict[str, Any]) -> JobSheet:
    return JobSheet({"shapes": list(shapes), "tracks": []}, 0, LABELS, lambda _: SIZE)


def order(fix: Fix, shape: Shape | None = None, revision: str = "") -> FixOrder:
    ids, revisions = (("shape:7",), (revision,)) if shape else ((), ())
    about = (
        "0" * 16,
        "cvat:task/1",
        "1/0",
        "a.png",
        "1",
        ids,
        ErrorType.IMPRECISE,
        "cat",
        0.9,
        "Because.",
        fix,
        "test",
    )
    return FixOrder(Finding(*about, current_shape=shape, revisions=revisions), fix)


@pytest.mark.parametrize("shape", [WHOLE, RING], ids=["mask", "polygon"])
def test_an_outline_is_added_as_it_is(shape: Shape) -> None:
    work = sheet()
    outcome = work.apply(order(Fix("add", "cat", shape)))
    assert outcome.outcome is Outcome.APPLIED, outcome.message
    (new,) = work.added
    points = new.body["points"]
    there = (
        mask_from_points(points, SIZE[1], SIZE[0])
        if new.body["type"] == "mask"
        else Polygon(tuple(zip(points[::2], points[1::2], strict=True)))
    )
    assert same_shape(there, shape)


def test_what_is_there_already_is_not_added_again() -> None:
    assert sheet(drawn(WHOLE)).apply(order(Fix("add", "cat", RING))).outcome is Outcome.ALREADY
    assert sheet(drawn(WHOLE)).apply(order(Fix("add", "cat", PART))).outcome is Outcome.CONFLICT


def test_a_mask_is_reshaped() -> None:
    work = sheet(drawn(WHOLE))
    outcome = work.apply(order(Fix("reshape", "cat", PART), WHOLE, revision_of("cat", WHOLE)))
    assert outcome.outcome is Outcome.APPLIED, outcome.message
    assert mask_from_points(work.updated["shape:7"]["points"], SIZE[1], SIZE[0]) == PART
