"""What an annotator asks with a smart rectangle or smart points, and what a detector answers.

The person says *what* (the label chosen in the editor) and roughly *where*; the model says exactly where.

Label Studio 1.23.2 sends, at every stroke, all smart regions of one kind and one label that are neither accepted nor
rejected yet: three points are three requests, the last of which holds all three. Only the last rectangle counts: a
second one is a new object, or a better try, and suggestions of predictions and accepted ones may come along. Points are
one object together. The tool itself never mixes rectangles and points; a caller who does means one object.

Where the answer goes is for the label configuration to say: a brush mask where the label can be brushed, else a
polygon, else a box.

A detector without a promptable model beside it answers with what it found by itself:

- **rectangle**: every detection of that label whose centre lies in the rectangle. Where there is none, the one
  detection of any class that overlaps the rectangle best (IoU of at least one half), under the person's label.
- **points**: the smallest detection that holds the last positive point and no negative one; first among those of that
  label, then among all, under the person's label.

Without a label every detection keeps its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.annotations import Xyxy
from bridge.core.geometry import box_envelope
from bridge.dialects.label_studio import (
    SHAPES,
    LabelConfig,
    Place,
    Region,
    Shape,
    Size,
    box_from_value,
    group_regions,
    region_label,
    region_size,
)
from bridge.errors import DataError
from ml_backend.models import Prompt

_RECTANGLES = ("rectanglelabels", "rectangle")
_POINTS = ("keypointlabels", "keypoint")
_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """One detection; ``label`` is the project label it maps to, None where it maps to none."""

    label: str | None
    xyxy: Xyxy
    confidence: float
    index: int = -1


@dataclass(frozen=True, slots=True)
class Asked:
    """What the annotator drew.

    Attributes:
        label: the label chosen in the editor, None where there is none.
        prompt: where, in pixels; never empty.
        place: where a mask goes in this project; None where the configuration has no place for it.
        problem: why ``place`` is None; for the log, and for people.
    """

    label: str | None
    prompt: Prompt
    place: Place | None
    problem: DataError | None = None

    @property
    def kind(self) -> Shape | None:
        """The kind of answer: ``brush``, ``polygon`` or ``rectangle``."""
        return self.place.shape if self.place else None


def prompt_size(context: Any) -> Size | None:
    """Width and height in pixels of the image as the annotator's browser saw it, upright; None where it is not said.

    Never raises, whatever the context holds.
    """
    regions = context.get("result") if isinstance(context, dict) else None
    if not isinstance(regions, list):
        return None
    return next((size for size in map(region_size, reversed(regions)) if size), None)


def read_prompt(context: Any, config: LabelConfig, width: int, height: int) -> Asked | None:
    """The prompt in Label Studio's ``params.context`` on an image of ``width`` x ``height`` pixels.

    None where nothing in it says where the object is: that is so too when only negative points are left. Never raises,
    whatever the context holds.
    """
    regions = context.get("result") if isinstance(context, dict) else None
    if not isinstance(regions, list):
        return None
    drawn = [d for entries in group_regions(_named(regions)).values() if (d := _drawn(entries))]
    if not drawn:
        return None
    label = drawn[-1].label
    prompt = _prompt([d for d in drawn if d.label == label], width, height)
    if prompt.empty:
        return None
    place = answer_place(config, label)
    return Asked(label, prompt, None, place) if isinstance(place, DataError) else Asked(label, prompt, place)


def answer_place(config: LabelConfig, label: str | None) -> Place | DataError:
    """Where a mask of ``label`` goes: a brush, else a polygon, else a box, under the same label.

    The smart tag may have labels of its own. Where the configuration has one single control for shapes, its label of
    the same name, without regard to case, is taken, or a region without a label where it has none. What is drawn
    without a label gets the only label there is, or none. The error says what the configuration lacks.
    """
    place = config.place(label) if label is not None else None
    if place:
        return place
    names = [n for n in _one_set_of_labels(config) if label is None or _fold(n) == _fold(label)]
    if len(names) == 1 and (place := config.place(names[0])):
        return place
    if label is None or (len(config.shape_controls) == 1 and not config.control_for("labels")):
        for shape in SHAPES:
            if bare := config.control_for(shape):
                return Place(shape, bare, bare, None)
    what = f"labelled {label!r}" if label is not None else "without a label"
    have = ", ".join(f"{c.kind} {c.name!r}" for c in config.media_controls) or "no control"
    return DataError(
        f"the label configuration has no place for the mask of a smart tool {what}: it has {have}",
        expected="BrushLabels, PolygonLabels or RectangleLabels with the same label as the smart tool",
        todo="Give one of them the label in the project's labelling settings",
    )


def answer_prompt(asked: Asked, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The detections that answer the prompt, each with the label to show; in the order given."""
    if asked.prompt.box is not None:
        chosen = _in_rectangle(asked.prompt.box, asked.label, candidates)
    else:
        chosen = _at_points(asked, candidates)
    labelled = [Candidate(asked.label or c.label, c.xyxy, c.confidence, c.index) for c in chosen]
    return [c for c in labelled if c.label is not None]


