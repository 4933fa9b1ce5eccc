from __future__ import annotations

import base64
import math
from typing import Any

import pytest

from bridge.core.annotations import Box, Item
from bridge.dialects.label_studio import box_entries, parse_label_config
from bridge.tools.label_studio_records import annotator, image_name, record_from_task

CONFIG = parse_label_config(
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="cat"/><Label value="dog"/></RectangleLabels></View>'
)


def cat(score: float | None = None, region_id: str = "r") -> list[dict[str, Any]]:
    return box_entries(CONFIG, region_id, "cat", Box(10, 10, 20, 20), 100, 50, score)


def task(**fields: Any) -> dict[str, Any]:
    return {
        "id": 3,
        "data": {"image": "/data/upload/7/0123abcd-a%20b.jpg"},
        "annotations": [],
        "predictions": [],
        **fields,
    }


def annotation(number: int, result: Any, **fields: Any) -> dict[str, Any]:
    who = {"created_username": " ann@example.com, 4", "completed_by": 4, "was_cancelled": False}
    return {"id": number, "result": result, **who, **fields}


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("/data/upload/7/0123abcd-a%20b.jpg", "a b.jpg"),
        ("/data/local-files/?d=img/0123abcd-a.jpg", "0123abcd-a.jpg"),
        ("/data/local-files/?d=img%2Fsub%2Fa.jpg", "a.jpg"),
        ("https://host/x/y.png?X-Signature=secret", "y.png"),
        ("s3://bucket/folder/z.jpg", "z.jpg"),
        ("/tasks/3/resolve/?fileuri=" + base64.urlsafe_b64encode(b"s3://bucket/f/ z.jpg").decode(), " z.jpg"),
        ("data:image/png;base64,AAAA", ""),
        ("http://[broken", "http://[broken"),
    ],
)
def test_names(reference: str, name: str) -> None:
    assert image_name(reference) == name


def test_submissions_are_annotations_that_were_not_skipped() -> None:
    record = record_from_task(
        task(annotations=[annotation(1, cat()), annotation(2, cat(), was_cancelled=True), annotation(3, [])]),
        CONFIG, model=None, with_predictions=True,
    )  # fmt: skip
    assert [(s.id, s.annotator, len(s.annotations)) for s in record.submissions] == [
        ("1", "ann@example.com", 1),
        ("3", "ann@example.com", 0),
    ]
    assert record.item == Item("3", "a b.jpg", "/data/upload/7/0123abcd-a%20b.jpg", 100, 50)


def test_an_unannotated_item_has_no_submission() -> None:
    record = record_from_task(task(), CONFIG, model=None, with_predictions=True)
    assert (record.submissions, record.item.width, record.predicted_by) == ((), None, ())


def test_predictions_of_one_model_and_of_all() -> None:
    stored = [
        {"model_version": "m-1", "score": 0.4, "result": cat(0.7) + cat(None, "s")},
        {"model_version": "m-2", "score": 0.1, "result": cat(3.5)},
        {"model_version": "m-3", "score": None, "result": []},
    ]
    every = record_from_task(task(predictions=stored), CONFIG, model=None, with_predictions=True)
    assert [(p.model, p.confidence) for p in every.predictions] == [("m-1", 0.7), ("m-1", 0.4), ("m-2", 1.0)]
    one = record_from_task(task(predictions=stored), CONFIG, model="m-2", with_predictions=True)
    assert [p.model for p in one.predictions] == ["m-2"]
    assert (every.predicted_by, one.predicted_by) == (("m-1", "m-2", "m-3"), ("m-2",))
    assert (one.item.width, one.item.height) == (100, 50)


@pytest.mark.parametrize("result", ["x", None, 3, [None], [{"id": "r", "type": "rectanglelabels"}]])
@pytest.mark.parametrize("score", ["high", math.nan, None, True])
def test_stored_rubbish_is_no_prediction(result: Any, score: Any) -> None:
    stored = [{"model_version": None, "score": score, "result": result}]
    record = record_from_task(task(predictions=stored), CONFIG, model=None, with_predictions=True)
    assert record.predictions == ()
    assert record.predicted_by == ("",)


@pytest.mark.parametrize("data", [None, {}, {"image": None}, {"image": ["a"]}, {"picture": "a.jpg"}])
def test_a_task_without_an_image_is_a_problem(data: Any) -> None:
    record = record_from_task(task(data=data), CONFIG, model=None, with_predictions=True)
    assert [p.kind for p in record.problems] == ["no_image"]
    assert (record.item.name, record.item.image) == ("task 3", "")


def test_broken_results_are_problems_of_their_submission() -> None:
    record = record_from_task(task(annotations=[annotation(1, "x")]), CONFIG, model=None, with_predictions=True)
    assert [(p.kind, p.submission_id) for p in record.problems] == [("degenerate_shape", "1")]


@pytest.mark.parametrize(
    ("username", "name"),
    [("Ann Lee ann@example.com, 4", "ann@example.com"), (" a@b, 4", "a@b"), ("", "user 4"), (None, "user 4")],
)
def test_annotators(username: str | None, name: str) -> None:
    assert annotator({"created_username": username, "completed_by": 4}) == name


@pytest.mark.parametrize(
    ("fields", "split"),
    [
        ({}, ""),
        ({"data": {"image": "/data/local-files/?d=val/1.jpg"}}, "val"),
        ({"data": {"image": "/data/train/1.jpg", "split": "test"}}, "test"),
        ({"data": {"image": "/data/1.jpg", "subset": "Training"}}, "train"),
        ({"meta": {"split": "validation"}}, "val"),
        ({"meta": {"split": ["odd"]}}, ""),
        ({"meta": "odd"}, ""),
    ],
)
def test_the_split_of_a_task(fields: dict[str, Any], split: str) -> None:
    assert record_from_task({**task(), **fields}, CONFIG, model=None, with_predictions=True).item.split == split
