"""Label Studio's dialect over real HTTP: the bodies it sends, and the answers it can live with."""

from __future__ import annotations

import math
import uuid
from typing import Any

import pytest
from serving_kit import CONFIG, CURSED, Running, SquareFinder, Start, data_uri, picture, task

CAT = (0, (20, 10, 60, 50))
DOG = (1, (100, 30, 180, 90))
BOTH = data_uri(picture(CAT, DOG))

# As Label Studio 1.23.2 sends it, shortened where only the amount matters.
RECORDED_TASK = {
    "id": 28,
    "meta": {"src": "cvat", "i": 27},
    "created_at": "2026-11-20T16:12:58.074163Z",
    "updated_at": "2026-11-20T16:12:58.074163Z",
    "is_labeled": False,
    "overlap": 1,
    "inner_id": 28,
    "total_annotations": 0,
    "cancelled_annotations": 0,
    "total_predictions": 0,
    "comment_count": 0,
    "unresolved_comment_count": 0,
    "last_comment_updated_at": None,
    "project": 6,
    "updated_by": None,
    "file_upload": None,
    "comment_authors": [],
    "annotations": [],
    "predictions": [],
}
RECORDED_SETUP = {
    "project": "6.1795191177",
    "schema": CONFIG,
    "hostname": "http://127.0.0.1:8080",
    "access_token": "0123456789abcdef0123456789abcdef01234567",
    "extra_params": {"threshold": 0.4},
}
EMPTY = {"model_version": SquareFinder.name, "score": 0.0, "result": []}


def labels(item: dict[str, Any]) -> list[str]:
    return [region["value"]["rectanglelabels"][0] for region in item["result"]]


def test_health_is_exactly_what_the_protocol_says(server: Running) -> None:
    for path in ("/health", "/"):
        answer = server.get(path)
        assert answer.status_code == 200
        assert answer.json() == {"model_class": "LabelStudioMLBase", "status": "UP"}


def test_recorded_predict_body(server: Running) -> None:
    body = {
        "tasks": [{**RECORDED_TASK, "data": {"image": BOTH}}],
        "project": "6.1795191177",
        "label_config": CONFIG,
        "params": {"login": None, "password": None, "context": None},
    }
    answer = server.post("/predict", body)
    assert answer.status_code == 200
    (item,) = answer.json()["results"]
    assert item["model_version"] == SquareFinder.name
    assert item["score"] == 1.0
    cat, dog = item["result"]
    assert cat["value"] == {"x": 10, "y": 10, "width": 20, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}
    assert dog["value"] == {"x": 50, "y": 30, "width": 40, "height": 60, "rotation": 0, "rectanglelabels": ["dog"]}
    for region in (cat, dog):
        assert region["from_name"] == "label"
        assert region["to_name"] == "image"
        assert region["type"] == "rectanglelabels"
        assert (region["original_width"], region["original_height"], region["image_rotation"]) == (200, 100, 0)
        assert region["score"] == 1.0


def test_setup_names_the_version_of_the_predictions(server: Running) -> None:
    setup = server.post("/setup", RECORDED_SETUP)
    (item,) = server.results([task(1, BOTH)])
    assert setup.status_code == 200
    assert setup.json() == {"model_version": item["model_version"]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        None,
        {"project": None, "schema": None, "extra_params": None},
        {"project": {"a": 1}, "schema": ["x"], "extra_params": [1]},
        {**RECORDED_SETUP, "extra_params": "{broken"},
        {**RECORDED_SETUP, "extra_params": "[" * 100_000},
        {**RECORDED_SETUP, "schema": "<View>&broken"},
        {"extra_params": {"threshold": "high"}},
        {"extra_params": {"threshold": 7}},
    ],
)
def test_setup_takes_odd_bodies(server: Running, body: object) -> None:
    answer = server.post("/setup", body)
    assert answer.status_code == 200
    assert answer.json() == {"model_version": SquareFinder.name}


