from __future__ import annotations

import pytest

from bridge.core.annotations import Annotation, Box, Item, Polygon, Shape, Submission, Tag
from bridge.core.label_difference import Difference, RelativeObjects, difference, relative_objects

CAT, DOG = Box(20, 20, 40, 50), Box(60, 55, 90, 85)


def side(*objects: tuple[str, Shape], size: int = 100) -> RelativeObjects:
    annotations = tuple(Annotation(f"a{k}", label, shape) for k, (label, shape) in enumerate(objects))
    found = relative_objects(Item("1", "1.jpg", "", size, size), Submission("s", "ann", annotations))
    assert found is not None
    return found


def compared(here: RelativeObjects, there: RelativeObjects) -> Difference:
    found, back = difference(here, there), difference(there, here)
    assert len(found) == len(back)
    assert (found.only_here, found.only_there) == (back.only_there, back.only_here)
    return found


def double(box: Box) -> Box:
    return Box(*(2 * v for v in box.xyxy))


def test_size_and_order_make_no_difference() -> None:
    twice = side(("dog", double(DOG)), ("cat", double(CAT)), size=200)
    assert len(compared(side(("cat", CAT), ("dog", DOG)), twice)) == 0


def test_a_small_shift_makes_none_even_to_a_tiny_object() -> None:
    tiny, moved = Box(50, 50, 52, 52), Box(51, 51, 53, 53)
    assert len(compared(side(("cat", tiny)), side(("cat", moved)))) == 0


def test_what_differs_is_named() -> None:
    found = compared(side(("cat", CAT), ("dog", DOG)), side(("dog", CAT), ("cat", Box(70, 10, 90, 30))))
    assert [a.label for a in found.here] == ["dog", "cat"]
    assert found.sentence() == "only here: 1 dog; only there: 1 cat; 1 cat here is dog there"


def test_objects_of_one_class_are_matched_first() -> None:
    near = Box(22, 22, 42, 52)
    assert len(compared(side(("cat", CAT), ("dog", near)), side(("dog", CAT), ("cat", near)))) == 0


@pytest.mark.parametrize("rim", [Box(0, 30, 5, 60), Box(40, 95, 60, 100)])
def test_what_a_crop_may_have_cut_off_is_no_difference(rim: Box) -> None:
    assert len(compared(side(("cat", CAT), ("cat", rim)), side(("cat", CAT)))) == 0


def test_outlines_count_by_their_envelope_and_tags_as_the_whole_picture() -> None:
    outline = Polygon(((20, 20), (40, 20), (40, 50), (20, 50)))
    assert len(compared(side(("cat", outline)), side(("cat", CAT)))) == 0
    assert compared(side(("cat", Tag())), side(("dog", Tag()))).sentence() == "1 cat here is dog there"


def test_many_classes_are_counted() -> None:
    many = side(*((f"c{k}", Box(10 + 9 * k, 20, 14 + 9 * k, 30)) for k in range(8)))
    assert compared(many, side()).sentence() == "only here: 1 c0, 1 c1, 1 c2, 1 c3 and 4 more"


def test_nothing_can_be_said_without_a_size_and_shapes_without_area_are_left_out() -> None:
    work = Submission("s", "ann", (Annotation("a", "cat", Box(5, 5, 5, 9)),))
    assert relative_objects(Item("1", "1.jpg", ""), work) is None
    found = relative_objects(Item("1", "1.jpg", "", 9, 9), work)
    assert found is not None
    assert found.annotations == ()
