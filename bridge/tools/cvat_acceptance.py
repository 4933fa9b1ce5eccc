"""How suggestions fared: what people made of them, for each model and label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bridge.core.annotations import Annotation, Box, Polygon
from bridge.core.geometry import iou_matrix
from bridge.core.matching import content_rank, match_pairs
from bridge.core.tool_memory import Suggestion
from bridge.dialects.cvat_shapes import outer
from bridge.tools.fix_rules import SAME_OBJECT_IOU


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of one model's suggestions of one label, in jobs that were submitted.

    ``kept`` as they were, ``changed`` in shape or label, ``removed``; together they are all that were suggested.
    """

    model: str
    label: str
    kept: int
    changed: int
    removed: int

    @property
    def suggested(self) -> int:
        return self.kept + self.changed + self.removed


def acceptance(frames: Iterable[tuple[Sequence[Suggestion], Sequence[Annotation]]]) -> list[Acceptance]:
    """Counts over frames, each with what was suggested and what was submitted; by model, then label.

    A suggestion that is gone counts as changed where an object that CVAT knows as an edited suggestion (source
    ``semi-auto``) overlaps it enough to be the same.
    """
    counts: dict[tuple[str, str], list[int]] = {}
    for suggested, submitted in frames:
        for suggestion, fate in zip(suggested, _fates(suggested, submitted), strict=True):
            counts.setdefault((suggestion.model, suggestion.label), [0, 0, 0])[fate] += 1
    return [Acceptance(model, label, *fates) for (model, label), fates in sorted(counts.items())]


_KEPT, _CHANGED, _REMOVED = 0, 1, 2


def _fates(suggested: Sequence[Suggestion], submitted: Sequence[Annotation]) -> Iterator[int]:
    untouched = {a.revision for a in submitted}
    gone = [s for s in suggested if s.revision not in untouched]
    edited = [a for a in submitted if a.origin == "prediction-changed"]
    changed = _overlapping([s.shape for s in gone], [a.shape for a in edited])
    fates = {s.revision: _CHANGED if index in changed else _REMOVED for index, s in enumerate(gone)}
    return (fates.get(s.revision, _KEPT) for s in suggested)


def _overlapping(before: Sequence[object], after: Sequence[object]) -> set[int]:
    """Which of ``before`` are the same object as one of ``after``, one to one."""
    old = [(n, outer(s)) for n, s in enumerate(before) if isinstance(s, Box | Polygon)]
    new = [outer(s) for s in after if isinstance(s, Box | Polygon)]
    if not old or not new:
        return set()
    old_boxes, new_boxes = np.array([box for _, box in old]), np.array(new)
    iou = iou_matrix(old_boxes, new_boxes)
    rows, columns = np.nonzero(iou >= SAME_OBJECT_IOU)
    taken = match_pairs(rows, columns, iou[rows, columns], content_rank(old_boxes), content_rank(new_boxes))
    return {old[row][0] for row in rows[taken].tolist()}
