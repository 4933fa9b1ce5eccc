from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.annotations import Box, Polygon, TextSpan
from bridge.core.findings import ErrorType
from bridge.core.geometry import box_corners
from bridge.core.masks import MaskCrop
from bridge.core.rle import decode_brush, encode_brush, encode_coco
from bridge.dialects.label_studio import (
    Control,
    Place,
    box_entries,
    box_from_value,
    box_region,
    box_to_value,
    choices_region,
    label_colours,
    mask_entries,
    mask_to_value,
    parse_label_config,
    polygon_entries,
    polygon_from_value,
    polygon_to_value,
    prediction_entry,
    rectangle_entries,
    regions_to_annotations,
    span_from_value,
    span_region,
    span_to_value,
)
from bridge.errors import DataError

CATS = """<View><Header value="look"/><Image name="img" value="$picture"/>
<RectangleLabels name="box" toName="img" smart="true">
<Label value="cat" background="#f00"/><Label value="Dog" alias="dog"/></RectangleLabels>
<PolygonLabels name="poly" toName="img"><View><Label value="cat"/><Label value="bird"/></View></PolygonLabels>
<Choices name="state" toName="img" perRegion="true"><Choice value="ok"/></Choices></View>"""

PAIR = """<View><Image name="image" value="$image"/><Labels name="name" toName="image"><Label value="cat"/></Labels>
<Rectangle name="place" toName="image"/></View>"""

NAMES = """<View><Labels name="label" toName="words"><Label value="cat"/><Label value="Dog" alias="dog"/></Labels>
<Text name="words" value="$story"/><Choices name="mood" toName="words"><Choice value="sad"/></Choices></View>"""
STORY = "\U0001f600 A cat,\r\n a dog."


def region(**changes: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "from_name": "box",
        "to_name": "img",
        "type": "rectanglelabels",
        "original_width": 200,
        "original_height": 100,
        "value": {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]},
        **changes,
    }


class TestLabelConfig:
    def test_reads_keys_controls_labels_and_aliases(self) -> None:
        config = parse_label_config(CATS)
        assert (config.media_key, config.media_name) == ("picture", "img")
        assert config.controls[0] == Control("box", "img", "rectanglelabels", ("cat", "dog"), smart=True)
        assert [c.kind for c in config.controls] == ["rectanglelabels", "polygonlabels", "choices"]
        assert config.labels.names == ("cat", "dog", "bird")
        assert label_colours(CATS) == {"cat": "#f00"}

    def test_pairs_of_rectangle_and_labels_hold_boxes(self) -> None:
        config = parse_label_config(PAIR)
        assert config.labels.names == ("cat",)
        assert [c.name for c in config.box_controls("cat")] == ["place", "name"]

    def test_of_two_images_the_first_counts(self) -> None:
        config = parse_label_config(
            '<View><Image name="a" value="$one"/><Image name="b" value="$two"/>'
            '<RectangleLabels name="la" toName="a"><Label value="x"/></RectangleLabels>'
            '<RectangleLabels name="lb" toName="b"><Label value="y"/></RectangleLabels></View>'
        )
        assert (config.media_key, config.labels.names) == ("one", ("x",))

    @pytest.mark.parametrize(
        ("xml", "words"),
        [
            ('<View><Text name="t" value="$t"/><Choices name="c" toName="t"/></View>', "Text, Choices"),
            ('<View><Image name="i" valueList="$pages"/></View>', "valueList"),
            ('<View><Image name="i" value="http://x/y.jpg"/></View>', "http://x/y.jpg"),
            ("<View>", "no usable XML"),
            ("", "no usable XML"),
            ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "no usable XML"),
        ],
    )
    def test_unusable_configurations_say_what_was_found(self, xml: str, words: str) -> None:
        with pytest.raises(DataError, match=words.replace(".", r"\.")):
            parse_label_config(xml)

    def test_a_configuration_without_end_is_refused_before_it_is_parsed(self) -> None:
        xml = "<View>" + "<a>" * 400_000
        with pytest.raises(DataError, match="has 1,200,006 characters"):
            parse_label_config(xml)
        bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><View name="&b;"/>'
        outside = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><View name="&a;"/>'
        for entities in (bomb, outside):
            with pytest.raises(DataError, match="EntitiesForbidden"):
                parse_label_config(entities)

    def test_a_box_that_nobody_could_draw_names_the_label_and_the_tags(self) -> None:
        with pytest.raises(DataError, match=r"'bird'.*polygonlabels"):
            parse_label_config(CATS).box_controls("bird")

    def test_says_what_smart_and_choices_mean(self) -> None:
        config = parse_label_config(
            '<View><Image name="i" value="$i"/>'
            '<Choices name="one" toName="i"><Choice value="Rain" alias="rain"/></Choices>'
            '<Choices name="many" toName="i" choice="multiple"><Choice value="a"/></Choices>'
            '<Choices name="each" toName="i" perRegion="true"><Choice value="b"/></Choices></View>'
        )
        assert [(c.name, c.labels, c.multiple) for c in config.choices] == [
            ("one", ("rain",), False),
            ("many", ("a",), True),
        ]
        assert config.controls[2].per_region

    def test_the_place_of_a_label_is_the_first_shape_that_can_have_it(self) -> None:
        config = parse_label_config(CATS)
        places = {label: config.place(label) for label in ("cat", "dog", "bird", "cow")}
        assert {label: p and (p.shape, p.geometry.name) for label, p in places.items()} == {
            "cat": ("polygon", "poly"),
            "dog": ("rectangle", "box"),
            "bird": ("polygon", "poly"),
            "cow": None,
        }
        assert config.place("cat", ("rectangle", "polygon")) == Place("rectangle", *[config.controls[0]] * 2, "cat")
        assert config.place("bird", ("rectangle",)) is None

    def test_a_bare_shape_finds_its_labels_beside_it(self) -> None:
        place = parse_label_config(PAIR).place("cat")
        assert place is not None
        assert [c.name for c in place.controls] == ["place", "name"]
        assert [c.name for c in parse_label_config(PAIR).shape_controls] == ["place"]


