"""Boxes held against one or more detectors: what is missing, extra, of the wrong class, or badly drawn.

No threshold decides what matches what. Each prediction *backs* each label it overlaps, to a degree::

    backing(g, p) = confidence(p) * min(1, IoU(g, p) / 0.5) * IoU(g, p) / max over labels g' of IoU(g', p)

The second factor is the usual reading of IoU: from one half on, two boxes show the same object. The third shares a
prediction among the labels it touches: one that fits the neighbour better says little about this label. From that::

    extra(g)       = max(0, usual backing of the class - best backing of g by any class) ** 2
    wrong class(g) = max(0, best backing of g by another class - best backing of g by its own class)
    imprecise(g)   = backing(g, p) * min(1, 2 * max(0, 1 - IoU(g, p) / usual IoU of the class)),
                     p being the prediction of the same class that backs g best
    missing(p)     = confidence(p) * max(0, 1 - best IoU of p with any label / 0.5),
                     for the predictions that remain after class-agnostic suppression at IoU 0.5

The square says that silence is weaker evidence than speech: the other three rest on a prediction that contradicts the
label, an extra label on the lack of one. So the four can stand in one list.

A label is most likely wrong in one way, and a person should see that one first: the other suspicions about it are
multiplied by ``1 - strongest``.

*Usual* is the median over the labels of a class: a class that the model hardly finds, or outlines loosely, must not
flood the list. Nothing else is learned, there is no randomness, and neither the order of the rows nor the chunk size
changes any score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.findings import ErrorType
from bridge.core.objects import ObjectTable, Workload
from bridge.core.overlaps import overlapping
from bridge.scorers import ERROR_CODES, Suspects
from bridge.scorers.box_evidence import SAME_OBJECT, propose
from bridge.scorers.content_order import original_rows, sort_rows
from bridge.scorers.usual import usual

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ObjectReview:
    """The scorer of boxes; a :class:`bridge.scorers.Scorer`.

    Learns two numbers for each class from the whole workload, the median backing and the median IoU of its labels; see
    the module's text. So score a target as one workload, not page by page.

    Attributes:
        chunk: most (label, prediction) pairs to hold in memory at a time.
    """

    chunk: int = 1 << 18

    @property
    def name(self) -> str:
        return "object-review-1"

    def score(self, workload: Workload) -> Suspects:
        """Judge every label, and every prediction nobody drew; rows with score 0 are left out.

        ``predicted`` is ``p`` of the formula for an imprecise shape and for a missing object, the best prediction of
        another class for a wrong class, and for an extra object what backs it best; -1 if nothing does.
        """
        given = workload.given
        # In an order that only the content of the rows decides, ties come out the same way every time.
        order, predicted = sort_rows(workload.predicted)
        evidence = _gather(given, predicted, self.chunk)
        about_labels = _judge_labels(given, evidence, len(workload.labels.names))
        found = [*about_labels, _judge_missing(predicted, evidence, self.chunk)]
        suspects = Suspects(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
        suspects = suspects.rows(suspects.score > 0)
        return Suspects(
            error=suspects.error,
            given=suspects.given,
            predicted=original_rows(order, suspects.predicted),
            score=suspects.score,
            iou=suspects.iou,
        )


@dataclass(frozen=True, slots=True)
class _Best:
    """For each label the prediction that backs it best: its row (-1: none), the backing, and the IoU."""

    row: Ints
    backing: Floats
    iou: Floats

    @classmethod
    def none(cls, rows: int) -> _Best:
        return cls(np.full(rows, -1), np.zeros(rows), np.zeros(rows))

    def put(self, given: Ints, predicted: Ints, backing: Floats, iou: Floats) -> None:
        """Enter the pairs of some labels: all of each label's, the label's pairs side by side.

        Of equal backings the first counts.
        """
        if not len(given):
            return
        starts = np.flatnonzero(np.r_[True, given[1:] != given[:-1]])
        highest = np.maximum.reduceat(backing, starts)
        winners = np.flatnonzero(backing == np.repeat(highest, np.diff(np.r_[starts, len(given)])))
        winners = winners[np.r_[True, given[winners[1:]] != given[winners[:-1]]]]
        label = given[winners]
        self.row[label], self.backing[label], self.iou[label] = predicted[winners], highest, iou[winners]


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the pairs say. ``same`` and ``other``: predictions of the label's own class, and of the other classes.

    ``nearest`` is (M,) float64: the best IoU of each prediction with any label.
    """

    same: _Best
    other: _Best
    nearest: Floats


def _gather(given: ObjectTable, predicted: ObjectTable, chunk: int) -> _Evidence:
    """Two passes over the overlapping pairs: sharing a prediction needs its best IoU first."""
    nearest = np.zeros(len(predicted))
    for _, p, iou in overlapping(given, predicted, chunk):
        np.maximum.at(nearest, p, iou)
    same, other = _Best.none(len(given)), _Best.none(len(given))
    for g, p, iou in overlapping(given, predicted, chunk):
        backing = predicted.confidence[p] * np.minimum(1.0, iou / SAME_OBJECT) * (iou / nearest[p])
        agrees = given.label[g] == predicted.label[p]
        for best, pick in ((same, agrees), (other, ~agrees)):
            best.put(g[pick], p[pick], backing[pick], iou[pick])
    return _Evidence(same, other, nearest)


_Columns = tuple[Ints, Ints, Ints, Floats, Floats]


def _judge_labels(given: ObjectTable, evidence: _Evidence, classes: int) -> list[_Columns]:
    """The columns of Suspects for extra, wrong class and imprecise: one row per label each."""
    same, other = evidence.same, evidence.other
    by_other = other.backing > same.backing
    any_row, any_iou = np.where(by_other, other.row, same.row), np.where(by_other, other.iou, same.iou)
    any_backing = np.maximum(same.backing, other.backing)
    usual_backing = usual(any_backing, given.label, classes)
    found = same.row >= 0
    usual_iou = usual(same.iou[found], given.label[found], classes)
    looseness = np.clip(2 * (1 - same.iou / usual_iou[given.label]), 0.0, 1.0)
    scores = np.stack(
        [
            np.maximum(0.0, usual_backing[given.label] - any_backing) ** 2,
            np.maximum(0.0, other.backing - same.backing),
            same.backing * looseness,
        ]
    )
    rank = scores.argmax(axis=0)
    lowered = scores * (1 - scores.max(axis=0))
    scores = np.where(rank == np.arange(len(scores))[:, None], scores, lowered)
    rows = np.arange(len(given))
    return [
        (np.full(len(given), ERROR_CODES[error]), rows, predicted, score, iou)
        for error, predicted, score, iou in (
            (ErrorType.EXTRA, any_row, scores[0], any_iou),
            (ErrorType.WRONG_CLASS, other.row, scores[1], other.iou),
            (ErrorType.IMPRECISE, same.row, scores[2], same.iou),
        )
    ]


def _judge_missing(predicted: ObjectTable, evidence: _Evidence, chunk: int) -> _Columns:
    """The columns of Suspects for missing objects: one row per prediction that no better one stands for."""
    rows = propose(predicted, chunk).row
    score = predicted.confidence[rows] * np.maximum(0.0, 1 - evidence.nearest[rows] / SAME_OBJECT)
    error = np.full(len(rows), ERROR_CODES[ErrorType.MISSING])
    return error, np.full(len(rows), -1), rows, score, np.zeros(len(rows))
