from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fakes.canned_server import CannedServer

from bridge.core.annotations import Item
from bridge.errors import AuthError, ConfigError, ImageError, NotFound, ToolError, ToolUnreachable
from bridge.tools.label_studio import LabelStudio
from bridge.tools.label_studio_client import LabelStudioClient, task_filter

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(**claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{body}.signature"


PAT = jwt(token_type="refresh", exp=9_999_999_999, iat=1)


def answer(data: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"content-type": "application/json"}, json.dumps(data).encode()


@pytest.fixture
def server() -> Iterator[CannedServer]:
    running = CannedServer()
    running.on("/api/projects/7/", answer({"id": 7, "title": "cells"}))
    yield running
    running.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def client_of(server: CannedServer, token: str, clock: Clock | None = None) -> LabelStudioClient:
    return LabelStudioClient(server.url, token, clock=clock or Clock(), sleep=lambda _: None)


def auth(server: CannedServer) -> list[str | None]:
    return [headers.get("authorization") for _, _, headers, _ in server.seen]


def test_a_legacy_token_is_sent_as_it_is(server: CannedServer) -> None:
    client = client_of(server, LEGACY + "\n")
    assert client.project(7)["title"] == "cells"
    assert auth(server) == [f"Token {LEGACY}"]
    assert client.token_kind == "legacy token"


def test_a_personal_token_is_exchanged_and_renewed_before_it_ends(server: CannedServer) -> None:
    first, second = jwt(exp=1300, iat=1000, n=1), jwt(exp=1300, iat=1000, n=2)
    server.on("/api/token/refresh", answer({"access": first}), answer({"access": second}))
    clock = Clock()
    client = client_of(server, PAT, clock)
    client.project(7)
    clock.now += 239
    client.project(7)
    clock.now += 2
    client.project(7)
    exchanges = [(path, body) for _, path, _, body in server.seen if "token" in path]
    assert exchanges == [("/api/token/refresh", json.dumps({"refresh": PAT}).encode())] * 2
    assert auth(server) == [None, f"Bearer {first}", f"Bearer {first}", None, f"Bearer {second}"]
    assert client.requests_made == 5


def test_a_token_that_ended_early_is_renewed_once(server: CannedServer) -> None:
    server.on("/api/token/refresh", answer({"access": jwt(exp=1300, iat=1000)}))
    server.on("/api/projects/7/", answer({"detail": "expired"}, 401), answer({"title": "cells"}))
    client = client_of(server, PAT)
    assert client.project(7)["title"] == "cells"
    assert client.requests_made == 4


def test_a_token_that_is_refused_for_good(server: CannedServer) -> None:
    server.on("/api/token/refresh", answer({"access": jwt(exp=1300, iat=1000)}))
    server.on("/api/projects/7/", answer({"detail": "no"}, 401))
    client = client_of(server, PAT)
    with pytest.raises(AuthError, match="answered 401"):
        client.project(7)
    assert client.requests_made == 4


def test_a_revoked_personal_token_says_where_to_make_a_new_one(server: CannedServer) -> None:
    server.on("/api/token/refresh", answer({"detail": "Token is blacklisted"}, 401))
    with pytest.raises(AuthError, match="/user/account/personal-access-token") as caught:
        client_of(server, PAT).project(7)
    assert PAT not in str(caught.value)


def test_a_token_that_an_error_page_repeats_is_not_shown(server: CannedServer) -> None:
    token = jwt(token_type="refresh")
    server.on("/api/token/refresh", answer({"detail": f"no such token: {token}"}, 500))
    with pytest.raises(ToolError, match="no such token") as caught:
        client_of(server, token).whoami()
    assert token not in str(caught.value)


def test_a_refused_legacy_token_is_asked_once(server: CannedServer) -> None:
    message = "legacy token authentication has been disabled for this organization"
    server.on("/api/projects/7/", answer({"detail": message}, 401))
    client = client_of(server, LEGACY)
    with pytest.raises(AuthError, match=message):
        client.project(7)
    assert client.requests_made == 1


@pytest.mark.parametrize(("token", "words"), [("", "is empty"), (jwt(token_type="access"), "five minutes")])
def test_unusable_tokens_are_refused_at_once(server: CannedServer, token: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        client_of(server, token)


@pytest.mark.parametrize("reference", ["/api/users/", "/data/../api/users/", "{url}/api/users/"])
def test_a_task_does_not_make_us_ask_the_api(server: CannedServer, reference: str) -> None:
    tool = LabelStudio(client_of(server, "a" * 40), 1)
    with pytest.raises(ImageError, match="is an address of the API"):
        tool.read_image(Item("1", "a.jpg", reference.format(url=server.url)))
    assert server.seen == []


def test_projects_are_read_page_by_page(server: CannedServer) -> None:
    pages = [{"results": [{"id": 1}], "next": "http://x/?page=2"}, {"results": [{"id": 2}], "next": None}]
    server.on("/api/projects/", *map(answer, pages))
    assert [p["id"] for p in client_of(server, LEGACY).projects()] == [1, 2]
    asked = [parse_qs(urlsplit(path).query)["page"] for _, path, _, _ in server.seen]
    assert asked == [["1"], ["2"]]


def test_tasks_are_asked_for_by_filter(server: CannedServer) -> None:
    server.on("/api/tasks/", answer({"tasks": [{"id": 8}], "total": 5}))
    page = client_of(server, LEGACY).tasks(7, task_filter("id", "greater", "Number", 7), limit=1, everything=True)
    assert (page.tasks, page.total) == ([{"id": 8}], 5)
    query = parse_qs(urlsplit(server.seen[0][1]).query)
    assert query["project"] == ["7"]
    assert query["fields"] == ["all"]
    assert json.loads(query["query"][0]) == {
        "filters": {
            "conjunction": "and",
            "items": [{"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": 7}],
        },
        "ordering": ["tasks:id"],
    }


@pytest.mark.parametrize("said", [{"task_ids": [1]}, {"task_count": 2}, {"import": 9}])
def test_an_import_that_made_too_few_tasks_is_an_error(server: CannedServer, said: Any) -> None:
    server.on("/api/projects/7/import", answer(said, 201))
    with pytest.raises(ToolError, match="of 2 tasks"):
        client_of(server, LEGACY).import_tasks(7, [{}, {}])


def test_predictions_that_were_silently_dropped_are_an_error(server: CannedServer) -> None:
    server.on("/api/projects/7/import/predictions", answer({"created": 0}, 201))
    server.on("/api/projects/7/import", answer({"task_ids": [1, 2], "prediction_count": 0}, 201))
    with pytest.raises(ToolError, match="stored 0 of 1"):
        client_of(server, LEGACY).import_predictions(7, [{}])
    with pytest.raises(ToolError, match="stored 0 of 2"):
        client_of(server, LEGACY).import_tasks(7, [{"predictions": [{}]}] * 2)


def test_a_change_of_an_annotation_is_never_sent_twice(server: CannedServer) -> None:
    server.on("/api/annotations/3/", answer({}, 503))
    with pytest.raises(ToolUnreachable):
        client_of(server, LEGACY).patch_annotation(3, {"result": []})
    assert len(server.seen) == 1


def test_an_unknown_project(server: CannedServer) -> None:
    server.on("/api/projects/8/", answer({"detail": "No Project matches the given query."}, 404))
    with pytest.raises(NotFound, match="No Project matches"):
        client_of(server, LEGACY).project(8)


def test_answers_of_another_shape_are_a_tool_error(server: CannedServer) -> None:
    server.on("/api/projects/7/", answer([]))
    server.on("/api/tasks/", answer({"tasks": {"id": 1}}))
    with pytest.raises(ToolError, match="list where an object"):
        client_of(server, LEGACY).project(7)
    with pytest.raises(ToolError, match="where a list"):
        client_of(server, LEGACY).tasks(7, limit=1)
