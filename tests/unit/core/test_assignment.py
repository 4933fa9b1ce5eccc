"""bridge.core.assignment: review work is shared evenly, among those who may, within what each can take."""

from __future__ import annotations

from collections import Counter

import pytest

from bridge.core.assignment import Seat, Seating, Who, share

ANN, BEN = Seat("1", "ann"), Seat("2", "ben")


def shared(
    *seats: Seat, who: Who = "anyone", among: tuple[str, ...] = (), at_most: int | None = None, **awaited: int
) -> list[str | None]:
    return share(Seating(seats, among), who, awaited, at_most)


def test_nobody_in_particular() -> None:
    assert shared(ANN, BEN) == ["", ""]


def test_the_cap_counts_what_is_waiting_already() -> None:
    assert share(Seating((ANN, ANN, BEN)), "anyone", {"": 3}, 5) == ["", "", None]
    assert share(Seating((ANN,)), "anyone", {"": 7}, 5) == [None]


def test_others_are_never_the_annotator() -> None:
    assert shared(ANN, BEN, who="others", among=("ann", "ben")) == ["ben", "ann"]
    assert shared(ANN, who="others", among=("ann",)) == [None]


def test_back_to_the_annotator() -> None:
    assert shared(ANN, BEN, Seat("3"), who="annotator", among=("zoe",)) == ["ann", "ben", None]


def test_who_has_least_to_judge_comes_first() -> None:
    seats = [Seat(str(n), "ann") for n in range(6)]
    assert Counter(shared(*seats, among=("mia", "zoe"), mia=2)) == {"mia": 2, "zoe": 4}
    assert Counter(shared(*seats, among=("mia", "zoe"), at_most=2, mia=1)) == {"mia": 1, "zoe": 2, None: 3}


def test_one_place_has_one_reviewer() -> None:
    assert shared(ANN, ANN, BEN, among=("mia", "zoe")) == ["mia", "mia", "zoe"]
    assert shared(ANN, ANN, BEN, among=("mia", "zoe"), at_most=1) == ["mia", None, "zoe"]


@pytest.mark.parametrize(
    ("who", "reviewer", "expected"),
    [
        ("others", "zoe", "zoe"),
        ("others", "rob", "rob"),
        ("others", "ann", None),
        ("anyone", "ann", "ann"),
        ("annotator", "ann", "ann"),
        ("annotator", "rob", None),
    ],
)
def test_a_place_that_is_in_review_stays_with_whom_it_is(who: Who, reviewer: str, expected: str | None) -> None:
    assert shared(Seat("1", "ann", reviewer), who=who, among=("mia", "zoe")) == [expected]
