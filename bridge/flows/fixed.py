"""Which fix a finding wants, and whether an item is as that fix wants it."""

from __future__ import annotations

import numpy as np

from bridge.core.annotations import Box, Record
from bridge.core.geometry import pair_iou
from bridge.store import StoredFinding
from bridge.tools import FixOrder

_FIXED_IOU = 0.95
"""How closely a written box must lie on the ordered one; tools round percentages."""


def order_of(stored: StoredFinding) -> FixOrder:
    """The fix to write: the reviewer's own where they changed the suggestion."""
    verdict = stored.verdict
    return FixOrder(stored.finding, verdict.fix if verdict and verdict.fix else stored.finding.fix)


def is_fixed(order: FixOrder, record: Record | None) -> bool:
    """Whether the item now is as the fix wants it."""
    finding, fix = order.finding, order.fix
    objects = [a for s in record.submissions if s.id == finding.submission_id for a in s.annotations] if record else []
    mine = [a for a in objects if a.id in finding.annotation_ids]
    if fix.action == "delete":
        return not mine
    if fix.action == "relabel" and not isinstance(fix.shape, Box):
        return any(a.label == fix.label for a in mine)
    candidates = [a for a in (objects if fix.action == "add" else mine) if a.label == fix.label]
    boxes = [a.shape.xyxy for a in candidates if isinstance(a.shape, Box)]
    if not boxes or not isinstance(fix.shape, Box):
        return False
    ious = pair_iou(np.array(boxes), np.tile(np.array(fix.shape.xyxy), (len(boxes), 1)))
    return bool(ious.max() >= _FIXED_IOU)
