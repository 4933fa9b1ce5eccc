"""What a model found, as the regions of a Label Studio prediction.

Pure: no web code, no state but what a label configuration says. A box goes where a box can be drawn with its label; a
mask goes where the label can be brushed, else it becomes a polygon, else a box; a tag becomes a choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from bridge.core.annotations import Box
from bridge.core.masks import MaskCrop
from bridge.core.predictor import Detections, Kind
from bridge.dialects.label_studio import (
    SHAPES,
    LabelConfig,
    Place,
    Region,
    Shape,
    choices_region,
    mask_entries,
    polygon_entries,
    rectangle_entries,
)
from ml_backend.models import Segment
from ml_backend.prompts import Asked, Candidate, answer_prompt

NewId = Callable[[], str]

#: How far, in pixels, the outline of a mask may be from the mask.
_OUTLINE_TOLERANCE = 1.0
_INF = math.inf
_BOX: tuple[Shape, ...] = ("rectangle",)


def suggestable(config: LabelConfig, kind: Kind) -> tuple[str, ...]:
    """What a model of this kind can suggest in a project: names to match its classes with, in document order.

    Labels under which its boxes or masks can be drawn; of a model that tags whole images the choices.
    """
    if kind == "tag":
        return tuple(dict.fromkeys(choice for control in config.choices for choice in control.labels))
    shapes = _BOX if kind == "rectangle" else SHAPES
    return tuple(label for label in config.labels.names if config.place(label, shapes))


class Answers:
    """Turns what one model finds into the regions of one project. Made once, used for every image.

    Args:
        config: the project's.
        targets: for each class of the model what it is called in the project, one of :func:`suggestable`; None where
            its detections are dropped.
        kind: what the model finds.
    """

    def __init__(self, config: LabelConfig, targets: Sequence[str | None], kind: Kind) -> None:
        self._targets = tuple(targets)
        self._kind = kind
        self._choices = config.choices if kind == "tag" else ()
        shapes = {"rectangle": _BOX, "mask": SHAPES, "tag": ()}[kind]
        self._places = {label: p for label in config.labels.names if (p := config.place(label, shapes))}
        self._quick = tuple(_quick(self._places.get(target or "")) for target in targets)

    def has_place(self, label: str) -> bool:
        """Whether the model's shapes can be shown under this label."""
        return label in self._places

    def of(self, found: Detections, width: int, height: int, threshold: float, new_id: NewId) -> list[Region]:
        """The regions for an image of ``width`` x ``height`` pixels, in the order of the detections.

        Left out are detections below ``threshold``, of a class without a place, and those that are no sound box: not
        finite, or without area. A confidence above 1 counts as 1. Each region gets an id of its own from ``new_id``.
        """
        if self._kind == "tag":
            return self._tags(found, threshold, new_id)
        if self._kind == "rectangle":
            return self._boxes(found, width, height, threshold, new_id)
        regions: list[Region] = []
        for candidate in self._candidates(found, threshold):
            regions += self._shown(candidate, found, width, height, new_id)
        return regions

    def prompted(
        self, asked: Asked, found: Detections, width: int, height: int, threshold: float, new_id: NewId
    ) -> list[Region]:
        """The regions that answer a prompt by detections alone, where no interactive model is at hand."""
        regions: list[Region] = []
        if self._kind != "tag":
            for candidate in answer_prompt(asked, self._candidates(found, threshold)):
                regions += self._shown(candidate, found, width, height, new_id)
        return regions

    def _boxes(self, found: Detections, width: int, height: int, threshold: float, new_id: NewId) -> list[Region]:
        """As :meth:`of`, for boxes; the predictions of a page of tasks hold thousands, so this is written for speed."""
        regions: list[Region] = []
        quick, classes = self._quick, len(self._targets)
        for (x1, y1, x2, y2), index, confidence in zip(
            found.xyxy.tolist(), found.label.tolist(), found.confidence.tolist(), strict=True
        ):
            # A comparison with NaN is false.
            sound = -_INF < x1 < x2 < _INF and -_INF < y1 < y2 < _INF
            if not (sound and threshold <= confidence < _INF and 0 <= index < classes and quick[index]):
                continue
            region_id = new_id()
            for name, to_name, kind, label in quick[index]:
                value: dict[str, Any] = {
                    "x": x1 * 100 / width,
                    "y": y1 * 100 / height,
                    "width": (x2 - x1) * 100 / width,
                    "height": (y2 - y1) * 100 / height,
                    "rotation": 0,
                }
                if label is not None:
                    value[kind] = [label]
                regions.append(
                    {
                        "id": region_id,
                        "from_name": name,
                        "to_name": to_name,
                        "type": kind,
                        "original_width": width,
                        "original_height": height,
                        "image_rotation": 0,
                        "value": value,
                        "score": confidence if confidence < 1 else 1.0,
                    }
                )
        return regions

    def _candidates(self, found: Detections, threshold: float) -> list[Candidate]:
        targets = self._targets
        return [
            Candidate(targets[index], (x1, y1, x2, y2), min(confidence, 1.0), place)
            for place, ((x1, y1, x2, y2), index, confidence) in enumerate(
                zip(found.xyxy.tolist(), found.label.tolist(), found.confidence.tolist(), strict=True)
            )
            if -_INF < x1 < x2 < _INF and -_INF < y1 < y2 < _INF
            if threshold <= confidence < _INF and 0 <= index < len(targets)
        ]

    def _shown(self, candidate: Candidate, found: Detections, width: int, height: int, new_id: NewId) -> list[Region]:
        place = self._places.get(candidate.label or "")
        if place is None:
            return []
        if place.shape == "rectangle":
            return rectangle_entries(place, new_id(), Box(*candidate.xyxy), width, height, candidate.confidence)
        return _masked(place, found.masks[candidate.index], width, height, candidate.confidence, new_id)

    def _tags(self, found: Detections, threshold: float, new_id: NewId) -> list[Region]:
        """One region for each Choices control: its best choice, or all of them where several can be made."""
        chosen: dict[str, float] = {}
        for index, confidence in zip(found.label.tolist(), found.confidence.tolist(), strict=True):
            target = self._targets[index] if 0 <= index < len(self._targets) else None
            if target is not None and threshold <= confidence < math.inf:
                chosen[target] = max(chosen.get(target, 0.0), min(confidence, 1.0))
        ranked = sorted(chosen, key=lambda name: -chosen[name])
        regions: list[Region] = []
        for control in self._choices:
            fitting = [name for name in ranked if name in control.labels]
            if fitting:
                names = fitting if control.multiple else fitting[:1]
                regions.append(choices_region(new_id(), control, names, chosen[names[0]]))
        return regions


