"""What predictions and neighbouring labels say about boxes: one row of numbers per box, without a loop over boxes.

Two tables come out: :func:`label_evidence` for labels (given, or made up for practice) and :func:`proposal_evidence`
for predictions that may be objects nobody drew. Every number is a confidence, an overlap, or a ratio to what is usual
for the class, so that rows of one data set can be compared whatever the size of the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import pair_iou
from bridge.core.objects import ObjectTable
from bridge.core.overlaps import overlapping
from bridge.scorers.usual import usual

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: From this IoU on, two boxes show the same object.
SAME_OBJECT = 0.5


@dataclass(frozen=True, slots=True)
class Scene:
    """Some whole units: their labels, their predictions, and how the two overlap.

    Attributes:
        given, predicted: in content order, grouped by unit.
        first, second: (M,) float64, the best and second best IoU of each prediction with a label.
        first_of: (M,) int64, the label of ``first``; -1 where nothing overlaps.
        pairs: (label, prediction, IoU) of all that overlap, as :func:`overlaps` gives them.
    """

    given: ObjectTable
    predicted: ObjectTable
    first: Floats
    second: Floats
    first_of: Ints
    pairs: tuple[Ints, Ints, Floats]


def look(given: ObjectTable, predicted: ObjectTable, chunk: int) -> Scene:
    """A scene; ``chunk`` is the most pairs to look at in one go."""
    pairs = g, p, iou = overlaps(given, predicted, chunk)
    by_prediction = np.argsort(p, kind="stable")
    first, first_of, second = _top_two(p[by_prediction], g[by_prediction], iou[by_prediction], len(predicted))
    return Scene(given, predicted, first, second, first_of, pairs)


def overlaps(a: ObjectTable, b: ObjectTable, chunk: int) -> tuple[Ints, Ints, Floats]:
    """(row of ``a``, row of ``b``, IoU) of all pairs of one unit that overlap, a row's side by side and in order."""
    none = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    i, j, iou = (np.concatenate(columns) for columns in zip(none, *overlapping(a, b, chunk), strict=True))
    return i, j, iou


class Runs:
    """Reductions over the pairs of each row; ``row`` (P,) int64, not falling."""

    def __init__(self, row: Ints, rows: int) -> None:
        self.rows = rows
        self.row = row
        self.starts = np.flatnonzero(np.r_[True, row[1:] != row[:-1]]) if len(row) else np.zeros(0, np.int64)
        self.at = row[self.starts]

    def highest(self, values: Floats) -> Floats:
        """(rows,) float64, 0 where a row has no pairs."""
        out = np.zeros(self.rows)
        if len(values):
            out[self.at] = np.maximum.reduceat(values, self.starts)
        return out

    def total(self, values: Floats) -> Floats:
        out = np.zeros(self.rows)
        if len(values):
            out[self.at] = np.add.reduceat(values, self.starts)
        return out

    def winner(self, values: Floats) -> Ints:
        """(rows,) int64: the pair with the highest positive value, the first of equals; -1 where there is none."""
        out = np.full(self.rows, -1)
        if not len(values):
            return out
        best = self.highest(values)[self.row]
        pairs = np.flatnonzero((values == best) & (best > 0))
        pairs = pairs[np.r_[True, self.row[pairs[1:]] != self.row[pairs[:-1]]]] if len(pairs) else pairs
        out[self.row[pairs]] = pairs
        return out


def _top_two(row: Ints, partner: Ints, value: Floats, rows: int) -> tuple[Floats, Ints, Floats]:
    runs = Runs(row, rows)
    best = runs.winner(value)
    has = best >= 0
    first, first_of = np.zeros(rows), np.full(rows, -1)
    first[has], first_of[has] = value[best[has]], partner[best[has]]
    rest = value.copy()
    rest[best[has]] = 0.0
    return first, first_of, runs.highest(rest)


def take(values: npt.NDArray[np.generic], index: Ints, default: float = 0.0) -> Floats:
    """``values[index]`` as float64, ``default`` where the index is -1."""
    out = np.full(len(index), default)
    has = index >= 0
    out[has] = values[index[has]]
    return out


@dataclass(frozen=True, slots=True)
class Usual:
    """Medians over the labels of each class, (C,) float64 in (0, 1].

    ``backing`` is the best by any class, ``iou`` that with the prediction of the same class that backs the label best.
    """

    backing: Floats
    iou: Floats

    @classmethod
    def perfect(cls, classes: int) -> Usual:
        return cls(np.ones(classes), np.ones(classes))