@pytest.mark.parametrize("extra", [{"threshold": 0.9}, '{"threshold": 0.9}'])
def test_threshold_of_a_project_holds_for_that_project_only(server: Running, extra: object) -> None:
    # An L of red: its box is filled by less than 0.9.
    faint = data_uri(picture((0, (20, 10, 60, 30)), (0, (20, 10, 50, 50))))
    server.post("/setup", {**RECORDED_SETUP, "project": "7.1", "extra_params": extra})
    assert server.results([task(1, faint)], project="7.1")[0]["result"] == []
    (other,) = server.results([task(1, faint)], project="8.1")
    assert labels(other) == ["cat"]
    assert 0.5 < other["score"] < 0.9
    server.post("/setup", {**RECORDED_SETUP, "project": "7.1", "extra_params": None})
    assert labels(server.results([task(1, faint)], project="7.1")[0]) == ["cat"]


def test_one_item_per_task_in_order_whatever_fails(server: Running) -> None:
    tasks = [
        task(1, data_uri(picture(CAT))),
        task(2, data_uri(b"no image at all")),
        task(3, data_uri(picture(DOG))),
        task(4, "/data/upload/1/gone.png"),
        {"id": 5},
        {"id": 6, "data": {"image": None}},
        {"id": 7, "data": {"image": ["a", "b"]}},
        {"id": 8, "data": ["image"]},
        None,
        "text",
        task(11, "http://169.254.169.254/latest/meta-data"),
        task(12, "file:///etc/passwd"),
        task(13, "s3://bucket/key.jpg"),
        task(14, data_uri(picture(CAT)[:60])),
        task(15, data_uri(picture(CAT, DOG))),
    ]
    results = server.results(tasks)
    assert len(results) == len(tasks)
    assert labels(results[0]) == ["cat"]
    assert labels(results[2]) == ["dog"]
    assert labels(results[14]) == ["cat", "dog"]
    bad = [r for i, r in enumerate(results) if i not in (0, 2, 14)]
    assert bad == [EMPTY] * 12
    assert {line["task"] for line in server.events("task_failed")} >= {2, 4, 5, 6, 7, 8, 11, 12, 13, 14}


def test_an_image_that_breaks_the_model_does_not_break_its_batch(server: Running) -> None:
    results = server.results([task(1, BOTH), task(2, data_uri(CURSED)), task(3, data_uri(picture(CAT)))])
    assert labels(results[0]) == ["cat", "dog"]
    assert results[1] == EMPTY
    assert labels(results[2]) == ["cat"]
    assert "cursed" in server.events("task_failed")[0]["found"]


def test_region_ids_are_fresh_each_time(server: Running) -> None:
    first, second = (server.results([task(1, BOTH)])[0]["result"] for _ in range(2))
    ids = [region["id"] for region in first + second]
    assert len(set(ids)) == 4
    assert server.counted('labelbridge_images_total{outcome="cached"}') == 1


def test_tasks_as_an_object_and_a_view_without_image(server: Running) -> None:
    assert server.results({"id": 1}, label_config="<View></View>") == [EMPTY]


@pytest.mark.parametrize(
    "config",
    ["", "<View", "<View><Text name='t' value='$t'/></View>", "<!DOCTYPE a [<!ENTITY b 'c'>]><View>&b;</View>"],
)
def test_unusable_configurations_give_empty_predictions(server: Running, config: str) -> None:
    assert server.results([task(1, BOTH), task(2, BOTH)], label_config=config) == [EMPTY, EMPTY]


def test_configuration_of_the_setup_call_is_used_where_predict_brings_none(server: Running) -> None:
    server.post("/setup", RECORDED_SETUP)
    answer = server.post("/predict", {"tasks": [task(1, BOTH)], "project": "6.1795191177"})
    assert labels(answer.json()["results"][0]) == ["cat", "dog"]


def test_classes_without_label_are_dropped_and_logged_once(server: Running) -> None:
    config = CONFIG.replace('<Label value="dog"/>', "")
    for _ in range(2):
        assert labels(server.results([task(1, BOTH)], label_config=config)[0]) == ["cat"]
    (line,) = server.events("labels_matched")
    assert line["classes_dropped"] == ["dog"]


def test_nothing_in_common_gives_empty_predictions_and_says_why(server: Running) -> None:
    config = CONFIG.replace('"cat"', '"tree"').replace('"dog"', '"rock"')
    assert server.results([task(1, BOTH)], label_config=config) == [EMPTY]
    (line,) = server.events("labels_do_not_match")
    assert "'cat', 'dog'" in line["found"]
    assert "'tree', 'rock'" in line["found"]


