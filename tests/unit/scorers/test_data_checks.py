from __future__ import annotations

import json
import math

import pytest

from bridge.core.annotations import (
    Annotation,
    Box,
    Item,
    LabelSet,
    Mask,
    Polygon,
    Problem,
    Record,
    Shape,
    Submission,
    Tag,
)
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.errors import PluginError
from bridge.scorers.data_checks import ImageFacts, check_images, check_records

LABELS = LabelSet(("cat", "dog"))
ITEM = Item("1", "a.jpg", "/data/a.jpg", 640, 480)
NOTHING = Fix("none")


def check(shape: Shape, label: str = "cat", item: Item = ITEM) -> list[Finding]:
    annotation = Annotation("a1", label, shape)
    found = check_records("t", LABELS, [Record(item, (Submission("s", "ann", (annotation,)),))])
    assert all(f.score == 1.0 and f.scorer == "data-checks-1" and f.target == "t" for f in found)
    assert all(f.annotation_ids == ("a1",) and f.revisions == (annotation.revision,) for f in found)
    json.dumps([f.to_dict() for f in found], allow_nan=False)
    return found


@pytest.mark.parametrize(
    "shape",
    [
        Box(0, 0, 640, 480),
        Box(-1, -1, 641, 481),
        Box(20, 20, 30, 30, 15),
        Polygon(((0, 0), (9, 0), (9, 9))),
        Mask(2, 2, (1, 3)),
        Tag(),
    ],
)
def test_good_objects_are_left_alone(shape: Shape) -> None:
    assert check(shape) == []


@pytest.mark.parametrize("shape", [Box(20, 20, 30, 30, 15), Polygon(((0, 0), (9, 0), (9, 9))), Tag()])
def test_an_object_labelled_twice_to_the_last_digit(shape: Shape) -> None:
    equal = tuple(Annotation(name, "cat", shape) for name in ("b", "a", "c"))
    others = (Annotation("d", "dog", shape), Annotation("e", "cat", Box(20, 20, 31, 30, 15)))
    somebody_else = Submission("t", "other", equal[:1])
    found = check_records("t", LABELS, [Record(ITEM, (Submission("s", "ann", (*equal, *others)), somebody_else))])
    assert [(f.error, f.annotation_ids, f.fix) for f in found] == [
        (ErrorType.EXTRA, ("a",), Fix("delete")),
        (ErrorType.EXTRA, ("c",), Fix("delete")),
    ]
    assert {f.evidence["double_of"] for f in found} == {"b"}
    assert found[0].reason == "The same cat is labelled twice in the same place."


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (Box(5, 5, 5, 9), "no usable shape: the box has no area: 0 x 4 px."),
        (Box(math.nan, 5, 9, 9), "not a finite number"),
        (Box(1, 5, 9, 9, math.inf), "not a finite number"),
        (Polygon(((0, 0), (5, 5), (9, 9))), "the polygon of 3 points has no area."),
        (Polygon(()), "the polygon of 0 points has no area."),
        (Polygon(((0, 0), (math.inf, 5), (9, 9))), "not a finite number"),
        (Mask(2, 2, (4,)), "the mask is empty."),
    ],
)
def test_a_shape_that_is_none(shape: Shape, reason: str) -> None:
    (finding,) = check(shape)
    assert finding.error is ErrorType.DEGENERATE_SHAPE
    assert reason in finding.reason
    assert finding.fix == NOTHING
    finite = "finite" not in finding.reason
    assert finding.current_shape == (shape if finite else None)


@pytest.mark.parametrize(
    ("shape", "fix", "reason"),
    [
        (Box(-5, 10, 50, 60), Fix("reshape", "cat", Box(0, 10, 50, 60)), "reaches 5 px out"),
        (Box(600, -3, 642, 490), Fix("reshape", "cat", Box(600, 0, 640, 480)), "reaches 10 px out"),
        (Box(640, 10, 700, 60), Fix("delete"), "reaches 60 px out"),
        (Box(-50, -50, 0, -2), Fix("delete"), "reaches 50 px out"),
        (Box(-50, 100, 50, 110, 45), NOTHING, "px out"),
        (Polygon(((-9, 0), (9, 0), (9, 9))), NOTHING, "reaches 9 px out"),
        (Polygon(((-9, -9), (-5, -9), (-5, -5))), Fix("delete"), "reaches 9 px out"),
    ],
)
def test_an_object_out_of_the_image(shape: Shape, fix: Fix, reason: str) -> None:
    (finding,) = check(shape)
    assert finding.error is ErrorType.OUT_OF_IMAGE
    assert finding.fix == fix
    assert reason in finding.reason
    assert finding.current_shape == shape


