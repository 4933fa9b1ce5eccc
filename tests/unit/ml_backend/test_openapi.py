"""Generated requests against the described API: whatever is sent, the server itself does not fail."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from serving_kit import Running

ROUTES = {
    "GET /",
    "GET /health",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /versions",
    "POST /predict",
    "POST /setup",
    "POST /webhook",
}


def test_every_route_is_described(server: Running) -> None:
    described = server.get("/openapi.json").json()
    found = {f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item}
    assert found == ROUTES


@pytest.mark.slow
@pytest.mark.parametrize("route", sorted(route for route in ROUTES if route.startswith("POST")))
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_generated_request_is_a_server_error(server: Running, route: str, mode: GenerationMode) -> None:
    method, path = route.split()
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path][method]
    statuses: set[int] = set()

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        response = case.call(base_url=server.url, session=server.http, timeout=20)
        statuses.add(response.status_code)
        case.validate_response(response, checks=[not_a_server_error])
        assert response.headers["content-type"] == ["application/json"]
        if response.status_code >= 400:
            assert set(response.json()) == {"error", "found", "expected", "todo"}

    send()
    assert server.events("unexpected_error") == []
    assert statuses <= {200, 201, 400, 415}
    if path == "/webhook":
        assert statuses == {201}
    elif mode is GenerationMode.POSITIVE:
        assert statuses == {200}
