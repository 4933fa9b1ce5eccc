"""bridge.flows.report: one page that loads nothing, shows what it should, and trusts no name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Polygon, Record, Shape, Submission, Tag
from bridge.core.class_balance import count_balance
from bridge.core.findings import ErrorType, Finding, Fix, State
from bridge.core.team import ClassAgreement, Person, Team
from bridge.flows.report import MOST_ROWS, Histogram, ReportData, build_report
from bridge.store import PrecisionRow

GREY = np.full((60, 80, 3), 128, np.uint8)
EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7*7 }}'&"


def finding(k: int = 0, error: ErrorType = ErrorType.MISSING, **more: Any) -> Finding:
    fields: dict[str, Any] = {
        "id": f"{k:016x}",
        "target": "coco:a.json",
        "item_id": str(k),
        "item_name": f"{k}.jpg",
        "submission_id": "1",
        "annotation_ids": () if error is ErrorType.MISSING else (f"a{k}",),
        "error": error,
        "label": "cat",
        "score": 0.9,
        "reason": f"reason {k}",
        "fix": Fix("add", "cat", Box(10, 10, 30, 30)),
        "scorer": "object-1",
    }
    return Finding(**{**fields, **more})


def report_data(findings: Sequence[Finding] = (), **more: Any) -> ReportData:
    fields: dict[str, Any] = {
        "target": "coco:a.json",
        "title": "Cats",
        "run_id": "run-1",
        "created_at": "2026-01-02T03:04:05Z",
        "scorer": "object-1",
        "model": "net-1",
        "items": 10,
        "submissions": 9,
        "annotations": 40,
        "predictions": 100,
        "classes": ("cat", "dog"),
        "findings": [(f, State.OPEN) for f in findings],
        "checks": [],
        "confusion": np.array([[12, 3, 1], [0, 1234, 2], [5, 6, 0]]),
        "confidence": Histogram(np.linspace(0, 1, 3), np.array([1, 30]), np.array([60, 9])),
        "balance": count_balance(LabelSet(()), []),
        "min_score": 0.5,
    }
    return ReportData(**{**fields, **more})


def no_image(_: Finding) -> None:
    return None


class Page(HTMLParser):
    """What a browser would see: elements with attributes, and text outside scripts and styles."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str, css: str = "") -> list[dict[str, str]]:
        return [a for t, a in self.elements if t == tag and (not css or css in a.get("class", "").split())]


def assert_loads_nothing(page: Page, html: str) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, name)
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in html
    assert "url(" not in html
    assert len(page.of("script")) == 1


def test_the_page_is_whole_and_loads_nothing() -> None:
    findings = [finding(k) for k in range(3)]
    html = build_report(report_data(findings, precision=[PrecisionRow("o", "missing", "cat", 3, 1)]), lambda _: GREY)
    page = Page(html)
    assert_loads_nothing(page, html)
    assert html.lstrip().startswith("<!doctype html>")
    for text in ("Cats", "run-1", "net-1", "object-1", "1,234", "75 %", "reason 2", "0.jpg"):
        assert text in page.text
    assert len(page.of("image")) == 3
    for f in findings:
        assert f.id in page.text
        assert any(a.get("id") == f"finding-{f.id}" for a in page.of("article"))


def test_the_script_is_the_one_that_the_policy_allows() -> None:
    import base64
    import hashlib

    html = build_report(report_data([finding()]), no_image)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    expected = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for a in Page(html).of("meta") if "default-src" in a.get("content", "")]
    assert f"script-src 'sha256-{expected}'" in policy
    assert "default-src 'none'" in policy


def test_no_name_becomes_markup() -> None:
    evil = finding(
        label=EVIL, item_name=EVIL, reason=EVIL, annotation_ids=(EVIL,), fix=Fix("relabel", EVIL + "2", Box(1, 1, 9, 9))
    )
    check = finding(1, ErrorType.DEGENERATE_SHAPE, label=EVIL, item_name=EVIL, reason=EVIL, annotation_ids=(EVIL,))
    data = report_data(
        [evil],
        title=EVIL,
        target=EVIL,
        model=EVIL,
        scorer=EVIL,
        run_id=EVIL,
        created_at=EVIL,
        classes=(EVIL, "dog"),
        checks=[(check, State.OPEN)],
        precision=[PrecisionRow(EVIL, EVIL, EVIL, 1, 1)],
        gallery=1,
    )
    html = build_report(
        replace(data, findings=[*data.findings, (replace(evil, id="f" * 16), State.OPEN)]), lambda _: GREY
    )
    page = Page(html)
    assert_loads_nothing(page, html)
    assert page.of("img") == []
    assert "onerror" not in {name for _, a in page.elements for name in a}
    assert page.text.count("<script>alert('x')</script>") >= 8
    assert "{{ 7*7 }}" in page.text
    assert "49" not in page.text


