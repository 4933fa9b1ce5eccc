"""A real Nuclio behind ours: its functions are listed and called too, and it can break nothing."""

from __future__ import annotations

import base64
import copy
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest
import requests
from fakes.cvat_caller import VERSIONS, CallFailed, CvatCaller, TaskLabel
from fakes.nuclio_dashboard import VEHICLES, NuclioDashboard
from nuclio_kit import counted, cvat_server, entry, eventually
from serving_kit import Running, picture

from ml_backend.nuclio_upstream import NuclioUpstream

PHOTO = picture((0, (20, 10, 60, 50)))
CAR = b'[{"confidence": "0.5", "label": "car", "points": [1, 2, 3, 4], "type": "rectangle"}]'
ERROR = {"error", "found", "expected", "todo"}


@pytest.fixture
def nuclio() -> Iterator[NuclioDashboard]:
    dashboard = NuclioDashboard()
    yield dashboard
    dashboard.close()


def before(url: str, **options: Any) -> AbstractContextManager[Running]:
    """Our server, with a Nuclio behind it."""
    return cvat_server([entry("squares")], upstream=lambda log: NuclioUpstream(url, log, **options))


def listed(server: Running) -> list[str]:
    return list(server.get("/api/functions", headers=CvatCaller(server.url).headers).json())


def invoke(server: Running, name: str = "vehicles", payload: Any = None, **headers: str) -> requests.Response:
    payload = {"image": "aGk="} if payload is None else payload
    return server.post("/api/function_invocations", payload, headers={"x-nuclio-function-name": name, **headers})


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("version", VERSIONS)
def test_cvat_sees_and_calls_the_functions_of_both(nuclio: NuclioDashboard, version: str) -> None:
    nuclio.answer = (200, "application/json", CAR)
    with before(nuclio.url) as server:
        caller = CvatCaller(server.url, version)
        assert [f.id for f in caller.list()] == ["squares", "vehicles"]
        assert caller.get("vehicles").port == 32768
        (cat,) = caller.detect("squares", PHOTO, {"cat": TaskLabel()})
        assert cat["points"] == [20, 10, 60, 50]
        (car,) = caller.detect("vehicles", PHOTO, {"car": TaskLabel()})
        assert car["points"] == [1, 2, 3, 4]


def test_what_is_handed_on_arrives_whole(nuclio: NuclioDashboard) -> None:
    payload = {"image": base64.b64encode(PHOTO).decode(), "threshold": 0.25, "pos_points": [[1.5, 2]], "ü": None}
    with before(nuclio.url) as server:
        invoke(server, payload=payload, **{"x-nuclio-path": "/", "X-Nuclio-Invoke-Timeout": "77s", "Cookie": "a=b"})
    method, path, headers, body = nuclio.asked[-1]
    assert (method, path) == ("POST", "/api/function_invocations")
    assert json.loads(body) == payload
    assert headers["x-nuclio-function-name"] == "vehicles"
    assert headers["x-nuclio-path"] == "/"
    assert headers["x-nuclio-invoke-timeout"] == "77s"
    assert headers["content-type"] == "application/json"
    assert "cookie" not in headers


@pytest.mark.parametrize(
    "answer",
    [
        (200, "application/json", b'[ {"label":"car"} ]\n'),
        (500, "text/plain", b"Traceback (most recent call last)"),
        (408, "application/json", b'{"error": "Timed out"}'),
        (200, "application/octet-stream", b"\x00\xff"),
        (429, "text/html; charset=utf-8", b""),
    ],
)
def test_its_answers_are_passed_as_they_are(nuclio: NuclioDashboard, answer: tuple[int, str, bytes]) -> None:
    nuclio.answer = answer
    with before(nuclio.url) as server:
        found = invoke(server)
        assert (found.status_code, found.headers["content-type"], found.content) == answer
        status = str(answer[0])
        assert counted(server, "labelbridge_cvat_calls_total", function="upstream", status=status) == 1
    assert len([a for a in nuclio.asked if a[0] == "POST"]) == 1  # a call is not repeated: it may have side effects


def test_a_function_that_neither_has_is_not_found_as_nuclio_says_it(nuclio: NuclioDashboard) -> None:
    with before(nuclio.url) as server:
        assert server.get("/api/functions/nothing").status_code == 404
        assert invoke(server, "nothing").status_code == 404
        assert len(nuclio.asked) == 2
        for name in ("a b", "a/../b", "a?b=c", "a#b"):
            assert invoke(server, name).status_code == 404
        assert len(nuclio.asked) == 2  # such names are not sent anywhere


