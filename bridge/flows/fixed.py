"""Which fix a finding wants, and whether an item is as that fix wants it."""

from __future__ import annotations

import numpy as np

from bridge.core.annotations import Box, Record
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
    finding, fix = order.finding, order.fix
    objects = [a for s in record.submissions if s.id == finding.submission_id for a in s.annotations] if record else []
    mine = [a for a in objects if a.id in finding.annotation_ids]
    match fix.action:
        case "delete":
            return not mine
        case "none":
            return False
        case "add":
            label, shape, there = fix.label, fix.shape, objects
        case _:
            label = None if fix.label == finding.label else fix.label
            shape, there = (None if fix.shape == finding.current_shape else fix.shape), mine
    shapes = [a.shape for a in there if label in (None, a.label)]
    if not isinstance(shape, Box):
        return any(shape is None or same_shape(s, shape) for s in shapes)
    boxes = [s.xyxy for s in shapes if isinstance(s, Box)]
    if not boxes:
        return False
    ious = pair_iou(np.array(boxes), np.tile(np.array(shape.xyxy), (len(boxes), 1)))
    return bool(ious.max() >= _FIXED_IOU)
