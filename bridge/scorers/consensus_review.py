"""Items that several people labelled: each submission held against what all of them, and the models, see together.

Judged are records with two submissions or more; predictions are welcome, not needed. The boxes of an item are
clustered (of a text: its spans, by the characters they share), and everybody who looked votes on each cluster, a model
as one rater among the others (:mod:`bridge.core.consensus`). With ``P`` the posterior of the cluster, for each
submission and cluster::

    missing     = 1 - P(absent)                     if the submission has nothing there, and another has
    extra       = P(absent)                         if it has
    wrong class = P(likeliest other class)
    imprecise   = P(given class) * min(1, 2 * max(0, 1 - IoU with the box of the others / usual IoU))

and the weaker suspicions about a label are multiplied by ``1 - strongest``. The box of the others is the mean of the
cluster's other members, weighed by how exact each rater was measured to be (turned boxes and spans: the member that
fits the rest best). *Usual* is the median over all labels that others share, drawn towards 1 as if by ten more.

What a model sees and no person is not for the people to decide, who may have overlooked it together: it is left to the
scorer that holds each submission against the model; :func:`beside` puts the two lists together.

The rates of the raters are learned from the whole set, so score a target as one. The order of records, submissions and
objects does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Box, LabelSet, Prediction, Record, Shape, TextSpan
from bridge.core.consensus import SAME_OBJECT, Opinion, Votes, box_offsets, cluster_objects, fuse_boxes, weigh_votes
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.geometry import iou_matrix
from bridge.core.objects import Unit
from bridge.core.spans import box_of
from bridge.scorers.explain import one_finding

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: As many labels that fit perfectly are added to those seen.
PRIOR_LABELS = 10


@dataclass(frozen=True, slots=True)
class ConsensusReview:
    """The review of boxes and spans that several people drew; a :class:`bridge.scorers.RecordReview`."""

    @property
    def name(self) -> str:
        return "consensus-review-1"

    def find(self, target: str, labels: LabelSet, records: Sequence[Record]) -> list[Finding]:
        """Every suspicion above 0, in the order of the records."""
        index = labels.index()
        sheets = [_gather(record, index) for record in records if len(record.submissions) > 1]
        table = _Table.of([s for s in sheets if s.objects], len(labels.names))
        if table is None:
            return []
        judge = _Judge(target, labels, self.name, table)
        return [finding for k in range(len(table.sheets)) for finding in judge.item(k)]


def beside(consensus: Sequence[Finding], scored: Sequence[Finding], records: Sequence[Record]) -> list[Finding]:
    """The findings of this review, and of those that a scorer of single submissions made: all about items with one
    submission, and about the others the missing objects that no person has labelled."""
    several = {record.item.id for record in records if len(record.submissions) > 1}
    known: dict[str, list[Shape]] = defaultdict(list)
    for finding in consensus:
        if finding.error is ErrorType.MISSING and finding.fix.shape is not None:
            known[finding.submission_id].append(finding.fix.shape)
    kept = [
        finding
        for finding in scored
        if finding.item_id not in several
        or (finding.error is ErrorType.MISSING and not _is_there(finding.fix.shape, known[finding.submission_id]))
    ]
    return [*consensus, *kept]


def _is_there(shape: Shape | None, others: Sequence[Shape]) -> bool:
    xyxy, rotation = _columns([] if shape is None else [shape])
    return bool((iou_matrix(xyxy, _columns(others)[0], rotation, _columns(others)[1]) >= SAME_OBJECT).any())


@dataclass(frozen=True, slots=True)
class _Sheet:
    """One item: who looked at it, and every usable box, or span as a box one unit high.

    ``looked`` names each rater of the item, people first; ``rater`` is the row of ``looked`` for each object.
    """

    record: Record
    looked: tuple[tuple[str, str], ...]
    objects: tuple[Annotation | Prediction, ...]
    rater: Ints
    label: Ints
    xyxy: Floats
    rotation: Floats
    confidence: Floats

    @property
    def people(self) -> int:
        return len(self.record.submissions)


def _gather(record: Record, index: Mapping[str, int]) -> _Sheet:
    people = [("person", s.annotator or f"submission {s.id}") for s in record.submissions]
    models = sorted({*record.predicted_by, *(p.model for p in record.predictions)})
    objects: list[Annotation | Prediction] = []
    rater: list[int] = []
    for k, submission in enumerate(record.submissions):
        for annotation in submission.annotations:
            if annotation.label in index and _is_usable(annotation.shape):
                objects.append(annotation)
                rater.append(k)
    for k, model in enumerate(models, start=len(people)):
        for prediction in _survivors([p for p in record.predictions if p.model == model and p.label in index]):
            objects.append(prediction)
            rater.append(k)
    return _Sheet(
        record,
        (*people, *(("model", m) for m in models)),
        tuple(objects),
        np.array(rater, dtype=np.int64),
        np.array([index[o.label] for o in objects], dtype=np.int64),
        *_columns([o.shape for o in objects]),
        np.array([o.confidence if isinstance(o, Prediction) else 1.0 for o in objects], dtype=np.float64),
    )


def _survivors(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The objects of one model that remain after class-agnostic suppression: a rater has one vote on each thing."""
    usable = [p for p in predictions if _is_usable(p.shape) and 0.0 < p.confidence <= 1.0]
    usable.sort(key=lambda p: (-p.confidence, p.label, str(p.shape)))
    xyxy, rotation = _columns([p.shape for p in usable])
    iou = iou_matrix(xyxy, xyxy, rotation, rotation)
    kept: list[int] = []
    for k in range(len(usable)):
        if not kept or iou[k, kept].max() < SAME_OBJECT:
            kept.append(k)
    return [usable[k] for k in kept]


