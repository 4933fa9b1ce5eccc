"""Generated requests against the described API: whatever is sent, the server itself does not fail."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from serving_kit import Running, Start, flood

LABEL_STUDIO = {"GET /", "GET /health", "GET /versions", "POST /predict", "POST /setup", "POST /webhook"}
MODELS = {
    f"{method} /models/{model}{path}" for model in ("squares", "flood") for method, path in map(str.split, LABEL_STUDIO)
}
ROUTES = (
    LABEL_STUDIO
    | MODELS
    | {
        "GET /api/functions",
        "GET /api/functions/{name}",
        "GET /healthz",
        "GET /metrics",
        "GET /readyz",
        "GET /v1/models",
        "POST /api/function_invocations",
        "POST /v1/models/{model}/predict",
        "POST /v1/models/{model}/prompt",
    }
)
FUZZED = sorted(r for r in ROUTES if r.startswith("POST") and (r not in MODELS or "flood/predict" in r))


@pytest.fixture
def both(start: Start) -> Running:
    """A detector and an interactive model."""
    running = start(more=[flood()])
    running.wait_until_ready()
    return running


def test_every_route_is_described(both: Running) -> None:
    described = both.get("/openapi.json").json()
    found = {f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item}
    assert found == ROUTES


@pytest.mark.slow
@pytest.mark.parametrize("route", FUZZED)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("model", ["squares", "flood"])
def test_no_generated_request_is_a_server_error(both: Running, route: str, mode: GenerationMode, model: str) -> None:
    method, path = route.split()
    if model == "squares" and not ("{model}" in path or "function" in path):
        pytest.skip("the path names no model")
    operation = schemathesis.openapi.from_url(f"{both.url}/openapi.json")[path][method]
    statuses: set[int] = set()

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        if "{model}" in path:
            case.path_parameters["model"] = model
        if "function" in path:
            case.headers["x-nuclio-function-name"] = model
        response = case.call(base_url=both.url, session=both.http, timeout=20)
        statuses.add(response.status_code)
        # A model that is asked for what it is not for is told so with 404 or 503; those are no failures of the server.
        assert response.status_code < 500 or response.status_code == 503
        assert response.headers["content-type"] == ["application/json"]
        if response.status_code >= 400:
            assert set(response.json()) == {"error", "found", "expected", "todo"}

    send()
    assert both.events("unexpected_error") == []
    assert statuses <= {200, 201, 400, 404, 405, 415}
    if path == "/webhook":
        assert statuses == {201}
    elif mode is GenerationMode.POSITIVE and path in ("/predict", "/setup"):
        assert statuses == {200}
