"""The server under load, while its model loads, and while it stops."""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests
from serving_kit import CONFIG, CURSED, Running, SquareFinder, Start, data_uri, picture, task

from bridge.errors import ModelError
from ml_backend.models import Detections
from ml_backend.server_settings import ServerSettings


def in_background(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.025)
    raise AssertionError("it did not happen within 10 s")


def test_health_and_setup_answer_while_the_model_loads(start: Start) -> None:
    loaded = threading.Event()

    def load() -> SquareFinder:
        loaded.wait(30)
        return SquareFinder()

    server = start(load)
    began = time.perf_counter()
    assert server.get("/health").status_code == 200
    assert server.post("/setup", {"project": "1.1"}).json() == {"model_version": SquareFinder.name}
    assert server.get("/healthz").status_code == 200
    assert time.perf_counter() - began < 1
    assert server.get("/readyz").status_code == 503
    assert server.get("/readyz").json() == {"state": "loading"}
    # A prediction asked for meanwhile waits for the model instead of failing.
    answers: list[Any] = []
    early = in_background(
        lambda: answers.extend(
            requests.post(
                server.url + "/predict",
                json={"tasks": [task(1, data_uri(picture((0, (1, 1, 9, 9)))))], "label_config": CONFIG},
                timeout=30,
            ).json()["results"]
        )
    )
    time.sleep(0.2)
    assert answers == []
    loaded.set()
    early.join(30)
    assert [len(item["result"]) for item in answers] == [1]
    assert server.get("/readyz").status_code == 200


def test_a_model_that_is_not_there_in_time_is_told_with_when_to_come_back(start: Start) -> None:
    gate = threading.Event()

    def load() -> SquareFinder:
        gate.wait(30)
        return SquareFinder()

    server = start(load, ServerSettings(predict_timeout_s=0.3))
    answer = server.predict([task(1, data_uri(picture()))])
    gate.set()
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["found"] == "the model is still being loaded"


def test_a_model_that_cannot_be_loaded_is_told_and_health_stays_up(start: Start) -> None:
    def load() -> SquareFinder:
        raise ModelError("the weights are damaged", todo="Fetch them again")

    server = start(load)
    wait_for(lambda: server.get("/readyz").json() == {"state": "failed"})
    answer = server.predict([task(1, data_uri(picture()))])
    assert answer.status_code == 503
    assert answer.json()["found"] == "the weights are damaged"
    assert server.get("/health").status_code == 200


def test_a_model_under_another_name_is_refused(start: Start) -> None:
    server = start(SquareFinder(), name="another-2")
    wait_for(lambda: server.get("/readyz").json() == {"state": "failed"})
    assert server.predict([task(1, data_uri(picture()))]).json()["error"] == "PluginError"


def test_32_threads_with_good_and_bad_images_get_what_they_asked_for(server: Running) -> None:
    def one(number: int) -> str:
        x = 5 + number % 90
        good = data_uri(picture((number % 2, (x, 10, x + 60, 50))))
        bad: Any = (data_uri(b"garbage"), "/data/upload/1/missing.png", data_uri(CURSED), None)[number % 4]
        body = {"tasks": [task(1, bad), task(2, good), task(3, bad)], "label_config": CONFIG}
        answer = requests.post(server.url + "/predict", json=body, timeout=60)
        first, middle, last = answer.json()["results"]
        if first["result"] or last["result"]:
            return f"{number}: a bad image was answered"
        (region,) = middle["result"]
        value = region["value"]
        wanted = (x / 2, 30.0, ["cat", "dog"][number % 2])
        found = (value["x"], value["width"], value["rectanglelabels"][0])
        return (
            "" if np.allclose(found[:2], wanted[:2]) and found[2] == wanted[2] else f"{number}: {found}, not {wanted}"
        )

    with ThreadPoolExecutor(32) as pool:
        problems = [p for p in pool.map(one, range(192)) if p]
    assert problems == []


def test_images_of_many_requests_share_batches_of_bounded_size(start: Start) -> None:
    gate = threading.Event()
    gate.set()
    model = SquareFinder(gate)
    server = start(model, ServerSettings(max_batch=4))
    server.wait_until_ready()
    gate.clear()
    model.batches.clear()
    asked = [
        in_background(lambda i=i: server_predict(server, data_uri(picture((0, (i, 5, i + 20, 30))))))  # type: ignore[misc]
        for i in range(9)
    ]
    # Eight images are under way at a time; the batch that is held back has at most four of them.
    wait_for(lambda: server.counted("labelbridge_waiting_images") >= 4)
    gate.set()
    for thread in asked:
        thread.join(20)
    assert sum(model.batches) == 9
    assert max(model.batches) == 4


def server_predict(server: Running, image: str) -> requests.Response:
    return requests.post(server.url + "/predict", json={"tasks": [task(1, image)], "label_config": CONFIG}, timeout=60)