#: Confidence, IoU and backing (:mod:`bridge.scorers.object_review`) of the best predictions of the label's own class,
#: and of the others, with and without sharing; how far the best one is from the box; how other labels lie; what is
#: usual for the class; and the three formulas of the object review.
LABEL_COLUMNS = (
    "same_backing", "same_confidence", "same_iou", "other_backing", "other_confidence", "other_iou",
    "same_raw", "any_raw", "nearest_same", "nearest_any", "mass_same", "mass_other", "vote_iou",
    "width_off", "height_off", "centre_off", "fits_other", "label_same", "label_other",
    "usual_backing", "usual_iou", "backing_share", "iou_share", "class_share", "extra", "wrong_class", "imprecise",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelEvidence:
    """One row per label.

    Attributes:
        columns: (N, len(LABEL_COLUMNS)) float64, NaN where a number has no meaning.
        same, other: (N,) int64, the prediction of the label's own class, and of another, that backs it best; -1: none.
        same_iou, other_iou: (N,) float64, its IoU with the label.
    """

    columns: Floats
    same: Ints
    other: Ints
    same_iou: Floats
    other_iou: Floats

    def column(self, name: str) -> Floats:
        return self.columns[:, LABEL_COLUMNS.index(name)]


def label_evidence(scene: Scene, asked: ObjectTable, source: Ints, usual: Usual, chunk: int) -> LabelEvidence:
    """What the scene says about the boxes ``asked``.

    Args:
        asked: the labels in question, grouped by unit.
        source: (N,) int64, the given label that each stands in for (itself, for a given one), which is not held against
            it; -1 for a box that stands beside all the given ones.
        chunk: most pairs to look at in one go.
    """
    q, p, iou = scene.pairs if asked is scene.given else overlaps(asked, scene.predicted, chunk)
    runs = Runs(q, len(asked))
    sure = scene.predicted.confidence[p]
    # How well the prediction fits some other label: one that fits that better says little about this one.
    fits_other = np.where(scene.first_of[p] == source[q], scene.second[p], scene.first[p])
    raw = sure * np.minimum(1.0, iou / SAME_OBJECT)
    backing = raw * iou / np.maximum(iou, fits_other)
    same = asked.label[q] == scene.predicted.label[p]
    best_same, best_other = runs.winner(backing * same), runs.winner(backing * ~same)
    same_backing, other_backing = take(backing, best_same), take(backing, best_other)
    best = np.where(other_backing > same_backing, best_other, best_same)
    same_iou, other_iou = take(iou, best_same), take(iou, best_other)
    any_backing = np.maximum(same_backing, other_backing)
    mass = sure * iou
    mass_same, mass_other = runs.total(mass * same), runs.total(mass * ~same)
    usual_backing, usual_iou = usual.backing[asked.label], usual.iou[asked.label]
    columns = [
        same_backing, take(sure, best_same), same_iou, other_backing, take(sure, best_other), other_iou,
        runs.highest(raw * same), runs.highest(raw), runs.highest(iou * same), runs.highest(iou),
        mass_same, mass_other, _vote_iou(runs, asked, scene.predicted.xyxy[p], sure * iou**2),
        *_off(asked, scene.predicted, np.where(best >= 0, p[best] if len(p) else -1, -1)), take(fits_other, best),
        *_beside(scene, asked, source, chunk),
        usual_backing, usual_iou, any_backing / usual_backing, same_iou / usual_iou,
        mass_same / np.maximum(mass_same + mass_other, 1e-9),
        np.maximum(0.0, usual_backing - any_backing) ** 2,
        np.maximum(0.0, other_backing - same_backing),
        same_backing * np.clip(2 * (1 - same_iou / usual_iou), 0.0, 1.0),
    ]  # fmt: skip
    row_same, row_other = (np.where(pair >= 0, p[pair] if len(p) else -1, -1) for pair in (best_same, best_other))
    return LabelEvidence(np.stack(columns, axis=1), row_same, row_other, same_iou, other_iou)


def _vote_iou(runs: Runs, asked: ObjectTable, xyxy: Floats, weight: Floats) -> Floats:
    """IoU of each label with the mean of the predictions around it, weighted; NaN where there is none."""
    total = runs.total(weight)
    there = total > 0
    vote = np.stack([runs.total(weight * edge) for edge in xyxy.T], axis=1) / np.where(there, total, 1.0)[:, None]
    return np.where(there, pair_iou(vote, asked.xyxy), np.nan)


def _off(asked: ObjectTable, predicted: ObjectTable, row: Ints) -> tuple[Floats, Floats, Floats]:
    """How far predictions are from labels: logs of the ratio of widths and of heights, and of centres the larger share
    of the label's side; NaN where the row is -1."""
    there = np.full((len(asked), 4), np.nan)
    there[row >= 0] = predicted.xyxy[row[row >= 0]]
    side, there_side = (np.maximum(x[:, 2:] - x[:, :2], 1e-9) for x in (asked.xyxy, there))
    size = np.log(there_side / side)
    apart = (there[:, 2:] / 2 + there[:, :2] / 2) - (asked.xyxy[:, 2:] / 2 + asked.xyxy[:, :2] / 2)
    return size[:, 0], size[:, 1], np.abs(apart / side).max(axis=1)


def _beside(scene: Scene, asked: ObjectTable, source: Ints, chunk: int) -> tuple[Floats, Floats]:
    """Best IoU with another given label of the same class, and of another."""
    q, g, iou = overlaps(asked, scene.given, chunk)
    iou = np.where(g == source[q], 0.0, iou)
    same = asked.label[q] == scene.given.label[g]
    runs = Runs(q, len(asked))
    return runs.highest(iou * same), runs.highest(iou * ~same)


def find_usual(scene: Scene, classes: int, chunk: int) -> Usual:
    """The medians over the labels of a scene."""
    given, perfect = scene.given, Usual.perfect(classes)
    seen = label_evidence(scene, given, np.arange(len(given)), perfect, chunk)
    found = seen.same >= 0
    backing = np.maximum(seen.column("same_backing"), seen.column("other_backing"))
    return Usual(usual(backing, given.label, classes), usual(seen.same_iou[found], given.label[found], classes))


#: Few on purpose, and nothing about place, size or class: objects that people leave out are often of another kind than
#: those they draw, and what sets the two apart must not count as a sign of an error.
PROPOSAL_COLUMNS = ("confidence", "nearest", "votes", "vote_count", "vote_agree", "missing")


@dataclass(frozen=True, slots=True)
class Proposals:
    """The predictions that no more confident one stands for, and what those say that they stand for.

    Attributes:
        row: (S,) int64, rows of ``scene.predicted``.
        votes, count, agree: (S,) float64: the confidences of the predictions it stands for, how many they are, and the
            share of the confidences that is of the same class (its own counted).
    """

    row: Ints
    votes: Floats
    count: Floats
    agree: Floats

    def rows(self, keep: Ints) -> Proposals:
        return Proposals(self.row[keep], self.votes[keep], self.count[keep], self.agree[keep])


def propose(predicted: ObjectTable, chunk: int) -> Proposals:
    """Greedy suppression over all classes, most confident first, at IoU ``SAME_OBJECT``.

    ``chunk`` is the most pairs to look at in one go.
    """
    row, before, iou = overlaps(predicted, predicted, chunk)
    close = np.flatnonzero((iou >= SAME_OBJECT) & (before < row))
    row, before = row[close], before[close]
    stands = _stand(row, before, len(predicted))
    leader_of = np.arange(len(predicted))
    # The most confident of its leaders comes first among a row's pairs, and is written last.
    led = np.flatnonzero(stands[before])[::-1]
    leader_of[row[led]] = before[led]
    stood = np.flatnonzero(stands)
    n = len(predicted)
    sure = predicted.confidence
    total = np.bincount(leader_of, sure, n)[stood]
    agreeing = np.bincount(leader_of, sure * (predicted.label == predicted.label[leader_of]), n)[stood]
    count = np.bincount(leader_of, minlength=n)[stood].astype(float)
    return Proposals(stood, total - sure[stood], count - 1, agreeing / np.maximum(total, 1e-9))


def _stand(row: Ints, before: Ints, rows: int) -> Bools:
    """(rows,) bool: those that stand when, in order, each that still does knocks over what follows it in a pair."""
    stands = np.ones(rows, dtype=np.bool_)
    while len(row):
        # Whatever has nothing undecided before it is decided, in all units at once.
        waits = np.zeros(rows, dtype=np.bool_)
        waits[row] = True
        stands[row[~waits[before]]] = False
        open_ = np.flatnonzero(waits[before] & stands[row] & stands[before])
        row, before = row[open_], before[open_]
    return stands


def proposal_evidence(predicted: ObjectTable, proposals: Proposals, nearest: Floats) -> Floats:
    """(S, len(PROPOSAL_COLUMNS)) float64; ``nearest`` (S,) is the best IoU of each with a label that counts."""
    sure = predicted.confidence[proposals.row]
    missing = sure * np.maximum(0.0, 1 - nearest / SAME_OBJECT)
    return np.stack([sure, nearest, proposals.votes, proposals.count, proposals.agree, missing], axis=1)