def _is_usable(shape: Shape) -> bool:
    return isinstance(shape, Box | TextSpan) and shape.problem() is None


def _columns(shapes: Sequence[Shape]) -> tuple[Floats, Floats]:
    """(N, 4) and (N,) float64, the boxes and spans among ``shapes``."""
    boxes = [box_of(s) if isinstance(s, TextSpan) else s for s in shapes if isinstance(s, Box | TextSpan)]
    flat = np.array([(*b.xyxy, b.rotation) for b in boxes], dtype=np.float64).reshape(-1, 5)
    return flat[:, :4], flat[:, 4]


@dataclass(frozen=True, slots=True)
class _Table:
    """All items together.

    Attributes:
        cluster: for each sheet the cluster of each of its objects, numbered through all sheets.
        first: for each sheet the number of its first cluster; one more at the end.
        rater: for each sheet the number of each of its ``looked`` among all raters.
        offset: (R,) float64, how far each rater's boxes are off.
    """

    sheets: list[_Sheet]
    cluster: list[Ints]
    first: list[int]
    rater: list[Ints]
    opinion: Opinion
    offset: Floats

    @classmethod
    def of(cls, sheets: list[_Sheet], classes: int) -> _Table | None:
        """None when there is nothing to judge."""
        if not sheets:
            return None
        names = sorted({name for sheet in sheets for name in sheet.looked})
        number = {name: k for k, name in enumerate(names)}
        rater = [np.array([number[name] for name in sheet.looked], dtype=np.int64) for sheet in sheets]
        cluster, first = [], [0]
        for sheet in sheets:
            here = cluster_objects(sheet.rater, sheet.xyxy, sheet.rotation) + first[-1]
            cluster.append(here)
            first.append(int(here.max()) + 1)
        opinion = weigh_votes(_votes(sheets, cluster, first, rater, names, classes))
        offset = box_offsets(
            np.concatenate(cluster),
            np.concatenate([r[s.rater] for s, r in zip(sheets, rater, strict=True)]),
            np.concatenate([s.xyxy for s in sheets]),
        )
        return cls(
            sheets, cluster, first, rater, opinion, np.r_[offset, np.full(len(names) - len(offset), offset.mean())]
        )