class TestBoxes:
    def test_percent_of_the_image_without_rotation(self) -> None:
        box = box_from_value({"x": 10, "y": 20, "width": 30, "height": 40}, 200, 100)
        assert box == Box(20.0, 20.0, 80.0, 60.0)

    def test_rotation_about_the_corner_becomes_rotation_about_the_centre(self) -> None:
        # 100 x 100 px image, corner (50, 10), 20 x 10 px, a quarter turn clockwise: it then lies left of the corner.
        box = box_from_value({"x": 50, "y": 10, "width": 20, "height": 10, "rotation": 90}, 100, 100)
        corners = box_corners(box)
        assert corners[0] == pytest.approx((50, 10))
        assert corners[1] == pytest.approx((50, 30))
        assert corners[2] == pytest.approx((40, 30))

    def test_the_corners_are_those_label_studio_draws(self) -> None:
        x, y, w, h, degrees = 40.0, 30.0, 25.0, 15.0, 33.0
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        px, py, pw, ph = x * 6.4, y * 4.8, w * 6.4, h * 4.8
        drawn = [
            (px, py),
            (px + pw * cos, py + pw * sin),
            (px + pw * cos - ph * sin, py + pw * sin + ph * cos),
            (px - ph * sin, py + ph * cos),
        ]
        box = box_from_value({"x": x, "y": y, "width": w, "height": h, "rotation": degrees}, 640, 480)
        for mine, theirs in zip(box_corners(box), drawn, strict=True):
            assert mine == pytest.approx(theirs)

    @given(
        st.tuples(*[st.floats(-50, 150)] * 2),
        st.tuples(*[st.floats(0.01, 150)] * 2),
        st.floats(-720, 720),
        st.tuples(*[st.integers(1, 20_000)] * 2),
    )
    def test_there_and_back(
        self, corner: tuple[float, float], extent: tuple[float, float], rotation: float, size: tuple[int, int]
    ) -> None:
        value = {"x": corner[0], "y": corner[1], "width": extent[0], "height": extent[1], "rotation": rotation}
        back = box_to_value(box_from_value(value, *size), *size)
        # Both sides may be turned, so an error in one is spread over both: the tolerance is that of the longer side.
        assert back == pytest.approx(value, abs=1e-6 * max(size) / min(size) + 1e-6)

    @pytest.mark.parametrize("bad", [None, "10", True, math.nan, math.inf, [1]])
    def test_what_is_no_number_is_named(self, bad: object) -> None:
        with pytest.raises(DataError, match="width is"):
            box_from_value({"x": 1, "y": 1, "width": bad, "height": 1}, 10, 10)

    def test_polygons_there_and_back(self) -> None:
        polygon = polygon_from_value({"points": [[0, 0], [50, 0], [50, 100]]}, 200, 100)
        assert polygon == Polygon(((0.0, 0.0), (100.0, 0.0), (100.0, 100.0)))
        assert polygon_to_value(polygon, 200, 100) == {"points": [[0, 0], [50, 0], [50, 100]], "closed": True}


