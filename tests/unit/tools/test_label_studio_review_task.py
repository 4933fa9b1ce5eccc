from __future__ import annotations

import copy
from typing import Any

import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Mask, TextSpan
from bridge.core.findings import ErrorType, Finding, Fix, Verdict
from bridge.dialects.label_studio import parse_label_config, regions_to_annotations
from bridge.errors import DataError
from bridge.tools import ReviewCase
from bridge.tools.label_studio_review_task import read_verdict, review_config, review_task, shows_boxes
from bridge.tools.questions import title_of

W, H = 512, 512  # powers of two: percentages there and back are exact
CAT, NEW = Box(10, 10, 110, 90), Box(20, 20, 120, 100)
LABELS = LabelSet(("cat", "dog", 'odd "one" & <co>'))


def finding(error: ErrorType, fix: Fix, current: Box | None = CAT) -> Finding:
    ids = ("5:a",) if current else ()
    return Finding(
        "f" * 16, "ls:project/1", "12", "a.jpg", "5", ids, error, "cat" if current else str(fix.label), 0.8,
        "The model sees it so.", fix, "test", current, ("r",) * len(ids),
    )  # fmt: skip


ADD = finding(ErrorType.MISSING, Fix("add", "dog", NEW), None)
DELETE = finding(ErrorType.EXTRA, Fix("delete"))
RELABEL = finding(ErrorType.WRONG_CLASS, Fix("relabel", "dog"))
RESHAPE = finding(ErrorType.IMPRECISE, Fix("reshape", "cat", NEW))
ALL = (ADD, DELETE, RELABEL, RESHAPE)


def task_of(f: Finding, *context: Annotation) -> dict[str, Any]:
    case = ReviewCase(f, Item("12", "a.jpg", "/data/upload/1/a.jpg"), context)
    return review_task(case, (W, H), "http://ls/projects/1/data?task=12")


def answered(f: Finding, verdict: str | None, **changes: Any) -> dict[str, Any]:
    """The task after a reviewer submitted what Label Studio had filled in, with changes to the suggestion."""
    task = task_of(f)
    result = copy.deepcopy(task["predictions"][0]["result"])
    for region in result:
        if region["from_name"] == "suggestion":
            region["value"].update(changes.get("value", {}))
    if changes.get("without"):
        result = [r for r in result if r["from_name"] != "suggestion"]
    result += changes.get("more", [])
    if verdict:
        choice = {"id": "v", "from_name": "verdict", "to_name": "image", "type": "choices"}
        result.append({**choice, "value": {"choices": [verdict]}})
    return {**task, "annotations": [annotation(9, result)]}


def annotation(
    number: int, result: list[Any], at: str = "2026-01-01T00:00:00.000000Z", **fields: Any
) -> dict[str, Any]:
    who = {"created_username": "Ann Lee ann@example.com, 4", "completed_by": 4, "was_cancelled": False}
    return {"id": number, "result": result, "updated_at": at, **who, **fields}


def drawn(label: str, box: Box) -> dict[str, Any]:
    suggestion = task_of(finding(ErrorType.MISSING, Fix("add", label, box), None))["predictions"][0]["result"][0]
    return {**suggestion, "id": "fresh", "origin": "manual"}