def test_warnings_come_first() -> None:
    said = "IN SAMPLE: 3 of 4 items were training images of <b>net</b>."
    page = Page(build_report(report_data([finding()], warnings=[said]), no_image))
    assert page.of("p", "warning") == [{"class": "warning", "role": "alert"}]
    assert page.text.index(said) < page.text.index("likely errors")
    assert not Page(build_report(report_data([finding()]), no_image)).of("p", "warning")


def test_only_the_gallery_is_read_and_each_image_once() -> None:
    asked: Counter[str] = Counter()

    def image_of(f: Finding) -> npt.NDArray[np.uint8]:
        asked[f.item_id] += 1
        return GREY

    findings = [finding(k, item_id=str(k % 4)) for k in range(40)]
    html = build_report(report_data(findings, gallery=10), image_of)
    assert asked == {"0": 1, "1": 1, "2": 1, "3": 1}
    page = Page(html)
    assert [a["id"] for a in page.of("article")] == [f"finding-{f.id}" for f in findings[:10]]
    assert len(page.of("image")) == 10
    assert "The first 10 of 40 findings" in page.text


def test_an_image_that_cannot_be_had_leaves_a_card() -> None:
    page = Page(build_report(report_data([finding()]), no_image))
    assert page.of("image") == []
    assert "image not available" in page.text
    assert "reason 0" in page.text


def drawn(labelled: Shape | None, fix: Fix) -> dict[str, str]:
    html = build_report(report_data([finding(current_shape=labelled, fix=fix)]), lambda _: GREY)
    return {a["class"]: a["points"] for a in Page(html).of("polygon") if a["class"] != "halo"}


def test_both_boxes_are_drawn_in_pixels_of_the_image() -> None:
    found = drawn(Box(5, 5, 20, 20), Fix("reshape", "cat", Box(10, 10, 30, 30)))
    assert found == {
        "labelled": "5.00,5.00 20.00,5.00 20.00,20.00 5.00,20.00",
        "suggested": "10.00,10.00 30.00,10.00 30.00,30.00 10.00,30.00",
    }


def test_a_turned_box_is_drawn_turned() -> None:
    found = drawn(Box(10, 10, 30, 20, 90), Fix("delete"))
    corners = {tuple(map(float, p.split(","))) for p in found["labelled"].split()}
    assert corners == {(15, 5), (25, 5), (25, 25), (15, 25)}
    assert set(found) == {"labelled"}


def test_a_new_class_shows_one_box_and_both_names() -> None:
    box = Box(5, 5, 20, 20)
    assert set(drawn(box, Fix("relabel", "dog", box))) == {"labelled"}
    f = finding(error=ErrorType.WRONG_CLASS, current_shape=box, fix=Fix("relabel", "dog", box))
    assert "cat → dog" in Page(build_report(report_data([f]), no_image)).text


@pytest.mark.parametrize("shape", [None, Tag(), Box(float("nan"), 1, 2, 3), Polygon(((1, 1), (9, 1), (9, 9)))])
def test_shapes_without_corners_show_the_whole_image(shape: Shape | None) -> None:
    f = finding(current_shape=shape, fix=Fix("none"))
    (svg,) = Page(build_report(report_data([f]), lambda _: GREY)).of("svg", "shot")
    if isinstance(shape, Polygon):
        assert svg["viewbox"] != "0 0 80 60"
    else:
        assert svg["viewbox"] == "0 0 80 60"


def test_a_box_out_of_the_image_still_has_a_crop() -> None:
    f = finding(fix=Fix("add", "cat", Box(-500, 900, -400, 1000)))
    assert len(Page(build_report(report_data([f]), lambda _: GREY)).of("image")) == 1


def test_empty_states() -> None:
    empty = report_data(
        items=0, submissions=0, annotations=0, predictions=0, classes=(), confusion=np.zeros((1, 1), np.int64)
    )
    page = Page(build_report(empty, no_image))
    for text in ("nothing was labelled", "There is nothing to show", "The model predicted nothing", "no annotations"):
        assert text in page.text
    assert "the labels and the model agree" in Page(build_report(report_data(), no_image)).text
    assert "switched off" in Page(build_report(report_data([finding()], gallery=0), no_image)).text


