from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bridge.core.annotations import Annotation, Box, Polygon, Shape, TextSpan
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.rle import encode_coco
from bridge.dialects.label_studio import Region, box_entries, parse_label_config, regions_to_annotations, span_region
from bridge.tools import FixOrder, FixResult, Outcome
from bridge.tools.fix_rules import same_shape
from bridge.tools.label_studio_fixes import Sheet, added_region_id

CONFIG = parse_label_config(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="label" toName="image"><Label value="cat"/><Label value="dog"/></RectangleLabels>
    <RectangleLabels name="rare" toName="image"><Label value="fox"/></RectangleLabels>
    <PolygonLabels name="poly" toName="image"><Label value="cat"/></PolygonLabels>
    <Choices name="state" toName="image" perRegion="true"><Choice value="fine"/></Choices></View>"""
)
W, H = 512, 512  # powers of two: percentages there and back are exact
CAT, DOG = Box(10, 10, 110, 90), Box(300, 200, 400, 333.3, 30)


def scene() -> list[Region]:
    """A cat with a companion choice, a turned dog, a brush stroke and a verdict on the whole image."""
    cat = box_entries(CONFIG, "cat1", "cat", CAT, W, H)
    choice = {**cat[0], "from_name": "state", "type": "choices"}
    choice["value"] = {k: v for k, v in cat[0]["value"].items() if k != "rectanglelabels"} | {"choices": ["fine"]}
    return [
        *cat,
        choice,
        *box_entries(CONFIG, "dog1", "dog", DOG, W, H),
        {
            "id": "b",
            "type": "brushlabels",
            "from_name": "x",
            "to_name": "image",
            "value": {"rle": [1, 2], "odd": 1e-17},
        },
    ]


def order(fix: Fix, *ids: str, result: list[Region] | None = None, error: ErrorType = ErrorType.IMPRECISE) -> FixOrder:
    """An order as the scorer would have made it from ``result``."""
    objects = {a.id: a for a in regions_to_annotations(result or scene(), CONFIG, "5")[0]}
    mine = [objects[f"5:{i}"] for i in ids]
    finding = Finding(
        id="00ff00ff00ff00ff",
        target="ls:project/1",
        item_id="1",
        item_name="a.jpg",
        submission_id="5",
        annotation_ids=tuple(a.id for a in mine),
        error=error,
        label=mine[0].label if mine else str(fix.label),
        score=0.9,
        reason="Because.",
        fix=fix,
        scorer="test",
        current_shape=mine[0].shape if mine else None,
        revisions=tuple(a.revision for a in mine),
    )
    return FixOrder(finding, fix)


def sheet(result: list[Region]) -> Sheet:
    return Sheet(result, CONFIG, "5", lambda: (W, H))


def run(fix_order: FixOrder, result: list[Region] | None = None) -> tuple[FixResult, list[Region]]:
    work = sheet(scene() if result is None else result)
    return work.apply(fix_order), work.result


def labelled(result: list[Region]) -> dict[str, tuple[str, Shape]]:
    return {a.id: (a.label, a.shape) for a in regions_to_annotations(result, CONFIG, "5")[0]}


def others(result: list[Region], *without: str) -> str:
    return json.dumps([e for e in result if e.get("id") not in without])


class TestAdd:
    fix = Fix("add", "dog", Box(500, 50, 600, 150))

    def test_adds_one_region_and_keeps_every_other_byte(self) -> None:
        outcome, result = run(order(self.fix))
        assert outcome.outcome is Outcome.APPLIED
        assert labelled(result)["5:lb-00ff00ff00ff00ff"] == ("dog", self.fix.shape)
        assert others(result, "lb-00ff00ff00ff00ff") == json.dumps(scene())
        assert result[-1]["origin"] == "manual"

    def test_twice_is_already(self) -> None:
        _, result = run(order(self.fix))
        again, same = run(order(self.fix), result)
        assert again.outcome is Outcome.ALREADY
        assert same == result

    def test_what_somebody_drew_meanwhile_counts(self) -> None:
        nearly = box_entries(CONFIG, "x", "dog", Box(500, 50, 600, 151), W, H)
        half = box_entries(CONFIG, "x", "dog", Box(500, 50, 600, 190), W, H)
        other_class = box_entries(CONFIG, "x", "cat", Box(500, 50, 600, 150), W, H)
        far = box_entries(CONFIG, "x", "dog", Box(500, 50, 600, 360), W, H)
        outcomes = [run(order(self.fix), scene() + extra)[0].outcome for extra in (nearly, half, other_class, far)]
        assert outcomes == [Outcome.ALREADY, Outcome.CONFLICT, Outcome.APPLIED, Outcome.APPLIED]

    def test_in_an_empty_annotation_the_size_is_asked_for(self) -> None:
        work = Sheet([], CONFIG, "5", lambda: (1000, 500))
        assert work.apply(order(self.fix)).outcome is Outcome.APPLIED
        assert work.result[0]["original_width"] == 1000

    def test_a_label_that_is_gone_is_a_conflict(self) -> None:
        outcome, result = run(order(Fix("add", "cow", Box(1, 1, 9, 9))))
        assert outcome.outcome is Outcome.CONFLICT
        assert "'cow'" in outcome.message
        assert result == scene()

    @pytest.mark.parametrize("shape", [None, Box(1, 1, 1, 9)])
    def test_nothing_without_an_area_is_added(self, shape: Box | None) -> None:
        assert run(order(Fix("add", "dog", shape)))[0].outcome is Outcome.CONFLICT


class TestDelete:
    def test_deletes_the_region_with_its_companions_only(self) -> None:
        outcome, result = run(order(Fix("delete"), "cat1"))
        assert outcome.outcome is Outcome.APPLIED
        assert json.dumps(result) == others(scene(), "cat1")

    def test_what_is_gone_is_already(self) -> None:
        gone = [e for e in scene() if e["id"] != "cat1"]
        outcome, result = run(order(Fix("delete"), "cat1"), gone)
        assert outcome.outcome is Outcome.ALREADY
        assert result == gone

    def test_what_was_changed_is_a_conflict(self) -> None:
        moved = [e if e["id"] != "dog1" else {**e, "value": {**e["value"], "x": 1}} for e in scene()]
        outcome, result = run(order(Fix("delete"), "dog1"), moved)
        assert outcome.outcome is Outcome.CONFLICT
        assert "changed since it was scored" in outcome.message
        assert result == moved

    @pytest.mark.parametrize(
        "tie",
        [
            {"type": "relation", "from_id": "cat1", "to_id": "dog1", "direction": "right"},
            {"id": "k", "parentID": "cat1"},
        ],
    )
    def test_what_something_hangs_on_is_a_conflict(self, tie: Region) -> None:
        outcome, result = run(order(Fix("delete"), "cat1"), [*scene(), tie])
        assert outcome.outcome is Outcome.CONFLICT
        assert result == [*scene(), tie]


class TestChange:
    def test_relabel_touches_the_label_only(self) -> None:
        outcome, result = run(order(Fix("relabel", "dog"), "cat1"))
        assert outcome.outcome is Outcome.APPLIED
        assert labelled(result)["5:cat1"] == ("dog", CAT)
        assert others(result, "cat1") == others(scene(), "cat1")
        assert result[1] == scene()[1], "the companion choice has no label to change"
        before, after = scene()[0], result[0]
        assert {**after, "value": {**after["value"], "rectanglelabels": ["cat"]}} == before

    def test_relabel_across_controls_moves_the_region_to_the_control_with_that_label(self) -> None:
        _, result = run(order(Fix("relabel", "fox"), "cat1"))
        assert (result[0]["from_name"], result[0]["value"]["rectanglelabels"]) == ("rare", ["fox"])

    def test_reshape_moves_companions_along(self) -> None:
        new = Box(20, 20, 120, 100)
        outcome, result = run(order(Fix("reshape", "cat", new), "cat1"))
        assert outcome.outcome is Outcome.APPLIED
        assert labelled(result)["5:cat1"] == ("cat", new)
        assert {k: result[1]["value"][k] for k in ("x", "y", "width", "height")} == {
            k: result[0]["value"][k] for k in ("x", "y", "width", "height")
        }
        assert result[1]["value"]["choices"] == ["fine"]
        assert others(result, "cat1") == others(scene(), "cat1")

    def test_done_before_is_already(self) -> None:
        for fix in (Fix("relabel", "dog"), Fix("reshape", "cat", Box(20, 20, 120, 100)), Fix("relabel", "dog", CAT)):
            wanted = order(fix, "cat1")
            first, result = run(wanted)
            again, same = run(wanted, result)
            assert (first.outcome, again.outcome) == (Outcome.APPLIED, Outcome.ALREADY)
            assert same == result

    def test_two_fixes_of_one_object_do_not_undo_each_other(self) -> None:
        new = Box(20, 20, 120, 100)
        work = sheet(scene())
        for fix in (Fix("relabel", "dog", CAT), Fix("reshape", "cat", new)):
            assert work.apply(order(fix, "cat1")).outcome is Outcome.APPLIED
        assert labelled(work.result)["5:cat1"] == ("dog", new)

    @pytest.mark.parametrize("change", ["moved", "relabelled", "deleted"])
    def test_newer_work_of_a_person_is_a_conflict(self, change: str) -> None:
        now = scene()
        if change == "moved":
            now[0]["value"]["x"] += 1
        elif change == "relabelled":
            now[0]["value"]["rectanglelabels"] = ["fox"]
        else:
            now = now[2:]
        before = json.dumps(now)
        outcome, result = run(order(Fix("relabel", "dog"), "cat1"), now)
        assert outcome.outcome is Outcome.CONFLICT
        assert json.dumps(result) == before

    def test_an_accepted_suggestion_that_changes_says_so(self) -> None:
        now: list[Any] = [{**e, "origin": "prediction"} for e in scene()]
        _, result = run(order(Fix("relabel", "dog"), "cat1", result=now), now)
        assert result[0]["origin"] == "prediction-changed"

    def test_a_polygon_cannot_become_a_box(self) -> None:
        polygon = {**scene()[0], "id": "p", "type": "polygonlabels", "from_name": "poly"}
        polygon["value"] = {"points": [[1, 1], [9, 1], [9, 9]], "closed": True, "polygonlabels": ["cat"]}
        outcome, _ = run(order(Fix("reshape", "cat", CAT), "p", result=[polygon]), [polygon])
        assert outcome.outcome is Outcome.CONFLICT


class TestOutlines:
    """Polygons and brushed masks: what is added, reshaped, relabelled, deleted, and what stands in the way."""

    CONFIG = parse_label_config(
        """<View><Image name="image" value="$image"/>
        <BrushLabels name="brush" toName="image"><Label value="cat"/><Label value="dog"/></BrushLabels>
        <PolygonLabels name="poly" toName="image"><Label value="cat"/></PolygonLabels></View>"""
    )
    RING = Polygon(((10, 10), (110, 10), (110, 90), (10, 90)))
    MASK = encode_coco(np.pad(np.ones((80, 100), np.bool_), ((10, H - 90), (10, W - 110))))
    SMALL = encode_coco(np.pad(np.ones((20, 30), np.bool_), ((10, H - 30), (10, W - 40))))

    def run(self, fix: Fix, result: list[Region], *ids: str) -> tuple[FixResult, list[Region]]:
        objects = {a.id: a for a in regions_to_annotations(result, self.CONFIG, "5")[0]}
        mine = [objects[f"5:{i}"] for i in ids]
        made = replace(
            order(Fix("none")).finding,
            annotation_ids=tuple(a.id for a in mine),
            label=mine[0].label if mine else str(fix.label),
            current_shape=mine[0].shape if mine else None,
            revisions=tuple(a.revision for a in mine),
        )
        work = Sheet(result, self.CONFIG, "5", lambda: (W, H))
        return work.apply(FixOrder(made, fix)), work.result

    def added(self, shape: Shape) -> list[Region]:
        outcome, result = self.run(Fix("add", "cat", shape), [])
        assert outcome.outcome is Outcome.APPLIED, outcome.message
        return result

    @pytest.mark.parametrize("shape", [RING, MASK], ids=["polygon", "mask"])
    def test_an_outline_is_added_as_it_is(self, shape: Shape) -> None:
        result = self.added(shape)
        ((label, there),) = [(a.label, a.shape) for a in regions_to_annotations(result, self.CONFIG, "5")[0]]
        assert label == "cat"
        assert same_shape(there, shape)

    def test_what_is_there_already_is_not_added_again(self) -> None:
        drawn = [{**entry, "id": "else"} for entry in self.added(self.MASK)]
        for shape in (self.MASK, self.RING):
            outcome, result = self.run(Fix("add", "cat", shape), drawn)
            assert (outcome.outcome, result) == (Outcome.ALREADY, drawn)
        wider = Polygon(((10, 10), (160, 10), (160, 90), (10, 90)))
        assert self.run(Fix("add", "cat", wider), drawn)[0].outcome is Outcome.CONFLICT

    def test_a_polygon_needs_a_tag_for_polygons(self) -> None:
        outcome, _ = self.run(Fix("add", "dog", self.RING), [])
        assert outcome.outcome is Outcome.CONFLICT
        assert "no tag to draw a polygon labelled 'dog'" in outcome.message

    def test_a_mask_is_reshaped_relabelled_and_deleted(self) -> None:
        drawn = [{**entry, "id": "m"} for entry in self.added(self.MASK)]
        outcome, result = self.run(Fix("reshape", "cat", self.SMALL), drawn, "m")
        assert outcome.outcome is Outcome.APPLIED
        assert regions_to_annotations(result, self.CONFIG, "5")[0][0].shape == self.SMALL
        _, result = self.run(Fix("relabel", "dog", self.MASK), drawn, "m")
        assert regions_to_annotations(result, self.CONFIG, "5")[0][0].label == "dog"
        assert self.run(Fix("delete"), drawn, "m")[1] == []
        assert self.run(Fix("reshape", "cat", self.RING), drawn, "m")[0].outcome is Outcome.CONFLICT


def test_nothing_to_write_is_a_conflict_for_a_person() -> None:
    outcome, result = run(order(Fix("none"), "cat1"))
    assert outcome.outcome is Outcome.CONFLICT
    assert result == scene()


def test_added_regions_are_named_after_their_finding() -> None:
    assert added_region_id(order(Fix("add", "dog", CAT)).finding) == "lb-00ff00ff00ff00ff"


class TestSpans:
    CONFIG = parse_label_config(
        """<View><Labels name="label" toName="text"><Label value="cat"/><Label value="dog"/></Labels>
        <Text name="text" value="$text"/></View>""",
        texts=True,
    )
    TEXT = "\U0001f600 A cat and a dog."
    CAT, DOG, BOTH = TextSpan(4, 7, "cat"), TextSpan(14, 17, "dog"), TextSpan(4, 17, "cat and a dog")

    def result(self) -> list[Region]:
        control = self.CONFIG.control_for("labels")
        assert control
        relation = {"type": "relation", "from_id": "x", "to_id": "y"}
        return [span_region("r1", control, "cat", self.CAT), {**span_region("r2", control, "dog", self.DOG)}, relation]

    def run(self, fix: Fix, about: str = "", text: str = TEXT, **value: Any) -> tuple[FixResult, list[Region]]:
        """Apply a fix of what was scored to what is there now: ``value`` changes the first region since."""
        read = {a.id: a for a in regions_to_annotations(self.result(), self.CONFIG, "5", self.TEXT)[0]}
        mine: list[Annotation] = [read[f"5:{about}"]] if about else []
        finding = Finding(
            "f" * 16, "ls:project/1", "1", "A cat", "5", tuple(a.id for a in mine), ErrorType.IMPRECISE,
            mine[0].label if mine else str(fix.label), 0.9, "Because.", fix, "test",
            mine[0].shape if mine else None, tuple(a.revision for a in mine),
        )  # fmt: skip
        now = self.result()
        now[0]["value"].update(value)
        work = Sheet(now, self.CONFIG, "5", lambda: (1, 1), text)
        return work.apply(FixOrder(finding, fix)), work.result

    def test_moves_relabels_adds_and_deletes(self) -> None:
        first, second, relation = self.result()
        done, now = self.run(Fix("reshape", "cat", self.BOTH), "r1")
        moved = {"start": 4, "end": 17, "text": "cat and a dog", "labels": ["cat"]}
        assert (done.outcome, now) == (Outcome.APPLIED, [{**first, "value": moved}, second, relation])
        assert done.message == "moved the 'cat' object to characters 4 to 17 ('cat and a dog')"
        done, now = self.run(Fix("relabel", "dog", self.CAT), "r1")
        assert now == [{**first, "value": {**first["value"], "labels": ["dog"]}}, second, relation]
        done, now = self.run(Fix("add", "dog", TextSpan(2, 3, "A")))
        assert now[:3] == [first, second, relation]
        assert now[3]["value"] == {"start": 2, "end": 3, "text": "A", "labels": ["dog"]}
        done, now = self.run(Fix("delete"), "r2")
        assert now == [first, relation]

    def test_what_is_there_already_is_not_added_again(self) -> None:
        assert self.run(Fix("add", "dog", self.DOG))[0].outcome is Outcome.ALREADY
        done, now = self.run(Fix("add", "dog", TextSpan(12, 17, "a dog")))
        assert (done.outcome, now) == (Outcome.CONFLICT, self.result())
        assert self.run(Fix("add", "cat", self.DOG))[0].outcome is Outcome.APPLIED, "another label may be there too"

    @pytest.mark.parametrize("fix", [Fix("add", "dog", TextSpan(2, 7, "A cat")), Fix("reshape", "dog", BOTH)])
    def test_other_words_at_that_place_are_a_conflict(self, fix: Fix) -> None:
        done, now = self.run(fix, "" if fix.action == "add" else "r2", text="\U0001f600 B bat and a dog.")
        assert (done.outcome, "the text was changed since it was scored" in done.message) == (Outcome.CONFLICT, True)
        assert now == self.result()

    def test_a_span_that_somebody_moved_is_a_conflict(self) -> None:
        done, _ = self.run(Fix("delete"), "r1", start=2)
        assert (done.outcome, "was changed since it was scored" in done.message) == (Outcome.CONFLICT, True)

    def test_a_label_that_the_configuration_lost_is_a_conflict(self) -> None:
        done, _ = self.run(Fix("add", "cow", TextSpan(2, 3, "A")))
        assert (done.outcome, "no Labels tag with 'cow'" in done.message) == (Outcome.CONFLICT, True)
