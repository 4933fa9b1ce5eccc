"""Objects drawn twice: which of two labels is one too many, how sure that is, and what a reviewer reads."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.findings import ErrorType, Finding
from bridge.core.objects import ObjectTable, build_workload
from bridge.scorers.doubles import doubled, twins
from bridge.scorers.explain import findings
from bridge.scorers.planted_review import PlantedReview

LABELS = LabelSet(("cat", "dog"))
BOX = Box(100, 100, 160, 150)
CHUNK = 1 << 18


def table(*rows: tuple[int, int, Box]) -> ObjectTable:
    unit, label, boxes = zip(*rows, strict=True)
    xyxy = np.array([box.xyxy for box in boxes], dtype=np.float64)
    return ObjectTable(np.array(unit), np.array(label), xyxy, np.zeros(len(rows)), np.ones(len(rows)))


def review(*given: Annotation) -> list[Finding]:
    """What is said of an image among twenty with nothing wrong."""
    good = [
        Record(
            Item(f"good {k}", "g.jpg", "", 320, 240),
            (Submission(f"g{k}", "", (Annotation(f"g{k}", "cat", Box(10 + k, 20, 70 + k, 80)),)),),
            (Prediction("cat", Box(11 + k, 20, 70 + k, 81), 0.9, "m"),),
        )
        for k in range(20)
    ]
    record = Record(
        Item("1", "1.jpg", "", 320, 240), (Submission("s", "", given),), (Prediction("cat", BOX, 0.9, "m"),)
    )
    workload = build_workload("t", LABELS, [*good, record])
    found = findings(workload, PlantedReview().score(workload), "planted-review-1")
    return [f for f in found if f.item_id == "1" and f.score > 0.3]


def test_the_one_that_the_model_backs_less_is_too_many() -> None:
    near = Box(102, 101, 162, 152)
    other = doubled(table((0, 0, BOX), (0, 0, near)), np.array([0.9, 0.8]), CHUNK)
    (rows, iou) = twins(table((0, 0, BOX), (0, 0, near)), 0)
    assert rows == [1]
    np.testing.assert_allclose(other, [0.0, (2 * iou - 1) ** 2])
    assert other[1] > 0.5


@pytest.mark.parametrize(
    "rows",
    [
        ((0, 0, BOX), (0, 1, BOX)),
        ((0, 0, BOX), (1, 0, BOX)),
        ((0, 0, BOX), (0, 0, Box(130, 100, 190, 150))),
        ((0, 0, BOX),),
    ],
    ids=["another class", "another image", "a neighbour", "alone"],
)
def test_what_is_no_double(rows: tuple[tuple[int, int, Box], ...]) -> None:
    assert not doubled(table(*rows), np.ones(len(rows)), CHUNK).any()
    assert twins(table(*rows), 0)[1] < 0.5


def test_of_three_all_but_one_are_too_many() -> None:
    three = table(*((0, 0, Box(100, 100, 160, 150 + k)) for k in range(3)))
    assert (doubled(three, np.ones(3), CHUNK) > 0.8).tolist() == [False, True, True]


def test_a_reviewer_reads_what_it_doubles() -> None:
    (finding,) = review(Annotation("a", "cat", BOX), Annotation("b", "cat", Box(103, 102, 164, 152)))
    assert (finding.error, finding.annotation_ids, finding.fix.action) == (ErrorType.EXTRA, ("b",), "delete")
    assert finding.evidence["double_of"] == "a"
    assert finding.reason == "Another cat is labelled in the same place (IoU 0.83): one object, drawn twice?"


def test_equal_boxes_are_left_to_the_data_checks() -> None:
    assert not doubled(table((0, 0, BOX), (0, 0, BOX)), np.ones(2), CHUNK).any()


def test_an_extra_label_that_nothing_supports_is_no_double() -> None:
    alone = Annotation("b", "cat", Box(20, 20, 60, 70))
    found = review(Annotation("a", "cat", BOX), alone)
    assert all("drawn twice" not in f.reason for f in found)