def test_ours_win(nuclio: NuclioDashboard) -> None:
    theirs = copy.deepcopy(VEHICLES)
    theirs["metadata"]["name"] = "squares"
    nuclio.functions["squares"] = theirs
    with before(nuclio.url) as server:
        assert listed(server) == ["squares", "vehicles"]
        caller = CvatCaller(server.url)
        for function in (caller.list()[0], caller.get("squares")):
            assert function.labels == {"cat": "rectangle", "dog": "rectangle"}
        assert len(invoke(server, "squares", {"image": base64.b64encode(PHOTO).decode()}).json()) == 1
    assert [a[1] for a in nuclio.asked] == ["/api/functions"]


def test_the_list_is_asked_for_as_cvat_asks(nuclio: NuclioDashboard) -> None:
    """Nuclio shows the functions of one project and namespace: those of others may not be of a form CVAT can read."""
    with before(nuclio.url) as server:
        CvatCaller(server.url, project="cvat").list()
        CvatCaller(server.url, project="other").list()
        CvatCaller(server.url, project="cvat").list()
    projects = [a[2]["x-nuclio-project-name"] for a in nuclio.asked]
    assert projects == ["cvat", "other"]
    assert {a[2]["x-nuclio-function-namespace"] for a in nuclio.asked} == {"nuclio"}


# --- a Nuclio that is broken ----------------------------------------------------------------------------------------


def break_(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    function = copy.deepcopy(VEHICLES)
    change(function)
    return function


@pytest.mark.parametrize(
    "broken",
    [
        break_(lambda f: f["metadata"].pop("annotations")),
        break_(lambda f: f["spec"].pop("description")),
        break_(lambda f: f.pop("status")),
        break_(lambda f: f["metadata"]["annotations"].update(version="v2")),
        break_(lambda f: f["metadata"]["annotations"].update(spec="[")),
        None,
        7,
    ],
)
def test_a_broken_function_of_its_takes_no_model_off_the_page(nuclio: NuclioDashboard, broken: Any) -> None:
    nuclio.functions = {"broken": broken, "vehicles": VEHICLES}
    with before(nuclio.url, fresh_s=0) as server:
        for version in VERSIONS:
            assert [f.id for f in CvatCaller(server.url, version).list()] == ["squares", "vehicles"]
        eventually(lambda: bool(listed(server)) and len(nuclio.asked) > 3)
        (line,) = server.events("nuclio_upstream")  # said once, not at every list
        assert list(line["left_out"]) == ["broken"]
        assert line["left_out"]["broken"]


def test_a_function_nested_too_deeply_is_left_out(nuclio: NuclioDashboard) -> None:
    deep = json.loads('{"a":' * 260 + "1" + "}" * 260)
    nuclio.functions = {"deep": {**VEHICLES, "x": deep}, "vehicles": VEHICLES}
    with before(nuclio.url) as server:
        assert listed(server) == ["squares", "vehicles"]


@pytest.mark.parametrize(
    "listing",
    [
        (200, b"[]"),
        (200, b"null"),
        (200, b"<html>Log in</html>"),
        (200, b""),
        (200, b"[" * 5000 + b"]" * 5000),
        (500, b"{}"),
        (404, b""),
        (401, b"{}"),
        (503, b"{}"),
    ],
)
def test_a_list_that_is_none_leaves_ours(nuclio: NuclioDashboard, listing: tuple[int, bytes]) -> None:
    nuclio.listing = listing
    with before(nuclio.url, fresh_s=0) as server:
        for _ in range(3):
            assert listed(server) == ["squares"]
        eventually(lambda: bool(listed(server)) and len(nuclio.asked) > 3)
        (line,) = server.events("nuclio_upstream")
        assert line["found"]
        assert line["todo"] or line["expected"] or listing[0] == 500
        nuclio.listing = None
        eventually(lambda: listed(server) == ["squares", "vehicles"])


def test_nothing_there_leaves_ours_and_calls_say_so(nowhere: str) -> None:
    with before(nowhere) as server:
        assert listed(server) == ["squares"]
        for answer in (server.get("/api/functions/vehicles"), invoke(server)):
            assert answer.status_code == 502
            assert set(answer.json()) == ERROR
            assert "nothing answers" in answer.json()["found"]
        assert len(server.events("cvat_call_refused")) == 2
        with pytest.raises(CallFailed):
            CvatCaller(server.url).get("vehicles")


def test_a_slow_nuclio_does_not_slow_our_list(nuclio: NuclioDashboard) -> None:
    nuclio.held.clear()
    with before(nuclio.url, fresh_s=0, first_s=0.3) as server:
        began = time.monotonic()
        assert listed(server) == ["squares"]
        assert time.monotonic() - began < 2
        began = time.monotonic()
        for _ in range(20):
            assert listed(server) == ["squares"]
        assert time.monotonic() - began < 1
        assert len(nuclio.asked) == 1  # one question is under way, and no second one
        nuclio.held.set()
        eventually(lambda: listed(server) == ["squares", "vehicles"])


def test_only_the_first_list_waits(nuclio: NuclioDashboard) -> None:
    with before(nuclio.url, fresh_s=0, first_s=20) as server:
        assert listed(server) == ["squares", "vehicles"]
        nuclio.held.clear()
        began = time.monotonic()
        assert listed(server) == ["squares", "vehicles"]
        assert time.monotonic() - began < 5


def test_a_list_has_a_time_limit(nuclio: NuclioDashboard) -> None:
    nuclio.held.clear()
    with before(nuclio.url, fresh_s=0, first_s=0.1, list_s=0.5) as server:
        listed(server)
        eventually(lambda: len(server.events("nuclio_upstream")) == 1)
        assert "within 0.5 s" in server.events("nuclio_upstream")[0]["found"]


def test_its_list_is_remembered_while_it_is_gone() -> None:
    nuclio = NuclioDashboard()
    with before(nuclio.url, fresh_s=0) as server:
        assert listed(server) == ["squares", "vehicles"]
        nuclio.close()
        listed(server)
        eventually(lambda: len(server.events("nuclio_upstream")) == 1)
        assert listed(server) == ["squares", "vehicles"]
        assert invoke(server).status_code == 502


def test_its_list_is_not_read_more_often_than_needed(nuclio: NuclioDashboard) -> None:
    with before(nuclio.url, fresh_s=60) as server:
        for _ in range(10):
            assert listed(server) == ["squares", "vehicles"]
    assert len(nuclio.asked) == 1


def test_an_answer_beyond_the_limit_is_refused(nuclio: NuclioDashboard) -> None:
    nuclio.answer = (200, "application/json", b"[" + b"1," * 2000 + b"1]")
    with before(nuclio.url, max_body_bytes=1000) as server:
        answer = invoke(server)
        assert answer.status_code == 502
        assert "larger than 1,000 bytes" in answer.json()["found"]


def test_the_caller_s_time_limit_holds(nuclio: NuclioDashboard) -> None:
    nuclio.held.clear()
    with before(nuclio.url) as server:
        began = time.monotonic()
        answer = invoke(server, **{"X-Nuclio-Invoke-Timeout": "1s"})
        assert time.monotonic() - began < 5
        assert answer.status_code == 502
        assert "within 1 s" in answer.json()["found"]


def test_only_so_many_calls_are_under_way_and_ours_are_answered_meanwhile(nuclio: NuclioDashboard) -> None:
    nuclio.held.clear()
    ours = {"image": base64.b64encode(PHOTO).decode()}

    def call(server: Running) -> int:
        headers = {"x-nuclio-function-name": "vehicles"}
        url = f"{server.url}/api/function_invocations"
        return requests.post(url, json={}, headers=headers, timeout=60).status_code

    with before(nuclio.url, first_s=0.1) as server, ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(call, server) for _ in range(20)]
        eventually(lambda: sum(c.done() for c in calls) == 4)
        refused = [c.result() for c in calls if c.done()]
        assert refused == [503] * 4
        eventually(lambda: sum(a[0] == "POST" for a in nuclio.asked) == 16)
        assert len(invoke(server, "squares", ours).json()) == 1
        assert listed(server) == ["squares"]
        nuclio.held.set()
        assert sorted(c.result() for c in calls) == [200] * 16 + [503] * 4


