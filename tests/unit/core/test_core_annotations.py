from __future__ import annotations

import math

import pytest

from bridge.core.annotations import (
    Annotation,
    Box,
    Item,
    LabelSet,
    Mask,
    Polygon,
    Record,
    Submission,
    Tag,
    TextSpan,
    revision_of,
    shape_from_list,
    shape_to_list,
    snapshot_hash,
)
from bridge.errors import DataError


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        (Box(0, 0, 1, 1), None),
        (Box(-5, -5, 1, 1, 400), None),
        (Box(1, 0, 1, 5), "no area: 0 x 5 px"),
        (Box(5, 0, 1, 5), "no area: -4 x 5 px"),
        (Box(0, 0, math.nan, 1), "not a finite number"),
        (Box(0, 0, 1, 1, math.inf), "not a finite number"),
    ],
)
def test_a_box_says_why_it_cannot_be_scored(box: Box, problem: str | None) -> None:
    assert (box.problem() is None) if problem is None else (problem in str(box.problem()))


@pytest.mark.parametrize(
    ("shape", "listed"),
    [
        (Box(1, 2, 3, 4, 5), ["box", 1, 2, 3, 4, 5]),
        (Polygon(((0, 0), (1, 0), (1, 1))), ["polygon", [[0, 0], [1, 0], [1, 1]]]),
        (Mask(2, 2, (1, 3)), ["mask", 2, 2, [1, 3]]),
        (TextSpan(3, 9, "a word"), ["span", 3, 9, "a word"]),
        (Tag(), ["tag"]),
    ],
)
def test_shapes_as_lists(shape: object, listed: list[object]) -> None:
    assert shape_to_list(shape) == listed
    assert shape_from_list(listed) == shape


def test_an_unknown_kind_of_shape_is_named() -> None:
    with pytest.raises(DataError, match="unknown kind of shape 'cuboid'"):
        shape_from_list(["cuboid", 1])


def test_a_revision_sees_what_a_person_does_and_not_what_a_percentage_does() -> None:
    box = Box(10.0, 20.0, 30.0, 40.0)
    same = revision_of("cat", box)
    assert revision_of("cat", Box(10.001, 19.999, 30.0, 40.0)) == same
    assert revision_of("cat", Box(10.1, 20.0, 30.0, 40.0)) != same
    assert revision_of("dog", box) != same
    assert revision_of("cat", Polygon(((10.0, 20.0), (30.0, 20.0), (30.0, 40.0)))) != same
    assert revision_of("cat", Box(-0.0, 0.0, 1.0, 1.0)) == revision_of("cat", Box(0.0, 0.0, 1.0, 1.0))
    # The same today as in any snapshot ever stored: changing this breaks every target that was scored before.
    assert same == "00cccd0e2cf56954"


def test_a_label_set_names_labels_that_occur_twice() -> None:
    with pytest.raises(DataError, match="label names occur twice: cat, dog"):
        LabelSet(("dog", "cat", "owl", "cat", "dog"))
    assert LabelSet(("b", "a")).index() == {"b": 0, "a": 1}


def test_the_snapshot_hash_is_stable_and_sees_every_change() -> None:
    item = Item("1", "a.jpg", "/data/a.jpg", 640, 480)

    def taken(*annotations: Annotation) -> str:
        return snapshot_hash([Record(item, (Submission("7", "ann", annotations),))])

    cat = Annotation("x", "cat", Box(0.0, 0.0, 10.0, 10.0))
    hashes = {taken(), taken(cat), taken(cat, cat), taken(Annotation("x", "dog", cat.shape)), snapshot_hash([])}
    assert len(hashes) == 5
    assert taken(cat) == "68569dc867c94ac3f086c354804a568c4175a8f2069c6ff413ed8143cc0b3688"
