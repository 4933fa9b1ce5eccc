from __future__ import annotations

import numpy as np

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Mask, Polygon, Prediction, Record, Submission
from bridge.core.objects import build_workload
from bridge.core.rle import encode_coco

LABELS = LabelSet(("cat", "dog"))


def test_a_workload_holds_each_submission_with_the_predictions_of_its_item() -> None:
    cat, dog = Annotation("a", "cat", Box(0, 0, 9, 9, 30)), Annotation("b", "dog", Box(1, 1, 5, 5))
    seen = (Prediction("dog", Box(2, 2, 6, 6), 0.7, "m"), Prediction("cat", Box(0, 0, 8, 8), 0.9, "m"))
    two = Record(Item("1", "a.jpg", ""), (Submission("s", "x", (cat, dog)), Submission("t", "y", ())), seen)
    none = Record(Item("2", "b.jpg", ""), (), seen)
    one = Record(Item("3", "c.jpg", ""), (Submission("u", "x", (dog,)),))
    workload = build_workload("t", LABELS, [two, none, one])
    assert [(u.item.id, u.submission.id) for u in workload.units] == [("1", "s"), ("1", "t"), ("3", "u")]
    assert workload.annotations == (cat, dog, dog)
    assert workload.predictions == seen + seen
    assert workload.given.unit.tolist() == [0, 0, 2]
    assert workload.given.label.tolist() == [0, 1, 1]
    assert workload.given.rotation.tolist() == [30, 0, 0]
    assert workload.given.confidence.tolist() == [1, 1, 1]
    assert workload.predicted.unit.tolist() == [0, 0, 1, 1]
    assert workload.predicted.confidence.tolist() == [0.7, 0.9, 0.7, 0.9]
    assert workload.predicted.xyxy[1].tolist() == [0, 0, 8, 8]


def test_what_cannot_be_scored_is_left_out() -> None:
    bad = (
        Annotation("a", "owl", Box(0, 0, 9, 9)),
        Annotation("b", "cat", Box(0, 0, 0, 9)),
        Annotation("c", "cat", Polygon(((0, 0), (1, 0), (1, 1)))),
    )
    seen = (Prediction("owl", Box(0, 0, 9, 9), 0.9, "m"), Prediction("cat", Box(0, 0, float("nan"), 9), 0.9, "m"))
    workload = build_workload("t", LABELS, [Record(Item("1", "a", ""), (Submission("s", "", bad),), seen)])
    assert len(workload.units) == 1
    assert len(workload.given) == len(workload.predicted) == 0
    assert workload.given.xyxy.shape == (0, 4)
    assert workload.given.xyxy.dtype == np.float64


def test_a_box_around_an_outlined_object_says_nothing_new() -> None:
    """But one that shows a labelled box stays, lest that looks unseen; and a broken outline tells nothing."""
    ring = Polygon(((0, 0), (40, 0), (40, 30), (0, 30)))
    bits = np.zeros((100, 100), np.bool_)
    bits[60:90, 50:90] = True
    work = (
        Annotation("a", "cat", ring),
        Annotation("b", "dog", encode_coco(bits)),
        Annotation("c", "dog", Mask(9, 9, (1, 2))),
        Annotation("d", "cat", Box(0, 0, 39, 30)),
        Annotation("e", "cat", Polygon(((0, 0), (float("nan"), 0), (1, 1)))),
    )
    around = [Box(1, 1, 40, 30), Box(50, 60, 90, 88), Box(0, 0, 39, 30), Box(60, 0, 99, 20)]
    seen = tuple(Prediction("cat", box, 0.9, "m") for box in around)
    workload = build_workload("t", LABELS, [Record(Item("1", "a", ""), (Submission("s", "", work),), seen)])
    assert [p.shape for p in workload.predictions] == around[2:]
    others = Record(Item("2", "b", ""), (Submission("t", "", ()),), seen)
    assert len(build_workload("t", LABELS, [others]).predictions) == 4