class TestRegions:
    config = parse_label_config(CATS)

    def test_rectangles_and_polygons_become_annotations(self) -> None:
        polygon = region(
            id="p", type="polygonlabels", origin="prediction", from_name="poly",
            value={"points": [[0, 0], [10, 0], [10, 10]], "polygonlabels": ["bird"]},
        )  # fmt: skip
        found, problems, size = regions_to_annotations([region(), polygon], self.config, "7")
        assert not problems
        assert size == (200, 100)
        assert [(a.id, a.label, a.origin) for a in found] == [("7:r1", "cat", "manual"), ("7:p", "bird", "prediction")]
        assert found[0].shape == Box(20.0, 20.0, 80.0, 60.0)

    def test_companions_of_a_region_are_one_object(self) -> None:
        config = parse_label_config(PAIR)
        both = box_entries(config, "r", "cat", Box(10, 10, 50, 50), 100, 100)
        assert [e["from_name"] for e in both] == ["place", "name"]
        found, problems, _ = regions_to_annotations(both, config, "1")
        assert [(a.id, a.label) for a in found] == [("1:r", "cat")]
        assert not problems

    def test_other_kinds_and_other_images_are_passed_over(self) -> None:
        others = [
            region(id="k", type="keypointlabels", value={"x": 1, "y": 1, "keypointlabels": ["cat"]}),
            region(id="o", to_name="another"),
            {"type": "relation", "from_id": "a", "to_id": "b"},
            {"id": "c", "from_name": "verdict", "to_name": "img", "type": "choices", "value": {"choices": ["ok"]}},
        ]
        assert regions_to_annotations(others, self.config, "1")[:2] == ([], [])

    def test_brush_strokes_become_masks_and_back(self) -> None:
        bits = np.zeros((100, 200), dtype=np.bool_)
        bits[10:30, 40:60] = True
        value = {"format": "rle", "rle": encode_brush(bits), "brushlabels": ["cat"]}
        found, problems, _ = regions_to_annotations([region(type="brushlabels", value=value)], self.config, "1")
        assert [a.shape for a in found] == [encode_coco(bits)]
        assert not problems
        assert mask_to_value(encode_coco(bits)) == {"format": "rle", "rle": value["rle"]}

    def test_damaged_brush_strokes_are_reported(self) -> None:
        for rle in ([1], None, encode_brush(np.ones((3, 3), np.bool_))):
            value = {"format": "rle", "rle": rle, "brushlabels": ["cat"]}
            found, problems, _ = regions_to_annotations([region(type="brushlabels", value=value)], self.config, "1")
            assert not found
            assert [p.kind for p in problems] == [ErrorType.DEGENERATE_SHAPE]

    def test_odd_regions_are_reported_one_by_one_and_the_rest_is_read(self) -> None:
        cases: list[tuple[dict[str, Any], ErrorType, bool]] = [
            (region(id="no value", value=None), ErrorType.DEGENERATE_SHAPE, False),
            (region(id="text", value="x"), ErrorType.DEGENERATE_SHAPE, False),
            (region(id="nan", value={**region()["value"], "x": math.nan}), ErrorType.DEGENERATE_SHAPE, False),
            (region(id="flat", value={**region()["value"], "width": 0}), ErrorType.DEGENERATE_SHAPE, True),
            (region(id="who", value={**region()["value"], "rectanglelabels": ["cow"]}), ErrorType.UNKNOWN_LABEL, True),
            (region(id="none", value={**region()["value"], "rectanglelabels": []}), ErrorType.UNKNOWN_LABEL, False),
        ]
        odd = [entry for entry, _, _ in cases]
        found, problems, _ = regions_to_annotations([*odd, region()], self.config, "5")
        assert [(p.annotation_id, p.kind) for p in problems] == [(f"5:{e['id']}", str(kind)) for e, kind, _ in cases]
        assert all(p.submission_id == "5" and p.message for p in problems)
        assert [a.id for a in found] == [f"5:{e['id']}" for e, _, kept in cases if kept] + ["5:r1"]

    def test_without_a_size_nothing_can_be_placed(self) -> None:
        _, problems, size = regions_to_annotations([region(original_width=None)], self.config, "1")
        assert size is None
        assert "original_width" in problems[0].message

    def test_disagreeing_sizes_are_reported_once_and_each_is_used(self) -> None:
        found, problems, _ = regions_to_annotations([region(), region(id="r2", original_width=400)], self.config, "1")
        assert [p.kind for p in problems] == ["size_mismatch"]
        assert found[1].shape == Box(40.0, 20.0, 160.0, 60.0)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.sampled_from(["rectanglelabels", "img"]),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["id", "type", "value", "x", "width", "points", "to_name", "rectanglelabels"]),
                    inner,
                )
            ),
            max_leaves=20,
        )
    )
    def test_never_raises(self, result: object) -> None:
        regions_to_annotations(result, self.config, "1")
        regions_to_annotations([result, region(value=result), region(id=result, type=result)], self.config, "1")


