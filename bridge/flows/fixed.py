"""Which fix a finding wants, and whether an item is as that fix wants it."""

from __future__ import annotations

import numpy as np

from bridge.core.annotations import Annotation, Box, Record
from bridge.core.geometry import pair_iou
from bridge.store import StoredFinding
from bridge.tools import FixOrder
from bridge.tools.fix_rules import same_shape

_FIXED_IOU = 0.95
"""How closely a written box must lie on the ordered one; tools round percentages."""


def order_of(stored: StoredFinding) -> FixOrder:
    """The fix to write: the reviewer's own where they changed the suggestion."""
    verdict = stored.verdict
    return FixOrder(stored.finding, verdict.fix if verdict and verdict.fix else stored.finding.fix)


def is_fixed(order: FixOrder, record: Record | None) -> bool:
    """Whether the item now is as the fix wants it.

    A fix counts as the difference to what was found: the label is of no matter to one that only moves the object, nor
    its place to one that only gives it another label.
    """
    if order.fix.action == "delete":
        return not any(a.id in order.finding.annotation_ids for a in _objects(order, record))
    return fixed_object(order, record) is not None


def fixed_object(order: FixOrder, record: Record | None) -> Annotation | None:
    """The object in which a fix shows, by the same measure; None where it shows in none, as one that deletes."""
    finding, fix = order.finding, order.fix
    objects = _objects(order, record)
    match fix.action:
        case "delete" | "none":
            return None
        case "add":
            label, shape = fix.label, fix.shape
        case _:
            label = None if fix.label == finding.label else fix.label
            shape = None if fix.shape == finding.current_shape else fix.shape
            objects = [a for a in objects if a.id in finding.annotation_ids]
    there = [a for a in objects if label in (None, a.label)]
    if not isinstance(shape, Box):
        return next((a for a in there if shape is None or same_shape(a.shape, shape)), None)
    there = [a for a in there if isinstance(a.shape, Box)]
    if not there:
        return None
    boxes = np.array([a.shape.xyxy for a in there if isinstance(a.shape, Box)])
    ious = pair_iou(boxes, np.tile(np.array(shape.xyxy), (len(boxes), 1)))
    return there[int(ious.argmax())] if ious.max() >= _FIXED_IOU else None


def _objects(order: FixOrder, record: Record | None) -> list[Annotation]:
    submissions = record.submissions if record else ()
    return [a for s in submissions if s.id == order.finding.submission_id for a in s.annotations]
