from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.annotations import TextSpan
from bridge.core.geometry import iou_matrix
from bridge.core.spans import box_of, char_f1, trimmed

places = st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda t: (t[0], t[0] + t[1]))


def f1(a: tuple[int, int], b: tuple[int, int]) -> float:
    return float(char_f1(np.array([a]), np.array([b]))[0, 0])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 8), (0, 8), 1.0),
        ((0, 8), (0, 13), 16 / 21),  # "New York" and "New York City"
        ((4, 13), (0, 13), 18 / 22),
        ((0, 3), (3, 6), 0.0),
        ((3, 3), (3, 3), 0.0),
        ((0, 10), (5, 15), 0.5),
    ],
)
def test_f1_by_hand(a: tuple[int, int], b: tuple[int, int], expected: float) -> None:
    assert f1(a, b) == pytest.approx(expected)


@given(places, places)
def test_f1_is_symmetric_one_for_equals_only_and_that_of_the_sets_of_characters(
    a: tuple[int, int], b: tuple[int, int]
) -> None:
    shared = len(set(range(*a)) & set(range(*b)))
    assert f1(a, b) == f1(b, a) == pytest.approx(2 * shared / (a[1] - a[0] + b[1] - b[0]))
    assert 0 <= f1(a, b) <= 1
    assert (f1(a, b) == 1) == (a == b)
    iou = iou_matrix(np.array([box_of(TextSpan(*a)).xyxy]), np.array([box_of(TextSpan(*b)).xyxy]))[0, 0]
    assert f1(a, b) == pytest.approx(2 * iou / (1 + iou))


@given(places, places, st.integers(0, 9))
def test_f1_is_the_same_wherever_the_two_stand(a: tuple[int, int], b: tuple[int, int], by: int) -> None:
    assert f1(a, b) == f1((a[0] + by, a[1] + by), (b[0] + by, b[1] + by))


def test_nothing_has_no_f1() -> None:
    nothing = np.zeros((0, 2), np.int64)
    assert char_f1(nothing, np.array([[0, 3]])).shape == (0, 1)
    assert char_f1(np.array([[0, 3]]), nothing).shape == (1, 0)


@pytest.mark.parametrize(
    ("span", "core"),
    [
        (TextSpan(5, 9, "Bob "), TextSpan(5, 8, "Bob")),
        (TextSpan(5, 15, "\n“A. Bob”,"), TextSpan(7, 13, "A. Bob")),
        (TextSpan(5, 8, "Bob"), TextSpan(5, 8, "Bob")),
        (TextSpan(5, 8, "..."), TextSpan(5, 8, "...")),
        (TextSpan(5, 9, "$1 +"), TextSpan(5, 9, "$1 +")),
        (TextSpan(5, 9), TextSpan(5, 9)),
    ],
)
def test_blanks_and_punctuation_at_the_ends_do_not_count(span: TextSpan, core: TextSpan) -> None:
    assert trimmed(span) == core


@given(st.text(alphabet="ab .,\n“é", min_size=1, max_size=12), st.integers(0, 5))
def test_what_remains_is_what_stands_there(text: str, start: int) -> None:
    core = trimmed(TextSpan(start, start + len(text), text))
    assert core.text == text[core.start - start : core.end - start] != ""
    assert trimmed(core) == core
