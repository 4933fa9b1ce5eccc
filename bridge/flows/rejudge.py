"""Whether an object that was fixed is still suspected: judged again, against the predictions that it was judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bridge.core.annotations import Box, Record
from bridge.core.findings import Finding
from bridge.core.geometry import pair_iou
from bridge.core.objects import build_workload
from bridge.flows.fixed import order_of
from bridge.flows.score import suspicions
from bridge.scorers.object_review import ObjectReview
from bridge.store import Store, StoredFinding
from bridge.tools.fix_rules import SAME_OBJECT_IOU

_YARDSTICK = 2000
"""Items, beside those that were fixed, that say what is usual for a class: medians of as many move little with more."""

SUSPECTED = 0.5
"""From this score on the formulas hold something against an object: what a push takes by default."""


def still_suspected(store: Store, fixed: Sequence[StoredFinding], now: Mapping[str, Record]) -> dict[str, float]:
    """What the formulas still hold against fixed objects, for the reason they were fixed for: the score by finding id.

    A finding whose item is gone, or has no predictions in the snapshot of the run that found it last, is not judged,
    and is not in the answer, as those are not of whose objects nothing is suspected any more.

    Args:
        now: the items as they are now, without predictions.
    """
    doubts: dict[str, float] = {}
    for run_id in sorted({stored.last_run for stored in fixed}):
        mine = [stored for stored in fixed if stored.last_run == run_id and stored.finding.item_id in now]
        records = _records(store, run_id, {s.finding.item_id: now[s.finding.item_id] for s in mine})
        run = store.run(run_id)
        workload = build_workload(run.target, run.labels, [r for r in records if r.predicted_by])
        found = suspicions(run.target, run.labels, records, workload, ObjectReview(), SUSPECTED)
        for stored in mine:
            against = [f.score for f in found if _is_same(stored, f)]
            if against:
                doubts[stored.finding.id] = max(against)
    return doubts


def _records(store: Store, run_id: str, now: Mapping[str, Record]) -> list[Record]:
    """The fixed items as they are now with the predictions of the snapshot, and others to compare them with."""
    found: list[Record] = []
    missing, room = set(now), _YARDSTICK
    for chunk in store.chunks(run_id):
        for record in chunk:
            if record.item.id in missing:
                missing.remove(record.item.id)
                found.append(replace(record, submissions=now[record.item.id].submissions))
            elif room and record.predicted_by:
                room -= 1
                found.append(record)
        if not missing and not room:
            break
    return found


def _is_same(stored: StoredFinding, found: Finding) -> bool:
    """Whether a finding is about the object that was fixed, and the error that it was fixed for."""
    before, wanted = stored.finding, order_of(stored).fix
    if (found.item_id, found.submission_id, found.error) != (before.item_id, before.submission_id, before.error):
        return False
    if before.annotation_ids:
        return bool(set(before.annotation_ids) & set(found.annotation_ids))
    mine, other = wanted.shape, found.fix.shape
    if not (isinstance(mine, Box) and isinstance(other, Box)):
        return mine == other
    return bool(pair_iou(np.array([mine.xyxy]), np.array([other.xyxy]))[0] >= SAME_OBJECT_IOU)
