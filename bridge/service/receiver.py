"""Receives the tools' webhooks: authenticates, stores each as a hint, and answers, within a tenth of a second.

A webhook only says where to look. What happened is found out by looking, so that one that is lost, late, doubled or out
of order does no harm, and refusing one costs no more than the time until the next look. Label Studio waits for the
answer inside an annotator's Submit; nothing here may make it wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.errors import ConfigError, DataError, LabelbridgeError, StoreError
from bridge.service.group_commit import GroupCommit, HintStore, QueueFull
from bridge.service.hook import Fate, Hook, Refusal, Told
from bridge.service.hook_cvat import CvatHook
from bridge.service.hook_label_studio import LabelStudioHook
from bridge.store import Hint
from bridge.tools.hooks import PATHS

HOOKS: tuple[Hook, ...] = (LabelStudioHook(), CvatHook())

REPLAY_WINDOW = timedelta(days=7)
"""Webhooks of older events are refused. Younger ones that were received before are known by their digest."""

CLOCK_SKEW = timedelta(days=1)
"""A tool's clock may be so far ahead of ours, and hints are kept for that much longer than the window."""

_BODY_S = 5.0
_ANSWER_S = 0.06
_STATUS = {
    Fate.FORGED: 401,
    Fate.STALE: 409,
    Fate.TRUNCATED: 400,
    Fate.OVERSIZED: 413,
    Fate.SLOW: 408,
    Fate.UNREADABLE: 400,
    Fate.CLOSED: 503,
    Fate.FULL: 503,
    Fate.LATE: 503,
    Fate.FAILED: 503,
}
_POLLING = "What it was about is found at the next look anyway"


def make_receiver(
    store: HintStore,
    secrets: Mapping[str, str],
    wake: Callable[[], None],
    now: Callable[[], datetime],
    *,
    watched: Callable[[], Collection[str]] | None = None,
    body_s: float = _BODY_S,
    answer_s: float = _ANSWER_S,
    capacity: int = 20_000,
) -> Starlette:
    """The application that receives webhooks. It wants a port that the tools reach, and an event loop with little else.

    Args:
        secrets: by tool, ``label-studio`` and ``cvat``; the webhooks of one without a secret are refused.
        wake: called after new hints were stored; it must return at once.
        now: our clock, aware.
        watched: the targets that are watched at the moment, review projects among them; webhooks from elsewhere are
            counted and dropped. It must return at once. None takes them all.
        body_s: seconds that a body may take to arrive.
        answer_s: seconds after which a webhook is answered though it is not stored yet; it stays in the queue.
        capacity: so many webhooks wait to be stored at most.
    """
    commit = GroupCommit(store, wake, now, keep=REPLAY_WINDOW + CLOCK_SKEW, capacity=capacity)
    counts = _Counts(lambda: commit.waiting)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await commit.close()

    async def health(_request: Request) -> Response:
        return _json(200, {"status": "UP"})

    async def metrics(_request: Request) -> Response:
        return Response(counts.text(), media_type="text/plain; version=0.0.4")

    doors = [
        Route(
            PATHS[hook.tool],
            _Door(hook, secrets.get(hook.tool, ""), commit, counts, now, watched, body_s, answer_s).answer,
            methods=["POST"],
        )
        for hook in HOOKS
    ]
    routes = [*doors, Route("/health", health), Route("/metrics", metrics)]
    return Starlette(routes=routes, lifespan=lifespan)


