"""What those who run the server ask, whatever the annotation tool."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ml_backend.endpoints import Endpoint
from ml_backend.http_shell import json_response
from ml_backend.inference import State
from ml_backend.metrics import CONTENT_TYPE, Metrics
from ml_backend.runtime import Runtime

#: Probes of orchestrators carry no password, and these two tell nothing.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})


class Operations:
    """Health, readiness and counters."""

    def __init__(self, runtime: Runtime, metrics: Metrics) -> None:
        self._runtime = runtime
        self._metrics = metrics

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "/healthz", self.healthz, "Is the process alive; needs no password"),
            Endpoint("GET", "/readyz", self.readyz, "Are the default models loaded; needs no password"),
            Endpoint("GET", "/metrics", self.metrics, "Counters for Prometheus"),
        ]

    async def healthz(self, _request: Request) -> Response:
        return json_response({"status": "UP"})

    async def readyz(self, _request: Request) -> Response:
        state = self._runtime.state
        return json_response({"state": state}, 200 if state is State.READY else 503)

    async def metrics(self, _request: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})