def _votes(
    sheets: list[_Sheet],
    cluster: list[Ints],
    first: list[int],
    rater: list[Ints],
    names: list[tuple[str, str]],
    classes: int,
) -> Votes:
    """Every rater of an item votes on every cluster of it."""
    label = np.full(sum((f2 - f1) * len(r) for f1, f2, r in zip(first, first[1:], rater, strict=False)), -1)
    loudness = np.ones(len(label))
    about, by, start = [], [], 0
    for sheet, here, low, high, who in zip(sheets, cluster, first, first[1:], rater, strict=False):
        row = start + (here - low) * len(who) + sheet.rater
        label[row], loudness[row] = sheet.label, sheet.confidence
        about.append(np.repeat(np.arange(low, high), len(who)))
        by.append(np.tile(who, high - low))
        start += len(about[-1])
    images = np.bincount(np.concatenate([np.unique(who) for who in rater]), minlength=len(names))
    return Votes(np.concatenate(about), np.concatenate(by), label, loudness, images, len(sheets), classes)


class _Judge:
    """Turns the table into findings, item by item."""

    def __init__(self, target: str, labels: LabelSet, scorer: str, table: _Table) -> None:
        self.target, self.labels, self.scorer, self.table = target, labels, scorer, table
        self.fits = [self._fit_of(k) for k in range(len(table.sheets))]
        shared = np.concatenate([fit[fit >= 0] for _, fit in self.fits])
        seen = float(np.median(shared)) if len(shared) else 1.0
        self.usual = (len(shared) * seen + PRIOR_LABELS) / (len(shared) + PRIOR_LABELS)

    def item(self, k: int) -> list[Finding]:
        """All findings of one item, submission by submission."""
        sheet, here = self.table.sheets[k], self.table.cluster[k]
        findings: list[Finding] = []
        for s in range(sheet.people):
            own = np.flatnonzero(sheet.rater == s)
            for row in own.tolist():
                findings += self._label(k, s, row)
            for cluster in sorted(set(here[sheet.rater < sheet.people].tolist()) - set(here[own].tolist())):
                findings.append(self._missing(k, s, cluster))
        # One rater may have two equal objects: they are one finding.
        return list({f.id: f for f in sorted(findings, key=lambda f: f.score)}.values())

    def _label(self, k: int, s: int, row: int) -> list[Finding]:
        """What may be wrong with one given object; suspicions of 0 are left out."""
        sheet, names = self.table.sheets[k], self.labels.names
        annotation = sheet.objects[row]
        assert isinstance(annotation, Annotation)
        cluster, given = int(self.table.cluster[k][row]), int(sheet.label[row])
        posterior = self.table.opinion.posterior[cluster]
        others = posterior[:-1].copy()
        others[given] = -1.0
        likely = int(others.argmax())
        shapes, fit = self.fits[k]
        looseness = 0.0 if fit[row] < 0 else min(1.0, 2 * max(0.0, 1 - fit[row] / self.usual))
        shape = shapes[row]
        suspicions = [
            (ErrorType.EXTRA, float(posterior[-1]), Fix("delete")),
            (ErrorType.WRONG_CLASS, max(0.0, float(others[likely])), Fix("relabel", names[likely], annotation.shape)),
        ]
        if shape is not None:
            imprecise = float(posterior[given]) * looseness
            suspicions.append((ErrorType.IMPRECISE, imprecise, Fix("reshape", annotation.label, shape)))
        strongest = max(score for _, score, _ in suspicions)
        unit = Unit(sheet.record.item, sheet.record.submissions[s])
        sees, evidence = self._account(k, cluster, fit=float(fit[row]))
        findings = []
        for error, chance, fix in suspicions:
            score = min(1.0, chance if chance == strongest else chance * (1 - strongest))
            if score > 0:
                reason = f"Labelled {annotation.label}; {sees}. {_CLAIM[error].format(chance=chance, fix=fix.label)}"
                about = (self.target, unit, error, annotation, annotation.label, score)
                findings.append(one_finding(*about, reason, fix, self.scorer, evidence))
        return findings

    def _missing(self, k: int, s: int, cluster: int) -> Finding:
        """An object that others have and this submission has not."""
        sheet = self.table.sheets[k]
        posterior = self.table.opinion.posterior[cluster]
        label = self.labels.names[int(posterior[:-1].argmax())]
        score = float(min(1.0, max(0.0, 1 - posterior[-1])))
        fix = Fix("add", label, self._shape(k, np.flatnonzero(self.table.cluster[k] == cluster)))
        sees, evidence = self._account(k, cluster, fit=-1.0)
        reason = f"Nothing is labelled here; {sees}. A {label} is there with {score:.2f}."
        unit = Unit(sheet.record.item, sheet.record.submissions[s])
        about = (self.target, unit, ErrorType.MISSING, None, label, score)
        return one_finding(*about, reason, fix, self.scorer, evidence)

    def _account(self, k: int, cluster: int, fit: float) -> tuple[str, dict[str, object]]:
        """Who says what, as half a sentence and as evidence."""
        sheet, here = self.table.sheets[k], np.flatnonzero(self.table.cluster[k] == cluster)
        posterior = self.table.opinion.posterior[cluster]
        people = int((sheet.rater[here] < sheet.people).sum())
        said = [o for r in here.tolist() if isinstance(o := sheet.objects[r], Prediction)]
        best = max(said, key=lambda p: (p.confidence, p.model), default=None)
        sees = f"{people} of {sheet.people} people have an object"
        if best is not None:
            sees += f", and the model says {best.label} ({best.confidence:.2f})"
        elif len(sheet.looked) > sheet.people:
            sees += ", and the model has none"
        return sees, {
            "confidence": 0.0 if best is None else best.confidence,
            "iou": max(0.0, fit),
            "model": None if best is None else best.model,
            "predicted_label": None if best is None else best.label,
            "people": people,
            "of": sheet.people,
            "agreement": self._agreement(k, here),
            "posterior": {
                name: round(float(p), 4)
                for name, p in zip((*self.labels.names, "absent"), posterior, strict=True)
                if p >= 0.005
            },
        }

    def _agreement(self, k: int, here: Ints) -> float:
        """In [0, 1]: mean over all pairs of those who looked of their boxes' IoU; 0 where one of them has none, or
        another class."""
        sheet, looked = self.table.sheets[k], len(self.table.sheets[k].looked)
        xyxy, rotation = sheet.xyxy[here], sheet.rotation[here]
        iou = iou_matrix(xyxy, xyxy, rotation, rotation)
        same = sheet.label[here][:, None] == sheet.label[here][None, :]
        return float(np.triu(np.where(same, iou, 0.0), 1).sum() / (looked * (looked - 1) / 2))

    def _fit_of(self, k: int) -> tuple[list[Box | TextSpan | None], Floats]:
        """For each object the shape of the others in its cluster, and the IoU with it; None and -1 for lonely ones."""
        sheet, cluster = self.table.sheets[k], self.table.cluster[k]
        shapes: list[Box | TextSpan | None] = []
        fit = np.full(len(cluster), -1.0)
        for row in range(len(cluster)):
            others = np.flatnonzero((cluster == cluster[row]) & (np.arange(len(cluster)) != row))
            shape = self._shape(k, others, row) if others.size and sheet.rater[row] < sheet.people else None
            shapes.append(shape)
            if shape is not None:
                xyxy, rotation = _columns([shape])
                fit[row] = iou_matrix(sheet.xyxy[[row]], xyxy, sheet.rotation[[row]], rotation)[0, 0]
        return shapes, fit

    def _shape(self, k: int, rows: Ints, own: int | None = None) -> Box | TextSpan:
        """What these objects (at least one) come to; where one is chosen, in doubt the one most like ``own``."""
        sheet = self.table.sheets[k]
        xyxy, rotation = sheet.xyxy[rows], sheet.rotation[rows]
        if isinstance(sheet.objects[int(rows[0])].shape, TextSpan) or rotation.any():
            support = iou_matrix(xyxy, xyxy, rotation, rotation).sum(axis=1).round(9)
            judged = rows if own is None else [own]
            alike = iou_matrix(xyxy, sheet.xyxy[judged], rotation, sheet.rotation[judged]).max(axis=1)
            best = np.lexsort((*xyxy.T[::-1], -alike, -support))[0]
            shape = sheet.objects[int(rows[best])].shape
            assert isinstance(shape, Box | TextSpan)
            return shape
        offset = self.table.offset[self.table.rater[k][sheet.rater[rows]]]
        return Box(*fuse_boxes(xyxy, offset, sheet.confidence[rows]).tolist())


_CLAIM = {
    ErrorType.EXTRA: "Nothing is there with {chance:.2f}.",
    ErrorType.WRONG_CLASS: "It is a {fix} with {chance:.2f}.",
    ErrorType.IMPRECISE: "The others draw it differently.",
}
