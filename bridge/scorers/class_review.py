"""Tags of whole images held against a classifier: which of them name the wrong class.

Judged are submissions with exactly one tag, on items that a classifier has looked at: one class of several is right. A
model's tags need not name every class; what their confidences leave over is shared evenly among the others. Several
models count alike. The score is the margin after calibration, as in :mod:`bridge.core.class_noise`, where it is above
0: another class is likelier than the given one, even if the model's habits are allowed for::

    wrong class = max(0, calibrated probability of the likeliest other class - that of the given class)

The habits are learned from the whole set, out of fold; so score a target as one, not page by page. The probabilities
must come from a model that has not seen these labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core import class_noise
from bridge.core.annotations import Annotation, LabelSet, Prediction, Record, Tag
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.objects import Unit
from bridge.scorers.explain import one_finding

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassReview:
    """The review of tags; a :class:`bridge.scorers.RecordReview`."""

    @property
    def name(self) -> str:
        return "class-review-1"

    def find(self, target: str, labels: LabelSet, records: Sequence[Record]) -> list[Finding]:
        """A finding for each tag that another class beats, in the order of the records."""
        classes = _classes(labels, records)
        units, tags, raw = _tagged(classes, records)
        if not tags or len(classes) < 2:
            return []
        index = {name: k for k, name in enumerate(classes)}
        given = np.array([index[tag.label] for tag in tags], dtype=np.int64)
        calibrated = class_noise.calibrate(given, raw)
        likely = class_noise.likeliest_other(given, calibrated)
        score = np.minimum(class_noise.margin(given, calibrated), 1.0)
        findings = []
        for k in np.flatnonzero(score > 0).tolist():
            pair = [given[k], likely[k]]
            (own, other), (own_raw, other_raw) = calibrated[k, pair].tolist(), raw[k, pair].tolist()
            now, then = tags[k].label, classes[likely[k]]
            reason = (
                f"Labelled {now} ({own_raw:.2f}), but the model says {then} ({other_raw:.2f}); "
                f"going by how often it is right, {own:.2f} and {other:.2f}."
            )
            evidence = {
                "confidence": other_raw,
                "iou": 0.0,
                "model": None,
                "predicted_label": then,
                "given_confidence": own_raw,
                "calibrated": other,
                "given_calibrated": own,
            }
            error, fix = ErrorType.WRONG_CLASS, Fix("relabel", then, tags[k].shape)
            about = (target, units[k], error, tags[k], now, float(score[k]))
            findings.append(one_finding(*about, reason, fix, self.name, evidence))
        return findings


def _tagged(classes: Sequence[str], records: Sequence[Record]) -> tuple[list[Unit], list[Annotation], Floats]:
    """Every submission that is judged, its tag, and what the models say: (N, K) float64, rows summing to 1."""
    index = {name: k for k, name in enumerate(classes)}
    units: list[Unit] = []
    tags: list[Annotation] = []
    rows: list[Floats] = []
    for record in records:
        row = _probabilities([p for p in record.predictions if p.label in index], index)
        if row is None:
            continue
        for submission in record.submissions:
            found = [a for a in submission.annotations if isinstance(a.shape, Tag)]
            if len(found) == 1 and found[0].label in index:
                units.append(Unit(record.item, submission))
                tags.append(found[0])
                rows.append(row)
    return units, tags, np.array(rows).reshape(len(rows), len(classes))


def _classes(labels: LabelSet, records: Sequence[Record]) -> list[str]:
    """Those labels that somebody, person or model, gave to a whole image."""
    used: set[str] = set()
    for record in records:
        used.update(p.label for p in record.predictions if isinstance(p.shape, Tag))
        used.update(a.label for s in record.submissions for a in s.annotations if isinstance(a.shape, Tag))
    return [name for name in labels.names if name in used]


def _probabilities(predictions: Sequence[Prediction], index: Mapping[str, int]) -> Floats | None:
    """(K,) float64 summing to 1: the mean over the models; None when no model tagged the image."""
    by_model: dict[str, Floats] = defaultdict(lambda: np.full(len(index), np.nan))
    for p in predictions:
        if isinstance(p.shape, Tag) and 0.0 <= p.confidence <= 1.0:
            known = by_model[p.model][index[p.label]]
            by_model[p.model][index[p.label]] = np.fmax(known, p.confidence)
    if not by_model:
        return None
    rows = []
    for _, row in sorted(by_model.items()):
        silent = np.isnan(row)
        named = float(row[~silent].sum())
        row[silent] = max(0.0, 1.0 - named) / max(int(silent.sum()), 1)
        rows.append(row / row.sum() if row.sum() > 0 else np.full(len(row), 1 / len(row)))
    return np.asarray(np.mean(rows, axis=0))
