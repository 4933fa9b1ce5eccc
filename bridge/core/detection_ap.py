"""Average precision of detections, by COCO's rules: what pycocotools answers for boxes without crowds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import iou_matrix
from bridge.core.predictor import Detections

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: COCO's thresholds on IoU: 0.50, 0.55, ... 0.95.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Precision is read at these recalls.
_RECALLS = np.linspace(0.0, 1.0, 101)
#: Of one class in one image only so many detections count, the most confident ones.
MOST = 100


@dataclass(frozen=True, slots=True)
class Truth:
    """What is labelled on one image: ``xyxy`` (N, 4) float64 pixels, half-open; ``label`` (N,) int64."""

    xyxy: Floats
    label: Ints


@dataclass(frozen=True, slots=True)
class ClassAP:
    """Of one class: ``ap`` (mean over IoU 0.50 to 0.95) and ``ap50`` in [0, 1], and the number of labelled objects."""

    ap: float
    ap50: float
    objects: int


@dataclass(frozen=True, slots=True)
class DetectionAP:
    """``ap`` and ``ap50`` are means over the classes in ``by_class``: those of which anything is labelled.

    Both are None where nothing is labelled at all.
    """

    ap: float | None
    ap50: float | None
    by_class: Mapping[int, ClassAP]


def detection_ap(truth: Sequence[Truth], found: Sequence[Detections]) -> DetectionAP:
    """Average precision of ``found`` against ``truth``, image by image in the same order."""
    present = np.unique(np.concatenate([t.label for t in truth])) if truth else np.zeros(0, np.int64)
    by_class = {}
    for label in present.tolist():
        precision = _precisions(truth, found, label)
        objects = sum(int((t.label == label).sum()) for t in truth)
        by_class[label] = ClassAP(float(precision.mean()), float(precision[0]), objects)
    if not by_class:
        return DetectionAP(None, None, {})
    figures = list(by_class.values())
    return DetectionAP(float(np.mean([f.ap for f in figures])), float(np.mean([f.ap50 for f in figures])), by_class)


def best_threshold(truth: Sequence[Truth], found: Sequence[Detections]) -> float:
    """The confidence from which detections are worth showing: the best F1 at IoU 0.5 over all classes.

    One of 0.05, 0.10, ... 0.95, the lowest of equals; 0.5 where nothing is labelled or found.
    """
    objects = sum(len(t.label) for t in truth)
    labels = np.unique(np.concatenate([t.label for t in truth])) if truth else np.zeros(0, np.int64)
    matched = [_match_class(truth, found, label) for label in labels.tolist()]
    score = np.concatenate([s for s, _ in matched]) if matched else np.zeros(0)
    if not objects or not score.size:
        return 0.5
    hit = np.concatenate([h[:, 0] for _, h in matched])
    steps = np.round(np.arange(1, 20) * 0.05, 2)
    # A detection of a class that is labelled nowhere is wrong at any threshold.
    others = np.concatenate([f.confidence[~np.isin(f.label, labels)] for f in found])
    quality = [
        2 * hit[score >= step].sum() / (objects + (score >= step).sum() + (others >= step).sum()) for step in steps
    ]
    return float(steps[int(np.argmax(quality))])


def _precisions(truth: Sequence[Truth], found: Sequence[Detections], label: int) -> Floats:
    """(10,) float64: the area under the precision-recall curve of one class at each of the thresholds."""
    objects = sum(int((t.label == label).sum()) for t in truth)
    score, hit = _match_class(truth, found, label)
    order = np.argsort(-score, kind="stable")
    hit = hit[order]
    true, total = np.cumsum(hit, axis=0), np.arange(1, len(hit) + 1)[:, None]
    recall = true / objects
    # The curve is lifted to what a later, larger recall still reaches.
    precision = np.maximum.accumulate((true / total)[::-1], axis=0)[::-1]
    areas = np.zeros(len(THRESHOLDS))
    for k in range(len(THRESHOLDS)):
        place = np.searchsorted(recall[:, k], _RECALLS, side="left")
        areas[k] = precision[place[place < len(hit)], k].sum() / len(_RECALLS)
    return areas


def _match_class(
    truth: Sequence[Truth], found: Sequence[Detections], label: int
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Confidence (D,) of one class's detections, and (D, 10) whether each took an object at each threshold."""
    scores, hits = [np.zeros(0)], [np.zeros((0, len(THRESHOLDS)), np.bool_)]
    for t, f in zip(truth, found, strict=True):
        rows = np.flatnonzero(f.label == label)
        rows = rows[np.argsort(-f.confidence[rows], kind="stable")][:MOST]
        scores.append(f.confidence[rows])
        hits.append(_match_image(f.xyxy[rows], t.xyxy[t.label == label]))
    return np.concatenate(scores), np.concatenate(hits)


def _match_image(found: Floats, truth: Floats) -> npt.NDArray[np.bool_]:
    """(D, 10) bool: detections, best first, each take the free object they overlap most."""
    hit = np.zeros((len(found), len(THRESHOLDS)), np.bool_)
    if not len(found) or not len(truth):
        return hit
    overlap = iou_matrix(found, truth)
    rows = np.arange(len(THRESHOLDS))
    free = np.ones((len(THRESHOLDS), len(truth)), np.bool_)
    for k, mine in enumerate(overlap):
        # Of equal overlaps COCO takes the last object.
        value = np.where(free, mine, -1.0)
        best = len(truth) - 1 - value[:, ::-1].argmax(axis=1)
        taken = value[rows, best] >= THRESHOLDS
        hit[k] = taken
        free[rows[taken], best[taken]] = False
    return hit
