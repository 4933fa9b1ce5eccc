"""CVAT's shapes and tags: read as annotations, and written."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from bridge.core.annotations import Annotation, Box, Mask, Polygon, Prediction, Shape, Tag, TextSpan
from bridge.core.masks import MaskCrop
from bridge.core.rle import encode_coco, encode_cvat
from bridge.dialects.cvat_labels import Attribute, CvatLabels, Label
from bridge.dialects.cvat_new_shapes import (
    create_body,
    mask_to_points,
    new_object,
    new_prediction,
)
from bridge.dialects.cvat_shapes import (
    FrameObjects,
    FrameReading,
    entry_revision,
    mask_from_points,
    read_frame,
    split_frames,
)
from bridge.errors import DataError

SIZE = (20, 10)


def labels_of(*labels: Label) -> CvatLabels:
    return CvatLabels(labels, {x.id: x for x in labels}, {x.name: x for x in labels})


SCORE = Attribute(50, "score", "text")
KINDS = ("rectangle", "polygon", "mask", "ellipse", "tag", "skeleton", "points")
LABELS = labels_of(
    Label(1, "car", attributes=(SCORE, Attribute(51, "hue", "select", values=("red", "blue"), default="red"))),
    Label(2, "bus"),
    *(Label(10 + i, kind, kind) for i, kind in enumerate(KINDS)),
)


def shape(**changes: Any) -> dict[str, Any]:
    return {
        "id": 46,
        "label_id": 1,
        "type": "rectangle",
        "frame": 3,
        "group": 0,
        "source": "manual",
        "occluded": False,
        "outside": False,
        "z_order": 0,
        "rotation": 0.0,
        "points": [1.0, 2.0, 5.0, 8.0],
        "attributes": [{"spec_id": 50, "value": ""}, {"spec_id": 51, "value": "red"}],
        "elements": [],
        **changes,
    }


def read(*shapes: Any, tags: Any = (), size: tuple[int, int] | None = SIZE) -> FrameReading:
    return read_frame(FrameObjects(list(tags), list(shapes)), LABELS, size, "job-6")


def only(reading: FrameReading) -> Annotation:
    assert not reading.problems
    (annotation,) = reading.annotations
    return annotation


def bits(*rows: str) -> np.ndarray:
    return np.array([[c == "1" for c in row] for row in rows])


class TestRead:
    def test_a_rectangle_keeps_its_numbers(self) -> None:
        assert only(read(shape())) == Annotation("shape:46", "car", Box(1, 2, 5, 8), "manual")
        assert only(read(shape(rotation=30.5, points=[5, 8, 1, 2]))).shape == Box(1, 2, 5, 8, 30.5)

    def test_an_ellipse_is_the_box_around_it(self) -> None:
        entry = shape(type="ellipse", points=[10.0, 5.0, 14.0, 3.0], rotation=45)
        assert only(read(entry)).shape == Box(6, 3, 14, 7, 45)

    def test_a_polygon(self) -> None:
        assert only(read(shape(type="polygon", points=[0, 0, 4, 0, 4, 4.5]))).shape == Polygon(
            ((0, 0), (4, 0), (4, 4.5))
        )

    def test_a_mask_is_of_the_whole_frame(self) -> None:
        whole = np.zeros((10, 20), bool)
        whole[3:6, 2:6] = bits("1110", "1110", "0111")
        points = [float(n) for n in encode_cvat(whole)]
        assert only(read(shape(type="mask", points=points))).shape == encode_coco(whole)

    def test_the_mask_that_was_seen_on_a_server(self) -> None:
        whole = np.zeros((10, 20), bool)
        whole[3:6, 2:5] = True
        assert mask_from_points([0, 3, 1, 3, 1, 3, 1, 2, 3, 5, 5], 10, 20) == encode_coco(whole)

    def test_a_tag_is_a_label_of_the_image(self) -> None:
        tag = {"id": 46, "label_id": 2, "frame": 3, "group": 0, "source": "auto", "attributes": []}
        reading = read(shape(), tags=[tag])
        assert reading.annotations[0] == Annotation("tag:46", "bus", Tag(), "prediction")
        assert [a.id for a in reading.annotations] == ["tag:46", "shape:46"]

    @pytest.mark.parametrize(
        ("source", "origin"),
        [
            ("auto", "prediction"),
            ("semi-auto", "prediction-changed"),
            ("manual", "manual"),
            ("file", "manual"),
            ("consensus", "manual"),
            ("bridge", "manual"),
            (None, "manual"),
        ],
    )
    def test_where_it_comes_from(self, source: str | None, origin: str) -> None:
        assert only(read(shape(source=source))).origin == origin

    @pytest.mark.parametrize("kind", ["polyline", "points", "cuboid", "skeleton", "hyperbola", None])
    def test_other_types_are_left_alone_but_not_lost(self, kind: str | None) -> None:
        reading = read(shape(type=kind, points=[1.0]), shape(id=47))
        assert [a.id for a in reading.annotations] == ["shape:47"]
        assert reading.passed_over == {"shape:46": str(kind)}
        assert not reading.problems

    def test_a_shape_that_is_hidden_is_left_alone(self) -> None:
        assert read(shape(outside=True)).passed_over == {"shape:46": "rectangle"}

    def test_a_label_that_is_gone_is_given_and_reported(self) -> None:
        reading = read(shape(label_id=99))
        assert reading.annotations[0].label == "#99"
        (problem,) = reading.problems
        assert (problem.kind, problem.annotation_id, problem.submission_id) == ("unknown_label", "shape:46", "job-6")

    @pytest.mark.parametrize(
        ("changes", "kind", "words"),
        [
            ({"points": [1.0, 2.0]}, "degenerate_shape", "has 2 coordinates. Expected 4. Draw it again, or delete it"),
            ({"points": [1.0, 2.0, math.nan, 4.0]}, "degenerate_shape", "not finite"),
            ({"points": [1, 2, 10**400, 4]}, "degenerate_shape", "not finite"),
            ({"points": None}, "degenerate_shape", "points are NoneType"),
            ({"points": [1, 2, "3", 4]}, "degenerate_shape", "is no number"),
            ({"rotation": math.inf}, "degenerate_shape", "rotation is inf"),
            ({"rotation": 10**400}, "degenerate_shape", "rotation is 1000"),
            ({"rotation": "x"}, "degenerate_shape", "rotation is x"),
            ({"type": "polygon", "points": [1, 2, 3, 4]}, "degenerate_shape", "the polygon has 4 coordinates"),
            ({"type": "polygon", "points": [1, 2, 3, 4, 5, 6, 7]}, "degenerate_shape", "the polygon has 7"),
            ({"type": "mask", "points": [0, 5, 0, 0, 1, 1]}, "degenerate_shape", "sum to 5"),
            ({"type": "mask", "points": [0, 4, 19, 9, 20, 10]}, "degenerate_shape", "inside of 20 x 10 px"),
            ({"type": "mask", "points": [4, 0, 0, 1, 1]}, "degenerate_shape", "the mask is empty"),
            ({"points": [30.0, 2.0, 40.0, 8.0]}, "out_of_image", "30, 2, 40, 8, outside of the frame of 20 x 10 px"),
            ({"type": "ellipse", "points": [1e308, 2, -1e308, 8]}, "degenerate_shape", "not a finite number"),
        ],
    )
    def test_what_is_broken_is_reported_and_the_rest_goes_on(
        self, changes: dict[str, Any], kind: str, words: str
    ) -> None:
        reading = read(shape(**changes), shape(id=47))
        assert [a.id for a in reading.annotations] == ["shape:47"]
        (problem,) = reading.problems
        assert (problem.kind, problem.annotation_id) == (kind, "shape:46")
        assert "shape 46" in problem.message
        assert words in problem.message

    def test_a_box_without_area_is_given_and_reported(self) -> None:
        reading = read(shape(points=[1, 2, 1, 5]))
        assert reading.annotations[0].shape == Box(1, 2, 1, 5)
        assert [p.kind for p in reading.problems] == ["degenerate_shape"]

    def test_what_leaves_the_frame_in_part_is_given(self) -> None:
        assert only(read(shape(points=[-3, 2, 5, 30]))).shape == Box(-3, 2, 5, 30)

    def test_without_a_size_only_masks_cannot_be_read(self) -> None:
        reading = read(shape(points=[30, 2, 40, 8]), shape(id=47, type="mask", points=[0, 4, 0, 0, 1, 1]), size=None)
        assert [a.id for a in reading.annotations] == ["shape:46"]
        assert [p.annotation_id for p in reading.problems] == ["shape:47"]

    def test_ids_that_are_missing_or_repeated(self) -> None:
        reading = read(shape(id=None), shape(), shape(points=[0, 0, 1, 1]))
        assert [a.shape for a in reading.annotations] == [Box(1, 2, 5, 8)]
        assert [p.annotation_id for p in reading.problems] == [None, "shape:46"]


class TestSplit:
    def test_by_frame(self) -> None:
        tag = {"id": 1, "label_id": 2, "frame": 9}
        frames, problems = split_frames({"version": 0, "tags": [tag], "shapes": [shape(), shape(id=47, frame=9)]})
        assert list(frames) == [9, 3]
        assert frames[9].tags == [tag]
        assert frames[9].shapes[0]["id"] == 47
        assert not problems

    def test_frames_that_the_job_does_not_have(self) -> None:
        frames, problems = split_frames(
            {"shapes": [shape(), shape(id=47, frame=99), shape(id=48, frame="x"), 5]}, range(9)
        )
        assert list(frames) == [3]
        assert [p.annotation_id for p in problems] == ["shape:47", "shape:48", None]
        assert "shape 47 is on frame 99" in problems[0].message

    @pytest.mark.parametrize("answer", [None, [], {"shapes": 3}, {"tags": None}])
    def test_what_is_no_answer(self, answer: object) -> None:
        with pytest.raises(DataError, match="no annotations"):
            split_frames(answer)


class TestRevision:
    def test_saving_again_does_not_change_it(self) -> None:
        again = shape(points=[1.0000001, 2, 5, 8], rotation=-0.0, id=99, score=1.0, source="semi-auto", frame=4)
        again["attributes"] = again["attributes"][1:]
        assert entry_revision(shape(), LABELS) == entry_revision(again, LABELS)
        assert entry_revision(shape(), LABELS) == entry_revision(json.loads(json.dumps(shape())), LABELS)

    @pytest.mark.parametrize(
        "changes",
        [
            {"points": [1.0, 2.0, 5.0, 8.02]},
            {"points": [1.0, 2.0, 5.0]},
            {"rotation": 1},
            {"label_id": 2},
            {"type": "ellipse"},
            {"occluded": True},
            {"outside": True},
            {"z_order": 1},
            {"group": 4},
            {"attributes": [{"spec_id": 51, "value": "blue"}]},
            {"attributes": [{"spec_id": 50, "value": "0.50"}]},
            {"elements": [shape()]},
        ],
    )
    def test_any_edit_changes_it(self, changes: dict[str, Any]) -> None:
        assert entry_revision(shape(), LABELS) != entry_revision(shape(**changes), LABELS)

    def test_an_edit_of_a_part_changes_it(self) -> None:
        one, other = (shape(type="skeleton", elements=[shape(points=[1, y])]) for y in (2, 3))
        assert entry_revision(one, LABELS) != entry_revision(other, LABELS)

    def test_odd_points_have_one_too(self) -> None:
        for points in (None, 3, ["x"], [10**400], [math.nan], [1e308], [[1, 2], [3]]):
            assert entry_revision(shape(points=points), LABELS)


MASK = encode_coco(np.pad(bits("0110", "1111"), ((3, 5), (2, 14))))


def triangle_of(crop: MaskCrop) -> Polygon:
    x1, y1, x2, y2 = crop.xyxy
    return Polygon(((x1, y2), ((x1 + x2) / 2, y1), (x2, y2)))


class TestWrite:
    def test_a_prediction_in_full(self) -> None:
        new = new_prediction(Prediction("car", Box(1, 2, 5, 8), 0.871239, "m"), 3, LABELS, SIZE, server_score=True)
        assert new.place == "shapes"
        assert new.body == {
            "type": "rectangle",
            "label_id": 1,
            "frame": 3,
            "points": [1, 2, 5, 8],
            "rotation": 0,
            "occluded": False,
            "outside": False,
            "z_order": 0,
            "group": 0,
            "source": "auto",
            "attributes": [{"spec_id": 50, "value": "0.8712"}],
            "elements": [],
            "score": 0.871239,
        }

    def test_an_older_server_gets_no_score_of_its_own(self) -> None:
        new = new_prediction(Prediction("bus", Box(1, 2, 5, 8), 0.5, "m"), 3, LABELS, SIZE)
        assert "score" not in new.body
        assert new.body["attributes"] == []

    def test_a_tag_goes_into_the_tags(self) -> None:
        new = new_prediction(Prediction("tag", Tag(), 0.5, "m"), 3, LABELS, SIZE, server_score=True)
        assert new.place == "tags"
        assert new.body == {"label_id": 14, "frame": 3, "group": 0, "source": "auto", "attributes": []}
        shape_too = new_object("bus", Box(1, 2, 5, 8), 3, LABELS, SIZE)
        body = create_body([new, shape_too])
        assert body == {"version": 0, "tags": [new.body], "shapes": [shape_too.body], "tracks": []}

    @pytest.mark.parametrize(
        ("given", "label", "kind", "points", "rotation"),
        [
            (Box(-3, 2.004, 30, 8), "bus", "rectangle", [0, 2, 20, 8], 0),
            (Box(1, 2, 5, 8, 370), "rectangle", "rectangle", [1, 2, 5, 8], 10),
            (Box(-1, 2, 5, 8, -30), "rectangle", "rectangle", [-1, 2, 5, 8], 330),
            (Box(1, 2, 5, 8), "polygon", "polygon", [1, 2, 5, 2, 5, 8, 1, 8], 0),
            (Box(-3, 2, 5, 8), "polygon", "polygon", [0, 2, 5, 2, 5, 8, 0, 8], 0),
            (Box(6, 3, 14, 7, 45), "ellipse", "ellipse", [10, 5, 14, 3], 45),
            (Polygon(((1, 1), (5, 1), (5, 5))), "bus", "polygon", [1, 1, 5, 1, 5, 5], 0),
            (Polygon(((1, 1), (5, 1), (5, 50))), "rectangle", "rectangle", [1, 1, 5, 10], 0),
            (MASK, "bus", "mask", [1, 2, 1, 4, 2, 3, 5, 4], 0),
            (MASK, "polygon", "polygon", [2, 5, 4, 3, 6, 5], 0),
            (MASK, "rectangle", "rectangle", [2, 3, 6, 5], 0),
        ],
    )
    def test_each_shape_in_the_form_that_the_label_takes(
        self, given: Shape, label: str, kind: str, points: list[float], rotation: float
    ) -> None:
        body = new_object(label, given, 0, LABELS, SIZE, outline=triangle_of).body
        assert (body["type"], body["rotation"]) == (kind, rotation)
        # A ring may begin at any of its points.
        turns = [points[i:] + points[:i] for i in range(0, len(points), 2)]
        assert body["points"] in (turns if kind == "polygon" else [points])
        assert json.loads(json.dumps(body)) == body

    def test_a_polygon_is_cut_along_the_frame(self) -> None:
        body = new_object("bus", Polygon(((-10, 5), (10, -5), (10, 15))), 0, LABELS, SIZE).body
        (again,) = read_frame(FrameObjects(shapes=[{**body, "id": 1}]), LABELS, SIZE).annotations
        assert isinstance(again.shape, Polygon)
        assert set(again.shape.points) == {(0, 0), (10, 0), (10, 10), (0, 10)}

    def test_a_mask_without_an_outline_becomes_its_box(self) -> None:
        square = [2, 3, 6, 3, 6, 5, 2, 5]
        assert new_object("polygon", MASK, 0, LABELS, SIZE).body["points"] == square
        flat = new_object("polygon", MASK, 0, LABELS, SIZE, outline=lambda crop: Polygon(((1, 1), (2, 2)))).body
        assert flat["points"] == square

    @pytest.mark.parametrize(
        ("given", "label", "words"),
        [
            (Box(1, 2, 5, 8), "lorry", "no label 'lorry'"),
            (Box(1, 2, 5, 8), "mask", "'mask' cannot be given to a box"),
            (Box(1, 2, 5, 8), "tag", "'tag' cannot be given to a box"),
            (Box(1, 2, 5, 8), "skeleton", "'skeleton' cannot be given to a box"),
            (Box(1, 2, 1, 8), "bus", "no area"),
            (Box(1, 2, math.nan, 8), "bus", "finite"),
            (Box(21, 2, 25, 8), "bus", "nothing of the object is in the frame"),
            (Box(21, 2, 25, 8, 20), "bus", "nothing of the object is in the frame"),
            (Box(1, 2, 1.001, 8), "bus", "nothing of the object is in the frame"),
            (Polygon(((21, 2), (25, 8), (30, 2))), "bus", "nothing of the object is in the frame"),
            (Polygon(((1, 2), (5, 8))), "bus", "polygon of 2 points"),
            (Polygon(((1, 2), (5, 8), (math.inf, 1))), "bus", "cannot be drawn"),
            (Polygon(((1, 2), (5, 8), (1, 8))), "mask", "a polygon"),
            (MASK, "ellipse", "a mask"),
            (Mask(4, 4, (16,)), "bus", "4 x 4 px. Expected 20 x 10"),
            (Mask(10, 20, (200,)), "bus", "empty mask"),
            (Mask(10, 20, (100, 99)), "bus", "sum to 199"),
            (Mask(10, 20, (-1, 201)), "bus", "sum to 200"),
            (Tag(), "rectangle", "a tag"),
            (TextSpan(0, 1), "bus", "a part of a text"),
        ],
    )
    def test_what_cannot_be_written_says_why(self, given: Shape, label: str, words: str) -> None:
        with pytest.raises(DataError, match=words):
            new_object(label, given, 0, LABELS, SIZE, outline=triangle_of)

    @pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan, math.inf])
    def test_a_confidence_that_is_none(self, confidence: float) -> None:
        with pytest.raises(DataError, match="confidence"):
            new_object("bus", Box(1, 2, 5, 8), 0, LABELS, SIZE, confidence=confidence)

    def test_a_mask_of_a_4k_frame_there_and_back(self) -> None:
        rows, columns = np.ogrid[:2160, :3840]
        disc = encode_coco((rows - 1080) ** 2 + (columns - 1920) ** 2 < 1000**2)
        assert mask_from_points(mask_to_points(disc), 2160, 3840) == disc
