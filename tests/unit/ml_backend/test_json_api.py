"""The server's own API, through a running server."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco
from serving_kit import CURSED, Flood, Running, Start, data_uri, flood, picture

from ml_backend.server_settings import ServerSettings

TWO = picture((0, (10, 20, 60, 50)), (1, (100, 30, 180, 90)))


@pytest.fixture
def both(start: Start) -> Running:
    running = start(more=[flood()])
    running.wait_until_ready()
    return running


def predict(server: Running, **body: Any) -> Any:
    return server.post("/v1/models/squares/predict", body)


def test_models_are_listed_with_what_they_are_for(both: Running) -> None:
    squares, interactive = both.get("/v1/models").json()["models"]
    assert (squares["id"], squares["role"], squares["classes"]) == ("squares", "rectangle", ["cat", "dog"])
    assert (interactive["id"], interactive["role"], interactive["state"]) == ("flood", "interactor", "ready")


def test_objects_in_pixels(both: Running) -> None:
    answer = predict(both, images=[data_uri(TWO), base64.b64encode(TWO).decode()]).json()
    assert answer["model"] == "square-finder-1"
    for result in answer["results"]:
        assert (result["width"], result["height"]) == (200, 100)
        found = {o["label"]: o["xyxy"] for o in result["objects"]}
        assert found == {"cat": [10, 20, 60, 50], "dog": [100, 30, 180, 90]}


def test_a_bad_image_does_not_cost_the_good_ones(both: Running) -> None:
    results = predict(both, images=[data_uri(b"nothing"), data_uri(TWO), data_uri(CURSED)]).json()["results"]
    assert [set(r) for r in results] == [{"error"}, {"width", "height", "objects"}, {"error"}]
    assert results[0]["error"]["error"] == "ImageError"


def test_threshold(start: Start) -> None:
    server = start(threshold=0.0)
    half = picture((0, (10, 20, 60, 50)), (0, (60, 50, 70, 60)))
    assert len(predict(server, images=[data_uri(half)]).json()["results"][0]["objects"]) == 1
    assert predict(server, images=[data_uri(half)], threshold=0.99).json()["results"][0]["objects"] == []


def test_prompts_are_answered_with_coco_masks(both: Running) -> None:
    body = {
        "image": data_uri(TWO),
        "prompts": [{"positive": [[20, 30]]}, {"box": [95, 25, 185, 95]}, {"positive": [[5, 5]]}],
    }
    answer = both.post("/v1/models/flood/prompt", body).json()
    cat, dog, nothing = answer["results"]
    assert nothing is None
    assert cat["xyxy"] == [10, 20, 60, 50]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy, about how pycocotools makes its array
        decoded = coco.decode(dog["mask"])
    wanted = np.zeros((100, 200), np.uint8)
    wanted[30:90, 100:180] = 1
    assert (decoded == wanted).all()


def test_the_second_prompt_does_not_look_at_the_image_again(start: Start) -> None:
    model = Flood()
    server = start(more=[flood(model=model)])
    server.wait_until_ready()
    model.looked = 0
    for x in (20, 30, 40):
        body = {"image": data_uri(TWO), "prompts": [{"positive": [[x, 30]]}]}
        assert server.post("/v1/models/flood/prompt", body).status_code == 200
    assert model.looked == 1
    assert server.counted('labelbridge_embeddings_total{outcome="cached"}') == 2


def test_embeddings_stay_within_their_budget(start: Start) -> None:
    model = Flood()
    one = 100 * 200 * 8
    server = start(more=[flood(model=model)], settings=ServerSettings(embedding_cache_bytes=10 * one))
    server.wait_until_ready()
    for k in range(50):
        image = picture((0, (10 + k, 20, 60 + k, 50)))
        body = {"image": data_uri(image), "prompts": [{"positive": [[59, 30]]}]}
        (found,) = server.post("/v1/models/flood/prompt", body).json()["results"]
        assert found["xyxy"][0] == 10 + k
    assert server.counted("labelbridge_embedding_bytes") == 10 * one


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("squares/predict", {}, 400, "images is NoneType"),
        ("squares/predict", {"images": []}, 400, "images is a list of 0"),
        ("squares/predict", {"images": [7]}, 400, "an image is 7"),
        ("squares/predict", {"images": ["x"], "threshold": 2}, 400, "threshold is 2"),
        ("nobody/predict", {"images": ["x"]}, 404, "there is no model 'nobody'"),
        ("flood/predict", {"images": ["x"]}, 404, "finds nothing on its own"),
        ("squares/prompt", {"image": "x", "prompts": [{"positive": [[1, 1]]}]}, 404, "takes no prompts"),
        ("flood/prompt", {"image": "x", "prompts": []}, 400, "prompts is a list of 0"),
        ("flood/prompt", {"image": "x", "prompts": [{}]}, 400, "neither a positive point nor a box"),
        ("flood/prompt", {"image": "x", "prompts": [{"positive": [[1]]}]}, 400, "positive is"),
        ("flood/prompt", {"image": "x", "prompts": [{"box": [5, 5, 1, 9]}]}, 400, "box is"),
        ("flood/prompt", {"image": "x", "prompts": [{"box": [0, 0, 1, 10**400]}]}, 400, "box is"),
        ("flood/prompt", {"image": "../etc/passwd", "prompts": [{"positive": [[1, 1]]}]}, 400, "cannot be read"),
        ("flood/prompt", {"image": "data:,x", "prompts": [{"positive": [[1, 1]]}]}, 400, "not an image"),
    ],
)
def test_wrong_requests_are_told_what_to_do(both: Running, path: str, body: Any, status: int, words: str) -> None:
    answer = both.post(f"/v1/models/{path}", body)
    assert answer.status_code == status
    assert words in answer.json()["found"]
    assert set(answer.json()) == {"error", "found", "expected", "todo"}


def test_a_model_that_fails_is_told(both: Running) -> None:
    body = {"image": data_uri(CURSED), "prompts": [{"positive": [[1, 1]]}]}
    answer = both.post("/v1/models/flood/prompt", body)
    assert answer.status_code == 503
    assert "this picture is cursed" in answer.json()["found"]


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Bearer ", "Basic Ym9iOnM=", "bearer\ts3cret", "s3cret"])
def test_the_token_opens_the_server_and_nothing_else_does(start: Start, header: str) -> None:
    server = start(settings=ServerSettings(token="s3cret"))
    assert server.get("/healthz").status_code == 200
    assert server.get("/v1/models", headers={"Authorization": header}).status_code == 401
    assert server.get("/v1/models", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    assert "s3cret" not in server.log.getvalue()
