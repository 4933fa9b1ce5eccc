"""A reviewer who knows the truth and is right most of the time, and what their verdicts do to the labels.

The reviewer is shown findings from the top of a list. When right, they see whether the object is in error, whatever
kind of error the finding says it is: a suggestion that leaves the object as it should be (label right, IoU with the
true box at least ``good``) is accepted, another one edited into the truth, and a finding on an object that is in
order, or was put in order before, is rejected. When wrong, they reject a real error and accept what a false finding
suggests.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from xml.sax.saxutils import quoteattr

import numpy as np

from bridge.core.annotations import Box, LabelSet, Record
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.geometry import iou_matrix
from bridge.core.planting import HIT_IOU, IMPRECISE_IOU, PlantedError
from bridge.dialects.label_studio import box_entries, parse_label_config, regions_to_annotations
from bridge.tools import FixOrder, Outcome
from bridge.tools.label_studio_fixes import Sheet

#: The IoU from which on a box does not count as imprecise.
GOOD = IMPRECISE_IOU[1]


@dataclass(frozen=True)
class Reviewed:
    """What a budget of findings brought.

    Attributes:
        records: the labels with the accepted fixes in them.
        shown, found: findings looked at, and the real errors that one of them pointed at.
        accepted, edited: real errors repaired as suggested, and by the reviewer's own hand.
        missed, spoilt: real errors that were rejected, and false findings whose fix was accepted.
        conflicts: fixes that were not written, because another one stood in the way.
    """

    records: tuple[Record, ...]
    shown: int
    found: int
    accepted: int
    edited: int
    missed: int
    spoilt: int
    conflicts: int


class Reviewer:
    """See the module's text.

    Args:
        errors: all that is wrong in the labels.
        right: the share of findings about which the reviewer is right.
        good: least IoU with the true box at which a suggested box is left as it is.
    """

    def __init__(
        self, errors: Sequence[PlantedError], right: float, rng: np.random.Generator, good: float = GOOD
    ) -> None:
        self._right = right
        self._good = good
        self._rng = rng
        self._wrong = {(e.item_id, e.annotation_id): e for e in errors if e.annotation_id is not None}
        self._missing: dict[str, list[PlantedError]] = defaultdict(list)
        for error in errors:
            if error.error is ErrorType.MISSING:
                self._missing[error.item_id].append(error)
        self.verdicts: Counter[str] = Counter()
        self.found: set[PlantedError] = set()

    def answer(self, finding: Finding) -> Fix | None:
        """The fix the reviewer wants; None for a finding that they reject."""
        is_right = bool(self._rng.random() < self._right)
        error = self._error_at(finding)
        if error is None:
            wanted = None if is_right or finding.fix.action == "none" else finding.fix
            self.verdicts["rejected" if wanted is None else "spoilt"] += 1
            return wanted
        self.found.add(error)
        if not is_right:
            self.verdicts["missed"] += 1
            return None
        self._settle(error)
        if is_good(finding.fix, error, self._good):
            self.verdicts["accepted"] += 1
            return finding.fix
        self.verdicts["edited"] += 1
        return true_fix(error)

    def _error_at(self, finding: Finding) -> PlantedError | None:
        if finding.annotation_ids:
            return self._wrong.get((finding.item_id, finding.annotation_ids[0]))
        there = self._missing[finding.item_id]
        if not there or not isinstance(finding.fix.shape, Box):
            return None
        overlap = iou_matrix(np.array([finding.fix.shape.xyxy]), np.array([e.box.xyxy for e in there]))[0]
        return there[int(overlap.argmax())] if overlap.max() >= HIT_IOU else None

    def _settle(self, error: PlantedError) -> None:
        if error.annotation_id is None:
            self._missing[error.item_id].remove(error)
        else:
            del self._wrong[error.item_id, error.annotation_id]


def is_good(fix: Fix, error: PlantedError, least: float) -> bool:
    """Whether the fix leaves the object as it should be, its box with at least so much IoU with the true one."""
    if fix.action == "delete" or error.error is ErrorType.EXTRA:
        return fix.action == "delete" and error.error is ErrorType.EXTRA
    if fix.label != error.label or not isinstance(fix.shape, Box):
        return False
    return bool(iou_matrix(np.array([fix.shape.xyxy]), np.array([error.box.xyxy]))[0, 0] >= least)


def true_fix(error: PlantedError) -> Fix:
    """What repairs the error exactly."""
    match error.error:
        case ErrorType.EXTRA:
            return Fix("delete")
        case ErrorType.MISSING:
            return Fix("add", error.label, error.box)
        case _:
            return Fix("reshape", error.label, error.box)


def review(
    records: Sequence[Record], labels: LabelSet, ranked: Sequence[Finding], budget: int, reviewer: Reviewer
) -> Reviewed:
    """Let the reviewer answer the first ``budget`` findings, and write the fixes in that order."""
    orders: dict[str, list[FixOrder]] = defaultdict(list)
    shown = ranked[:budget]
    for finding in shown:
        fix = reviewer.answer(finding)
        if fix is not None:
            orders[finding.item_id].append(FixOrder(finding, fix))
    done = [fixed(record, labels, orders[record.item.id]) for record in records]
    count = reviewer.verdicts
    return Reviewed(
        records=tuple(record for record, _ in done),
        shown=len(shown),
        found=len(reviewer.found),
        accepted=count["accepted"],
        edited=count["edited"],
        missed=count["missed"],
        spoilt=count["spoilt"],
        conflicts=sum(refused for _, refused in done),
    )


def fixed(record: Record, labels: LabelSet, orders: Sequence[FixOrder]) -> tuple[Record, int]:
    """The record with the fixes, as `labelbridge sync` writes them in Label Studio, and how many were refused."""
    submission, item = record.submissions[0], record.item
    assert item.width
    assert item.height
    size = (item.width, item.height)
    names = "".join(f"<Label value={quoteattr(name)}/>" for name in labels.names)
    config = parse_label_config(
        f'<View><Image name="image" value="$image"/>'
        f'<RectangleLabels name="label" toName="image">{names}</RectangleLabels></View>'
    )
    regions = [
        entry
        for a in submission.annotations
        if isinstance(a.shape, Box)
        for entry in box_entries(config, a.id, a.label, a.shape, *size)
    ]
    sheet = Sheet(regions, config, submission.id, lambda: size)
    refused = 0
    for order in orders:
        ids = tuple(f"{submission.id}:{a}" for a in order.finding.annotation_ids)
        result = sheet.apply(replace(order, finding=replace(order.finding, annotation_ids=ids)))
        refused += result.outcome is Outcome.CONFLICT
    objects, _, _ = regions_to_annotations(sheet.result, config, submission.id)
    return replace(record, submissions=(replace(submission, annotations=tuple(objects)),)), refused
