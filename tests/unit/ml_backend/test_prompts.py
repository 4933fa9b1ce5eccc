"""Prompts as Label Studio 1.23.2 sends them: the contexts here were recorded from its editor in a browser."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialects.label_studio import parse_label_config
from ml_backend.models import Prompt
from ml_backend.prompts import Asked, Candidate, answer_place, answer_prompt, prompt_size, read_prompt


def config_of(*controls: str) -> Any:
    return parse_label_config(f'<View><Image name="image" value="$image"/>{"".join(controls)}</View>')


def tag(kind: str, name: str, *labels: str, smart: bool = False) -> str:
    inner = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<{kind} name="{name}" toName="image" smart="{str(smart).lower()}">{inner}</{kind}>'


SAM = config_of(
    tag("BrushLabels", "brush", "cat", "dog"),
    tag("KeyPointLabels", "point", "cat", "dog", smart=True),
    tag("RectangleLabels", "box", "cat", "dog", smart=True),
)


def drawn(kind: str, value: dict[str, Any], region_id: str, label: str = "cat", **more: Any) -> dict[str, Any]:
    return {
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "value": {**value, kind: [label]},
        "id": region_id,
        "from_name": "point" if kind == "keypointlabels" else "box",
        "to_name": "image",
        "type": kind,
        "origin": "manual",
        **more,
    }


def point(x: float, y: float, region_id: str, *, positive: bool | None = True, label: str = "cat") -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.26, "labels": [label]}
    more = {} if positive is None else {"is_positive": positive}
    return drawn("keypointlabels", value, region_id, label, **more)


def rectangle(x: float, y: float, w: float, h: float, region_id: str, **more: Any) -> dict[str, Any]:
    return drawn("rectanglelabels", {"x": x, "y": y, "width": w, "height": h, "rotation": 0}, region_id, **more)


def asked(*regions: object, config: Any = SAM) -> Asked:
    found = read_prompt({"result": list(regions)}, config, 200, 100)
    assert found is not None
    return found


class TestReading:
    def test_points_are_resent_with_every_click_and_are_one_object(self) -> None:
        found = asked(point(10, 20, "a"), point(50, 20, "b"), point(90, 80, "c", positive=False))
        assert found.prompt == Prompt(positive=((20.0, 20.0), (100.0, 20.0)), negative=((180.0, 80.0),))
        assert (found.label, found.kind) == ("cat", "brush")

    def test_the_last_rectangle_counts(self) -> None:
        found = asked(rectangle(10, 10, 20, 20, "a"), rectangle(50, 10, 20, 40, "b"))
        assert found.prompt == Prompt(box=(100.0, 10.0, 140.0, 50.0))

    def test_predictions_and_accepted_suggestions_do_not_spoil_the_prompt(self) -> None:
        new = rectangle(50, 10, 20, 40, "new")
        predicted = rectangle(0, 0, 9, 9, "p", origin="prediction", score=0.91)
        accepted = rectangle(0, 0, 8, 8, "s", score=0.8)
        for order in ([predicted, accepted, new], [accepted, new, predicted], [new, accepted, predicted]):
            assert asked(*order).prompt == Prompt(box=(100.0, 10.0, 140.0, 50.0))

    def test_annotated_key_points_are_no_smart_points(self) -> None:
        found = asked(point(10, 20, "annotated", positive=None), point(50, 20, "smart"))
        assert found.prompt == Prompt(positive=((100.0, 20.0),))
        assert asked(point(10, 20, "a", positive=None)).prompt == Prompt(positive=((20.0, 20.0),))

    def test_other_labels_are_other_objects(self) -> None:
        found = asked(point(10, 20, "a"), point(50, 20, "b", label="dog"))
        assert (found.label, found.prompt.positive) == ("dog", ((100.0, 20.0),))

    def test_a_box_and_points_of_one_label_are_one_object(self) -> None:
        found = asked(rectangle(10, 10, 20, 40, "r"), point(15, 20, "a"), point(40, 40, "b", positive=False))
        assert found.prompt == Prompt(positive=((30.0, 20.0),), negative=((80.0, 40.0),), box=(20.0, 10.0, 60.0, 50.0))

    def test_of_a_turned_rectangle_the_upright_box_around_it_counts(self) -> None:
        turned = rectangle(50, 10, 20, 20, "r")
        turned["value"]["rotation"] = 90
        # 40 x 20 px, a quarter turn clockwise about (100, 10) px: it then lies to the left.
        assert asked(turned).prompt.box == pytest.approx((80, 10, 100, 50))

    def test_labels_beside_a_bare_shape_are_found(self) -> None:
        config = config_of(tag("Labels", "name", "cat"), tag("Rectangle", "box", smart=True), tag("Brush", "brush"))
        bare = {**rectangle(10, 10, 20, 40, "r"), "type": "rectangle"}
        del bare["value"]["rectanglelabels"]
        companion = {**bare, "type": "labels", "value": {**bare["value"], "labels": ["cat"]}}
        found = asked(bare, companion, config=config)
        assert (found.label, found.kind) == ("cat", "brush")
        assert found.place is not None
        assert [c.name for c in found.place.controls] == ["brush", "name"]
        assert asked(bare, config=config).label is None

    @pytest.mark.parametrize(
        "context",
        [
            None,
            [],
            {"result": None},
            {"result": []},
            {"result": [point(10, 20, "a", positive=False)]},
            {"result": [rectangle(10, 20, 5, 5, "a", origin="prediction")]},
            {"result": [rectangle(10, 20, 0, 5, "a")]},
            {"result": [point(float("nan"), 20, "a")]},
            {"result": [point(1e308, 20, "a")]},
            {"result": [drawn("rectanglelabels", {"x": 10**400, "y": 0, "width": 1, "height": 1}, "a")]},
            {"result": [{"id": "x", "type": "brushlabels", "value": {"touches": []}}, 7, None]},
        ],
    )
    def test_what_says_nothing_is_no_prompt(self, context: Any) -> None:
        assert read_prompt(context, SAM, 200, 100) is None

    def test_a_caller_may_leave_ids_out(self) -> None:
        nameless = point(10, 20, "a")
        del nameless["id"]
        assert asked(nameless, nameless).prompt.positive == ((20.0, 20.0), (20.0, 20.0))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["keypointlabels", "cat"]),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["id", "type", "value", "x", "y", "width", "result", "labels", "rectanglelabels"]),
                    inner,
                )
            ),
            max_leaves=20,
        )
    )
    def test_never_raises(self, junk: Any) -> None:
        for context in (junk, {"result": junk}, {"result": [rectangle(1, 1, 1, 1, "a"), junk]}):
            read_prompt(context, SAM, 200, 100)
            prompt_size(context)
        read_prompt({"result": [{**point(1, 1, "a"), "value": junk}, {**point(1, 1, "b"), "id": junk}]}, SAM, 9, 9)

    def test_the_size_is_what_the_browser_saw(self) -> None:
        assert prompt_size({"result": [{"id": "x"}, point(10, 20, "a")]}) == (200, 100)
        assert prompt_size({"result": [{**point(10, 20, "a"), "original_width": None}]}) is None
        assert prompt_size(None) is None


class TestPlaces:
    @pytest.mark.parametrize(
        ("controls", "expected"),
        [
            # The set-up everybody uses: both smart tags and the brush share their labels.
            (
                [tag("RectangleLabels", "box", "cat", smart=True), tag("BrushLabels", "brush", "cat")],
                ("brush", "brush", "cat"),
            ),
            (
                [tag("RectangleLabels", "box", "cat"), tag("PolygonLabels", "poly", "cat")],
                ("polygon", "poly", "cat"),
            ),
            ([tag("RectangleLabels", "box", "cat"), tag("BrushLabels", "brush", "dog")], ("rectangle", "box", "cat")),
            ([tag("KeyPointLabels", "p", "cat"), tag("BrushLabels", "brush", "Cat")], ("brush", "brush", "Cat")),
            ([tag("Labels", "n", "cat"), tag("Polygon", "poly")], ("polygon", "poly", "cat")),
            ([tag("KeyPointLabels", "p", "cat"), tag("Brush", "brush")], ("brush", "brush", None)),
        ],
    )
    def test_the_configuration_says_what_the_answer_is(self, controls: list[str], expected: tuple[str, ...]) -> None:
        place = answer_place(config_of(*controls), "cat")
        assert not isinstance(place, Exception)
        assert (place.shape, place.geometry.name, place.label) == expected

    @pytest.mark.parametrize(
        ("controls", "expected"),
        [
            ([tag("BrushLabels", "brush", "cat")], "cat"),
            ([tag("Brush", "brush"), tag("Labels", "n", "cat", "dog")], None),
        ],
    )
    def test_without_a_label_the_only_one_there_is_or_none(self, controls: list[str], expected: str | None) -> None:
        place = answer_place(config_of(*controls), None)
        assert not isinstance(place, Exception)
        assert place.label == expected

    @pytest.mark.parametrize(
        "controls",
        [
            [tag("KeyPointLabels", "p", "cat", smart=True)],
            [tag("KeyPointLabels", "p", "cat"), tag("BrushLabels", "b", "dog")],
            [tag("KeyPointLabels", "p", "cat"), tag("BrushLabels", "b", "Cat"), tag("RectangleLabels", "r", "dog")],
        ],
    )
    def test_where_nothing_fits_the_error_names_the_label_and_the_tags(self, controls: list[str]) -> None:
        found = asked(point(10, 20, "a"), config=config_of(*controls))
        assert found.kind is None
        assert "'cat'" in str(found.problem)
        assert "keypointlabels 'p'" in str(found.problem)


class TestDetectors:
    """What a detector answers where nothing promptable is served."""

    cat = Candidate("cat", (10.0, 10.0, 60.0, 60.0), 0.9, 0)
    small = Candidate("cat", (20.0, 20.0, 40.0, 40.0), 0.8, 1)
    dog = Candidate("dog", (100.0, 20.0, 180.0, 90.0), 0.7, 2)
    all = (cat, small, dog)

    def test_a_rectangle_takes_what_it_holds_of_its_label(self) -> None:
        everything = asked(rectangle(0, 0, 100, 100, "r"))
        assert answer_prompt(everything, self.all) == [self.cat, self.small]

    def test_a_rectangle_over_another_class_gives_it_the_label_of_the_person(self) -> None:
        (found,) = answer_prompt(asked(rectangle(48, 18, 44, 74, "r")), self.all)
        assert found == Candidate("cat", self.dog.xyxy, 0.7, 2)
        assert answer_prompt(asked(rectangle(70, 0, 10, 10, "r")), self.all) == []

    def test_points_take_the_smallest_that_holds_the_last_and_no_negative_one(self) -> None:
        inside = point(15, 30, "a")
        assert answer_prompt(asked(inside), self.all) == [self.small]
        assert answer_prompt(asked(inside, point(12, 22, "n", positive=False)), self.all) == []
        assert answer_prompt(asked(point(6, 12, "a")), self.all) == [self.cat]
