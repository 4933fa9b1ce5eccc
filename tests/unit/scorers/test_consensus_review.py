"""Several submissions of one item: what each of them is told."""

from __future__ import annotations

import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Polygon, Prediction, Record, Submission
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.objects import build_workload
from bridge.scorers import explain
from bridge.scorers.consensus_review import ConsensusReview, beside
from bridge.scorers.object_review import ObjectReview

LABELS = LabelSet(("cat", "dog"))
HERE, NEAR, THERE = Box(0, 0, 100, 100), Box(30, 0, 130, 100), Box(300, 0, 400, 100)
Given = list[tuple[str, Box]]


def record(name: str, work: dict[str, Given], seen: list[tuple[str, Box, float]] | None = None) -> Record:
    submissions = tuple(
        Submission(f"{name}-{who}", who, tuple(Annotation(f"{name}-{who}-{k}", c, b) for k, (c, b) in enumerate(given)))
        for who, given in work.items()
    )
    predictions = tuple(Prediction(label, box, confidence, "m") for label, box, confidence in seen or [])
    return Record(Item(name, f"{name}.jpg", ""), submissions, predictions, predicted_by=() if seen is None else ("m",))


BOTH: Given = [("cat", HERE), ("dog", THERE)]
GOOD = [record(f"good {k}", {"ann": BOTH, "bob": BOTH, "cid": BOTH}) for k in range(30)]
GOOD_SEEN = [
    record(f"seen {k}", {"ann": BOTH, "bob": BOTH}, [("cat", HERE, 0.93), ("dog", THERE, 0.93)]) for k in range(30)
]


def review(one: Record, *more: Record) -> dict[tuple[str, str], Finding]:
    """(submission, error) -> finding, of those that a person would see."""
    found = ConsensusReview().find("t", LABELS, [one, *more])
    shown = [f for f in found if f.score >= 0.2 and f.item_id == one.item.id]
    assert not [f for f in found if f.score >= 0.2 and f.item_id != one.item.id]
    assert len({(f.submission_id, f.error) for f in shown}) == len(shown)
    return {(f.submission_id, str(f.error)): f for f in shown}


def test_what_one_of_three_overlooked_is_missing_there() -> None:
    found = review(record("x", {"ann": BOTH, "bob": BOTH, "cid": BOTH[:1]}), *GOOD)
    (key,) = found
    assert key == ("x-cid", "missing")
    assert found[key].fix == Fix("add", "dog", THERE)
    assert found[key].annotation_ids == ()
    assert found[key].reason.startswith("Nothing is labelled here; 2 of 3 people have an object. A dog is there with")
    assert found[key].evidence["agreement"] == pytest.approx(1 / 3)


def test_what_only_one_of_three_sees_is_extra() -> None:
    found = review(record("x", {"ann": [*BOTH, ("cat", Box(600, 0, 700, 100))], "bob": BOTH, "cid": BOTH}), *GOOD)
    assert found["x-ann", "extra"].annotation_ids == ("x-ann-2",)
    assert found["x-ann", "extra"].fix == Fix("delete")
    assert found["x-ann", "extra"].score > 0.5
    assert all(error == "missing" and f.score < 0.5 for (_, error), f in found.items() if error != "extra")


def test_a_model_decides_between_two_people() -> None:
    split = {"ann": [("cat", HERE), ("dog", THERE)], "bob": [("dog", HERE), ("dog", THERE)]}
    found = review(record("x", split, [("cat", HERE, 0.94), ("dog", THERE, 0.95)]), *GOOD_SEEN)
    assert list(found) == [("x-bob", "wrong_class")]
    assert found["x-bob", "wrong_class"].fix == Fix("relabel", "cat", HERE)
    assert "the model says cat (0.94)" in found["x-bob", "wrong_class"].reason


def test_a_box_unlike_the_others_is_imprecise_and_theirs_is_the_fix() -> None:
    work = {"ann": [("cat", NEAR), BOTH[1]], "bob": BOTH, "cid": BOTH}
    found = review(record("x", work), *GOOD)
    assert ("x-ann", "imprecise") in found
    finding = found["x-ann", "imprecise"]
    assert finding.fix == Fix("reshape", "cat", HERE)
    assert finding.evidence["iou"] == pytest.approx(70 / 130)
    assert finding.score == max(f.score for f in found.values())


def test_what_no_person_sees_is_left_to_the_scorer() -> None:
    one = record("x", {"ann": BOTH[:1], "bob": []}, [("cat", HERE, 0.93), ("dog", THERE, 0.93)])
    alone = record("y", {"ann": []}, [("cat", HERE, 0.9)])
    consensus = ConsensusReview().find("t", LABELS, [one, alone])
    assert {(f.submission_id, f.label) for f in consensus if f.error is ErrorType.MISSING} == {("x-bob", "cat")}
    workload = build_workload("t", LABELS, [one, alone])
    scored = explain.findings(workload, ObjectReview().score(workload), "object-review-1")
    found = beside(consensus, scored, [one, alone])
    missing = sorted((f.submission_id, f.label, f.scorer) for f in found if f.error is ErrorType.MISSING)
    assert missing == [
        ("x-ann", "dog", "object-review-1"),
        ("x-bob", "cat", "consensus-review-1"),
        ("x-bob", "dog", "object-review-1"),
        ("y-ann", "cat", "object-review-1"),
    ]
    assert {f.scorer for f in found if f.item_id == "x" and f.error is not ErrorType.MISSING} <= {"consensus-review-1"}


def test_turned_boxes_are_fixed_by_the_member_that_fits_best() -> None:
    turned = [("cat", Box(0, 0, 100, 60, 30.0))]
    found = review(record("x", {"ann": [], "bob": turned, "cid": turned}), *GOOD)
    assert found["x-ann", "missing"].fix.shape == turned[0][1]


def test_one_submission_is_not_judged_nor_what_is_no_box() -> None:
    assert ConsensusReview().find("t", LABELS, [record("x", {"ann": BOTH}, [("cat", HERE, 0.9)])]) == []
    ring = Annotation("1", "cat", Polygon(((0, 0), (9, 0), (9, 9))))
    odd = (Submission("a", "a", (ring,)), Submission("b", "b", (Annotation("2", "cat", Box(5, 5, 5, 9)),)))
    assert ConsensusReview().find("t", LABELS, [Record(Item("x", "x", ""), odd)]) == []
    assert ConsensusReview().find("t", LABELS, []) == []