def test_the_same_image_asked_for_at_the_same_time_is_predicted_once(start: Start) -> None:
    gate = threading.Event()
    gate.set()
    model = SquareFinder(gate)
    server = start(model)
    server.wait_until_ready()
    gate.clear()
    model.batches.clear()
    image = data_uri(picture((0, (1, 5, 20, 30))))
    answers: list[requests.Response] = []
    asked = [in_background(lambda: answers.append(server_predict(server, image))) for _ in range(8)]
    wait_for(lambda: server.counted("labelbridge_active_requests") == 8)
    gate.set()
    for thread in asked:
        thread.join(20)
    assert sum(model.batches) == 1
    assert all(len(a.json()["results"][0]["result"]) == 1 for a in answers)
    assert len(answers) == 8


def test_too_many_requests_are_told_to_come_back(start: Start) -> None:
    gate = threading.Event()
    gate.set()
    server = start(SquareFinder(gate), ServerSettings(max_requests=3))
    server.wait_until_ready()
    gate.clear()
    asked = [
        in_background(lambda i=i: server_predict(server, data_uri(picture((0, (i, 5, i + 20, 30))))))  # type: ignore[misc]
        for i in range(3)
    ]
    wait_for(lambda: server.counted("labelbridge_active_requests") == 3)
    refused = server_predict(server, data_uri(picture()))
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.json()["error"] == "Overloaded"
    assert server.get("/health").status_code == 200
    gate.set()
    for thread in asked:
        thread.join(20)
    assert server_predict(server, data_uri(picture())).status_code == 200
    assert server.counted("labelbridge_refused_requests_total") == 1


