"""What a detector answers when an annotator draws a smart rectangle or sets a smart point.

The person says *what* (the label chosen in the editor) and roughly *where*; the model says exactly where:

- **rectangle**: every detection of that label whose centre lies in the rectangle. Where there is none, the one
  detection of any class that overlaps the rectangle best (IoU of at least one half), under the person's label.
- **points**: the smallest detection that holds the last positive point and no negative one; first among those of that
  label, then among all, under the person's label.

Without a label every detection keeps its own. Label Studio sends along all earlier regions of the same kind, those of
predictions included: the last rectangle that is no prediction counts, and all points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.annotations import Xyxy
from bridge.dialects.label_studio import Region, box_from_value, region_label
from bridge.errors import DataError

_RECTANGLES = ("rectanglelabels", "rectangle")
_POINTS = ("keypointlabels", "keypoint")
_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """One detection; ``label`` is the project label it maps to, None where it maps to none."""

    label: str | None
    xyxy: Xyxy
    confidence: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the annotator drew, in pixels: a rectangle, or points ``(x, y, is_positive)`` in the order they came."""

    label: str | None
    rectangle: Xyxy | None = None
    points: tuple[tuple[float, float, bool], ...] = ()


def read_prompt(context: Any, width: int, height: int) -> Prompt | None:
    """The prompt in Label Studio's ``params.context`` on an image of ``width`` x ``height``; None where there is none.

    Never raises, whatever the context holds.
    """
    regions = context.get("result") if isinstance(context, dict) else None
    if not isinstance(regions, list):
        return None
    drawn = [
        r
        for r in regions
        if isinstance(r, dict)
        and isinstance(r.get("value"), dict)
        and r.get("type") in (*_RECTANGLES, *_POINTS)
        and r.get("origin") != "prediction"
    ]
    if not drawn:
        return None
    last = drawn[-1]
    label = _label(last)
    if last["type"] in _RECTANGLES:
        rectangle = _rectangle(last, width, height)
        return None if rectangle is None else Prompt(label, rectangle=rectangle)
    points = [_point(r, width, height) for r in drawn if r["type"] in _POINTS and _label(r) == label]
    return Prompt(label, points=tuple(p for p in points if p is not None))


def answer_prompt(prompt: Prompt, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that answer the prompt, each with the label to show; in the order given."""
    if prompt.rectangle is not None:
        chosen = _in_rectangle(prompt.rectangle, prompt.label, candidates)
    else:
        chosen = _at_points(prompt, candidates)
    labelled = [Candidate(prompt.label or c.label, c.xyxy, c.confidence) for c in chosen]
    return [c for c in labelled if c.label is not None]


def _in_rectangle(area: Xyxy, label: str | None, candidates: Sequence[Candidate]) -> list[Candidate]:
    inside = [c for c in candidates if _holds(area, *_centre(c.xyxy)) and (label is None or c.label == label)]
    if inside or not candidates:
        return inside
    best = max(candidates, key=lambda c: _iou(area, c.xyxy))
    return [best] if _iou(area, best.xyxy) >= _OVERLAP else []


def _at_points(prompt: Prompt, candidates: Sequence[Candidate]) -> list[Candidate]:
    positive = [(x, y) for x, y, wanted in prompt.points if wanted]
    negative = [(x, y) for x, y, wanted in prompt.points if not wanted]
    if not positive:
        return []
    fitting = [
        c for c in candidates if _holds(c.xyxy, *positive[-1]) and not any(_holds(c.xyxy, x, y) for x, y in negative)
    ]
    same = [c for c in fitting if c.label == prompt.label]
    return sorted(same or fitting, key=lambda c: _area(c.xyxy))[:1]


def _rectangle(region: Region, width: int, height: int) -> Xyxy | None:
    try:
        box = box_from_value(region["value"], width, height)
    except (DataError, OverflowError):
        return None
    return box.xyxy if box.problem() is None else None


def _point(region: Region, width: int, height: int) -> tuple[float, float, bool] | None:
    value = region["value"]
    try:
        corner = box_from_value({"x": value.get("x"), "y": value.get("y"), "width": 0, "height": 0}, width, height)
    except (DataError, OverflowError):
        return None
    return corner.x1, corner.y1, region.get("is_positive") is not False


def _label(region: Region) -> str | None:
    """The label under the region's own kind, or under ``labels``, where the editor puts it too."""
    own = region_label([region])
    if own is not None:
        return own
    labels = region["value"].get("labels")
    return labels[0] if isinstance(labels, list) and labels and isinstance(labels[0], str) else None


def _centre(box: Xyxy) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _holds(box: Xyxy, x: float, y: float) -> bool:
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def _area(box: Xyxy) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _iou(a: Xyxy, b: Xyxy) -> float:
    common = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = _area(a) + _area(b) - common
    return common / union if union > 0 else 0.0
