"""What every request passes through: an id, authentication, counting, one log line, and errors as JSON."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
import structlog
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.errors import DataError, LabelbridgeError, ModelError
from bridge.logs import AccessLog, Log
from ml_backend.browser_guard import BrowserGuard
from ml_backend.fresh_ids import fresh_ids
from ml_backend.metrics import Metrics

_SAFE_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNNAMED_ROUTE = "other"
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
#: For one body. Label Studio gives up after 100 s, CVAT after 120.
BODY_S = 120.0
_LAST = {"Connection": "close"}


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
    """``value`` as JSON. Numbers that JSON does not know become ``null``: callers see to it that there are none."""
    return Response(orjson.dumps(value), status, headers=dict(headers or {}), media_type="application/json")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        HttpProblem: 413, it is larger than ``limit`` bytes; 408, it takes longer than ``BODY_S``.
    """
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal() or int(announced[:18]) <= limit:
        try:
            async with asyncio.timeout(BODY_S):
                body = await _received(request, limit)
        except TimeoutError:
            raise HttpProblem(
                408, DataError(f"the request was not there after {BODY_S:g} s", todo="Send it faster"), _LAST
            ) from None
        if body is not None:
            return body
    raise HttpProblem(
        413,
        DataError(
            f"the request has more than {limit:,} bytes",
            expected="a smaller request",
            todo="Send fewer tasks at a time, or raise max_body_bytes",
        ),
        _LAST,
    )


async def _received(request: Request, limit: int) -> bytes | None:
    """The whole body; None as soon as it is larger than ``limit`` bytes."""
    chunks, length = [], 0
    while length <= limit:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        chunks.append(chunk)
        length += len(chunk)
        if not message.get("more_body", False) and length <= limit:
            return chunk if len(chunks) == 1 else b"".join(chunks)
    return None


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
        value = _parsed(body) if body else None
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


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        # Python's own parser takes what its dumps writes: NaN, and whole numbers of any length.
        return json.loads(body)


class Shell:
    """The outermost layer of the server's own code (ASGI).

    Args:
        routes: paths that are counted by name; all others are counted together.
        open_paths: paths that need no password.
        keys: who shows one of them may enter; None leaves everything open.
        guard: keeps web pages of others out.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        log: Log,
        access: AccessLog,
        routes: frozenset[str],
        open_paths: frozenset[str],
        keys: Keys | None,
        guard: BrowserGuard,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log
        self._routes = routes
        self._open_paths = open_paths
        self._keys = keys
        self._guard = guard
        self._access = access
        self._new_id = fresh_ids()
        self._counters: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        shown = _of_interest(scope["headers"])
        request_id = shown.id if _SAFE_ID.fullmatch(shown.id) else self._new_id()
        stamp = (b"x-request-id", request_id.encode())
        path = scope["path"]
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), stamp, _NO_SNIFFING]
            await send(message)

        # Not unbound at the end: each request is answered in a task, and so in a context, of its own.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            refusal = self._guard.refusal(scope["method"], shown.hosts, shown.origin)
            if refusal is not None:
                await HttpProblem(403, refusal).response()(scope, receive, note)
            elif self._keys is None or path in self._open_paths or self._keys.fit(shown.authorization):
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
            seconds = time.perf_counter() - began
            self._count(path, status, seconds)
            if status >= 400 or scope["method"] != "GET":
                self._access.note(request_id, scope["method"], path[:200], status, seconds)

    def _count(self, path: str, status: int, seconds: float) -> None:
        counters = self._counters.get((path, status))
        if counters is None:
            route = path if path in self._routes else _UNNAMED_ROUTE
            counters = (
                self._metrics.requests.labels(route, str(status)),
                self._metrics.request_seconds.labels(route),
            )
            if route != _UNNAMED_ROUTE:
                self._counters[path, status] = counters
        counters[0].inc()
        counters[1].observe(seconds)


class Keys:
    """What callers may show to be let in: user and password by HTTP basic authentication, or a bearer token."""

    def __init__(self, user: str | None, password: str | None, token: str | None) -> None:
        self._basic = f"{user}:{password}".encode() if user and password else None
        self._token = token.encode() if token else None

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return self._basic is not None or self._token is not None

    def fit(self, header: str) -> bool:
        """Whether an ``Authorization`` header shows one of them. Takes the same time for every wrong one."""
        kind, _, shown = header.partition(" ")
        if kind.lower() == "bearer" and self._token is not None:
            return hmac.compare_digest(shown.strip().encode("utf-8", "surrogatepass"), self._token)
        if kind.lower() != "basic" or self._basic is None:
            return False
        try:
            given = base64.b64decode(shown.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(given, self._basic)


class _Shown(NamedTuple):
    """What of a request's headers counts here."""

    id: str
    authorization: str
    hosts: list[str]
    origin: str | None


def _of_interest(headers: Iterable[tuple[bytes, bytes]]) -> _Shown:
    request_id = authorization = ""
    hosts: list[str] = []
    origin = None
    for name, value in headers:
        if name == b"host":
            hosts.append(value.decode("latin-1"))
        elif name == b"x-request-id":
            request_id = value.decode("latin-1")
        elif name == b"authorization":
            authorization = value.decode("latin-1")
        elif name == b"origin":
            origin = value.decode("latin-1")
    return _Shown(request_id, authorization, hosts, origin)


def _unauthorized() -> HttpProblem:
    return HttpProblem(
        401,
        DataError(
            "the user name and password, or the token, is missing or wrong",
            expected="HTTP basic authentication, or a bearer token",
            todo="Give Label Studio the user and password of the model server: Settings > Model > Basic auth",
        ),
        {"WWW-Authenticate": 'Basic realm="labelbridge"'},
    )


def _internal() -> HttpProblem:
    return HttpProblem(500, ModelError("the server met an unexpected error", todo="See its log for this request's id"))
