"""Pictures that are there more than once: what is said about them, and about which of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Record, Submission
from bridge.core.findings import ErrorType, Finding
from bridge.scorers.near_duplicate_review import NearDuplicateReview, without_known

LABELS = LabelSet(("cat", "dog"))
CAT, DOG, OTHER = Box(20, 20, 40, 50), Box(60, 55, 90, 85), Box(70, 10, 90, 30)


def record(name: str, picture: int, *objects: tuple[str, Box], split: str = "", noise: int = 0) -> Record:
    """An item that shows picture number ``picture``, with some noise."""
    cells = np.random.default_rng(picture).integers(20, 236, (16, 16))
    cells += np.random.default_rng(1000 + noise).integers(-9, 10, (16, 16)) if noise else 0
    annotations = tuple(Annotation(f"{name}-{k}", label, box) for k, (label, box) in enumerate(objects))
    return Record(
        Item(name, f"{name}.jpg", "", 100, 100, split),
        (Submission(f"s{name}", "ann", annotations),),
        thumbnail=cells.astype(np.uint8).tobytes(),
    )


def find(*records: Record) -> list[Finding]:
    found = NearDuplicateReview().find("t", LABELS, records)
    json.dumps([f.to_dict() for f in found], allow_nan=False)
    assert len({f.id for f in found}) == len(found)
    return sorted(found, key=lambda f: (f.error, f.item_id))


def test_a_superfluous_copy() -> None:
    (finding,) = find(record("b", 1, ("cat", CAT), noise=1), record("a", 1, ("cat", CAT)), record("c", 2))
    assert (finding.error, finding.submission_id) == (ErrorType.NEAR_DUPLICATE, "")
    assert {finding.item_id, finding.evidence["same_picture_as"]} == {"a", "b"}
    assert 0.9 < finding.score < 1
    assert finding.reason.startswith("This is almost certainly the same picture as ")


def test_one_finding_for_each_member_but_one() -> None:
    found = find(*(record(str(k), 1, noise=k) for k in range(5)), *(record(f"x{k}", 2 + k) for k in range(5)))
    assert [f.error for f in found] == [ErrorType.NEAR_DUPLICATE] * 4
    (original,) = {f.evidence["same_picture_as"] for f in found}
    assert original not in {f.item_id for f in found}
    assert all(f.reason.endswith(", one of 5 that are alike.") and f.evidence["group_size"] == 5 for f in found)


def test_labels_that_cannot_both_be_right() -> None:
    two, one = (("cat", CAT), ("dog", DOG)), (("dog", CAT),)
    found = find(record("a", 1, *two), record("b", 1, *one, noise=1))
    assert [f.error for f in found] == [ErrorType.INCONSISTENT_LABELS, ErrorType.NEAR_DUPLICATE]
    finding = found[0]
    assert finding.evidence["differences"] == 2
    assert finding.submission_id == f"s{finding.item_id}"
    assert len(finding.revisions) == len(finding.annotation_ids) > 0
    assert "is labelled otherwise there: only " in finding.reason


def test_the_odd_one_out_is_named() -> None:
    same = [record(name, 1, ("cat", CAT), ("dog", DOG), noise=k) for k, name in enumerate("acd")]
    found = find(record("b", 1, ("cat", CAT), noise=9), *same)
    (finding,) = (f for f in found if f.error is ErrorType.INCONSISTENT_LABELS)
    assert (finding.item_id, finding.annotation_ids) == ("b", ())
    assert finding.reason.endswith("only there: 1 dog.")


def test_more_differences_are_surer() -> None:
    one = find(record("a", 1, ("cat", CAT)), record("b", 1))
    three = find(record("a", 1, ("cat", CAT), ("dog", DOG), ("cat", OTHER)), record("b", 1))
    assert 0.75 < one[0].score < three[0].score < 1


def test_leakage_names_both_and_lies_with_what_is_not_learned_from() -> None:
    found = find(record("a", 1, split="val"), record("b", 1, split="train", noise=1), record("c", 1, split="test"))
    assert [(f.error, f.item_id, f.evidence["same_picture_as"]) for f in found] == [
        (ErrorType.LEAKAGE, "a", "b"),
        (ErrorType.LEAKAGE, "c", "b"),
    ]
    assert "picture of 'val' is in 'train' too, as b.jpg (b)" in found[0].reason
    assert found[0].evidence["splits"] == ["val", "train"]


def test_without_a_split_nothing_leaks() -> None:
    found = find(record("a", 1, split="train"), record("b", 1))
    assert [f.error for f in found] == [ErrorType.NEAR_DUPLICATE] * (len(found))
    assert not [f for f in found if f.error is ErrorType.LEAKAGE]


def test_what_nobody_opened_or_submitted_is_not_compared() -> None:
    first, second = record("a", 1), record("b", 1)
    unopened = Record(second.item, second.submissions)
    unsubmitted = Record(second.item, thumbnail=second.thumbnail)
    assert find(first, unopened) == find(first, unsubmitted) == find(first) == find() == []


@pytest.mark.parametrize(("files", "left"), [({"a": "x", "b": "x"}, 0), ({"a": "x", "b": "y"}, 1), ({}, 1)])
def test_the_very_same_file_is_told_by_the_data_checks(files: dict[str, str], left: int) -> None:
    assert len(without_known(find(record("a", 1), record("b", 1)), files)) == left


def test_labels_of_the_very_same_file_can_still_differ() -> None:
    found = without_known(find(record("a", 1, ("cat", CAT)), record("b", 1)), {"a": "x", "b": "x"})
    assert [f.error for f in found] == [ErrorType.INCONSISTENT_LABELS]
