from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bridge.core.annotations import Box
from bridge.core.masks import MaskCrop
from bridge.core.predictor import Detections
from bridge.core.rle import decode_brush
from bridge.dialects.label_studio import (
    LabelConfig,
    box_entries,
    box_from_value,
    parse_label_config,
    polygon_from_value,
    prediction_entry,
)
from ml_backend.label_studio_answers import Answers, segment_regions, suggestable
from ml_backend.models import Prompt, Segment
from ml_backend.prompts import Asked, answer_place, read_prompt

WIDTH, HEIGHT = 64, 48


def config_of(*controls: str) -> LabelConfig:
    return parse_label_config(f'<View><Image name="image" value="$image"/>{"".join(controls)}</View>')


def tag(kind: str, name: str, *labels: str) -> str:
    return f'<{kind} name="{name}" toName="image">{"".join(f"<Label value={label!r}/>" for label in labels)}</{kind}>'


BOXES = tag("RectangleLabels", "box", "cat", "dog")
BRUSH = tag("BrushLabels", "brush", "cat", "bird")
POLYGON = tag("PolygonLabels", "poly", "dog")
PAIR = tag("Labels", "name", "cat") + tag("Rectangle", "place") + tag("Brush", "paint")
STATE = '<Choices name="state" toName="image"><Choice value="sunny"/><Choice value="Rain" alias="rain"/></Choices>'
SEVERAL = '<Choices name="many" toName="image" choice="multiple"><Choice value="cat"/><Choice value="dog"/></Choices>'
EACH = '<Choices name="each" toName="image" perRegion="true"><Choice value="blurred"/></Choices>'


def ids() -> Any:
    numbers = itertools.count()
    return lambda: f"r{next(numbers)}"


def detections(
    xyxy: Sequence[Sequence[float]],
    label: Sequence[int],
    confidence: Sequence[float],
    masks: tuple[MaskCrop, ...] = (),
) -> Detections:
    boxes = np.array(xyxy, dtype=np.float64).reshape(-1, 4)
    return Detections(boxes, np.array(label, np.int64), np.array(confidence, np.float64), masks)


def blob(left: int, top: int) -> MaskCrop:
    """A disc of 20 px."""
    rows, columns = np.mgrid[:20, :20]
    crop = MaskCrop.of((rows - 9.5) ** 2 + (columns - 9.5) ** 2 < 100, left, top)
    assert crop is not None
    return crop


MASKS = (blob(2, 3), blob(30, 20))
MASKED = detections([m.xyxy for m in MASKS], [0, 1], [0.9, 0.6], MASKS)


class TestBoxes:
    def test_a_box_is_written_as_everywhere_else(self) -> None:
        config = config_of(BOXES)
        found = detections([[6.4, 4.8, 32, 24], [0, 0, 64, 48]], [1, 0], [0.75, 0.5])
        written = Answers(config, ("cat", "dog"), "rectangle").of(found, WIDTH, HEIGHT, 0.5, ids())
        boxes = (("r0", "dog", Box(6.4, 4.8, 32, 24), 0.75), ("r1", "cat", Box(0, 0, 64, 48), 0.5))
        assert written == [e for i, label, b, s in boxes for e in box_entries(config, i, label, b, WIDTH, HEIGHT, s)]

    def test_a_bare_rectangle_and_its_label_share_an_id(self) -> None:
        config = config_of(PAIR)
        written = Answers(config, ("cat",), "rectangle").of(
            detections([[0, 0, 32, 24]], [0], [0.5]), WIDTH, HEIGHT, 0.5, ids()
        )
        assert written == box_entries(config, "r0", "cat", Box(0, 0, 32, 24), WIDTH, HEIGHT, 0.5)
        assert [(e["from_name"], e["id"]) for e in written] == [("place", "r0"), ("name", "r0")]

    def test_what_is_unsound_or_unwanted_is_left_out(self) -> None:
        nan, inf = math.nan, math.inf
        box = [1.0, 1.0, 9.0, 9.0]
        found = detections(
            [box, box, box, box, box, [0, 0, inf, 9], [5, 5, 5, 9], [nan, 0, 1, 1], [-inf, 0, 9, 9], box],
            [0, 1, 2, -1, 9, 0, 0, 0, 0, 0],
            [1.7, nan, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.3],
        )
        written = Answers(config_of(BOXES), ("cat", "dog", None), "rectangle").of(found, WIDTH, HEIGHT, 0.4, ids())
        assert [(r["id"], r["score"]) for r in written] == [("r0", 1.0)]
        assert prediction_entry(written, "m")["score"] == 1.0

    def test_no_boxes_where_the_label_can_only_be_brushed(self) -> None:
        answers = Answers(config_of(BOXES, BRUSH), ("bird", "cat"), "rectangle")
        assert not answers.has_place("bird")
        written = answers.of(detections([[0, 0, 9, 9]] * 2, [0, 1], [0.9, 0.9]), WIDTH, HEIGHT, 0.5, ids())
        assert [r["value"]["rectanglelabels"] for r in written] == [["cat"]]

    def test_nothing_found_nothing_written(self) -> None:
        for kind in ("rectangle", "mask", "tag"):
            assert Answers(config_of(BOXES), ("cat",), kind).of(Detections.none(), WIDTH, HEIGHT, 0.5, ids()) == []


