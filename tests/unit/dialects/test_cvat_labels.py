"""CVAT's label lists, as ``GET /api/labels`` answers."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.dialects.cvat_labels import (
    ANY_TAKES,
    Attribute,
    Label,
    attribute_values,
    parse_labels,
)
from bridge.errors import DataError


def attribute(spec_id: int, name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": spec_id,
        "name": name,
        "mutable": False,
        "input_type": "text",
        "default_value": "",
        "values": [""],
        **changes,
    }


def label(number: int, name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "color": "#f00",
        "type": "any",
        "attributes": [],
        "sublabels": [],
        "has_parent": False,
        **changes,
    }


SKELETON = label(
    7, "hand", type="skeleton", svg="<svg/>", sublabels=[label(8, "thumb", type="points", has_parent=True)]
)


class TestParse:
    def test_names_ids_types_and_attributes(self) -> None:
        colour = attribute(31, "colour", input_type="select", mutable=True, values=["red", "blue"], default_value="red")
        answer = {
            "count": 2,
            "next": None,
            "previous": None,
            "results": [label(3, "car", attributes=[colour]), SKELETON],
        }
        labels = parse_labels(answer)
        assert labels.names.names == ("car", "hand")
        assert labels.by_name["car"].attributes == (
            Attribute(31, "colour", "select", mutable=True, values=("red", "blue"), default="red"),
        )
        assert [labels.name_of(i) for i in (3, 7, 8, 9, True, "3", None)] == [
            "car",
            "hand",
            "thumb",
            None,
            None,
            None,
            None,
        ]
        assert "thumb" not in labels.by_name

    def test_a_list_that_repeats_the_parts_of_a_skeleton_counts_them_once(self) -> None:
        labels = parse_labels([SKELETON, label(8, "thumb", has_parent=True), label(9, "palm", parent_id=7)])
        assert labels.names.names == ("hand",)

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (None, "no list"),
            ({"detail": "Not found."}, "no list"),
            ([1], "no list"),
            ({"results": [], "next": "http://cvat/api/labels?page=2"}, "one page of several"),
            ([label(1, "car"), label(2, "car")], "occur twice: car"),
            ([label(1, "car"), label(1, "bus")], "one id"),
            ([label(1, "")], "name is ''"),
            ([label(1, "car", id="1")], "id of the label 'car' is '1'"),
            ([label(1, "car", attributes=[{"name": "x"}])], "id of an attribute of 'car' is None"),
        ],
    )
    def test_what_is_no_whole_label_list_is_refused(self, answer: object, words: str) -> None:
        with pytest.raises(DataError, match=words):
            parse_labels(answer)

    def test_no_label_at_all_is_a_label_list(self) -> None:
        assert parse_labels([]).names.names == ()


class TestLabel:
    @pytest.mark.parametrize("kind", ["rectangle", "polygon", "mask", "ellipse", "tag", "skeleton"])
    def test_a_type_takes_itself(self, kind: str) -> None:
        assert Label(1, "a", kind).takes == (kind,)

    def test_any_takes_all_but_a_skeleton(self) -> None:
        assert Label(1, "a").takes == ANY_TAKES
        assert "skeleton" not in ANY_TAKES

    @pytest.mark.parametrize(
        ("attributes", "spec_id"),
        [
            ([], None),
            ([Attribute(1, "score", "number")], None),
            ([Attribute(1, "scores", "text")], None),
            ([Attribute(1, "confidence", "text"), Attribute(2, "score", "text")], 2),
            ([Attribute(1, "score", "number"), Attribute(2, "confidence", "text")], 2),
            ([Attribute(1, " Score ", "text"), Attribute(2, "score", "text")], 1),
        ],
    )
    def test_the_score_is_in_a_text_attribute(self, attributes: list[Attribute], spec_id: int | None) -> None:
        found = Label(1, "a", attributes=tuple(attributes)).score_attribute
        assert (found and found.spec_id) == spec_id


class TestRequire:
    def test_gives_the_label(self) -> None:
        assert parse_labels([label(3, "car")]).require("car").id == 3

    def test_names_those_that_there_are(self) -> None:
        with pytest.raises(DataError, match=r"no label 'car'\. Expected one of 'vehicle', 'bus'"):
            parse_labels([label(3, "vehicle"), label(4, "bus")]).require("car")
        with pytest.raises(DataError, match="there are none"):
            parse_labels([]).require("car")


class TestAttributeValues:
    def test_by_name_with_defaults(self) -> None:
        kind = Label(1, "a", attributes=(Attribute(5, "hue", "text", default="red"), Attribute(6, "n", "number")))
        assert attribute_values([{"spec_id": 6, "value": "4"}], kind) == {"hue": "red", "n": "4"}
        assert attribute_values([{"spec_id": 99, "value": True}], kind) == {"hue": "red", "n": "", "#99": "True"}
        assert attribute_values([{"spec_id": 5, "value": "x"}], None) == {"#5": "x"}

    @pytest.mark.parametrize("entries", [None, 3, "x", [None], [{"spec_id": [1]}], [[]]])
    def test_takes_anything(self, entries: object) -> None:
        attribute_values(entries, Label(1, "a"))