def segment_regions(asked: Asked, segment: Segment | None, width: int, height: int, new_id: NewId) -> list[Region]:
    """The regions that answer a prompt with a mask: as a brush, a polygon or a box, as ``asked.place`` says.

    Empty where the model found nothing, or the configuration has no place for it (``asked.problem`` says why).
    """
    if segment is None or asked.place is None:
        return []
    confidence = segment.confidence if 0 <= segment.confidence <= 1 else 0.0
    return _masked(asked.place, segment.mask, width, height, confidence, new_id)


def _masked(place: Place, mask: MaskCrop, width: int, height: int, confidence: float, new_id: NewId) -> list[Region]:
    if place.shape == "brush":
        return mask_entries(place, new_id(), mask, width, height, confidence)
    if place.shape == "rectangle":
        return rectangle_entries(place, new_id(), Box(*mask.xyxy), width, height, confidence)
    # It needs OpenCV, which a server of boxes does without.
    from bridge.outlines import outline

    polygon = outline(mask, tolerance=_OUTLINE_TOLERANCE)
    return polygon_entries(place, new_id(), polygon, width, height, confidence)


def _quick(place: Place | None) -> tuple[tuple[str, str, str, str | None], ...]:
    """What does not change from box to box: name, object, type and label of each entry; empty without a place."""
    if place is None:
        return ()
    return tuple(
        (c.name, c.to_name.split(",")[0], c.kind, place.label if c.kind.endswith("labels") else None)
        for c in place.controls
    )