class TestMasks:
    def test_each_label_gets_the_most_exact_shape_it_can_have(self) -> None:
        config = config_of(BOXES, BRUSH, POLYGON)
        written = Answers(config, ("cat", "dog"), "mask").of(MASKED, WIDTH, HEIGHT, 0.5, ids())
        assert [(r["type"], r["from_name"], r["score"]) for r in written] == [
            ("brushlabels", "brush", 0.9),
            ("polygonlabels", "poly", 0.6),
        ]

    def test_a_brush_holds_the_mask_of_the_whole_image(self) -> None:
        (region,) = Answers(config_of(BRUSH), ("cat", None), "mask").of(MASKED, WIDTH, HEIGHT, 0.5, ids())
        assert (region["original_width"], region["original_height"]) == (WIDTH, HEIGHT)
        assert (region["value"]["format"], region["value"]["brushlabels"]) == ("rle", ["cat"])
        assert (decode_brush(region["value"]["rle"], HEIGHT, WIDTH) == MASKS[0].full(HEIGHT, WIDTH)).all()

    def test_a_polygon_runs_along_the_mask(self) -> None:
        pytest.importorskip("cv2")
        (region,) = Answers(config_of(POLYGON), (None, "dog"), "mask").of(MASKED, WIDTH, HEIGHT, 0.5, ids())
        assert region["value"]["closed"] is True
        xs, ys = zip(*polygon_from_value(region["value"], WIDTH, HEIGHT).points, strict=True)
        assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx(MASKS[1].xyxy, abs=1.5)

    def test_where_only_boxes_can_be_drawn_a_mask_becomes_its_box(self) -> None:
        written = Answers(config_of(BOXES), ("cat", "dog"), "mask").of(MASKED, WIDTH, HEIGHT, 0.5, ids())
        assert [box_from_value(r["value"], WIDTH, HEIGHT).xyxy for r in written] == [
            pytest.approx(m.xyxy) for m in MASKS
        ]

    def test_a_bare_brush_and_its_label_share_an_id(self) -> None:
        written = Answers(config_of(PAIR), ("cat", None), "mask").of(MASKED, WIDTH, HEIGHT, 0.5, ids())
        assert [(r["id"], r["type"], r["from_name"]) for r in written] == [
            ("r0", "brush", "paint"),
            ("r0", "labels", "name"),
        ]
        assert written[1]["value"]["labels"] == ["cat"]
        assert "labels" not in written[0]["value"]

    def test_the_threshold_holds_for_masks_too(self) -> None:
        answers = Answers(config_of(BOXES, BRUSH), ("cat", "dog"), "mask")
        assert len(answers.of(MASKED, WIDTH, HEIGHT, 0.7, ids())) == 1


class TestTags:
    found = detections([[0, 0, WIDTH, HEIGHT]] * 3, [1, 0, 2], [0.8, 0.7, 0.6])

    def test_a_tag_is_a_choice_for_the_image(self) -> None:
        config = config_of(BOXES, STATE, EACH)
        written = Answers(config, ("sunny", "rain", None), "tag").of(self.found, WIDTH, HEIGHT, 0.5, ids())
        assert written == [
            {
                "id": "r0",
                "from_name": "state",
                "to_name": "image",
                "type": "choices",
                "value": {"choices": ["rain"]},
                "score": 0.8,
            }
        ]

    def test_where_several_can_be_chosen_all_above_the_threshold_are(self) -> None:
        answers = Answers(config_of(SEVERAL, STATE), ("cat", "dog", "sunny"), "tag")
        written = answers.of(self.found, WIDTH, HEIGHT, 0.5, ids())
        assert [r["value"]["choices"] for r in written] == [["dog", "cat"], ["sunny"]]
        assert [r["value"]["choices"] for r in answers.of(self.found, WIDTH, HEIGHT, 0.75, ids())] == [["dog"]]

    def test_without_choices_nothing(self) -> None:
        answers = Answers(config_of(BOXES), ("cat", "dog", None), "tag")
        assert answers.of(self.found, WIDTH, HEIGHT, 0.5, ids()) == []

    def test_numbers_that_are_none_never_leave(self) -> None:
        found = detections([[0, 0, 9, 9]] * 4, [0, 1, 7, 0], [math.nan, 1.2, 0.9, math.inf])
        (region,) = Answers(config_of(SEVERAL), ("cat", "dog"), "tag").of(found, WIDTH, HEIGHT, 0.5, ids())
        assert (region["value"]["choices"], region["score"]) == (["dog"], 1.0)


