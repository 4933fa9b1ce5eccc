"""CVAT's serverless dialect without a server: functions that every version reads, payloads, answers."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from fakes.cvat_caller import VERSIONS, Function, ListFailed, PageFailed, draw, read_list, runs
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.annotations import Polygon
from bridge.core.masks import MaskCrop
from bridge.core.predictor import Detections
from bridge.core.rle import decode_cvat
from bridge.dialects.cvat_functions import (
    RESERVED_ID,
    detection_items,
    detector_function,
    interactor_function,
    mask_answer,
    own_problems,
    problems,
    read_detector_call,
    read_interactor_call,
)
from bridge.errors import DataError, PluginError

SIZE = (20, 10)


def box_of(mask: MaskCrop) -> Polygon:
    x1, y1, x2, y2 = mask.xyxy
    return Polygon(((x1, y1), (x2, y1), (x2, y2), (x1, y2)))


def nothing_of(mask: MaskCrop) -> Polygon:
    return Polygon(())


def detector(**changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "title": "Parts",
        "description": "finds parts",
        "labels": ["bolt", "nut"],
        "shape": "rectangle",
    }
    return detector_function(changes.pop("name", "parts"), **{**options, **changes})


def interactor(**changes: Any) -> dict[str, Any]:
    return interactor_function("sam", **{"title": "Sam", "description": "outlines", **changes})


def read(function: dict[str, Any], version: str) -> Function:
    (found,) = read_list({"any": function}, version)
    return found


# --- the list -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", ["rectangle", "mask", "tag"])
def test_every_version_reads_a_detector(version: str, shape: Any) -> None:
    found = read(detector(shape=shape, port=49153), version)
    assert (found.id, found.kind, found.name, found.description) == ("parts", "detector", "Parts", "finds parts")
    assert found.labels == {"bolt": shape, "nut": shape}
    assert found.attributes == {"bolt": ["score"], "nut": ["score"]}
    assert found.port == 49153


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_reads_an_interactor_and_can_start_it(version: str) -> None:
    found = read(interactor(), version)
    assert (found.id, found.kind, found.labels) == ("sam", "interactor", {})
    assert found.can_be_started
    assert found.help_message
    # One click is a question, clicks beside the object are possible and not asked for, and no box is compulsory.
    assert found.asks(version, positive=1, negative=0)
    assert found.asks(version, positive=1, negative=1)
    assert not found.startswith_box


@pytest.mark.parametrize("version", ["2.22", "new"])
def test_a_box_alone_is_a_question_where_cvat_has_optional_boxes(version: str) -> None:
    found = read(interactor(), version)
    assert found.startswith_box_optional
    assert found.asks(version, positive=0, negative=0, boxes=1)


def test_the_score_is_a_text_attribute() -> None:
    """CVAT takes whole numbers only for attributes of type number."""
    for label in json.loads(detector()["metadata"]["annotations"]["spec"]):
        assert label["attributes"] == [{"name": "score", "input_type": "text", "values": []}]


@pytest.mark.parametrize("function", [detector(), interactor()])
def test_all_annotations_are_text_and_nothing_leads_outside(function: dict[str, Any]) -> None:
    annotations = function["metadata"]["annotations"]
    assert all(isinstance(value, str) for value in annotations.values())
    assert "startswith_box" not in annotations  # CVAT takes the text "false" for true
    assert "http" not in json.dumps(function).replace("httpPort", "")
    assert own_problems(function) == []


def test_names_of_labels_may_have_any_signs() -> None:
    labels = ['"quoted"', "Schweißnaht", "a, b", "日本", "\\n"]
    assert list(read(detector(labels=labels), "2.15").labels) == labels


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(function: dict[str, Any]) -> None:
        for key in path[:-1]:
            function = function[key]
        del function[path[-1]]

    return change


def with_note(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda function: function["metadata"]["annotations"].update({key: value})


def with_spec(*labels: Any) -> Callable[[dict[str, Any]], None]:
    return with_note("spec", json.dumps(labels))


ATTRIBUTE = {"name": "score", "input_type": "text", "values": []}
FATAL = {
    "no description": without("spec", "description"),
    "no status": without("status"),
    "no annotations": without("metadata", "annotations"),
    "no name": without("metadata", "name"),
    "no metadata": without("metadata"),
    "spec is no JSON": with_note("spec", "[{'name': 'bolt'}]"),
    "spec is no list": with_note("spec", '{"bolt": 1}'),
    "spec is a list and no text": with_note("spec", [{"name": "bolt"}]),
    "a label without a name": with_spec({"type": "rectangle"}),
    "an attribute without values": with_spec({"name": "bolt", "attributes": [{"name": "score", "input_type": "text"}]}),
    "an attribute without an input type": with_spec({"name": "bolt", "attributes": [{"name": "score", "values": []}]}),
    "two labels of one name": with_spec({"name": "bolt"}, {"name": "bolt"}),
    "two attributes of one name": with_spec({"name": "bolt", "attributes": [ATTRIBUTE, ATTRIBUTE]}),
    "version v2": with_note("version", "v2"),
    "a number of points that is none": with_note("min_neg_points", "few"),
}
HARMLESS = {
    "no httpPort": without("status", "httpPort"),
    "no spec": without("metadata", "annotations", "spec"),
    "an empty spec": with_note("spec", ""),
    "state error": lambda function: function["status"].update(state="error"),
    "a kind that CVAT does not know": with_note("type", "oracle"),
    "no kind": without("metadata", "annotations", "type"),
    "no display name": without("metadata", "annotations", "name"),
    "more fields than CVAT knows": lambda function: function.update(extra={"a": [1]}),
}


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    function = copy.deepcopy(detector())
    change(function)
    return function


@pytest.mark.parametrize("name", FATAL)
def test_what_takes_all_models_off_the_page_is_found(name: str) -> None:
    function = changed(FATAL[name])
    failing = []
    for version in VERSIONS:
        try:
            read_list({"good": detector(), "bad": function}, version)
        except ListFailed:
            failing.append(version)
    assert failing, "the parsers of the fake CVAT say that this does no harm"
    assert problems(function)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_cvat_forgives_is_forgiven(name: str) -> None:
    function = changed(HARMLESS[name])
    for version in VERSIONS:
        assert any(f.name == "Parts" for f in read_list({"good": detector(), "odd": function}, version))
    assert problems(function) == []


UGLY = st.sampled_from(
    [None, "", "x", "[]", "[1]", "{}", '[{"name": "a"}, {"name": "a"}]', 0, 2, -1.5, [], {}, [{}], True]
)


@given(data=st.data())
def test_no_version_fails_on_what_has_no_problems(data: st.DataObject) -> None:
    """Any part of a function replaced by something else, or left out."""
    function = copy.deepcopy(data.draw(st.sampled_from([detector(), interactor()])))
    for _ in range(data.draw(st.integers(1, 3))):
        place = function
        while True:
            key = data.draw(st.sampled_from(sorted(place)))
            if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        if data.draw(st.booleans()):
            place[key] = data.draw(UGLY)
        else:
            del place[key]
        if not function:
            break
    if not problems(function):
        for version in VERSIONS:
            read_list({"it": function}, version)


@pytest.mark.parametrize("function", [None, 3, [], "x", {}])
def test_what_is_no_function_is_a_problem(function: Any) -> None:
    assert problems(function)


SKELETON = {"name": "person", "type": "skeleton", "svg": "<g/>", "sublabels": [{"name": "eye", "type": "points"}]}


@pytest.mark.parametrize(
    ("label", "wrong"),
    [
        (SKELETON, False),
        ({**SKELETON, "sublabels": None}, True),
        ({**SKELETON, "sublabels": [{}]}, True),
        ({k: v for k, v in SKELETON.items() if k != "svg"}, True),
    ],
)
def test_skeletons_of_a_real_nuclio_are_looked_into(label: dict[str, Any], wrong: bool) -> None:
    function = changed(with_spec(label))
    assert bool(problems(function)) is wrong


def test_endless_nesting_is_a_problem_and_no_crash() -> None:
    def nested(depth: int) -> dict[str, Any]:
        spec = '[{"name": "a", "type": "skeleton", "svg": "", "sublabels": ' * depth + "[]" + "}]" * depth
        return changed(with_note("spec", spec))

    assert problems(nested(20_000))
    # Somewhere here it can still be read, and no longer be looked into.
    for depth in range(300, 1100, 100):
        assert isinstance(problems(nested(depth)), list)


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (detector(name="parts/1"), "signs"),
        (detector(name=""), "signs"),
        (detector(name=RESERVED_ID), "embeddings"),
        (detector(labels=[]), "labels"),
        (detector(labels=["bolt", "bolt"]), "twice"),
        (detector(labels=["bolt", ""]), "name"),
        (detector(port=70_000), "httpPort"),
        (changed(with_note("type", "oracle")), "type"),
        (changed(with_note("version", 2)), "text"),
        (changed(with_note("startswith_box", "false")), "startswith_box"),
        (changed(with_note("startswith_box", False)), "startswith_box"),
    ],
)
def test_own_functions_are_held_to_more(function: dict[str, Any], word: str) -> None:
    assert any(word in problem for problem in own_problems(function))


def test_an_interactor_of_version_1_would_be_shown_and_not_started() -> None:
    function = interactor()
    function["metadata"]["annotations"]["version"] = "1"
    assert not read(function, "2.22").can_be_started
    assert own_problems(function) == ["CVAT does not start interactors of version 1"]


def test_the_reserved_id_is_taken_by_no_function_of_ours() -> None:
    assert RESERVED_ID == "pth-facebookresearch-sam-vit-h"
    assert own_problems(interactor_function(RESERVED_ID, title="x", description="x"))


# --- payloads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [{"image": "aGk="}, {"image": "aGk=", "threshold": 0}, {"image": "aGk=", "threshold": None}]
)
def test_without_a_threshold_the_function_has_its_own(body: dict[str, Any]) -> None:
    call = read_detector_call(body)
    assert call.image == "aGk="
    assert call.threshold is None


def test_a_threshold_is_taken() -> None:
    assert read_detector_call({"image": "aGk=", "threshold": 0.25}).threshold == 0.25
    assert read_detector_call({"image": "aGk=", "threshold": 1}).threshold == 1.0


@pytest.mark.parametrize("threshold", ["0.5", -0.1, 1.1, 50, math.nan, math.inf, True, [0.5], {}, 10**400])
def test_a_threshold_that_is_none_is_refused(threshold: Any) -> None:
    with pytest.raises(DataError) as caught:
        read_detector_call({"image": "aGk=", "threshold": threshold})
    assert "threshold" in caught.value.found
    assert caught.value.todo


@pytest.mark.parametrize("body", [{}, {"image": None}, {"image": ""}, {"image": "  "}, {"image": 3}, {"image": ["a"]}])
@pytest.mark.parametrize("reader", [read_detector_call, read_interactor_call])
def test_a_missing_image_is_refused_with_what_to_do(body: dict[str, Any], reader: Callable[..., Any]) -> None:
    with pytest.raises(DataError) as caught:
        reader(body)
    assert "image" in caught.value.found
    assert "base64" in caught.value.expected
    assert caught.value.todo


@pytest.mark.parametrize("absent", [{}, {"obj_bbox": None}, {"obj_bbox": []}])
def test_the_three_forms_of_no_box(absent: dict[str, Any]) -> None:
    call = read_interactor_call({"image": "aGk=", "pos_points": [[1, 2.5]], "neg_points": [], **absent})
    assert call.positive == ((1.0, 2.5),)
    assert call.negative == ()
    assert call.box is None
    assert not call.empty


@pytest.mark.parametrize("corners", [[[3, 4], [10, 8]], [[10, 8], [3, 4]], [[3, 8], [10, 4]]])
def test_a_box_may_be_drawn_from_any_corner(corners: Any) -> None:
    call = read_interactor_call({"image": "aGk=", "pos_points": [], "neg_points": [[1, 1]], "obj_bbox": corners})
    assert call.box == (3.0, 4.0, 10.0, 8.0)
    assert call.negative == ((1.0, 1.0),)
    assert not call.empty


@pytest.mark.parametrize(
    "question",
    [
        {"pos_points": [], "neg_points": []},
        {"pos_points": [], "neg_points": [[1, 1]], "obj_bbox": None},
        {"obj_bbox": [[5, 5], [5, 9]]},
        {},
    ],
)
def test_a_question_that_names_no_place_is_empty(question: dict[str, Any]) -> None:
    assert read_interactor_call({"image": "aGk=", **question}).empty


@pytest.mark.parametrize(
    "wrong",
    [
        {"pos_points": [[1]]},
        {"pos_points": [[1, 2, 3]]},
        {"pos_points": [1, 2]},
        {"pos_points": [["1", "2"]]},
        {"pos_points": [[math.nan, 1]]},
        {"pos_points": [[math.inf, 1]]},
        {"pos_points": [[10**400, 1]]},
        {"pos_points": [[True, False]]},
        {"pos_points": "1,2"},
        {"pos_points": {"x": 1}},
        {"pos_points": [[1, 1]] * 1001},
        {"neg_points": [[None, None]]},
        {"obj_bbox": [[1, 2]]},
        {"obj_bbox": [[1, 2], [3, 4], [5, 6]]},
        {"obj_bbox": [1, 2, 3, 4]},
        {"obj_bbox": 7},
    ],
)
def test_points_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        read_interactor_call({"image": "aGk=", **wrong})
    assert next(iter(wrong)) in caught.value.found
    assert caught.value.todo


# --- answers of detectors -------------------------------------------------------------------------------------------


def seen(
    confidence: Sequence[float] = (0.9, 0.874, 0.3),
    label: Sequence[int] = (0, 1, 0),
    masks: tuple[MaskCrop, ...] = (),
) -> Detections:
    boxes = [[1.25, 2.0, 5.5, 6.126], [10.0, 1.0, 12.0, 3.0], [0.0, 0.0, 20.0, 10.0]][: len(label)]
    return Detections(np.array(boxes).reshape(-1, 4), np.array(label, np.int64), np.array(confidence, float), masks)


def items(found: Detections, shape: Any = "rectangle", threshold: float = 0.5, **more: Any) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"size": SIZE, "outline": box_of, **more}
    targets = options.pop("targets", ("bolt", "nut"))
    return detection_items(found, targets, shape=shape, threshold=threshold, **options)


def test_rectangles_keep_half_open_pixels_and_the_score_as_text() -> None:
    bolt, nut = items(seen())
    assert bolt == {
        "type": "rectangle",
        "label": "bolt",
        "confidence": "0.9000",
        "points": [1.25, 2.0, 5.5, 6.13],
        "rotation": 0,
        "attributes": [{"name": "score", "value": "0.90"}],
    }
    assert nut["label"] == "nut"
    assert nut["attributes"] == [{"name": "score", "value": "0.87"}]


def test_the_threshold_counts_from_itself_on() -> None:
    assert len(items(seen(), threshold=0.3)) == 3
    assert len(items(seen(), threshold=0.874)) == 2
    assert len(items(seen(), threshold=0.95)) == 0


def test_classes_without_a_label_are_left_out() -> None:
    assert [i["label"] for i in items(seen(), targets=(None, "nut"))] == ["nut"]
    assert [i["label"] for i in items(seen(), targets=("part", "part"))] == ["part", "part"]
    assert items(seen(label=(7, -1)), targets=("bolt", "nut")) == []


def test_what_is_not_finite_or_has_no_area_is_left_out() -> None:
    boxes = np.array([[0, 0, np.nan, 5], [3, 3, 3, 9], [0, 0, np.inf, 5], [1, 1, 2, 2]], float)
    found = Detections(boxes, np.zeros(4, np.int64), np.array([0.9, 0.9, 0.9, np.nan]))
    assert items(found, threshold=0.0) == []


def test_tags_have_no_points() -> None:
    bolt, _ = items(seen(), "tag")
    assert bolt == {
        "type": "tag",
        "label": "bolt",
        "confidence": "0.9000",
        "attributes": [{"name": "score", "value": "0.90"}],
    }


def test_a_mask_is_the_pixels_of_its_box_with_inclusive_corners() -> None:
    """The example that was stored by a real server: rows 1110 at 2,3 to 5,5."""
    bits = np.tile([True, True, True, False], (3, 1))
    # CVAT's box holds the last column too; ours is tight, so the empty one goes.
    (item,) = items(seen((0.9,), (0,), (MaskCrop(2, 3, bits),)), "mask")
    assert item["mask"] == [1, 1, 1] * 3 + [2, 3, 4, 5]
    assert runs(item["mask"][:-4]) == [0, 9]
    stored = [*runs([1, 1, 1, 0] * 3), 2, 3, 5, 5]
    assert stored == [0, 3, 1, 3, 1, 3, 1, 2, 3, 5, 5]
    ours = decode_cvat([*runs(item["mask"][:-4]), *item["mask"][-4:]], 10, 20)
    np.testing.assert_array_equal(ours, decode_cvat(stored, 10, 20))


def test_a_mask_has_a_flat_polygon_too() -> None:
    (item,) = items(seen((0.9,), (0,), (MaskCrop(2, 3, np.ones((2, 5), bool)),)), "mask")
    assert item["points"] == [2.0, 3.0, 7.0, 3.0, 7.0, 5.0, 2.0, 5.0]


def test_a_mask_whose_outline_has_no_area_gets_its_box() -> None:
    (item,) = items(seen((0.9,), (0,), (MaskCrop(2, 3, np.ones((1, 1), bool)),)), "mask", outline=nothing_of)
    assert item["points"] == [2.0, 3.0, 3.0, 3.0, 3.0, 4.0, 2.0, 4.0]


def test_masks_are_cut_at_the_border_and_empty_ones_left_out() -> None:
    over = MaskCrop(18, 8, np.ones((5, 5), bool))
    beside = MaskCrop(25, 0, np.ones((2, 2), bool))
    empty = MaskCrop(0, 0, np.zeros((2, 2), bool))
    (item,) = items(seen((0.9,) * 3, (0, 0, 0), (over, beside, empty)), "mask")
    assert item["mask"] == [1, 1, 1, 1, 18, 8, 19, 9]


def test_a_model_without_its_masks_broke_its_contract() -> None:
    with pytest.raises(PluginError):
        items(seen(), "mask")


@given(
    bits=st.integers(1, 12).flatmap(
        lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=9)
    ),
    left=st.integers(0, 8),
    top=st.integers(0, 1),
)
def test_what_cvat_stores_is_the_mask(bits: list[list[bool]], left: int, top: int) -> None:
    crop = MaskCrop(left, top, np.array(bits))
    found = items(seen((0.9,), (0,), (crop,)), "mask")
    answer = mask_answer(crop, size=SIZE, outline=box_of)
    drawn = draw(answer)
    if not crop.area:
        assert found == []
        assert drawn is None
        return
    for stored in ([*runs(found[0]["mask"][:-4]), *found[0]["mask"][-4:]], drawn["mask"]):  # type: ignore[index]
        np.testing.assert_array_equal(decode_cvat(stored, 10, 20), crop.full(10, 20))


def test_answers_are_plain_json() -> None:
    crop = MaskCrop(2, 3, np.ones((2, 5), bool))
    for answer in (
        items(seen()),
        items(seen((0.9,), (0,), (crop,)), "mask"),
        mask_answer(crop, size=SIZE, outline=box_of),
    ):
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer


# --- answers of interactors -----------------------------------------------------------------------------------------


def test_an_interactor_answers_with_the_crop_and_its_bounds() -> None:
    bits = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], bool)
    answer = mask_answer(MaskCrop(5, 2, bits), size=SIZE, outline=box_of)
    assert answer["mask"] == [[1, 1], [0, 1]]
    assert answer["bounds"] == [6, 3, 7, 4]
    assert answer["points"] == [[6.0, 3.0], [8.0, 3.0], [8.0, 5.0], [6.0, 5.0]]


def test_a_single_pixel_can_be_drawn() -> None:
    drawn = draw(mask_answer(MaskCrop(19, 9, np.ones((1, 1), bool)), size=SIZE, outline=nothing_of))
    assert drawn is not None
    assert drawn["mask"] == [0, 1, 19, 9, 19, 9]


@pytest.mark.parametrize(
    "mask", [None, MaskCrop(0, 0, np.zeros((3, 3), bool)), MaskCrop(40, 40, np.ones((2, 2), bool))]
)
def test_nothing_found_is_nothing_drawn_and_no_error_message(mask: MaskCrop | None) -> None:
    answer = mask_answer(mask, size=SIZE, outline=box_of)
    assert answer == {"mask": [[0]], "bounds": [0, 0, 0, 0], "points": []}
    assert draw(answer) is None


@pytest.mark.parametrize("answer", [{}, {"mask": []}, {"mask": [[]], "bounds": None}, {"mask": [[0]]}, [], None])
def test_what_else_could_stand_for_nothing_ends_in_an_error_message(answer: Any) -> None:
    """The fake page is as strict as the real one, or the test above would prove nothing."""
    with pytest.raises(PageFailed):
        draw(answer)
