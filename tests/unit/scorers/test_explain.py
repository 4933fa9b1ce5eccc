from __future__ import annotations

import numpy as np
import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.findings import ErrorType, Finding, Fix, finding_id
from bridge.core.objects import build_workload
from bridge.scorers import ERROR_CODES, Suspects
from bridge.scorers.explain import findings

CAT = Annotation("a1", "cat", Box(0.0, 0.0, 10.0, 10.0))
SEEN = (
    Prediction("dog", Box(0.0, 0.0, 11.0, 10.0), 0.93, "m-1"),
    Prediction("cat", Box(50.0, 0.0, 60.0, 10.0), 0.88, "m-1"),
    Prediction("cat", Box(50.2, 0.0, 60.0, 10.0), 0.4, "m-1"),
)
WORKLOAD = build_workload(
    "ls:project/7",
    LabelSet(("cat", "dog")),
    [
        Record(Item("0", "other.jpg", ""), (Submission("r", "ann", ()),), ()),
        Record(Item("1", "a.jpg", ""), (Submission("s", "ann", (CAT,)),), SEEN),
    ],
)


def explain(*rows: tuple[ErrorType, int, int, float, float]) -> list[Finding]:
    error, given, predicted, score, iou = zip(*rows, strict=True)
    codes = np.array([ERROR_CODES[e] for e in error])
    suspects = Suspects(codes, np.array(given), np.array(predicted), np.array(score), np.array(iou))
    return findings(WORKLOAD, suspects, "object-review-1")


@pytest.mark.parametrize(
    ("row", "label", "fix", "reason"),
    [
        (
            (ErrorType.WRONG_CLASS, 0, 0, 0.9, 0.91),
            "cat",
            Fix("relabel", "dog", CAT.shape),
            "Labelled cat, but the model says dog (0.93) at IoU 0.91.",
        ),
        (
            (ErrorType.IMPRECISE, 0, 1, 0.9, 0.55),
            "cat",
            Fix("reshape", "cat", SEEN[1].shape),
            "The box and the model's differ: IoU 0.55 with cat (0.88).",
        ),
        (
            (ErrorType.EXTRA, 0, 2, 0.9, 0.3),
            "cat",
            Fix("delete"),
            "Labelled cat, but no prediction supports it: the best is cat (0.40) at IoU 0.30.",
        ),
        ((ErrorType.EXTRA, 0, -1, 0.9, 0.0), "cat", Fix("delete"), "Labelled cat, but no prediction overlaps it."),
        (
            (ErrorType.MISSING, -1, 0, 0.9, 0.0),
            "dog",
            Fix("add", "dog", SEEN[0].shape),
            "The model sees dog here (0.93), but nothing is labelled.",
        ),
    ],
)
def test_a_suspect_becomes_a_finding(
    row: tuple[ErrorType, int, int, float, float], label: str, fix: Fix, reason: str
) -> None:
    (finding,) = explain(row)
    about_label = row[1] >= 0
    prediction = SEEN[row[2]] if row[2] >= 0 else None
    ids = ("a1",) if about_label else ()
    assert finding == Finding(
        id=finding_id("ls:project/7", "1", "s", ids, row[0], fix),
        target="ls:project/7",
        item_id="1",
        item_name="a.jpg",
        submission_id="s",
        annotation_ids=ids,
        error=row[0],
        label=label,
        score=0.9,
        reason=reason,
        fix=fix,
        scorer="object-review-1",
        current_shape=CAT.shape if about_label else None,
        revisions=(CAT.revision,) if about_label else (),
        evidence={
            "confidence": prediction.confidence if prediction else 0.0,
            "iou": row[4],
            "model": "m-1" if prediction else None,
            "predicted_label": prediction.label if prediction else None,
        },
    )


def test_findings_keep_the_order_of_the_suspects() -> None:
    got = explain((ErrorType.MISSING, -1, 1, 0.1, 0.0), (ErrorType.EXTRA, 0, -1, 0.9, 0.0))
    assert [f.error for f in got] == [ErrorType.MISSING, ErrorType.EXTRA]


@pytest.mark.parametrize("scores", [(0.4, 0.8), (0.8, 0.4)])
def test_suspects_that_are_the_same_finding_become_one_with_the_higher_score(scores: tuple[float, float]) -> None:
    (finding,) = explain((ErrorType.MISSING, -1, 1, scores[0], 0.0), (ErrorType.MISSING, -1, 2, scores[1], 0.0))
    assert finding.score == 0.8


def test_nothing_suspected_is_nothing_found() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert findings(WORKLOAD, Suspects(none, none, none, np.zeros(0), np.zeros(0)), "x") == []
