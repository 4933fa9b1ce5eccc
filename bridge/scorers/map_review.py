"""Polygons and masks held against a model's class map, with probabilities learned from planted errors.

Each map became notes while it was in memory (:mod:`bridge.scorers.map_notes`). What the numbers in them mean depends
on the model, so it is learned on the target's own labels, out of fold by item: labels with planted errors are told from
the labels as they came (:mod:`bridge.scorers.error_odds`), as the review of boxes does it. No probability of the model
has to be calibrated for that. With few labels there is little to learn from, and formulas take over smoothly::

    extra = background in the label,   wrong_class = likeliest other class in it
    imprecise = own class in the label * max(1 - fit, min(1, holes or stray parts / DEFECT))
    missing = own class in the region * share of it that no label touches

*fit* is the IoU of the label and what the model sees of its class there. Holes count where the model sees the object,
parts that lie apart where it does not. The weaker formulas about a label are multiplied by ``1 - strongest``.

Neither the order of the items nor of the objects matters, nor how the items are cut into pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, LabelSet, MapNote, Mask, Record
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.objects import Unit
from bridge.outlines import as_drawn
from bridge.scorers.error_odds import ErrorOdds, learn
from bridge.scorers.explain import one_finding
from bridge.scorers.map_evidence import LABEL_COLUMNS, PROPOSAL_COLUMNS
from bridge.scorers.map_notes import digest

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Labels to learn from.
SAMPLE = 20_000
FOLDS = 2
#: As in :mod:`bridge.scorers.planted_review`.
HALF_TRUST, MOST_TRUST, LEAST = 40, 0.7, 1e-3
#: A hole or a stray part of this share of the object is a defect for certain.
DEFECT = 0.05

_LABEL_KINDS = {"label": 0, "extra": 1, "wrong_class": 2, "imprecise": 3}
_PROPOSAL_KINDS = {"proposal": 0, "missing": 1}
_ERRORS = (ErrorType.EXTRA, ErrorType.WRONG_CLASS, ErrorType.IMPRECISE)


@dataclass(frozen=True, slots=True)
class MapReview:
    """The review of outlined objects for which notes were taken; a :class:`bridge.scorers.RecordReview`."""

    @property
    def name(self) -> str:
        return "map-review-1"

    def find(self, target: str, labels: LabelSet, records: Sequence[Record]) -> list[Finding]:
        """Every suspicion of at least ``LEAST``, in the order of the records."""
        del labels  # the notes name theirs
        noted = [record for record in records if record.notes]
        if not noted:
            return []
        judge = _Judge.learned(noted)
        # An empty submission does not say how its objects would be drawn.
        first = sorted(noted, key=lambda record: digest(record.item))
        usual = next((s.annotations for r in first for s in r.submissions if s.annotations), ())
        return [
            finding
            for record in noted
            for finding in (*self._labels(target, record, judge), *self._missing(target, record, judge, usual))
        ]

    def _labels(self, target: str, record: Record, judge: _Judge) -> Iterator[Finding]:
        drawn = {a.id: (Unit(record.item, s), a) for s in record.submissions for a in s.annotations}
        notes = [n for n in record.notes if n.kind == "label"]
        for note, chances in zip(notes, judge.of_labels(record, notes).tolist(), strict=True):
            unit, annotation = drawn[note.about]
            numbers = dict(zip(LABEL_COLUMNS, note.numbers, strict=True))
            for error, chance in zip(_ERRORS, chances, strict=True):
                if chance >= LEAST:
                    fix, claim, sure = _told(error, annotation, note, numbers)
                    reason = f"Labelled {annotation.label}, but {claim}."
                    about = (target, unit, error, annotation, annotation.label, chance, reason, fix, self.name)
                    yield one_finding(*about, _evidence(record, note, sure, numbers["fit"]))

    def _missing(self, target: str, record: Record, judge: _Judge, usual: Sequence[Annotation]) -> Iterator[Finding]:
        units = {s.id: Unit(record.item, s) for s in record.submissions}
        notes = [n for n in record.notes if n.kind == "proposal"]
        for note, chance in zip(notes, judge.of_proposals(record, notes).tolist(), strict=True):
            if chance >= LEAST:
                unit, sure = units[note.about], note.numbers[PROPOSAL_COLUMNS.index("own")]
                reason = f"The model sees {note.label} here ({sure:.2f}), but nothing is labelled."
                fix = Fix("none")
                if isinstance(note.shape, Mask):
                    fix = Fix("add", note.label, as_drawn(note.shape, unit.submission.annotations or usual))
                about = (target, unit, ErrorType.MISSING, None, note.label, chance, reason, fix, self.name)
                yield one_finding(*about, _evidence(record, note, sure, 0.0))


@dataclass(frozen=True, slots=True)
class _Judge:
    """What was learned from notes; ``trust`` is the share that it counts beside the formulas."""

    labels: ErrorOdds
    proposals: ErrorOdds
    trust: float

    @classmethod
    def learned(cls, records: Sequence[Record]) -> _Judge:
        sample = _sample(records)
        labels = _learn(sample, _LABEL_KINDS, len(LABEL_COLUMNS), {})
        rising = {PROPOSAL_COLUMNS.index(name): 1 for name in ("own", "surest")}
        proposals = _learn(sample, _PROPOSAL_KINDS, len(PROPOSAL_COLUMNS), rising)
        count = sum(n.kind == "label" for record in sample for n in record.notes)
        return cls(labels, proposals, MOST_TRUST * count / (count + HALF_TRUST))

    def of_labels(self, record: Record, notes: Sequence[MapNote]) -> Floats:
        """(N, 3) float64 in [0, 1], in the order of ``_ERRORS``."""
        columns = _columns(notes, len(LABEL_COLUMNS))
        names = ("own", "background", "rival", "fit", "hole", "stray")
        own, background, rival, fit, hole, stray = (columns[:, LABEL_COLUMNS.index(n)] for n in names)
        defect = np.minimum(1.0, np.maximum(hole, stray) / DEFECT)
        formula = np.stack([background, rival, own * np.maximum(1 - fit, defect)], axis=1)
        strongest = formula.max(axis=1, keepdims=True, initial=0.0)
        formula = np.where(formula == strongest, formula, formula * (1 - strongest))
        learned = self.labels.probabilities(columns, np.full(len(columns), _fold(record)))[:, 1:]
        return np.clip(self.trust * learned + (1 - self.trust) * formula, 0.0, 1.0)

    def of_proposals(self, record: Record, notes: Sequence[MapNote]) -> Floats:
        """(N,) float64 in [0, 1]."""
        columns = _columns(notes, len(PROPOSAL_COLUMNS))
        own, apart = (columns[:, PROPOSAL_COLUMNS.index(n)] for n in ("own", "apart"))
        learned = self.proposals.probabilities(columns, np.full(len(columns), _fold(record)))[:, 1]
        return np.clip(self.trust * learned + (1 - self.trust) * own * apart, 0.0, 1.0)


def _learn(records: Sequence[Record], kinds: Mapping[str, int], width: int, rising: dict[int, int]) -> ErrorOdds:
    rows = [(n, kinds[n.kind], _fold(record)) for record in records for n in record.notes if n.kind in kinds]
    kind, fold = (np.array([row[k] for row in rows], dtype=np.int64) for k in (1, 2))
    return learn(_columns([n for n, _, _ in rows], width), kind, fold, FOLDS, len(kinds), rising)


def _columns(notes: Sequence[MapNote], width: int) -> Floats:
    return np.array([n.numbers for n in notes], dtype=np.float64).reshape(len(notes), width)


def _fold(record: Record) -> int:
    return digest(record.item) % FOLDS


def _sample(records: Sequence[Record]) -> list[Record]:
    """Those with the lowest digests, as many as hold ``SAMPLE`` labels."""
    chosen: list[Record] = []
    labels = 0
    for record in sorted(records, key=lambda r: (digest(r.item), r.item.id)):
        if labels >= SAMPLE:
            break
        chosen.append(record)
        labels += sum(n.kind == "label" for n in record.notes)
    return chosen


def _evidence(record: Record, note: MapNote, sure: float, fit: float) -> dict[str, object]:
    model = record.predicted_by[0] if record.predicted_by else None
    return {"confidence": sure, "iou": fit, "model": model, "predicted_label": note.label}


def _told(
    error: ErrorType, annotation: Annotation, note: MapNote, numbers: Mapping[str, float]
) -> tuple[Fix, str, float]:
    """The fix, what the model says instead, and how sure it is."""
    if error is ErrorType.EXTRA:
        sure = numbers["background"]
        return Fix("delete"), f"the model sees nothing there ({sure:.2f})", sure
    if error is ErrorType.WRONG_CLASS:
        fix = Fix("relabel", note.label, annotation.shape) if note.label else Fix("none")
        return fix, f"the model says {note.label or 'something else'} ({numbers['rival']:.2f})", numbers["rival"]
    claim, fix = f"the model outlines it otherwise: IoU {numbers['fit']:.2f}", Fix("none")
    if numbers["hole"] >= DEFECT:
        claim = "it has a hole where the model sees the object"
    elif numbers["stray"] >= DEFECT:
        claim = "a part of it lies apart, where the model sees nothing"
    if isinstance(note.shape, Mask):
        fix = Fix("reshape", annotation.label, as_drawn(note.shape, [annotation]))
    return fix, claim, numbers["own"]
