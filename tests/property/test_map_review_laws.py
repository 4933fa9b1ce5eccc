"""Laws of the map review: order and pages do not matter, and the notes of an item are its own."""

from __future__ import annotations

from dataclasses import replace

from fakes.class_maps import LABELS, class_map, clean, noted, record, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.annotations import LabelSet
from bridge.scorers.map_review import MapReview

RECORDS = [*clean(2), record(1, truth(1)[2:]), record(2, [*truth(2)[1:], ("dog", truth(2)[0][1])])]
SET = LabelSet(LABELS)
SCORES = {f.id: f.score for f in MapReview().find("t", SET, RECORDS)}


@settings(max_examples=4, deadline=None)
@given(st.permutations(RECORDS))
def test_the_order_of_the_items_does_not_matter(records: list) -> None:  # type: ignore[type-arg]
    assert {f.id: f.score for f in MapReview().find("t", SET, records)} == SCORES


@settings(max_examples=4, deadline=None)
@given(st.permutations(range(9)))
def test_the_order_of_the_objects_does_not_matter(order: list[int]) -> None:
    made = record(1, truth(1), notes=False)
    (submission,) = made.submissions
    moved = replace(submission, annotations=tuple(submission.annotations[k] for k in order))
    chances = class_map(truth(1), 1)
    again = noted(replace(made, submissions=(moved,)), chances)
    assert repr(again) == repr(noted(made, chances))  # NaN is not equal to itself


def test_scores_are_probabilities() -> None:
    assert all(0 <= score <= 1 for score in SCORES.values())
    assert len(SCORES) == len(MapReview().find("t", SET, RECORDS)), "each suspicion once"