class TestWriting:
    control = Control("box", "img", "rectanglelabels", ("cat",))

    def test_a_region_is_what_label_studio_stores(self) -> None:
        assert box_region("r9", self.control, "cat", Box(20, 20, 80, 60), 200, 100, 0.75, "why") == {
            "id": "r9",
            "from_name": "box",
            "to_name": "img",
            "type": "rectanglelabels",
            "original_width": 200,
            "original_height": 100,
            "image_rotation": 0,
            "value": {
                "x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0, "rotation": 0.0, "rectanglelabels": ["cat"],
            },
            "score": 0.75,
            "meta": {"text": ["why"]},
        }  # fmt: skip

    def test_a_prediction_has_the_mean_of_its_scores(self) -> None:
        regions = [box_region("a", self.control, "cat", Box(0, 0, 1, 1), 2, 2, s) for s in (0.5, 1.0)]
        assert prediction_entry(regions, "m")["score"] == 0.75
        assert prediction_entry([], "m", task_id=3) == {"task": 3, "model_version": "m", "score": 0.0, "result": []}

    def test_a_mask_is_written_in_the_frame_of_the_image(self) -> None:
        brush = Control("b", "img,other", "brushlabels", ("cat",))
        mask = MaskCrop(2, 1, np.array([[True, False], [True, True]]))
        (region,) = mask_entries(Place("brush", brush, brush, "cat"), "r1", mask, 5, 4, 0.5)
        rle = region["value"].pop("rle")
        assert all(type(number) is int for number in rle)
        assert decode_brush(rle, 4, 5).astype(int).tolist() == [
            [0, 0, 0, 0, 0],
            [0, 0, 1, 0, 0],
            [0, 0, 1, 1, 0],
            [0, 0, 0, 0, 0],
        ]
        assert region == {
            "id": "r1",
            "from_name": "b",
            "to_name": "img",
            "type": "brushlabels",
            "original_width": 5,
            "original_height": 4,
            "image_rotation": 0,
            "value": {"format": "rle", "brushlabels": ["cat"]},
            "score": 0.5,
        }

    def test_polygons_and_boxes_are_written_where_their_place_is(self) -> None:
        shape, name = Control("p", "img", "polygon"), Control("n", "img", "labels", ("cat",))
        triangle = Polygon(((0, 0), (100, 0), (100, 50)))
        both = polygon_entries(Place("polygon", shape, name, "cat"), "r1", triangle, 200, 100, 0.5)
        points = {"points": [[0, 0], [50, 0], [50, 50]], "closed": True}
        assert [(e["type"], e["value"]) for e in both] == [
            ("polygon", points),
            ("labels", {**points, "labels": ["cat"]}),
        ]
        (bare,) = rectangle_entries(Place("rectangle", shape, shape, None), "r2", Box(0, 0, 100, 50), 200, 100)
        assert bare["value"] == {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}
        assert "score" not in bare

    def test_a_choice_belongs_to_the_image(self) -> None:
        region = choices_region("r1", Control("state", "img", "choices", ("a", "b")), ["b"], 0.5)
        assert region == {
            "id": "r1",
            "from_name": "state",
            "to_name": "img",
            "type": "choices",
            "value": {"choices": ["b"]},
            "score": 0.5,
        }
        with pytest.raises(DataError, match="nan"):
            choices_region("r1", self.control, ["b"], math.nan)

    def test_a_score_that_is_no_number_never_leaves(self) -> None:
        with pytest.raises(DataError, match="nan"):
            prediction_entry([], "m", math.nan)
        with pytest.raises(DataError, match="inf"):
            box_region("a", self.control, "cat", Box(0, 0, 1, 1), 2, 2, math.inf)