def test_label_map_renames(start: Start) -> None:
    server = start(label_map={"cat": "pet", "dog": "not in this project"})
    config = CONFIG.replace('"cat"', '"pet"')
    assert sorted(labels(server.results([task(1, BOTH)], label_config=config)[0])) == ["dog", "pet"]


def test_rectangle_beside_labels_needs_two_entries(server: Running) -> None:
    config = (
        '<View><Image name="img" value="$image"/><Rectangle name="box" toName="img"/>'
        '<Labels name="what" toName="img"><Label value="cat"/></Labels></View>'
    )
    geometry, name = server.results([task(1, BOTH)], label_config=config)[0]["result"]
    assert geometry["id"] == name["id"]
    assert (geometry["type"], name["type"]) == ("rectangle", "labels")
    assert name["value"]["labels"] == ["cat"]


def test_orientation_in_exif_counts(server: Running) -> None:
    import io

    from PIL import Image

    upright = Image.open(io.BytesIO(picture(CAT, size=(200, 100))))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(out, "PNG", exif=exif)
    (region,) = server.results([task(1, data_uri(out.getvalue()))])[0]["result"]
    assert (region["original_width"], region["original_height"]) == (200, 100)
    assert (region["value"]["x"], region["value"]["width"]) == (10, 20)


# ---- interactive


def drawn(kind: str, label: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex[:10],
        "from_name": "label",
        "to_name": "image",
        "type": kind,
        "origin": "manual",
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "value": {**value, kind: [label]},
        **more,
    }


def ask(server: Running, *regions: dict[str, Any]) -> list[dict[str, Any]]:
    params = {"login": None, "password": None, "context": {"result": list(regions)}}
    (item,) = server.results([{"id": 151, "data": {"image": BOTH}, "drafts": []}], params=params)
    found: list[dict[str, Any]] = item["result"]
    return found


WHOLE = {"x": 0, "y": 0, "width": 100, "height": 100, "rotation": 0}
AROUND_DOG = {"x": 47, "y": 25, "width": 45, "height": 70, "rotation": 0}


def test_smart_rectangle_answers_what_it_holds_of_its_label(server: Running) -> None:
    assert [r["value"]["rectanglelabels"] for r in ask(server, drawn("rectanglelabels", "dog", WHOLE))] == [["dog"]]
    assert [r["value"]["rectanglelabels"] for r in ask(server, drawn("rectanglelabels", "cat", WHOLE))] == [["cat"]]


def test_smart_rectangle_puts_the_label_of_the_person_on_the_box_of_the_model(server: Running) -> None:
    (region,) = ask(server, drawn("rectanglelabels", "cat", AROUND_DOG))
    assert region["value"]["rectanglelabels"] == ["cat"]
    assert (region["value"]["x"], region["value"]["width"]) == (50, 40)


def test_only_the_last_rectangle_that_is_no_prediction_counts(server: Running) -> None:
    earlier = drawn("rectanglelabels", "dog", AROUND_DOG, id="r1")
    last = drawn("rectanglelabels", "cat", {"x": 5, "y": 5, "width": 30, "height": 50, "rotation": 0}, id="r2")
    suggested = drawn("rectanglelabels", "dog", AROUND_DOG, id="r3", origin="prediction", score=0.91)
    (region,) = ask(server, earlier, last, suggested)
    assert region["value"]["rectanglelabels"] == ["cat"]
    assert region["id"] not in {"r1", "r2", "r3"}


def test_smart_point_and_its_negative(server: Running) -> None:
    inside_dog = drawn("keypointlabels", "dog", {"x": 69.04, "y": 69.03, "width": 0.23}, is_positive=True)
    not_here = drawn("keypointlabels", "dog", {"x": 60, "y": 60, "width": 0.23}, is_positive=False)
    (region,) = ask(server, inside_dog)
    assert region["value"]["rectanglelabels"] == ["dog"]
    assert region["type"] == "rectanglelabels"
    assert ask(server, inside_dog, not_here) == []


