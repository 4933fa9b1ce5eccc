"""Objects as flat columns: what the scorers work on, whatever the number of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import (
    Annotation,
    Box,
    Item,
    LabelSet,
    Mask,
    Polygon,
    Prediction,
    Probe,
    Record,
    Shape,
    Submission,
    Xyxy,
)
from bridge.core.geometry import box_envelope, envelope, iou_matrix
from bridge.core.masks import MaskCrop
from bridge.core.probes import Probes
from bridge.core.rle import decode_coco
from bridge.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: From this IoU on, a predicted box and an outline show the same object.
SAME_OBJECT = 0.5


@dataclass(frozen=True, slots=True)
class ObjectTable:
    """Boxes of many images, one row each, grouped by unit.

    Attributes:
        unit: (N,) int64, index of the unit (one submission of one item), not falling.
        label: (N,) int64, index into the label set.
        xyxy: (N, 4) float64, pixels, half-open, before rotation.
        rotation: (N,) float64, degrees clockwise about the box centre.
        confidence: (N,) float64 in [0, 1]; 1.0 for people's objects.
    """

    unit: Ints
    label: Ints
    xyxy: Floats
    rotation: Floats
    confidence: Floats

    def __len__(self) -> int:
        return len(self.unit)

    def rows(self, keep: Ints | slice, *, xyxy: Floats | None = None, label: Ints | None = None) -> ObjectTable:
        """The rows ``keep``, in that order; of ``xyxy`` and ``label`` (N rows each), where they are given instead."""
        return ObjectTable(
            unit=self.unit[keep],
            label=(self.label if label is None else label)[keep],
            xyxy=(self.xyxy if xyxy is None else xyxy)[keep],
            rotation=self.rotation[keep],
            confidence=self.confidence[keep],
        )


@dataclass(frozen=True, slots=True)
class Unit:
    """One submission of one item: what a scorer judges."""

    item: Item
    submission: Submission


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything one scoring pass sees.

    Row ``k`` of ``given`` is ``annotations[k]``, row ``k`` of ``predicted`` is ``predictions[k]``. An item with
    several submissions has one unit for each, and its predictions stand in ``predicted`` once per unit.
    ``probes``, where a model was asked about the given boxes, has the rows of ``given``; turned boxes are not asked
    about.
    Objects that cannot be scored (no area, not finite, a label out of the set, no box) are left out: the data
    checks report them.
    """

    target: str
    labels: LabelSet
    units: tuple[Unit, ...]
    annotations: tuple[Annotation, ...]
    predictions: tuple[Prediction, ...]
    given: ObjectTable
    predicted: ObjectTable
    probes: Probes | None = None


def build_workload(target: str, labels: LabelSet, records: Sequence[Record]) -> Workload:
    """Flatten records into columns. Predictions keep the order they have in their record.

    A predicted box around a polygon or a mask of a submission says what is there already, and is left out for it.
    A probability of a label that the set does not have counts for the background.
    """
    index = labels.index()
    units: list[Unit] = []
    annotations: list[Annotation] = []
    predictions: list[Prediction] = []
    given_unit: list[int] = []
    predicted_unit: list[int] = []
    probes: list[Probe | None] = []
    for record in records:
        usable = [p for p in record.predictions if p.label in index and _is_good_box(p.shape)]
        answers = {probe.box: probe for probe in record.probes}
        for submission in record.submissions:
            here = len(units)
            units.append(Unit(record.item, submission))
            for annotation in submission.annotations:
                if annotation.label in index and _is_good_box(annotation.shape):
                    annotations.append(annotation)
                    given_unit.append(here)
                    probes.append(_answer(annotation.shape, answers))
            told = _beside(usable, submission.annotations)
            predictions.extend(told)
            predicted_unit.extend([here] * len(told))
    return Workload(
        target=target,
        labels=labels,
        units=tuple(units),
        annotations=tuple(annotations),
        predictions=tuple(predictions),
        given=_table(given_unit, annotations, index, np.ones(len(annotations))),
        predicted=_table(predicted_unit, predictions, index, np.array([p.confidence for p in predictions], float)),
        probes=_probes(probes, index),
    )


def _beside(predictions: list[Prediction], annotations: Sequence[Annotation]) -> list[Prediction]:
    """The predicted boxes but for those that show an outlined object, and no labelled box as well or better."""
    outlined = [box for a in annotations if (box := outline_envelope(a.shape)) is not None]
    if not outlined or not predictions:
        return predictions
    boxes = np.array([box_envelope(p.shape) for p in predictions if isinstance(p.shape, Box)])
    labelled = [box_envelope(a.shape) for a in annotations if isinstance(a.shape, Box) and _is_good_box(a.shape)]
    rival = iou_matrix(boxes, np.array(labelled, dtype=np.float64).reshape(-1, 4)).max(axis=1, initial=0.0)
    fit = iou_matrix(boxes, np.array(outlined)).max(axis=1)
    is_told = (fit >= SAME_OBJECT) & (fit > rival)
    return [p for p, told in zip(predictions, is_told.tolist(), strict=True) if not told]


def outline_envelope(shape: object) -> Xyxy | None:
    """The box around a polygon or a mask; None for other shapes and broken ones."""
    if isinstance(shape, Polygon) and len(shape.points) > 2:
        box = envelope(shape.points)
        return box if all(map(math.isfinite, box)) else None
    if isinstance(shape, Mask):
        try:
            crop = MaskCrop.of(decode_coco(shape))
        except DataError:
            return None
        return None if crop is None else crop.xyxy
    return None


def _is_good_box(shape: object) -> bool:
    return isinstance(shape, Box) and shape.problem() is None


def _answer(shape: Shape, answers: Mapping[Xyxy, Probe]) -> Probe | None:
    return answers.get(shape.xyxy) if isinstance(shape, Box) and shape.rotation == 0 else None


def _probes(asked: Sequence[Probe | None], index: Mapping[str, int]) -> Probes | None:
    """The answers as columns; None where there are none at all."""
    if all(probe is None for probe in asked):
        return None
    table = Probes.unasked(len(asked), len(index))
    for probe, chances, xyxy in zip(asked, table.probabilities, table.xyxy, strict=True):
        if probe is not None:
            chances[:] = 0.0
            for label, chance in probe.chances:
                if label in index:
                    chances[1 + index[label]] = chance
            chances[0] = max(0.0, 1.0 - chances.sum())
            xyxy[:] = probe.xyxy
    return table


def _table(
    unit: list[int], objects: Sequence[Annotation | Prediction], index: dict[str, int], confidence: Floats
) -> ObjectTable:
    shapes = [o.shape for o in objects]
    boxes = [(s.x1, s.y1, s.x2, s.y2, s.rotation) for s in shapes if isinstance(s, Box)]
    columns = np.array(boxes, dtype=np.float64).reshape(-1, 5)
    return ObjectTable(
        unit=np.array(unit, dtype=np.int64),
        label=np.array([index[o.label] for o in objects], dtype=np.int64),
        xyxy=columns[:, :4],
        rotation=columns[:, 4],
        confidence=np.asarray(confidence, dtype=np.float64),
    )
