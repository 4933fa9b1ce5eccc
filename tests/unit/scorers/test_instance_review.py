"""Outlines: each way in which one can be wrong, on an image of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Mask, Polygon, Prediction, Record, Submission
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.rle import encode_coco
from bridge.scorers.instance_review import InstanceReview

LABELS = LabelSet(("cat", "dog"))
SIDE = 100


def mask(*boxes: tuple[int, int, int, int], without: tuple[int, int, int, int] | None = None) -> Mask:
    bits = np.zeros((SIDE, SIDE), np.bool_)
    for x1, y1, x2, y2 in boxes:
        bits[y1:y2, x1:x2] = True
    if without:
        x1, y1, x2, y2 = without
        bits[y1:y2, x1:x2] = False
    return encode_coco(bits)


def ring(x1: float, y1: float, x2: float, y2: float) -> Polygon:
    return Polygon(((x1, y1), (x2, y1), (x2, y2), (x1, y2)))


WHOLE = (20, 20, 60, 60)
CAT = mask(WHOLE)


def record(name: str, labelled: list[tuple[str, object]], seen: list[tuple[str, object, float]]) -> Record:
    objects = tuple(Annotation(f"{name}-{k}", label, shape) for k, (label, shape) in enumerate(labelled))
    found = tuple(Prediction(label, shape, confidence, "m") for label, shape, confidence in seen)
    work = (Submission(name, "", objects),)
    return Record(Item(name, name, "", SIDE, SIDE), work, found, predicted_by=("m",))


GOOD = [
    record(
        f"good {k}",
        [("cat", CAT), ("dog", mask((70, 70, 90, 90)))],
        [("cat", CAT, 0.9), ("dog", mask((70, 70, 90, 90)), 0.9)],
    )
    for k in range(60)
]


def review(one: Record) -> list[Finding]:
    """The findings about one image from the likeliest down, down to one half."""
    found = [f for f in InstanceReview().find("t", LABELS, [one, *GOOD]) if f.score >= 0.5]
    assert {f.item_id for f in found} <= {one.item.id}
    return sorted(found, key=lambda f: -f.score)


def test_what_the_model_confirms_is_no_suspect() -> None:
    assert review(record("x", [("cat", CAT)], [("cat", CAT, 0.95)])) == []
    assert review(record("x", [("cat", ring(*WHOLE))], [("cat", CAT, 0.95)])) == []


def test_missing_extra_and_wrong_class() -> None:
    (missing,) = review(record("x", [], [("cat", CAT, 0.9)]))
    assert (missing.error, missing.fix) == (ErrorType.MISSING, Fix("add", "cat", CAT))
    (extra,) = review(record("x", [("cat", CAT)], []))
    assert (extra.error, extra.fix) == (ErrorType.EXTRA, Fix("delete"))
    (swapped,) = review(record("x", [("dog", CAT)], [("cat", CAT, 0.9), ("dog", CAT, 0.05)]))
    assert (swapped.error, swapped.fix) == (ErrorType.WRONG_CLASS, Fix("relabel", "cat", CAT))
    assert swapped.reason == "Labelled dog; the model says cat (0.90) at IoU 1.00."


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (mask((30, 20, 70, 60)), "the outline and the model's differ: IoU 0.60"),
        (mask(WHOLE, without=(30, 30, 45, 45)), "it has a hole where the model sees the object"),
        (mask(WHOLE, (80, 2, 90, 14)), "a part of it lies apart, where the model sees nothing"),
        (ring(30, 20, 70, 60), "the outline and the model's differ: IoU 0.60"),
    ],
    ids=["shifted", "hole", "fragment", "polygon"],
)
def test_a_bad_outline_is_named(shape: object, says: str) -> None:
    (finding,) = review(record("x", [("cat", shape)], [("cat", CAT, 0.9)]))
    assert finding.error is ErrorType.IMPRECISE
    if isinstance(shape, Polygon):  # is to become another polygon
        assert isinstance(finding.fix.shape, Polygon)
        assert sorted(finding.fix.shape.points) == sorted(ring(20, 20, 60, 60).points)
    else:
        assert finding.fix == Fix("reshape", "cat", CAT)
    assert says in finding.reason


def test_a_small_hole_that_the_model_has_too_is_fine() -> None:
    hollow = mask(WHOLE, without=(30, 30, 45, 45))
    assert review(record("x", [("cat", hollow)], [("cat", hollow, 0.9)])) == []


def test_one_label_on_two_objects() -> None:
    both = [("cat", mask((20, 20, 39, 60)), 0.95), ("cat", mask((41, 20, 60, 60)), 0.9)]
    found = review(record("x", [("cat", CAT)], both))
    assert [f.error for f in found] == [ErrorType.IMPRECISE, ErrorType.MISSING]
    assert "the model sees 2 objects in it" in found[0].reason
    assert found[0].fix == Fix("reshape", "cat", both[0][1])
    assert found[1].fix == Fix("add", "cat", both[1][1])


def test_two_labels_on_one_object() -> None:
    pieces = [("cat", mask((20, 20, 45, 60))), ("cat", mask((45, 20, 60, 60)))]
    found = {f.annotation_ids[0]: f for f in review(record("x", pieces, [("cat", CAT, 0.95)]))}
    assert found["x-0"].error is ErrorType.IMPRECISE
    assert found["x-0"].fix == Fix("reshape", "cat", CAT)
    assert found["x-1"].error is ErrorType.EXTRA
    assert "one of several labels on what the model sees as one object" in found["x-1"].reason


TWO = [("cat", mask((20, 20, 40, 60))), ("cat", mask((40, 20, 60, 60)))]
HALVES = [("cat", shape, 0.9) for _, shape in TWO]


def test_touching_objects_that_the_model_joins_are_neither_missing_nor_badly_outlined() -> None:
    """A prediction over three labels: no label fits it, but all of it is labelled."""
    three = [("cat", mask((x, 20, x + 20, 40))) for x in (10, 30, 50)]
    found = InstanceReview().find("t", LABELS, [record("x", three, [("cat", mask((10, 20, 70, 40)), 0.9)]), *GOOD])
    assert ErrorType.MISSING not in {f.error for f in found}
    assert not [f for f in found if "the outline and the model's differ" in f.reason and f.score > 0.1]


def test_an_object_that_the_model_sees_in_pieces_is_less_extra_than_one_it_does_not_see() -> None:
    pieces = [("cat", mask((20, y, 60, y + 10)), 0.9) for y in range(20, 60, 10)]
    seen = InstanceReview().find("t", LABELS, [record("x", [("cat", CAT)], pieces), *GOOD])
    unseen = InstanceReview().find("t", LABELS, [record("x", [("cat", CAT)], []), *GOOD])
    score = [max((f.score for f in found if f.error is ErrorType.EXTRA), default=0.0) for found in (seen, unseen)]
    assert score[0] < score[1] / 5


def test_a_model_that_cuts_everything_in_two_says_little_by_it() -> None:
    def merged(share: int) -> float:
        cut = [record(f"cut {k}", [("cat", CAT)], HALVES) for k in range(share)]
        found = InstanceReview().find("t", LABELS, [record("x", [("cat", CAT)], HALVES), *cut, *GOOD])
        return max(f.score for f in found if f.item_id == "x" and f.error is ErrorType.IMPRECISE)

    once, often = merged(0), merged(60)
    assert once > 0.8
    assert often < 0.2


def test_boxes_are_not_judged_by_masks() -> None:
    boxes = record("x", [("cat", Box(20, 20, 60, 60))], [("cat", CAT, 0.9), ("dog", mask((70, 70, 90, 90)), 0.9)])
    assert review(boxes) == []


def test_what_is_damaged_is_left_out() -> None:
    damaged = Mask(SIDE, SIDE, (5, 5))
    endless = Polygon(((0.0, 0.0), (float("inf"), 0.0), (9.0, 9.0)))
    one = record("x", [("cat", damaged), ("cat", endless), ("owl", CAT)], [("cat", damaged, 0.9), ("cat", CAT, 2.0)])
    assert review(one) == []
    assert InstanceReview().find("t", LABELS, []) == []


shapes = st.tuples(*(st.integers(0, 60) for _ in range(2)), *(st.integers(5, 39) for _ in range(2))).map(
    lambda t: mask((t[0], t[1], t[0] + t[2], t[1] + t[3]))
)
kinds = st.sampled_from(LABELS.names)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(kinds, shapes), max_size=4),
    st.lists(st.tuples(kinds, shapes, st.sampled_from((0.2, 0.5, 0.9))), max_size=4),
    st.randoms(use_true_random=False),
)
def test_the_contract_and_the_order(labelled: list, seen: list, random: object) -> None:
    one = record("x", labelled, seen)
    found = InstanceReview().find("t", LABELS, [one])
    assert all(0 < f.score <= 1 for f in found)
    about = [(f.error, a) for f in found for a in f.annotation_ids]
    assert len(set(about)) == len(about)
    assert len({f.id for f in found}) == len(found)
    objects, predictions = list(one.submissions[0].annotations), list(one.predictions)
    random.shuffle(objects)
    random.shuffle(predictions)
    work = (Submission("x", "", tuple(objects)),)
    mixed = InstanceReview().find("t", LABELS, [Record(one.item, work, tuple(predictions), predicted_by=("m",))])
    here, there = ({(f.error, f.annotation_ids, f.fix.label): f.score for f in fs} for fs in (found, mixed))
    if len({repr(a.shape) for a in objects}) == len(objects):
        assert here == pytest.approx(there)


def test_a_model_of_boxes_says_nothing_about_outlines() -> None:
    boxes = [record(f"{k}", [("cat", CAT)], [("cat", Box(*WHOLE), 0.9)]) for k in range(20)]
    assert InstanceReview().find("t", LABELS, boxes) == []
    assert InstanceReview().find("t", LABELS, [*boxes, *GOOD]), "one that outlines objects does, by its silence too"
