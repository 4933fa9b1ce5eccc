"""Suspects as findings: the sentence a reviewer reads, the fix, and the numbers behind both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.core.annotations import Annotation, Prediction
from bridge.core.findings import REVIEWED_TYPES, ErrorType, Finding, Fix, finding_id, once_each
from bridge.core.objects import Unit, Workload
from bridge.scorers import Suspects
from bridge.scorers.doubles import suspicion, twins


def findings(workload: Workload, suspects: Suspects, scorer: str) -> list[Finding]:
    """One finding for each row of ``suspects``, in that order.

    Rows that would be the same finding (boxes that differ by less than the whole pixels of
    :func:`~bridge.core.findings.finding_id`) become one, with the highest score among them.

    Args:
        workload: what the suspects' rows point into.
        suspects: the rows that people shall see.
        scorer: name of the scorer that found them.
    """
    found: list[Finding] = []
    columns = (suspects.error, suspects.given, suspects.predicted, suspects.score, suspects.iou)
    unit_of_given, unit_of_predicted = workload.given.unit.tolist(), workload.predicted.unit.tolist()
    for code, g, p, score, iou in zip(*(column.tolist() for column in columns), strict=True):
        unit = workload.units[unit_of_given[g] if g >= 0 else unit_of_predicted[p]]
        annotation = workload.annotations[g] if g >= 0 else None
        prediction = workload.predictions[p] if p >= 0 else None
        error = REVIEWED_TYPES[code]
        double = _double(workload, g, score) if error is ErrorType.EXTRA else None
        found.append(_finding(workload.target, unit, error, annotation, prediction, score, iou, double, scorer))
    return once_each(found)


def _finding(
    target: str,
    unit: Unit,
    error: ErrorType,
    annotation: Annotation | None,
    prediction: Prediction | None,
    score: float,
    iou: float,
    double: tuple[Annotation, float] | None,
    scorer: str,
) -> Finding:
    evidence: dict[str, Any] = {
        "confidence": 0.0 if prediction is None else prediction.confidence,
        "iou": iou,
        "model": None if prediction is None else prediction.model,
        "predicted_label": None if prediction is None else prediction.label,
    }
    fix, reason = _fix(error, annotation, prediction), _reason(error, annotation, prediction, iou)
    if double is not None:
        other, overlap = double
        evidence["double_of"] = other.id
        reason = f"Another {other.label} is labelled in the same place (IoU {overlap:.2f}): one object, drawn twice?"
    label = _label(annotation, prediction)
    return one_finding(target, unit, error, annotation, label, score, reason, fix, scorer, evidence)


def _double(workload: Workload, row: int, score: float) -> tuple[Annotation, float] | None:
    """The label that an extra one is held to double, and their IoU; None where something else speaks more for it."""
    others, iou = twins(workload.given, row)
    if not others or suspicion(iou) < score / 2:
        return None
    return min((workload.annotations[other] for other in others), key=lambda annotation: annotation.id), iou


def one_finding(
    target: str,
    unit: Unit,
    error: ErrorType,
    annotation: Annotation | None,
    label: str,
    score: float,
    reason: str,
    fix: Fix,
    scorer: str,
    evidence: Mapping[str, Any],
) -> Finding:
    """A finding about one annotation of a unit, or about an object that the unit lacks (``annotation`` None)."""
    ids = () if annotation is None else (annotation.id,)
    return Finding(
        id=finding_id(target, unit.item.id, unit.submission.id, ids, error, fix),
        target=target,
        item_id=unit.item.id,
        item_name=unit.item.name,
        submission_id=unit.submission.id,
        annotation_ids=ids,
        error=error,
        label=label,
        score=score,
        reason=reason,
        fix=fix,
        scorer=scorer,
        current_shape=None if annotation is None else annotation.shape,
        revisions=() if annotation is None else (annotation.revision,),
        evidence=evidence,
    )


def _label(annotation: Annotation | None, prediction: Prediction | None) -> str:
    if annotation is not None:
        return annotation.label
    return "" if prediction is None else prediction.label


def _fix(error: ErrorType, annotation: Annotation | None, prediction: Prediction | None) -> Fix:
    """Add what the model sees, delete what it does not; take its class for our shape, or its shape for our class."""
    if error is ErrorType.EXTRA:
        return Fix("delete")
    if prediction is None:
        return Fix("none")
    if annotation is None:
        return Fix("add", prediction.label, prediction.shape)
    if error is ErrorType.WRONG_CLASS:
        return Fix("relabel", prediction.label, annotation.shape)
    return Fix("reshape", annotation.label, prediction.shape)


def _reason(error: ErrorType, annotation: Annotation | None, prediction: Prediction | None, iou: float) -> str:
    labelled = "" if annotation is None else f"Labelled {annotation.label}"
    if prediction is None:
        return f"{labelled}, but no prediction overlaps it."
    sees, sure = prediction.label, f"{prediction.confidence:.2f}"
    match error:
        case ErrorType.MISSING:
            return f"The model sees {sees} here ({sure}), but nothing is labelled."
        case ErrorType.WRONG_CLASS:
            return f"{labelled}, but the model says {sees} ({sure}) at IoU {iou:.2f}."
        case ErrorType.EXTRA:
            return f"{labelled}, but no prediction supports it: the best is {sees} ({sure}) at IoU {iou:.2f}."
        case _:
            return f"The box and the model's differ: IoU {iou:.2f} with {sees} ({sure})."
