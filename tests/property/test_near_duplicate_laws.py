"""Near-duplicates and class balance: the order of records and the pages they come in make no difference."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.class_balance import BalanceCount, count_balance
from bridge.core.findings import ErrorType
from bridge.scorers.near_duplicate_review import NearDuplicateReview

LABELS = LabelSet(("cat", "dog", "owl"))
_RNG = np.random.default_rng(0)
_BASE = _RNG.integers(30, 226, (4, 16, 16))
#: Four pictures, each as it is, as two near copies and as one that is halfway to the next; and two of a single colour.
PICTURES = [
    *(p.astype(np.uint8) for p in _BASE),
    *((p + _RNG.integers(-20, 21, (16, 16))).astype(np.uint8) for p in (*_BASE, *_BASE)),
    *((p + q).astype(np.int64) // 2 for p, q in zip(_BASE, np.roll(_BASE, 1, axis=0), strict=True)),
    np.zeros((16, 16), np.uint8),
    np.full((16, 16), 7, np.uint8),
]
BOXES = (Box(10, 10, 30, 30), Box(12, 12, 32, 32), Box(50, 50, 90, 80), Box(1, 1, 1, 9))

objects = st.lists(st.tuples(st.sampled_from(LABELS.names), st.sampled_from(BOXES)), max_size=3)
item = st.tuples(
    st.integers(0, len(PICTURES) - 1),
    st.sampled_from(("train", "val", "test", "")),
    objects,
    st.sampled_from(("c", "d", "")),
)


def records_of(drawn: list[tuple[int, str, list[tuple[str, Box]], str]]) -> list[Record]:
    made = []
    for k, (picture, split, labelled, said) in enumerate(drawn):
        annotations = tuple(Annotation(f"{k}-{n}", label, box) for n, (label, box) in enumerate(labelled))
        predictions = tuple(Prediction(label, BOXES[0], 0.7, "m") for label in LABELS.names if label[0] == said)
        made.append(
            Record(
                Item(str(k), f"{k}.jpg", "", 100, 100, split),
                (Submission(str(k), "ann", annotations),),
                predictions,
                predicted_by=("m",),
                thumbnail=PICTURES[picture].astype(np.uint8).tobytes(),
            )
        )
    return made


@settings(deadline=None, max_examples=50)
@given(st.lists(item, max_size=14), st.integers())
def test_the_order_of_records_makes_no_difference(
    drawn: list[tuple[int, str, list[tuple[str, Box]], str]], seed: int
) -> None:
    records = records_of(drawn)
    shuffled = random.Random(seed).sample(records, len(records))
    first, second = (
        {f.id: f.to_dict() for f in NearDuplicateReview().find("t", LABELS, some)} for some in (records, shuffled)
    )
    assert first == second


@settings(deadline=None, max_examples=50)
@given(st.lists(item, max_size=14))
def test_what_findings_say(drawn: list[tuple[int, str, list[tuple[str, Box]], str]]) -> None:
    records = records_of(drawn)
    by_id = {record.item.id: record for record in records}
    found = NearDuplicateReview().find("t", LABELS, records)
    assert len({(f.item_id, f.error) for f in found}) == len(found)
    for finding in found:
        mine, other = by_id[finding.item_id], by_id[finding.evidence["same_picture_as"]]
        assert mine is not other
        assert np.ptp(np.frombuffer(mine.thumbnail, np.uint8)) > 0
        assert finding.score >= 0.4
        if finding.error is ErrorType.LEAKAGE:
            assert mine.item.split not in ("", "train")
            assert other.item.split not in ("", mine.item.split)
        if finding.error is ErrorType.NEAR_DUPLICATE:
            assert mine.item.split == other.item.split


@settings(deadline=None, max_examples=50)
@given(st.lists(item, max_size=14), st.integers(0, 14), st.integers())
def test_the_balance_is_the_same_in_any_order_and_in_pages(
    drawn: list[tuple[int, str, list[tuple[str, Box]], str]], cut: int, seed: int
) -> None:
    records = records_of(drawn)
    count = BalanceCount(LABELS)
    shuffled = random.Random(seed).sample(records, len(records))
    count.add(shuffled[:cut])
    count.add(shuffled[cut:])
    whole = count_balance(LABELS, records)
    assert count.balance() == whole
    assert sum(c.objects for c in whole.classes) == sum(s.objects for s in whole.splits)
    assert 0 <= whole.effective <= len(LABELS.names) + 1e-9
    assert all(s.divergence is None or 0 <= s.divergence <= 1 for s in whole.splits)