def test_a_turned_box_is_judged_by_its_corners() -> None:
    # Upright it would stick out by 45 px on either side; turned by a quarter it lies inside.
    assert check(Box(-45, 100, 55, 110, 90)) == []
    (finding,) = check(Box(2, 100, 12, 200, 90))
    assert "reaches 43 px out" in finding.reason


def test_nothing_is_out_of_an_image_of_unknown_size() -> None:
    assert check(Box(-50, -50, 9e9, 9e9), item=Item("1", "a.jpg", "")) == []


def test_a_label_nobody_declared_is_named_beside_what_else_is_wrong() -> None:
    label, shape = check(Box(0, 0, 0, 0), label="owl")
    assert (label.error, label.fix, label.label) == (ErrorType.UNKNOWN_LABEL, NOTHING, "owl")
    assert "'owl'" in label.reason
    assert shape.error is ErrorType.DEGENERATE_SHAPE


def test_problems_become_findings_of_their_kind() -> None:
    cat = Annotation("a1", "cat", Box(0, 0, 9, 9))
    problems = (
        Problem("no_image", "The task has no image."),
        Problem("degenerate_shape", "Region a9 has no points.", "a9", "s"),
        Problem("unknown_label", "Region a1 has two labels.", "a1", "s"),
    )
    found = check_records("t", LABELS, [Record(ITEM, (Submission("s", "ann", (cat,)),), problems=problems)])
    assert [(f.error, f.reason, f.annotation_ids, f.submission_id, f.label) for f in found] == [
        (ErrorType.NO_IMAGE, "The task has no image.", (), "", ""),
        (ErrorType.DEGENERATE_SHAPE, "Region a9 has no points.", ("a9",), "s", ""),
        (ErrorType.UNKNOWN_LABEL, "Region a1 has two labels.", ("a1",), "s", "cat"),
    ]
    assert found[2].revisions == (cat.revision,)
    assert found[1].revisions == ()


def test_two_problems_of_one_kind_about_one_thing_are_one_finding() -> None:
    problems = (
        Problem("no_image", "First."),
        Problem("no_image", "Second."),
        Problem("no_image", "Second."),
    )
    (finding,) = check_records("t", LABELS, [Record(ITEM, problems=problems)])
    assert finding.reason == "First. Second."


@pytest.mark.parametrize("kind", ["missing", "strange"])
def test_a_problem_of_no_known_kind_is_the_adapters_fault(kind: str) -> None:
    with pytest.raises(PluginError, match=f"item 1 has a problem of the kind '{kind}'"):
        check_records("t", LABELS, [Record(ITEM, problems=(Problem(kind, "?"),))])


def facts(name: str, sha: str | None = None, size: tuple[int, int] | None = (640, 480), error: str | None = None):
    item = Item(name, f"{name}.jpg", "", 640, 480)
    return ImageFacts(item, sha, *(size or (None, None)), error)


def test_good_images_are_left_alone() -> None:
    undeclared = ImageFacts(Item("2", "b.jpg", ""), "b", 30, 16, None)
    assert check_images("t", [facts("1", "a"), undeclared]) == []


def test_an_image_that_cannot_be_read() -> None:
    (finding,) = check_images("t", [facts("1", None, None, "cannot identify image file")])
    assert finding.error is ErrorType.UNREADABLE_IMAGE
    assert "cannot identify image file" in finding.reason
    assert (finding.fix, finding.annotation_ids, finding.submission_id, finding.score) == (NOTHING, (), "", 1.0)


def test_a_tiny_image() -> None:
    tiny = ImageFacts(Item("1", "a.jpg", ""), "a", 15, 400, None)
    (finding,) = check_images("t", [tiny])
    assert finding.error is ErrorType.SMALL_IMAGE
    assert finding.evidence == {"width": 15, "height": 400}
    assert check_images("t", [tiny], min_side=15) == []


def test_an_image_of_another_size_than_declared() -> None:
    (finding,) = check_images("t", [facts("1", "a", (480, 640))])
    assert finding.error is ErrorType.SIZE_MISMATCH
    assert finding.reason == "The image is 480 x 640 px, but 640 x 480 px are declared."


def test_of_the_same_file_all_but_the_first_are_flagged() -> None:
    found = check_images("t", [facts("1", "x"), facts("2", "y"), facts("3", "x"), facts("4", "x"), facts("5", None)])
    assert [(f.item_id, f.error, f.evidence["items"]) for f in found] == [
        ("3", ErrorType.DUPLICATE_IMAGE, ["1", "4"]),
        ("4", ErrorType.DUPLICATE_IMAGE, ["1", "3"]),
    ]
    assert found[0].reason == "This is the same file as 1.jpg (1), 4.jpg (4)."


def test_many_copies_are_counted_not_listed() -> None:
    found = check_images("t", [facts(str(k), "x") for k in range(9)])
    assert found[-1].reason == "This is the same file as 0.jpg (0), 1.jpg (1), 2.jpg (2) and 5 more."