def test_a_server_that_has_itself_behind_it_says_so() -> None:
    """Beside CVAT, both are easily called ``nuclio``."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with cvat_server([entry("squares")], port=port, upstream=lambda log: NuclioUpstream(url, log)) as server:
        assert listed(server) == ["squares"]
        assert invoke(server, "vehicles").status_code == 404
        assert server.get("/api/functions/vehicles").status_code == 404
        assert len(server.events("nuclio_upstream_is_this_server")) == 2


def test_two_servers_that_have_each_other_behind_them_end(nuclio: NuclioDashboard) -> None:
    port = free_port()
    back = f"http://127.0.0.1:{port}"
    with (
        cvat_server([entry("b")], upstream=lambda log: NuclioUpstream(back, log)) as second,
        cvat_server([entry("a")], port=port, upstream=lambda log: NuclioUpstream(second.url, log)) as first,
    ):
        assert listed(first) == ["a", "b"]
        assert invoke(first, "b", {"image": base64.b64encode(PHOTO).decode()}).status_code == 200
        assert invoke(first, "vehicles").status_code == 404


def test_a_nuclio_behind_a_server_behind_ours_is_reached(nuclio: NuclioDashboard) -> None:
    with (
        before(nuclio.url) as second,
        cvat_server([entry("a")], upstream=lambda log: NuclioUpstream(second.url, log)) as first,
    ):
        assert listed(first) == ["a", "squares", "vehicles"]
        assert invoke(first, "vehicles").json() == [{"label": "car"}]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
