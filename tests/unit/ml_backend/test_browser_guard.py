"""Web pages of others, in the browser of somebody who reaches the server."""

from __future__ import annotations

import socket

import pytest
from serving_kit import Running, Start

from ml_backend import http_shell
from ml_backend.browser_guard import BrowserGuard
from ml_backend.server_settings import ServerSettings


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/v1/models/squares/predict"])
@pytest.mark.parametrize("origin", ["http://evil.example.org", "null", "http://127.0.0.1:1", "file://"])
def test_pages_of_others_change_nothing(server: Running, path: str, origin: str) -> None:
    # What a page can send without being asked for leave: text, a form, or a blob without a type.
    for kind in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}):
        answer = server.http.post(server.url + path, data=b"{}", headers={"Origin": origin, **kind}, timeout=10)
        assert answer.status_code == 403, answer.text
        assert "access-control-allow-origin" not in answer.headers
    assert server.counted('labelbridge_webhooks_total{action="unknown"}') == 0


def test_a_password_that_the_browser_remembers_is_no_leave(start: Start) -> None:
    server = start(settings=ServerSettings(user="bob", password="correct horse"))
    answer = server.post("/setup", {}, auth=("bob", "correct horse"), headers={"Origin": "http://evil.example.org"})
    assert answer.status_code == 403


def test_programs_and_own_pages_are_answered(server: Running) -> None:
    assert server.post("/setup", {}).status_code == 200
    assert server.post("/setup", {}, headers={"Origin": server.url}).status_code == 200
    looked = server.get("/v1/models", headers={"Origin": "http://evil.example.org"})
    assert looked.status_code == 200
    assert "access-control-allow-origin" not in looked.headers, "the browser does not show it to the page"
    assert looked.headers["x-content-type-options"] == "nosniff"


def test_no_page_is_given_leave_beforehand(server: Running) -> None:
    asked = {"Origin": "http://evil.example.org", "Access-Control-Request-Method": "POST"}
    answer = server.http.options(server.url + "/setup", headers=asked, timeout=10)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.org",
        "evil.example.org:9090",
        "127.0.0.1.evil.org",
        "localhost.evil.org",
        "x.internal.org.",
        "1.2.3",
    ],
)
def test_a_name_that_somebody_turned_round_is_refused(host: str) -> None:
    guard = BrowserGuard(("models.example.org",))
    for method in ("GET", "POST"):
        assert guard.refusal(method, [host], None) is not None
        assert guard.refusal(method, ["localhost", host], None) is not None
    assert BrowserGuard(None).refusal("GET", [host], None) is None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9090",
        "10.0.0.7",
        "[::1]:9090",
        "localhost:9090",
        "LOCALHOST.",
        "labelbridge",
        "labelbridge.internal:9090",
        "host.docker.internal",
        "models.example.org:443",
        "Models.Example.org",
    ],
)
def test_addresses_private_names_and_those_that_are_set_are_ours(host: str) -> None:
    assert BrowserGuard(("models.example.org",)).refusal("POST", [host], f"http://{host}") is None


def test_a_caller_without_a_host_is_no_browser() -> None:
    assert BrowserGuard(()).refusal("GET", [], None) is None


def test_a_body_that_trickles_ends(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_shell, "BODY_S", 0.3)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /setup HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()