class _Counts:
    """For Prometheus. Tools and fates are fixed sets, so nobody can make it grow."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self.webhooks = Counter(
            "labelbridge_webhooks",
            "Webhooks by what became of them.",
            ["tool", "outcome"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "labelbridge_webhook_seconds",
            "Seconds from the request to its answer.",
            ["tool"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=self._registry,
        )
        Gauge("labelbridge_webhooks_waiting", "Webhooks that wait to be stored.", registry=self._registry).set_function(
            waiting
        )

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Door:
    """Where the webhooks of one tool come in; see :func:`make_receiver`."""

    def __init__(
        self,
        hook: Hook,
        secret: str,
        commit: GroupCommit,
        counts: _Counts,
        now: Callable[[], datetime],
        watched: Callable[[], Collection[str]] | None,
        body_s: float,
        answer_s: float,
    ) -> None:
        self._hook = hook
        self._secret = secret
        self._commit = commit
        self._now = now
        self._watched = watched
        self._body_s = body_s
        self._answer_s = answer_s
        self._fates = {fate: counts.webhooks.labels(hook.tool, fate) for fate in Fate}
        self._seconds = counts.seconds.labels(hook.tool)

    async def answer(self, request: Request) -> Response:
        began = time.perf_counter()
        try:
            fate, told = await self._receive(request), {}
        except Refusal as refusal:
            fate, told = refusal.fate, refusal.error.as_dict()
        except LabelbridgeError as error:
            fate, told = Fate.FAILED, error.as_dict()
        self._fates[fate].inc()
        self._seconds.observe(time.perf_counter() - began)
        return _json(_STATUS.get(fate, 200), {"outcome": fate, **told})

    async def _receive(self, request: Request) -> Fate:
        hook = self._hook
        if not self._secret:
            raise Refusal(Fate.CLOSED, NO_SECRET)
        if not hook.may_speak(request.headers, self._secret):
            raise Refusal(Fate.FORGED, _NOT_GENUINE)
        body = await self._body(request)
        if not hook.is_genuine(request.headers, self._secret, body):
            raise Refusal(Fate.FORGED, _NOT_GENUINE)
        told = self._told(body, request.query_params.get("place", ""))
        if told is None:
            return Fate.UNKNOWN
        received = self._now()
        self._check_age(told, received)
        if not self._is_watched(told):
            return Fate.ELSEWHERE
        moment = told.moment.isoformat() if told.moment else None
        digest = hashlib.sha256(body).hexdigest()
        return await self._keep(Hint(hook.tool, told.places, told.event, moment, digest, received.isoformat()))

    async def _body(self, request: Request) -> bytes:
        announced = request.headers.get("content-length", "")
        length = int(announced[:18]) if announced.isdecimal() else None
        if length is not None and length > self._hook.max_body_bytes:
            raise Refusal(Fate.OVERSIZED, self._too_large())
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._body_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._hook.max_body_bytes:
                        raise Refusal(Fate.OVERSIZED, self._too_large())
                    chunks.append(chunk)
        except ClientDisconnect:
            raise Refusal(Fate.TRUNCATED, _CUT) from None
        except TimeoutError:
            late = DataError(f"the body took more than {self._body_s:g} s", todo="Send it at once")
            raise Refusal(Fate.SLOW, late) from None
        if length is not None and length != size:
            raise Refusal(Fate.TRUNCATED, _CUT)
        return b"".join(chunks)

    def _told(self, body: bytes, place: str) -> Told | None:
        try:
            event = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            # What is no text at all is shown as an empty one.
            if error.pos >= len(error.doc) and bool(error.doc) == bool(body):
                raise Refusal(Fate.TRUNCATED, _CUT) from None
            raise Refusal(Fate.UNREADABLE, DataError("the body is no JSON", expected="one JSON object")) from None
        if not isinstance(event, dict):
            raise Refusal(Fate.UNREADABLE, DataError("the body is no JSON object", expected="one JSON object"))
        try:
            return self._hook.read(event, place)
        except DataError as error:
            raise Refusal(Fate.UNREADABLE, error) from None

    def _check_age(self, told: Told, now: datetime) -> None:
        if told.moment is None or now - REPLAY_WINDOW <= told.moment <= now + CLOCK_SKEW:
            return
        error = DataError(
            f"the event is of {told.moment.isoformat()}, and it is {now.isoformat()} here",
            expected=f"one of the last {REPLAY_WINDOW.days} days",
            todo=f"If it is new, set the clocks right. {_POLLING}",
        )
        raise Refusal(Fate.STALE, error)

    def _is_watched(self, told: Told) -> bool:
        """An event that names no place may be anywhere."""
        if self._watched is None or not told.places:
            return True
        return not {target.partition("?")[0] for target in self._watched()}.isdisjoint(told.places)

    async def _keep(self, hint: Hint) -> Fate:
        try:
            async with asyncio.timeout(self._answer_s):
                return Fate.ACCEPTED if await self._commit.put(hint) else Fate.DUPLICATE
        except TimeoutError:
            raise Refusal(Fate.LATE, StoreError("the database is busy; it is stored later", todo=_POLLING)) from None
        except QueueFull:
            raise Refusal(Fate.FULL, StoreError("too many webhooks wait to be stored", todo=_POLLING)) from None

    def _too_large(self) -> DataError:
        return DataError(f"the body has more than {self._hook.max_body_bytes:,} bytes", todo=_POLLING)


NO_SECRET = ConfigError(
    "no secret is set, so that nobody could tell a webhook from a forged one",
    expected="the same secret here and in the tool",
    todo="Set LABELBRIDGE_HOOKS_SECRET, start again, and run `labelbridge connect TARGET`",
)
_NOT_GENUINE = DataError(
    "the webhook does not prove that it comes from the tool",
    expected="the secret that is set here",
    todo="Run `labelbridge connect TARGET`, which gives it to the tool",
)
_CUT = DataError("the body is cut off", expected="as many bytes as were announced, and a whole JSON object")


def _json(status: int, value: dict[str, Any]) -> Response:
    # Whoever is refused may not have sent all of its body, which must not be read as the next request.
    headers = {"Retry-After": "1"} if status == 503 else {}
    if status >= 400:
        headers["Connection"] = "close"
    return Response(orjson.dumps(value), status, headers=headers, media_type="application/json")