class TestTask:
    def test_the_configuration_is_valid_and_quotes_labels(self) -> None:
        config = parse_label_config(review_config(LABELS, {"cat": "#f00"}))
        suggestion = config.control_for("rectanglelabels")
        assert suggestion is not None
        assert (suggestion.name, suggestion.labels) == ("suggestion", LABELS.names)
        assert [c.name for c in config.controls] == ["verdict", "suggestion", "current", "context", "note"]

    def test_every_variable_of_the_configuration_is_in_the_data(self) -> None:
        import re

        for name in re.findall(r"\$(\w+)", review_config(LABELS, {})):
            assert task_of(ADD)["data"][name]

    @pytest.mark.parametrize(
        ("f", "shown"),
        [
            (ADD, [("suggestion", "dog", NEW)]),
            (DELETE, [("current", "cat", CAT)]),
            (RELABEL, [("current", "cat", CAT), ("suggestion", "dog", CAT)]),
            (RESHAPE, [("current", "cat", CAT), ("suggestion", "cat", NEW)]),
        ],
    )
    def test_shows_what_is_there_and_what_is_suggested(self, f: Finding, shown: list[Any]) -> None:
        neighbour = Annotation("5:n", "dog", Box(200, 200, 300, 300))
        task = task_of(f, neighbour, Annotation("5:m", "cat", Mask(1, 1, (1,))))
        regions = task["predictions"][0]["result"]
        config = parse_label_config(review_config(LABELS, {}))
        objects, problems, _ = regions_to_annotations(regions, config, "1")
        assert not problems
        found = [(r["from_name"], o.label, o.shape) for r, o in zip(regions, objects, strict=True)]
        assert found == [("context", "dog", neighbour.shape), *shown]
        assert [r.get("readonly", False) for r in regions] == [name != "suggestion" for name, _, _ in found]
        assert len({r["id"] for r in regions}) == len(regions)

    def test_carries_the_finding(self) -> None:
        task = task_of(RELABEL)
        assert task["data"]["lb_finding"] == "f" * 16
        assert task["data"]["image"] == "/data/upload/1/a.jpg"
        assert task["predictions"][0]["score"] == 0.8
        assert [title_of(f) for f in ALL] == [
            "Missing dog?",
            "Is there no cat here?",
            "Labelled cat: is it dog?",
            "Does the cat box fit?",
        ]

    def test_without_an_image_there_is_no_task(self) -> None:
        with pytest.raises(DataError, match="item 12"):
            review_task(ReviewCase(ADD, Item("12", "a.jpg", "")), (W, H), "")

    def test_knows_whether_a_size_is_needed(self) -> None:
        nothing = finding(ErrorType.SMALL_IMAGE, Fix("none"), None)
        assert [shows_boxes(ReviewCase(f, Item("1", "a", "a"))) for f in (*ALL, nothing)] == [True] * 4 + [False]


class TestVerdict:
    @pytest.mark.parametrize("f", ALL)
    def test_accepted_as_suggested(self, f: Finding) -> None:
        assert read_verdict(answered(f, "accept")) == Verdict(
            "f" * 16, "accept", "ann@example.com", "2026-01-01T00:00:00.000000Z", "ls:annotation/9", f.fix
        )

    @pytest.mark.parametrize("f", ALL)
    def test_rejected(self, f: Finding) -> None:
        verdict = read_verdict(answered(f, "reject", value={"x": 50}))
        assert verdict is not None
        assert (verdict.decision, verdict.fix) == ("reject", None)

    @pytest.mark.parametrize("f", ALL)
    @pytest.mark.parametrize("verdict", [None, "maybe"])
    def test_undecided(self, f: Finding, verdict: str | None) -> None:
        assert read_verdict(answered(f, verdict)) is None

    def test_skipped_and_not_yet_answered(self) -> None:
        task = answered(ADD, "accept")
        task["annotations"][0]["was_cancelled"] = True
        assert read_verdict(task) is None
        assert read_verdict({**task, "annotations": []}) is None

    def test_a_nudge_of_less_than_half_a_pixel_is_no_edit(self) -> None:
        x = 100 * NEW.x1 / W
        assert read_verdict(answered(ADD, "accept", value={"x": x + 0.05})).decision == "accept"  # type: ignore[union-attr]

    @pytest.mark.parametrize("f", [ADD, RESHAPE])
    def test_a_moved_suggestion_is_an_edit(self, f: Finding) -> None:
        verdict = read_verdict(answered(f, "accept", value={"x": 50.0}))
        assert verdict is not None
        assert verdict.decision == "edit"
        assert verdict.fix == Fix(f.fix.action, f.fix.label, Box(256, NEW.y1, 356, NEW.y2))

    def test_another_label_is_an_edit(self) -> None:
        other = {"rectanglelabels": ["cat"]}
        assert read_verdict(answered(ADD, "accept", value=other)).fix == Fix("add", "cat", NEW)  # type: ignore[union-attr]
        relabelled = read_verdict(answered(RELABEL, "accept", value={"rectanglelabels": ["bird"]}))
        assert relabelled is not None
        assert (relabelled.decision, relabelled.fix) == ("edit", Fix("relabel", "bird"))

    def test_a_relabelled_and_moved_object(self) -> None:
        verdict = read_verdict(answered(RELABEL, "accept", value={"x": 50.0}))
        assert verdict is not None
        assert verdict.fix == Fix("relabel", "dog", Box(256, CAT.y1, 356, CAT.y2))

    def test_a_replaced_suggestion_is_an_edit(self) -> None:
        box = Box(64, 32, 128, 96)
        verdict = read_verdict(answered(ADD, "accept", without=True, more=[drawn("cat", box)]))
        assert verdict is not None
        assert (verdict.decision, verdict.fix) == ("edit", Fix("add", "cat", box))

    def test_a_removed_suggestion_that_is_accepted_is_undecided(self) -> None:
        assert read_verdict(answered(ADD, "accept", without=True)) is None

    def test_a_box_drawn_instead_of_a_deletion(self) -> None:
        box = Box(64, 32, 128, 96)
        verdict = read_verdict(answered(DELETE, "accept", more=[drawn("dog", box)]))
        assert verdict is not None
        assert (verdict.decision, verdict.fix) == ("edit", Fix("reshape", "dog", box))

    def test_of_several_reviewers_the_latest_decides(self) -> None:
        task = answered(ADD, "accept")
        late = annotation(10, answered(ADD, "reject")["annotations"][0]["result"], "2026-01-02T00:00:00.000000Z")
        later = annotation(11, [], "2026-01-03T00:00:00.000000Z")
        verdict = read_verdict({**task, "annotations": [late, later, *task["annotations"]]})
        assert verdict is not None
        assert (verdict.decision, verdict.source) == ("reject", "ls:annotation/10")

    @pytest.mark.parametrize(
        "broken",
        [
            {"meta": None},
            {"meta": {"labelbridge": {"finding": "x"}}},
            {"annotations": None},
            {"annotations": [annotation(1, [{"from_name": "verdict", "value": None}])]},
            {"annotations": [{"id": 1, "result": None}]},
        ],
    )
    def test_what_is_no_answer_of_ours_is_passed_over(self, broken: dict[str, Any]) -> None:
        assert read_verdict({**answered(ADD, "accept"), **broken}) is None


