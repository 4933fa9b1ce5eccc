"""Boxes held against a detector, with probabilities learned from errors that are planted on purpose.

What is known about each label and each prediction nobody drew stands in :mod:`bridge.scorers.box_evidence`. Which of it
speaks for an error depends on the model: how sure it ever is, what it overlooks, how loosely it outlines. So errors of
every kind are planted into a copy of the labels (:mod:`bridge.scorers.practice`), and
:mod:`bridge.scorers.error_odds` learns to tell them from the labels as they came, out of fold by image. No truth is
needed, no confidence needs to be calibrated, and all kinds of errors come out as probabilities that share one list.

With few labels there is little to learn from: the formulas of :mod:`bridge.scorers.object_review` take over smoothly::

    score = trust * learned + (1 - trust) * formula,   trust = MOST_TRUST * labels / (labels + HALF_TRUST)

Everything is learned on the images whose ids have the lowest digests, as many as hold ``sample`` labels; all images are
then judged chunk by chunk. A suspect's score depends on all of the workload, but neither on the order of images or
rows nor on the chunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bridge.core.findings import ErrorType
from bridge.core.objects import ObjectTable, Workload
from bridge.core.probes import Probes
from bridge.scorers import ERROR_CODES, Suspects
from bridge.scorers.box_evidence import (
    PROPOSAL_COLUMNS,
    LabelEvidence,
    Scene,
    Usual,
    find_usual,
    label_evidence,
    look,
    proposal_evidence,
    propose,
)
from bridge.scorers.content_order import ContentOrder, content_order
from bridge.scorers.doubles import doubled
from bridge.scorers.error_odds import ErrorOdds, learn
from bridge.scorers.practice import (
    EXTRA,
    IMPRECISE,
    MISSING,
    NOT_MISSING,
    WRONG_CLASS,
    Rows,
    label_rows,
    proposal_rows,
    sizes,
)
from bridge.scorers.second_opinion import SecondOpinion

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: With this many labels, formulas and what was learned count alike.
HALF_TRUST = 40
#: Even with many labels the formulas keep a say: what is common among the labels as they came is not right for that.
MOST_TRUST = 0.7
#: Suspicions below this are left out.
LEAST = 1e-3


@dataclass(frozen=True, slots=True)
class PlantedReview:
    """The default scorer of boxes; a :class:`bridge.scorers.Scorer` that learns from the whole workload.

    Attributes:
        chunk: most (label, prediction) pairs to look at in one go, and most objects judged in one go.
        sample: labels to learn from.
        folds: models of each kind; an image is judged by the one that has not seen it.
        seed: of the planting.
    """

    chunk: int = 1 << 18
    sample: int = 20_000
    folds: int = 2
    seed: int = 0

    @property
    def name(self) -> str:
        return "planted-review-1"

    def score(self, workload: Workload) -> Suspects:
        """Judge every label, and every prediction nobody drew; rows with a score below ``LEAST`` are left out.

        ``predicted`` is the best prediction of the label's class for an imprecise shape, of another class for a wrong
        class, the better of the two for an extra object, and the prediction itself for a missing object.
        """
        with np.errstate(all="ignore"):
            digests = _digests(workload)
            order = content_order(workload.given, workload.predicted, np.argsort(digests, kind="stable"))
            fold = (np.sort(digests) % np.uint64(self.folds)).astype(np.int64)
            judge = self._learn(workload, order, fold)
            probes = None if workload.probes is None else workload.probes.rows(order.given_rows)
            parts = [judge.suspects(scene, offsets, probes) for scene, offsets in self._scenes(order, len(fold))]
            return order.restored(_concatenated(parts))

    def _learn(self, workload: Workload, order: ContentOrder, fold: Ints) -> _Judge:
        classes = len(workload.labels.names)
        ends = np.searchsorted(order.given.unit, np.arange(len(fold)), side="right")
        units = int(np.searchsorted(ends, self.sample, side="left")) + 1
        scene = look(_units(order.given, 0, units)[0], _units(order.predicted, 0, units)[0], self.chunk)
        usual = find_usual(scene, classes, self.chunk)
        items = (workload.units[unit].item for unit in order.units[:units])
        declared = [(item.width or np.nan, item.height or np.nan) for item in items]
        size = sizes(np.array(declared, float).reshape(-1, 2), scene.given, scene.predicted)
        rng = np.random.default_rng(self.seed)
        labels = label_rows(scene, size, usual, classes, self.chunk, rng)
        proposals = proposal_rows(scene, size, self.chunk, rng)
        columns = {name: k for k, name in enumerate(PROPOSAL_COLUMNS)}
        rising = {columns["confidence"]: 1, columns["missing"]: 1, columns["nearest"]: -1}
        judge = _Judge(
            usual=usual,
            fold=fold,
            labels=self._fit(labels, fold, 4, {}),
            proposals=self._fit(proposals, fold, 2, rising),
            trust=MOST_TRUST * len(scene.given) / (len(scene.given) + HALF_TRUST),
            second=None,
            chunk=self.chunk,
        )
        if workload.probes is None:
            return judge
        probes = workload.probes.rows(order.given_rows[: len(scene.given)])
        first = judge.first_opinion(scene.given, judge.seen(scene))
        known = fold[scene.given.unit]
        return replace(judge, second=SecondOpinion.learn(scene.given, probes, first, known, self.folds, rng))

    def _fit(self, rows: Rows, fold: Ints, kinds: int, rising: dict[int, int]) -> ErrorOdds:
        return learn(rows.columns, rows.kind, fold[rows.unit], self.folds, kinds, rising)

    def _scenes(self, order: ContentOrder, units: int) -> Iterator[tuple[Scene, tuple[int, int]]]:
        """Whole units, about ``chunk`` objects at a time; the offsets tell where their rows begin."""
        given_ends, predicted_ends = (
            np.searchsorted(table.unit, np.arange(units), side="right") for table in (order.given, order.predicted)
        )
        ends = given_ends + predicted_ends
        start = 0
        while start < units:
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + self.chunk, side="right")))
            given, g = _units(order.given, start, stop)
            predicted, p = _units(order.predicted, start, stop)
            yield look(given, predicted, self.chunk), (g, p)
            start = stop


@dataclass(frozen=True, slots=True)
class _Judge:
    usual: Usual
    fold: Ints
    labels: ErrorOdds
    proposals: ErrorOdds
    trust: float
    second: SecondOpinion | None
    chunk: int

    def suspects(self, scene: Scene, offsets: tuple[int, int], probes: Probes | None) -> Suspects:
        return _concatenated([*self._about_labels(scene, *offsets, probes), self._missing(scene, offsets[1])])

    def seen(self, scene: Scene) -> LabelEvidence:
        return label_evidence(scene, scene.given, np.arange(len(scene.given)), self.usual, self.chunk)

    def first_opinion(self, given: ObjectTable, seen: LabelEvidence) -> Floats:
        """(N, 4) float64 by kind, column 0 being that nothing is wrong; a row sums to 1."""
        learned = self.labels.probabilities(seen.columns, self.fold[given.unit])
        chances = self.trust * learned + (1 - self.trust) * _formulas(seen)
        chances /= np.maximum(1.0, chances.sum(axis=1, keepdims=True))
        chances[:, 0] = np.maximum(0.0, 1 - chances.sum(axis=1))
        return np.asarray(chances)

    def _about_labels(
        self, scene: Scene, first_given: int, first_predicted: int, probes: Probes | None
    ) -> list[Suspects]:
        given, seen = scene.given, self.seen(scene)
        chances = self.first_opinion(given, seen)
        if self.second is not None and probes is not None:
            here = probes.rows(slice(first_given, first_given + len(given)))
            chances = self.second.combined(given, here, chances, self.fold[given.unit])
        twice = doubled(given, np.maximum(seen.column("same_backing"), seen.column("other_backing")), self.chunk)
        chances *= (1 - twice)[:, None]
        chances[:, EXTRA] += twice
        by_other = seen.column("other_backing") > seen.column("same_backing")
        any_row = np.where(by_other, seen.other, seen.same)
        any_iou = np.where(by_other, seen.other_iou, seen.same_iou)
        found = []
        for kind, error, row, iou in (
            (EXTRA, ErrorType.EXTRA, any_row, any_iou),
            (WRONG_CLASS, ErrorType.WRONG_CLASS, seen.other, seen.other_iou),
            (IMPRECISE, ErrorType.IMPRECISE, seen.same, seen.same_iou),
        ):
            score = chances[:, kind]
            keep = np.flatnonzero(score >= LEAST)
            backed = row[keep]
            found.append(
                Suspects(
                    error=np.full(len(keep), ERROR_CODES[error]),
                    given=keep + first_given,
                    predicted=np.where(backed >= 0, backed + first_predicted, -1),
                    score=np.clip(score[keep], 0.0, 1.0),
                    iou=iou[keep],
                )
            )
        return found

    def _missing(self, scene: Scene, first_predicted: int) -> Suspects:
        proposals = propose(scene.predicted, self.chunk)
        nearest = scene.first[proposals.row]
        some = np.flatnonzero(nearest < NOT_MISSING)
        columns = proposal_evidence(scene.predicted, proposals.rows(some), nearest[some])
        row = proposals.row[some]
        learned = self.proposals.probabilities(columns, self.fold[scene.predicted.unit[row]])[:, MISSING]
        formula = columns[:, PROPOSAL_COLUMNS.index("missing")]
        score = np.clip(self.trust * learned + (1 - self.trust) * formula, 0.0, 1.0)
        keep = score >= LEAST
        row = row[keep] + first_predicted
        none = np.full(len(row), -1)
        return Suspects(np.full(len(row), ERROR_CODES[ErrorType.MISSING]), none, row, score[keep], np.zeros(len(row)))


def _formulas(seen: LabelEvidence) -> Floats:
    """(N, 4) float64 by kind: the object review's scores, the weaker lowered by the strongest."""
    scores = np.stack(
        [np.zeros(len(seen.same)), *(seen.column(c) for c in ("extra", "wrong_class", "imprecise"))], axis=1
    )
    rank = scores.argmax(axis=1)
    lowered = scores * (1 - scores.max(axis=1, keepdims=True))
    return np.where(rank[:, None] == np.arange(4), scores, lowered)


def _digests(workload: Workload) -> npt.NDArray[np.uint64]:
    names = (f"{u.item.id}\0{u.submission.id}\0{u.item.name}" for u in workload.units)
    hashes = b"".join(hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest() for name in names)
    return np.frombuffer(hashes, dtype=">u8").astype(np.uint64)


def _units(table: ObjectTable, start: int, stop: int) -> tuple[ObjectTable, int]:
    """The rows of units ``start`` to ``stop``, and where they begin."""
    first, end = np.searchsorted(table.unit, (start, stop))
    return table.rows(slice(int(first), int(end))), int(first)


def _concatenated(parts: list[Suspects]) -> Suspects:
    if not parts:
        none = np.zeros(0, np.int64)
        return Suspects(none, none, none, np.zeros(0), np.zeros(0))
    columns = ((s.error, s.given, s.predicted, s.score, s.iou) for s in parts)
    return Suspects(*(np.concatenate(column) for column in zip(*columns, strict=True)))