@pytest.mark.parametrize(
    "regions",
    [
        [{"type": "rectanglelabels"}],
        [{"type": "rectanglelabels", "value": {"x": "a"}}],
        [{"type": "rectanglelabels", "value": {"x": 10**400, "y": 0, "width": 1, "height": 1}}],
        [{"type": ["keypointlabels"], "value": {}}],
        [{"type": "brushlabels", "value": {"touches": []}}],
        ["text", None, 7],
        [drawn("rectanglelabels", "dog", {"x": 90, "y": 0, "width": 5, "height": 5})],
    ],
)
def test_prompts_that_say_nothing_get_an_empty_answer(server: Running, regions: list[Any]) -> None:
    assert ask(server, *regions) == []


# ---- the rest of the protocol


def test_versions(server: Running) -> None:
    assert server.get("/versions").json() == {"versions": [SquareFinder.name]}


@pytest.mark.parametrize(
    ("body", "action"),
    [
        (
            {"action": "ANNOTATION_CREATED", "annotation": {"id": 2, "result": []}, "task": {"id": 129}},
            "ANNOTATION_CREATED",
        ),
        ({"action": "ANNOTATIONS_CREATED", "annotation": [{}], "task": [{}]}, "ANNOTATIONS_CREATED"),
        ({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 3}]}, "ANNOTATIONS_DELETED"),
        ({"action": "PROJECT_UPDATED", "project": {}}, "PROJECT_UPDATED"),
        ({"action": "START_TRAINING", "project": {}}, "START_TRAINING"),
        ({"action": "ANNOTATION_CREATED"}, "ANNOTATION_CREATED"),
        ({"action": "SOMETHING_NEW"}, "unknown"),
        ({"action": ["x"]}, "unknown"),
        ([1, 2], "unknown"),
        ({}, "unknown"),
    ],
)
def test_webhook_counts_every_event(server: Running, body: Any, action: str) -> None:
    answer = server.post("/webhook", body)
    assert answer.status_code == 201
    assert server.counted(f'labelbridge_webhook_events_total{{action="{action}"}}') == 1


def test_webhook_takes_what_is_no_json(server: Running) -> None:
    assert server.http.post(server.url + "/webhook", data=b"\xff\x00", timeout=10).status_code == 201
    assert server.counted('labelbridge_webhook_events_total{action="unknown"}') == 1


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"hello", "text/plain", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"9" * 5000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"text"', "application/json", 400),
    ],
)
@pytest.mark.parametrize("path", ["/setup", "/predict"])
def test_what_is_no_json_object_is_refused_in_json(
    server: Running, path: str, data: bytes, kind: str, status: int
) -> None:
    answer = server.http.post(server.url + path, data=data, headers={"Content-Type": kind}, timeout=10)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "found", "expected", "todo"}
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("body", [{}, {"tasks": None}, {"tasks": 7}, {"tasks": "1,2"}])
def test_predict_without_tasks_is_refused(server: Running, body: object) -> None:
    answer = server.post("/predict", body)
    assert answer.status_code == 400
    assert answer.json()["found"].startswith("tasks is ")


def test_no_tasks_no_results(server: Running) -> None:
    assert server.results([]) == []


def test_scores_are_finite_and_in_range_even_from_a_careless_model(start: Start) -> None:
    import numpy as np

    from ml_backend.models import Detections

    class Careless(SquareFinder):
        def _one(self, image: Any) -> Detections:
            xyxy = np.array([[0, 0, 9, 9], [1, 1, 8, 8], [0, 0, np.inf, 9], [5, 5, 5, 9], [0, 0, 9, 9]], float)
            return Detections(xyxy, np.array([0, 1, 0, 0, 9]), np.array([1.7, math.nan, 0.9, 0.9, 0.9]))

    (item,) = start(Careless()).results([task(1, BOTH)])
    assert [region["score"] for region in item["result"]] == [1.0]
    assert item["score"] == 1.0


def test_unknown_paths_and_methods_answer_json(server: Running) -> None:
    missing = server.get("/nothing/here")
    assert missing.status_code == 404
    assert missing.json()["found"] == "there is no /nothing/here"
    wrong = server.get("/predict")
    assert wrong.status_code == 405
    assert wrong.json()["error"] == "DataError"
