"""What others make of the same labels and predictions: suspicions in the words of ``evaluate.py``, higher is worse.

FiftyOne's formula is that of ``compute_mistakenness`` in fiftyone-brain 0.25 after COCO-style matching at IoU .5 over
all classes; its two flags, a missing and a spurious object, carry no rank and come first. The plain recipe ranks
predictions that no label meets by confidence, and behind them labels that no prediction meets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import iou_matrix
from bridge.core.objects import Workload

Finding = dict[str, Any]
#: Type, row of ``workload.given`` or -1, row of ``workload.predicted`` that speaks for it or -1, score.
Suspicion = tuple[str, int, int, float]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def finding(workload: Workload, kind: str, given: int, predicted: int, score: float) -> Finding:
    """A suspicion in the format of ``evaluate.py``: about the row ``given``, or ``predicted`` where that is -1."""
    row, table = (given, workload.given) if given >= 0 else (predicted, workload.predicted)
    x1, y1, x2, y2 = table.xyxy[row].tolist()
    return {
        "image_id": int(workload.units[int(table.unit[row])].item.id),
        "type": kind,
        "ann_id": int(workload.annotations[given].id) if given >= 0 else None,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": float(score),
    }


def unmatched_by_confidence(workload: Workload) -> list[Suspicion]:
    """The plain recipe."""
    found: list[Suspicion] = []
    for given, predicted, iou in _images(workload):
        sure = workload.predicted.confidence[predicted]
        for p in np.flatnonzero(iou.max(axis=0, initial=0.0) < 0.5):
            found.append(("missing", -1, int(predicted[p]), float(sure[p])))
        for g, best in zip(given.tolist(), iou.max(axis=1, initial=0.0), strict=True):
            if best < 0.5:
                found.append(("spurious", g, -1, -1.0 - float(best)))
    return found


def fiftyone_mistakenness(workload: Workload) -> list[Suspicion]:
    """The formula; see the module's text."""
    found: list[Suspicion] = []
    for given, predicted, iou in _images(workload):
        sure, label = workload.predicted.confidence[predicted], workload.predicted.label[predicted]
        free = np.ones(len(given), dtype=bool)
        for p in np.argsort(-sure, kind="stable"):
            overlap = np.where(free, iou[:, p], 0.0) if len(given) else np.zeros(0)
            if not len(given) or overlap.max() < 0.5:
                if sure[p] > 0.95:
                    found.append(("missing", -1, int(predicted[p]), 2.0))
                continue
            g = int(overlap.argmax())
            free[g] = False
            wrong = workload.given.label[given[g]] != label[p]
            place = 2 * (1 - overlap[g])
            row, best = int(given[g]), int(predicted[p])
            found.append(("swap", row, best, (1 + sure[p]) / 2 if wrong else (1 - sure[p]) / 2))
            found.append(("badloc", row, best, (sure[p] * (2 * place - 1) + 1) / 2))
        found.extend(("spurious", int(given[g]), -1, 2.0) for g in np.flatnonzero(free))
    return found


def cleanlab_objectlab(workload: Workload) -> list[Suspicion]:
    """cleanlab's own three scores of boxes at its defaults, turned round; it has none for spurious labels."""
    from cleanlab.object_detection import rank  # type: ignore[import-untyped]

    classes = len(workload.labels.names)
    labels, predictions, rows = [], [], []
    for given, predicted, _ in _images(workload):
        kind = workload.predicted.label[predicted]
        boxes = np.hstack([workload.predicted.xyxy[predicted], workload.predicted.confidence[predicted, None]])
        labels.append({"bboxes": workload.given.xyxy[given], "labels": workload.given.label[given]})
        predictions.append(np.array([*(boxes[kind == c] for c in range(classes)), None], dtype=object)[:-1])
        rows.append((given, predicted[np.argsort(kind, kind="stable")]))
    found: list[Suspicion] = []
    for kind, call in (
        ("missing", rank.compute_overlooked_box_scores),
        ("badloc", rank.compute_badloc_box_scores),
        ("swap", rank.compute_swap_box_scores),
    ):
        for (given, predicted), scores in zip(rows, call(labels=labels, predictions=predictions), strict=True):
            for k, score in enumerate(np.asarray(scores, dtype=float)):
                if not np.isnan(score):
                    g, p = (-1, int(predicted[k])) if kind == "missing" else (int(given[k]), -1)
                    found.append((kind, g, p, 1.0 - float(score)))
    return found


def _images(workload: Workload) -> Iterator[tuple[Ints, Ints, Floats]]:
    """For each unit its rows in both tables, and the IoU of each label with each prediction."""
    units = np.arange(len(workload.units))
    given, predicted = workload.given, workload.predicted
    cuts = (np.searchsorted(t.unit, units[1:]) for t in (given, predicted))
    groups = (np.split(np.arange(len(t)), cut) for t, cut in zip((given, predicted), cuts, strict=True))
    for g, p in zip(*groups, strict=True):
        yield g, p, iou_matrix(given.xyxy[g], predicted.xyxy[p])
