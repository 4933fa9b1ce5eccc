"""What every request passes through: an id, basic authentication, counting, one log line, and errors as JSON."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.errors import DataError, LabelbridgeError, ModelError
from ml_backend.logs import Log
from ml_backend.metrics import Metrics

_SAFE_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNNAMED_ROUTE = "other"


class HttpProblem(Exception):
    """An error with the status it is answered with."""

    def __init__(self, status: int, error: LabelbridgeError, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.error = error
        self.headers = dict(headers or {})
        super().__init__(str(error))

    def response(self) -> Response:
        return json_response(self.error.as_dict(), self.status, self.headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``value`` as JSON; numbers that JSON does not know are a bug here and raise ValueError."""
    body = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, headers=dict(headers or {}), media_type="application/json")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        HttpProblem: 413, it is larger than ``limit`` bytes.
    """
    announced = request.headers.get("content-length", "")
    body = bytearray()
    if not announced.isdecimal() or int(announced[:18]) <= limit:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                break
        else:
            return bytes(body)
    raise HttpProblem(
        413,
        DataError(
            f"the request has more than {limit:,} bytes",
            expected="a smaller request",
            todo="Send fewer tasks at a time, or raise max_body_bytes",
        ),
        {"Connection": "close"},
    )


async def read_object(request: Request, limit: int) -> dict[str, Any]:
    """The body as a JSON object; an empty body or ``null`` is an empty object.

    Raises:
        HttpProblem: 415 for another content type, 400 for what is no JSON object, 413 for too much.
    """
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise HttpProblem(
            415,
            DataError(f"the content type is {kind[:80]!r}", expected="application/json", todo="Send the body as JSON"),
        )
    body = await read_body(request, limit)
    try:
        value = json.loads(body) if body else None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise HttpProblem(
            400, DataError(f"the body is no JSON: {reason}", expected="one JSON object", todo="Correct the request")
        ) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise HttpProblem(400, DataError(f"the body is a JSON {type(value).__name__}", expected="one JSON object"))
    return value


class Shell:
    """The outermost layer of the server's own code (ASGI).

    Args:
        routes: paths that are counted by name; all others are counted together.
        open_paths: paths that need no password.
        credentials: user and password; None leaves everything open.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        log: Log,
        routes: frozenset[str],
        open_paths: frozenset[str],
        credentials: tuple[str, str] | None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log
        self._routes = routes
        self._open_paths = open_paths
        self._expected = ":".join(credentials).encode() if credentials else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        path = scope["path"]
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if path in self._open_paths or self._may_enter(headers.get("authorization", "")):
                    await self._app(scope, receive, note)
                else:
                    await _unauthorized().response()(scope, receive, note)
            except ClientDisconnect:
                status = status or 499
            except Exception as error:
                self._log.error("unexpected_error", path=path, exc_info=error)
                if not status:
                    await _internal().response()(scope, receive, note)
            finally:
                self._count(scope["method"], path, status, time.perf_counter() - began)

    def _may_enter(self, header: str) -> bool:
        if self._expected is None:
            return True
        kind, _, encoded = header.partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(given, self._expected)

    def _count(self, method: str, path: str, status: int, seconds: float) -> None:
        route = path if path in self._routes else _UNNAMED_ROUTE
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        line = self._log.debug if method == "GET" and status < 400 else self._log.info
        line("request", method=method, path=path[:200], status=status, ms=round(seconds * 1000, 1))


def _unauthorized() -> HttpProblem:
    return HttpProblem(
        401,
        DataError(
            "the user name or password is missing or wrong",
            expected="HTTP basic authentication",
            todo="Give Label Studio the user and password of the model server: Settings > Model > Basic auth",
        ),
        {"WWW-Authenticate": 'Basic realm="labelbridge"'},
    )


def _internal() -> HttpProblem:
    return HttpProblem(500, ModelError("the server met an unexpected error", todo="See its log for this request's id"))