def test_a_click_is_answered_while_a_thousand_tasks_are_predicted(start: Start) -> None:
    class Slow(SquareFinder):
        def predict(self, images: Any) -> list[Detections]:
            time.sleep(0.01 * len(images))
            return super().predict(images)

    server = start(Slow(), ServerSettings(max_batch=4))
    server.wait_until_ready()
    many = [task(i, data_uri(picture((0, (i % 100, i // 100, i % 100 + 30, i // 100 + 30))))) for i in range(400)]
    finished: list[float] = []

    def everything() -> None:
        body = {"tasks": many, "label_config": CONFIG}
        results = requests.post(server.url + "/predict", json=body, timeout=60).json()["results"]
        assert [round(r["result"][0]["value"]["x"] * 2) for r in results] == [i % 100 for i in range(400)]
        finished.append(time.perf_counter())

    whole = in_background(everything)
    wait_for(lambda: server.counted('labelbridge_images_total{outcome="predicted"}') > 10)
    began = time.perf_counter()
    click = server_predict(server, data_uri(picture((1, (5, 5, 99, 99)))))
    answered = time.perf_counter()
    whole.join(60)
    assert click.json()["results"][0]["result"]
    assert len(finished) == 1
    # Alone it waits for about the images of one window; behind all 400 it would be four seconds.
    assert answered < finished[0]
    assert answered - began < 2.0


def test_webhook_and_health_answer_at_once_while_inference_is_busy(start: Start) -> None:
    gate = threading.Event()
    gate.set()
    server = start(SquareFinder(gate))
    server.wait_until_ready()
    gate.clear()
    busy = in_background(lambda: server_predict(server, data_uri(picture((0, (1, 1, 9, 9))))))
    wait_for(lambda: server.counted("labelbridge_active_requests") == 1)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        assert server.post("/webhook", {"action": "ANNOTATION_CREATED", "annotation": {"id": 1}}).status_code == 201
        assert server.get("/health").status_code == 200
        times.append(time.perf_counter() - began)
    gate.set()
    busy.join(20)
    assert sorted(times)[10] < 0.1
    assert max(times) < 0.5


def test_tasks_for_which_there_is_no_time_are_left_for_another_call(start: Start) -> None:
    class Slow(SquareFinder):
        def predict(self, images: Any) -> list[Detections]:
            time.sleep(0.25 * len(images))
            return super().predict(images)

    server = start(Slow(), ServerSettings(max_batch=1, predict_timeout_s=1.0))
    server.wait_until_ready()
    tasks = [task(i, data_uri(picture((0, (i, 5, i + 30, 30))))) for i in range(30)]
    began = time.perf_counter()
    results = server.results(tasks)
    assert time.perf_counter() - began < 3
    done = [i for i, r in enumerate(results) if r != []]
    assert len(results) == 30
    assert 1 <= len(done) < 30
    assert all(results[i]["result"] for i in done)
    assert server.counted('labelbridge_images_total{outcome="late"}') == 30 - len(done)


def test_work_stops_when_the_asker_hangs_up(start: Start) -> None:
    class Slow(SquareFinder):
        def predict(self, images: Any) -> list[Detections]:
            time.sleep(0.05 * len(images))
            return super().predict(images)

    model = Slow()
    server = start(model, ServerSettings(max_batch=2))
    server.wait_until_ready()
    tasks = [task(i, data_uri(picture((0, (i % 100, i // 100, i % 100 + 30, 60))))) for i in range(300)]
    with pytest.raises(requests.ReadTimeout):
        requests.post(server.url + "/predict", json={"tasks": tasks, "label_config": CONFIG}, timeout=0.5)
    wait_for(lambda: server.counted("labelbridge_active_requests") == 0)
    assert sum(model.batches) < 150


@pytest.mark.parametrize(
    "path", ["/health", "/", "/setup", "/predict", "/webhook", "/metrics", "/versions", "/openapi.json"]
)
def test_password_guards_everything_but_the_probes(start: Start, path: str) -> None:
    server = start(settings=ServerSettings(user="bob", password="sésame:1"))
    call = server.post if path in ("/setup", "/predict", "/webhook") else server.get
    for options in ({}, {"auth": ("bob", "wrong")}, {"auth": ("", "")}, {"headers": {"Authorization": "Basic !!"}}):
        refused = call(path, **options)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic")
    right = {"headers": {"Authorization": "Basic Ym9iOnPDqXNhbWU6MQ=="}}
    assert call(path, **right).status_code in (200, 201, 400)
    assert server.get("/healthz").status_code == 200
    assert server.get("/readyz").status_code in (200, 503)


def test_bodies_that_are_too_large_are_refused_and_a_webhook_survives(start: Start) -> None:
    server = start(settings=ServerSettings(max_body_bytes=10_000))
    large = {"tasks": [], "label_config": "x" * 20_000}
    answer = server.post("/predict", large)
    assert answer.status_code == 413
    assert answer.json()["todo"]
    chunked = server.http.post(
        server.url + "/predict",
        data=(b"x" * 1000 for _ in range(50)),
        headers={"Content-Type": "application/json"},
        timeout=10,
    )
    assert chunked.status_code == 413
    assert server.post("/webhook", large).status_code == 201


def test_log_lines_carry_request_ids_and_no_secrets(start: Start) -> None:
    server = start(settings=ServerSettings(user="bob", password="hunter2-secret"))
    server.http.auth = ("bob", "hunter2-secret")
    setup = {"project": "1.1", "schema": CONFIG, "access_token": "the-creators-token", "extra_params": None}
    answer = server.post("/setup", setup, headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    odd = server.get("/health", headers={"X-Request-ID": "two words"})
    assert odd.headers["x-request-id"] != "two words"
    server.results([task(5, "http://images.example.org/a.jpg?signature=secret-signature")])
    server.results([task(6, "/data/hunter2-secret.png")])
    (line,) = [e for e in server.events("request") if e["path"] == "/setup"]
    assert line["request_id"] == "mine-1"
    assert line["status"] == 200
    assert len(server.events("task_failed")) == 2
    for secret in ("the-creators-token", "hunter2-secret", "secret-signature"):
        assert secret not in server.log.getvalue()


def test_no_request_writes_a_log_line_of_its_own(server: Running) -> None:
    forged = '"}\n{"event": "forged", "level": "info"}\r\n\x1b[2J'
    server.get("/" + urllib.parse.quote(forged))
    server.results([task(1, "ftp://" + forged)])
    server.post("/setup", {"project": forged, "schema": forged})
    assert server.events("request")
    assert server.events("forged") == []
    assert "\x1b" not in server.log.getvalue()


def test_unexpected_errors_answer_json_without_a_traceback(start: Start) -> None:
    class Broken(SquareFinder):
        def _one(self, image: np.ndarray) -> Detections:
            return None  # type: ignore[return-value]

    server = start(Broken())
    answer = server.predict([task(1, data_uri(picture((0, (1, 1, 9, 9)))))])
    assert answer.status_code == 500
    assert set(answer.json()) == {"error", "found", "expected", "todo"}
    assert "Traceback" not in answer.text
    assert "Traceback" in server.events("unexpected_error")[0]["exception"]


def test_images_beyond_the_limits_are_reported_and_the_rest_goes_on(start: Start) -> None:
    server = start(settings=ServerSettings(max_image_pixels=30_000, max_image_bytes=5_000))
    heavy = picture(size=(100, 100), kind="BMP")
    results = server.results(
        [
            task(1, data_uri(picture(size=(301, 100)))),
            task(2, data_uri(heavy)),
            task(3, data_uri(picture((0, (1, 1, 9, 9))))),
        ]
    )
    assert [len(r["result"]) for r in results] == [0, 0, 1]
    found = [e["found"] for e in server.events("task_failed")]
    assert any("301" in text for text in found)
    assert any("30,054 bytes" in text for text in found)


def test_requests_that_are_being_answered_end_well_when_the_server_stops(start: Start) -> None:
    gate = threading.Event()
    gate.set()
    server = start(SquareFinder(gate))
    server.wait_until_ready()
    gate.clear()
    answers: list[requests.Response] = []
    asked = in_background(lambda: answers.append(server_predict(server, data_uri(picture((0, (1, 1, 9, 9)))))))
    wait_for(lambda: server.counted("labelbridge_active_requests") == 1)
    server.stop_soon()
    time.sleep(0.3)
    gate.set()
    asked.join(20)
    assert [len(a.json()["results"][0]["result"]) for a in answers] == [1]