class TestSpans:
    CONFIG = parse_label_config(NAMES, texts=True)

    def read(self, *values: dict[str, Any], **changes: Any) -> tuple[list[Any], list[Any]]:
        plain = {"from_name": "label", "to_name": "words", "type": "labels", **changes}
        regions = [{**plain, "id": f"r{k}", "value": {"labels": ["cat"], **value}} for k, value in enumerate(values)]
        objects, problems, size = regions_to_annotations(regions, self.CONFIG, "5", STORY)
        assert size is None
        return [(o.id, o.label, o.shape) for o in objects], [(p.kind, p.annotation_id, p.message) for p in problems]

    def test_a_configuration_that_shows_a_text(self) -> None:
        config = self.CONFIG
        assert (config.media, config.media_key, config.media_name) == ("text", "story", "words")
        assert config.labels.names == ("cat", "dog")
        assert [c.name for c in config.choices] == ["mood"]
        assert parse_label_config(CATS, texts=True) == parse_label_config(CATS)
        both = NAMES.replace("</View>", '<Image name="i" value="$i"/></View>')
        assert parse_label_config(both, texts=True).media == "image"

    @pytest.mark.parametrize(
        ("tag", "words"),
        [
            ('<HyperText name="words" value="$story"/>', "no image or plain text: it has .*HyperText"),
            ('<Text name="words" value="$story" valueType="url"/>', "valuetype='url'"),
            ('<Text name="words" value="$story" encoding="base64"/>', "encoding='base64'"),
            ('<Text name="words" value="Read this"/>', "value='Read this'"),
        ],
    )
    def test_what_is_no_plain_text_says_what_was_found(self, tag: str, words: str) -> None:
        with pytest.raises(DataError, match=words):
            parse_label_config(NAMES.replace('<Text name="words" value="$story"/>', tag), texts=True)

    def test_who_works_with_images_only_says_so(self) -> None:
        with pytest.raises(DataError, match="shows no image: it has Labels, Label, Text"):
            parse_label_config(NAMES)

    def test_offsets_count_code_points_of_the_text_as_it_is(self) -> None:
        objects, problems = self.read({"start": 4, "end": 7, "text": "whatever"}, {"start": 11, "end": 16})
        assert objects == [("5:r0", "cat", TextSpan(4, 7, "cat")), ("5:r1", "cat", TextSpan(11, 16, "a dog"))]
        assert problems == []

    def test_what_cannot_be_read_is_a_problem_and_no_object(self) -> None:
        path = {"start": "/p[1]/text()[1]", "end": "/p[1]/text()[1]", "startOffset": 1, "endOffset": 3}
        objects, problems = self.read(
            path, {"start": 4, "end": 99}, {"start": True, "end": 3}, {"start": 1.0, "end": 3}
        )
        assert objects == []
        assert [(kind, about) for kind, about, _ in problems] == [("degenerate_shape", f"5:r{k}") for k in range(4)]
        assert "'/p[1]/text()[1]'" in problems[0][2]
        assert "reaches to character 99" in problems[1][2]

    def test_an_empty_span_is_both_given_and_a_problem(self) -> None:
        objects, problems = self.read({"start": 4, "end": 4}, {"start": -1, "end": 2})
        assert [shape for _, _, shape in objects] == [TextSpan(4, 4, ""), TextSpan(-1, 2, STORY[:2])]
        assert [kind for kind, _, _ in problems] == ["degenerate_shape"] * 2

    def test_regions_of_other_things_are_passed_over(self) -> None:
        assert self.read({"start": 4, "end": 7}, to_name="title") == ([], [])
        assert self.read({"choices": ["sad"]}, type="choices") == ([], [])

    def test_a_region_there_and_back(self) -> None:
        control = self.CONFIG.control_for("labels", "dog")
        assert control is not None
        span = TextSpan(11, 16, "a dog")
        written = span_region("x", control, "dog", span, 0.5, "Why.")
        assert (written["score"], written["meta"]) == (0.5, {"text": ["Why."]})
        (read,), problems, _ = regions_to_annotations([written], self.CONFIG, "5", STORY)
        assert (read.label, read.shape, problems) == ("dog", span, [])
        assert span_from_value(span_to_value(span), STORY) == span