class TestTexts:
    TEXT = "\U0001f600 A cat and a dog."
    CURRENT, NEW = TextSpan(4, 7, "cat"), TextSpan(2, 7, "A cat")
    FIX = finding(ErrorType.IMPRECISE, Fix("reshape", "cat", NEW), CURRENT)  # type: ignore[arg-type]

    def task(self) -> dict[str, Any]:
        dog = Annotation("5:n", "dog", TextSpan(14, 17, "dog"))
        case = ReviewCase(self.FIX, Item("12", "A cat", "", text=self.TEXT), (dog,))
        assert not shows_boxes(case)
        return review_task(case, (1, 1), "http://ls/projects/1/data?task=12")

    def verdict(self, *regions: dict[str, Any]) -> Verdict | None:
        choice = {"id": "v", "from_name": "verdict", "type": "choices", "value": {"choices": ["accept"]}}
        return read_verdict({**self.task(), "annotations": [annotation(9, [*regions, choice])]})

    def test_shows_the_text_with_its_spans(self) -> None:
        config = parse_label_config(review_config(LABELS, {"cat": "#f00"}, "text"), texts=True)
        assert [c.name for c in config.controls] == ["verdict", "suggestion", "current", "context", "note"]
        task = self.task()
        assert task["data"][config.media_key] == self.TEXT
        assert task["data"]["lb_title"] == "Does the cat span fit?"
        assert task["data"]["lb_reason"].endswith("Accept moves the magenta span to the coloured one.")
        regions = task["predictions"][0]["result"]
        objects, problems, _ = regions_to_annotations(regions, config, "1", self.TEXT)
        assert not problems
        assert [(r["from_name"], o.label, o.shape) for r, o in zip(regions, objects, strict=True)] == [
            ("context", "dog", TextSpan(14, 17, "dog")),
            ("current", "cat", self.CURRENT),
            ("suggestion", "cat", self.NEW),
        ]

    def test_answers_are_read_in_the_words_of_the_text(self) -> None:
        *_, suggestion = self.task()["predictions"][0]["result"]
        accepted = self.verdict(suggestion)
        assert accepted is not None
        assert (accepted.decision, accepted.fix) == ("accept", self.FIX.fix)
        place = {"start": 2, "end": 11, "text": "stale words", "labels": ["dog"]}
        edited = self.verdict({**suggestion, "value": place})
        assert edited is not None
        assert (edited.decision, edited.fix) == ("edit", Fix("reshape", "dog", TextSpan(2, 11, "A cat and")))
        drawn = self.verdict({**suggestion, "id": "fresh", "value": place})
        assert drawn is not None
        assert drawn.fix == edited.fix
        assert self.verdict({**suggestion, "value": {**place, "end": 99}}) is None
        assert self.verdict() is None, "accepted, but the suggestion removed"

    def test_without_a_text_there_is_no_task(self) -> None:
        with pytest.raises(DataError, match="has no text"):
            review_task(ReviewCase(self.FIX, Item("12", "task 12", "", text="")), (1, 1), "")
