"""Spans of a text held against predicted ones: what is missing, extra, of the wrong class, or badly delimited.

The formulas are those of :mod:`bridge.scorers.object_review`, with the F1 of characters (:mod:`bridge.core.spans`) in
place of the IoU of boxes. ``F1`` is that of the spans without blanks and punctuation at their ends::

    backing(g, p)  = confidence(p) * min(1, F1(g, p) / SAME_SPAN) * F1(g, p) / max over labels g' of F1(g', p)
    extra(g)       = max(0, usual backing of the class - best backing of g by any class) ** 2
    wrong class(g) = max(0, best backing of g by another class - best backing of g by its own class)
    imprecise(g)   = max(0, backing(g, p) - best backing of g by a prediction of its class with an F1 of 1)
                     * min(1, STEEP * max(0, 1 - F1(g, p) / usual F1 of the class)),
                     p being the prediction of the same class that backs g best;
                     backing(g, p) * MARGIN where these two differ by blanks and punctuation only
    missing(p)     = confidence(p) * max(0, 1 - best F1 of p with any label / SAME_SPAN),
                     for the predictions that remain after class-agnostic suppression at SAME_SPAN

These are the four kinds of SemEval-2013 task 9 (Segura-Bedmar et al., after MUC-5) by degrees: missing, spurious,
right boundaries with the wrong type, partial boundaries. The weaker suspicions about a label are multiplied by
``1 - strongest``.

Spans may overlap, and the same words may have several labels: a prediction that a label of its own class fits at least
as well is no case for another class elsewhere, so two labels on one word do not accuse each other.

*Usual* is the median over the labels of a class (:mod:`bridge.scorers.usual`), learned from the whole set, so score a
target as one. The order of records, spans and predictions does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, LabelSet, Prediction, Record, TextSpan
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.objects import Unit
from bridge.core.spans import char_f1, trimmed
from bridge.scorers.explain import one_finding
from bridge.scorers.usual import usual

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: From this F1 on, two spans are about the same words.
SAME_SPAN = 0.5
#: A span is badly delimited for certain where its F1 is ``1 / STEEP`` below what is usual.
STEEP = 10.0
#: How much a difference of blanks and punctuation counts: seldom worth a review, but it is there.
MARGIN = 0.3


@dataclass(frozen=True, slots=True)
class SpanReview:
    """The review of spans; a :class:`bridge.scorers.RecordReview`.

    Judged are the submissions of texts that were looked at by a model; nothing where no model predicted any span.
    """

    @property
    def name(self) -> str:
        return "span-review-1"

    def find(self, target: str, labels: LabelSet, records: Sequence[Record]) -> list[Finding]:
        """Every suspicion above 0, in the order of the records."""
        index = labels.index()
        texts = [record for record in records if record.predicted_by and record.item.text is not None]
        seen = [_usable_predictions(record.predictions, index) for record in texts]
        if not any(seen):
            return []
        sheets = [
            _compare(Unit(record.item, submission), predicted, index)
            for record, predicted in zip(texts, seen, strict=True)
            for submission in record.submissions
        ]
        kind = np.concatenate([s.label for s in sheets]) if sheets else np.zeros(0, np.int64)
        backing = np.concatenate([s.backing.max(axis=1, initial=0.0) for s in sheets]) if sheets else np.zeros(0)
        fit = np.concatenate([s.fit for s in sheets]) if sheets else np.zeros(0)
        usual_backing = usual(backing, kind, len(index))
        usual_fit = usual(fit[fit >= 0], kind[fit >= 0], len(index))
        return [f for sheet in sheets for f in _judge(target, sheet, usual_backing, usual_fit, self.name)]


@dataclass(frozen=True, slots=True)
class _Sheet:
    """One submission and what the models see in the text: G labels, P predictions, most confident first.

    Attributes:
        label: (G,) int64.
        f1: (G, P) float64, without blanks and punctuation at the ends.
        backing, other: (G, P) float64, by any class, and by those of another class that no label of theirs explains.
        own: (G,) int64, the prediction of the same class that backs each label best; -1 for none.
        fit: (G,) float64, the F1 with that one; -1 for none.
        confirmed: (G,) float64, the best backing by a prediction of the same class and with an F1 of 1.
    """

    unit: Unit
    given: tuple[Annotation, ...]
    predicted: tuple[Prediction, ...]
    label: Ints
    f1: Floats
    backing: Floats
    other: Floats
    own: Ints
    fit: Floats
    confirmed: Floats


def _usable_predictions(predictions: Sequence[Prediction], index: Mapping[str, int]) -> list[Prediction]:
    """Those that can be compared, in an order that only their content decides."""
    usable = [p for p in predictions if p.label in index and _span_of(p) is not None and 0.0 < p.confidence <= 1.0]
    return sorted(usable, key=lambda p: (-p.confidence, index[p.label], _place(p), p.model))


def _span_of(thing: Annotation | Prediction) -> TextSpan | None:
    return thing.shape if isinstance(thing.shape, TextSpan) and not thing.shape.problem() else None


def _place(thing: Annotation | Prediction) -> tuple[int, int]:
    span = _span_of(thing)
    assert span is not None
    return span.start, span.end


def _core(things: Sequence[Annotation | Prediction]) -> Ints:
    """(N, 2) int64, start and end without blanks and punctuation."""
    spans = [trimmed(span) for thing in things if (span := _span_of(thing)) is not None]
    return np.array([(s.start, s.end) for s in spans], dtype=np.int64).reshape(-1, 2)


def _compare(unit: Unit, predicted: Sequence[Prediction], index: Mapping[str, int]) -> _Sheet:
    given = [a for a in unit.submission.annotations if a.label in index and _span_of(a) is not None]
    f1 = char_f1(_core(given), _core(predicted))
    label = np.array([index[a.label] for a in given], dtype=np.int64)
    agrees = label[:, None] == np.array([index[p.label] for p in predicted], dtype=np.int64)[None, :]
    nearest = f1.max(axis=0, initial=0.0)
    confidence = np.array([p.confidence for p in predicted])
    backing = confidence * np.minimum(1.0, f1 / SAME_SPAN) * f1 / np.where(nearest > 0, nearest, 1.0)
    explained = np.where(agrees, f1, 0.0).max(axis=0, initial=0.0)
    other = np.where(~agrees & (f1 > explained), backing, 0.0)
    same = np.where(agrees, backing, 0.0)
    confirmed = np.where(f1 == 1, same, 0.0).max(axis=1, initial=0.0)
    own = np.full(len(given), -1, dtype=np.int64)
    fit = np.full(len(given), -1.0)
    if len(given) and len(predicted):
        own = np.where(same.max(axis=1) > 0, same.argmax(axis=1), -1)
        fit = np.where(own >= 0, f1[np.arange(len(given)), own], -1.0)
    return _Sheet(unit, tuple(given), tuple(predicted), label, f1, np.maximum(same, other), other, own, fit, confirmed)


def _judge(target: str, sheet: _Sheet, usual_backing: Floats, usual_fit: Floats, scorer: str) -> list[Finding]:
    """The findings of one submission."""
    findings = []
    for g, annotation in enumerate(sheet.given):
        suspicions = _suspicions(sheet, g, usual_backing, usual_fit)
        strongest = max(chance for _, chance, *_ in suspicions)
        for error, chance, fix, p, claim in suspicions:
            score = min(1.0, chance if chance == strongest else chance * (1 - strongest))
            if score > 0:
                reason = f"Labelled {annotation.label} {_quote(annotation)}; {claim}."
                about = (target, sheet.unit, error, annotation, annotation.label, score, reason, fix, scorer)
                findings.append(one_finding(*about, _evidence(sheet, g, p)))
    nearest = sheet.f1.max(axis=0, initial=0.0)
    for p in _survivors(sheet.predicted):
        seen = sheet.predicted[p]
        score = seen.confidence * max(0.0, 1 - float(nearest[p]) / SAME_SPAN)
        if score > 0:
            reason = f"The model sees {seen.label} in {_quote(seen)} ({seen.confidence:.2f}), but nothing is labelled."
            place = (target, sheet.unit, ErrorType.MISSING, None, seen.label, score, reason)
            findings.append(one_finding(*place, Fix("add", seen.label, seen.shape), scorer, _evidence(sheet, -1, p)))
    # Equal predictions of several models are one finding.
    return list({f.id: f for f in sorted(findings, key=lambda f: f.score)}.values())


def _suspicions(
    sheet: _Sheet, g: int, usual_backing: Floats, usual_fit: Floats
) -> list[tuple[ErrorType, float, Fix, int, str]]:
    """(error, score, fix, prediction that speaks for it, claim) for one label."""
    annotation, own, best = sheet.given[g], int(sheet.own[g]), int(sheet.backing[g].argmax()) if sheet.predicted else -1
    backed = float(sheet.backing[g, best]) if best >= 0 else 0.0
    absent = max(0.0, float(usual_backing[sheet.label[g]]) - backed) ** 2
    claim = "no prediction supports it as much as is usual"
    out = [(ErrorType.EXTRA, absent, Fix("delete"), best if backed > 0 else -1, claim)]
    if best >= 0:
        p = int(sheet.other[g].argmax())
        seen, lead = sheet.predicted[p], float(sheet.other[g, p]) - (float(sheet.backing[g, own]) if own >= 0 else 0.0)
        claim = f"the model says {seen.label} ({seen.confidence:.2f}) of {_quote(seen)}"
        fix = Fix("relabel", seen.label, annotation.shape)
        out.append((ErrorType.WRONG_CLASS, max(0.0, lead), fix, p, claim))
    if own >= 0 and _place(annotation) != _place(sheet.predicted[own]):
        seen, fit, backing = sheet.predicted[own], float(sheet.fit[g]), float(sheet.backing[g, own])
        if fit == 1.0:
            chance = backing * MARGIN
            claim = f"but for blanks and punctuation it is what the model says, {_quote(seen)} ({seen.confidence:.2f})"
        else:
            looseness = min(1.0, STEEP * max(0.0, 1 - fit / float(usual_fit[sheet.label[g]])))
            chance = max(0.0, backing - float(sheet.confirmed[g])) * looseness
            claim = f"to the model it is {_quote(seen)} ({seen.confidence:.2f}), F1 of characters {fit:.2f}"
        out.append((ErrorType.IMPRECISE, chance, Fix("reshape", annotation.label, seen.shape), own, claim))
    return out


def _survivors(predicted: Sequence[Prediction]) -> list[int]:
    """Greedy suppression over all classes, most confident first."""
    places = _core(predicted)
    f1 = char_f1(places, places)
    kept: list[int] = []
    for k in range(len(predicted)):
        if not kept or f1[k, kept].max() < SAME_SPAN:
            kept.append(k)
    return kept


def _quote(thing: Annotation | Prediction) -> str:
    """The words of a span, shortened in the middle."""
    span = _span_of(thing)
    assert span is not None
    words = span.text if len(span.text) <= 60 else f"{span.text[:29]} … {span.text[-28:]}"
    return f'"{words}"'


def _evidence(sheet: _Sheet, g: int, p: int) -> dict[str, object]:
    seen = sheet.predicted[p] if p >= 0 else None
    f1 = float(sheet.f1[g, p]) if g >= 0 and p >= 0 else 0.0
    return {
        "confidence": 0.0 if seen is None else seen.confidence,
        "iou": f1 / (2 - f1),
        "char_f1": f1,
        "model": None if seen is None else seen.model,
        "predicted_label": None if seen is None else seen.label,
    }