def test_thousands_of_rows_are_cut_and_said_so() -> None:
    findings = [finding(k) for k in range(MOST_ROWS + 500)]
    checks = [(finding(k, ErrorType.OUT_OF_IMAGE), State.OPEN) for k in range(MOST_ROWS + 1)]
    html = build_report(report_data(findings, checks=checks, gallery=5), no_image)
    page = Page(html)
    assert len(page.of("tr")) < 2 * MOST_ROWS + 50
    assert "The first 1,000 findings as a table" in page.text
    assert "The first 1,000 of 1,001" in page.text
    assert f"{MOST_ROWS + 499:016x}" not in html


def test_the_share_counts_each_annotation_once() -> None:
    same = [finding(k, ErrorType.EXTRA, annotation_ids=("a",)) for k in range(3)]
    weak = finding(9, ErrorType.EXTRA, annotation_ids=("b",), score=0.4)
    page = Page(build_report(report_data([*same, weak]), no_image))
    assert "1 of 40" in page.text
    assert "2.5 %" in page.text
    assert "3 likely errors score 0.50 or more, of 4 findings" in page.text


def test_states_are_counted_once_something_happened() -> None:
    data = report_data([finding(0), finding(1)])
    assert "accepted" not in Page(build_report(data, no_image)).text
    mixed = replace(data, findings=[(data.findings[0][0], State.ACCEPTED), data.findings[1]])
    assert "accepted 1 open 1" in Page(build_report(mixed, no_image)).text


ERRORS = {"missing": 1.25, "extra": 0.0, "wrong_class": 12.5, "imprecise": None}


def test_who_labelled() -> None:
    team = Team(
        items=1200,
        alpha=0.714,
        classes=(ClassAgreement("cat", 90, 0.96), ClassAgreement(EVIL, 1234, 0.41), ClassAgreement("owl", 1, None)),
        people=(Person(EVIL, 9, 400, 5, 0.5, ERRORS), Person("bob", 9, 400, 0, None, ERRORS)),
    )
    html = build_report(report_data(team=team), no_image)
    page = Page(html)
    assert_loads_nothing(page, html)
    assert "<script>alert" not in html
    assert "1,200 images were labelled by several people, who agree to alpha 0.71 on" in page.text
    rows = re.findall(r"<tr>(.*?)</tr>", html[html.index('id="team"') : html.index('id="gallery"')], re.S)
    cells = [[re.sub(r"<[^>]*>", "", c).strip() for c in re.findall(r"<td.*?</td>", row, re.S)][1:] for row in rows]
    assert cells == [
        [],
        ["1,234", "0.41review guideline"],
        ["90", "0.96"],
        ["1", "–"],
        [],
        ["400", "0.50", "1.2", "0.0", "12.5", "–"],
        ["400", "–", "1.2", "0.0", "12.5", "–"],
    ]
    assert [a["class"] for t, a in page.elements if t == "td" and "low" in a.get("class", "")] == ["num low"] * 2


def test_who_labelled_where_nobody_shares_an_image_or_is_known() -> None:
    alone = Page(build_report(report_data(team=Team(people=(Person("bob", 9, 400, 0, None, ERRORS),))), no_image))
    assert "No image was labelled by two people, so nothing can be said about agreement." in alone.text
    assert "Kappa" not in alone.text
    assert "names no annotators, and no image was labelled by two" in Page(build_report(report_data(), no_image)).text


def test_classes_and_splits() -> None:
    labels = LabelSet(tuple(f"{EVIL} {k}" for k in range(80)))
    cat = Annotation("a", labels.names[3], Box(0, 0, 10, 10))
    records = [
        Record(Item(split, "1.jpg", "", 100, 100, split), (Submission("s", "ann", (cat,) * n),))
        for split, n in (("train", 3), ("val", 1), ("test", 0))
    ]
    html = build_report(report_data(balance=count_balance(labels, records)), no_image)
    page = Page(html)
    assert_loads_nothing(page, html)
    assert "80 classes, as mixed as 1.0 of equal size; 1 objects of the commonest" in page.text
    assert "Size train test val" in page.text
    assert f"{labels.names[3]} 4 2 0 10 % 100.0 % 100.0 %" in page.text
    assert len(page.of("svg", "bar")) >= 80


def test_without_classes_there_is_no_table_of_them() -> None:
    assert "of equal size" not in Page(build_report(report_data(), no_image)).text