@dataclass(frozen=True, slots=True)
class _Drawn:
    region: Region
    is_rectangle: bool
    label: str | None


def _named(regions: Sequence[object]) -> list[object]:
    """The regions, each with an id: a caller other than Label Studio may leave it out."""
    return [{"id": f"unnamed {k}", **r} if isinstance(r, dict) else r for k, r in enumerate(regions)]


def _drawn(entries: Sequence[Region]) -> _Drawn | None:
    """The rectangle or point among the entries of one region; a companion may hold its label."""
    for entry in entries:
        kind = entry.get("type")
        usable = isinstance(entry.get("value"), dict) and entry.get("origin") != "prediction"
        if usable and kind in (*_RECTANGLES, *_POINTS):
            return _Drawn(entry, kind in _RECTANGLES, region_label(entries) or _label(entry))
    return None


def _prompt(drawn: Sequence[_Drawn], width: int, height: int) -> Prompt:
    rectangles = [d.region for d in drawn if d.is_rectangle]
    # A suggestion that was accepted keeps its score; what was just drawn has none.
    fresh = [r for r in rectangles if "score" not in r] or rectangles
    points = [d.region for d in drawn if not d.is_rectangle]
    # Only a smart point says whether it is positive; beside such points the others are annotations.
    smart = [r for r in points if "is_positive" in r] or points
    at = [(point, r.get("is_positive") is not False) for r in smart if (point := _point(r, width, height))]
    return Prompt(
        positive=tuple(point for point, positive in at if positive),
        negative=tuple(point for point, positive in at if not positive),
        box=_rectangle(fresh[-1], width, height) if fresh else None,
    )


def _one_set_of_labels(config: LabelConfig) -> tuple[str, ...]:
    """The labels of the one control that shapes get their labels from; empty where there are several, or none."""
    shapes = config.shape_controls
    if len(shapes) != 1:
        return ()
    if shapes[0].kind.endswith("labels"):
        return shapes[0].labels
    names = [c for c in config.media_controls if c.kind == "labels"]
    return names[0].labels if len(names) == 1 else ()


def _fold(name: str) -> str:
    return name.strip().casefold()


def _in_rectangle(area: Xyxy, label: str | None, candidates: Sequence[Candidate]) -> list[Candidate]:
    inside = [c for c in candidates if _holds(area, *_centre(c.xyxy)) and (label is None or c.label == label)]
    if inside or not candidates:
        return inside
    best = max(candidates, key=lambda c: _iou(area, c.xyxy))
    return [best] if _iou(area, best.xyxy) >= _OVERLAP else []


def _at_points(asked: Asked, candidates: Sequence[Candidate]) -> list[Candidate]:
    positive, negative = asked.prompt.positive, asked.prompt.negative
    if not positive:
        return []
    fitting = [
        c for c in candidates if _holds(c.xyxy, *positive[-1]) and not any(_holds(c.xyxy, x, y) for x, y in negative)
    ]
    same = [c for c in fitting if c.label == asked.label]
    return sorted(same or fitting, key=lambda c: _area(c.xyxy))[:1]


def _rectangle(region: Region, width: int, height: int) -> Xyxy | None:
    """The upright box around it: the three-point tool draws turned ones."""
    try:
        box = box_from_value(region["value"], width, height)
        return box_envelope(box) if box.problem() is None else None
    except (DataError, OverflowError, ValueError):
        return None


def _point(region: Region, width: int, height: int) -> tuple[float, float] | None:
    value = region["value"]
    try:
        corner = box_from_value({"x": value.get("x"), "y": value.get("y"), "width": 0, "height": 0}, width, height)
    except (DataError, OverflowError):
        return None
    return (corner.x1, corner.y1) if math.isfinite(corner.x1) and math.isfinite(corner.y1) else None


def _label(region: Region) -> str | None:
    """The label under ``labels``, where the editor puts that of a smart point too."""
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