def test_what_can_be_suggested_depends_on_what_the_model_finds() -> None:
    config = config_of(BOXES, BRUSH, POLYGON, STATE, EACH, tag("KeyPointLabels", "point", "eye"))
    assert suggestable(config, "rectangle") == ("cat", "dog")
    assert suggestable(config, "mask") == ("cat", "dog", "bird")
    assert suggestable(config, "tag") == ("sunny", "rain")


class TestPrompts:
    @staticmethod
    def asked(config: LabelConfig, label: str | None = "cat") -> Asked:
        place = answer_place(config, label)
        if isinstance(place, Exception):
            return Asked(label, Prompt(positive=((5.0, 5.0),)), None, place)
        return Asked(label, Prompt(positive=((5.0, 5.0),)), place)

    @pytest.mark.parametrize(
        ("control", "kind"),
        [("BrushLabels", "brushlabels"), ("PolygonLabels", "polygonlabels"), ("RectangleLabels", "rectanglelabels")],
    )
    def test_a_segment_is_answered_as_the_configuration_wants_it(self, control: str, kind: str) -> None:
        if control == "PolygonLabels":
            pytest.importorskip("cv2")
        asked = self.asked(config_of(tag(control, "shape", "cat")))
        (region,) = segment_regions(asked, Segment(MASKS[0], 0.8), WIDTH, HEIGHT, ids())
        assert (region["type"], region["value"][kind], region["score"]) == (kind, ["cat"], 0.8)

    def test_nothing_found_and_no_place_give_nothing(self) -> None:
        assert segment_regions(self.asked(config_of(BRUSH)), None, WIDTH, HEIGHT, ids()) == []
        lost = self.asked(config_of(tag("KeyPointLabels", "point", "cat")))
        assert segment_regions(lost, Segment(MASKS[0], 0.8), WIDTH, HEIGHT, ids()) == []

    @pytest.mark.parametrize(("confidence", "score"), [(math.nan, 0.0), (1.5, 0.0), (-1.0, 0.0), (1.0, 1.0)])
    def test_a_score_is_always_a_number_that_label_studio_takes(self, confidence: float, score: float) -> None:
        (region,) = segment_regions(self.asked(config_of(BRUSH)), Segment(MASKS[0], confidence), WIDTH, HEIGHT, ids())
        assert region["score"] == score

    def test_a_bare_brush_gets_no_label(self) -> None:
        asked = self.asked(config_of(tag("Brush", "paint")), None)
        (region,) = segment_regions(asked, Segment(MASKS[0], 0.8), WIDTH, HEIGHT, ids())
        assert set(region["value"]) == {"format", "rle"}

    def test_ids_are_fresh_for_every_answer(self) -> None:
        asked, new_id = self.asked(config_of(BRUSH)), ids()
        first = segment_regions(asked, Segment(MASKS[0], 0.8), WIDTH, HEIGHT, new_id)
        second = segment_regions(asked, Segment(MASKS[0], 0.8), WIDTH, HEIGHT, new_id)
        assert first[0]["id"] != second[0]["id"]

    def test_a_detector_alone_answers_under_the_label_of_the_person(self) -> None:
        config = config_of(BOXES, BRUSH)
        value = {"x": 40, "y": 40, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
        context = {"result": [{"id": "a", "type": "rectanglelabels", "value": value}]}
        asked = read_prompt(context, config, WIDTH, HEIGHT)
        assert asked is not None
        masks = Answers(config, ("cat", "dog"), "mask").prompted(asked, MASKED, WIDTH, HEIGHT, 0.5, ids())
        (brush,) = masks
        assert (brush["type"], brush["value"]["brushlabels"]) == ("brushlabels", ["cat"])
        assert (decode_brush(brush["value"]["rle"], HEIGHT, WIDTH) == MASKS[1].full(HEIGHT, WIDTH)).all()
        boxes = Answers(config, ("cat", "dog"), "rectangle").prompted(asked, MASKED, WIDTH, HEIGHT, 0.5, ids())
        assert [b["value"]["rectanglelabels"] for b in boxes] == [["cat"]]
        assert Answers(config, ("cat", "dog"), "rectangle").prompted(asked, MASKED, WIDTH, HEIGHT, 0.7, ids()) == []
        assert Answers(config, ("cat", "dog"), "tag").prompted(asked, MASKED, WIDTH, HEIGHT, 0.5, ids()) == []
