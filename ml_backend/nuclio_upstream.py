"""A real Nuclio behind ours: its functions are listed with our own, and calls of them are handed on.

Its list is read in the background and remembered, so that a Nuclio that is slow or gone neither delays nor breaks ours.
Functions that some version of CVAT could not read are left out: one of them would take all models off CVAT's page.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson

from bridge.dialects.cvat_functions import problems
from bridge.errors import LabelbridgeError, ToolError
from bridge.logs import Log
from bridge.net import HttpClient, Limits, Reply
from ml_backend.lru import Lru
from ml_backend.runtime import Overloaded

#: Names the servers that handed a request on: who finds itself there has been given its own address.
HANDED_ON = "x-labelbridge-handed-on"

#: What CVAT tells Nuclio, and what is told on.
_TOLD_ON = (
    "x-nuclio-project-name",
    "x-nuclio-function-namespace",
    "x-nuclio-function-name",
    "x-nuclio-path",
    "x-nuclio-invoke-via",
    "x-nuclio-invoke-timeout",
)
_SCOPE = _TOLD_ON[:2]
_ANSWERED = ("content-type", "retry-after")
#: CVAT uses one scope; more are those of other callers.
_MOST_SCOPES = 8
_MOST_CALLS = 16
_LIST_BYTES = 16 * 2**20
#: CVAT's own time limit, unless it says another one.
_CALL_S = 120
_LONGEST_CALL_S = 3600
_SECONDS = re.compile(r"(\d{1,4})s?")

#: The functions by name, each as JSON text.
Listed = Mapping[str, orjson.Fragment]


@dataclass(frozen=True, slots=True)
class Answer:
    """What Nuclio answered; the headers are those that callers need."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Scope:
    """The functions of one project and namespace."""

    functions: Listed = field(default_factory=dict)
    read_at: float = float("-inf")
    reading: asyncio.Task[None] | None = None
    trouble: object = None


class NuclioUpstream:
    """One Nuclio dashboard. For one event loop.

    Args:
        url: its address.
        max_body_bytes: larger answers are refused.
        fresh_s: seconds for which its list is not read again.
        first_s: how long the first list waits for it; later ones do not wait.
        list_s: its time for a list.
    """

    def __init__(
        self,
        url: str,
        log: Log,
        *,
        max_body_bytes: int = 64 * 2**20,
        fresh_s: float = 5.0,
        first_s: float = 1.0,
        list_s: float = 5.0,
    ) -> None:
        self._log = log
        self._name = uuid.uuid4().hex[:12]
        self._fresh_s = fresh_s
        self._first_s = first_s
        connect_s = min(2.0, list_s)
        self._lists = HttpClient(
            url,
            name="Nuclio",
            limits=Limits(connect_s=connect_s, read_s=list_s, total_s=list_s, attempts=1, max_bytes=_LIST_BYTES),
        )
        self._calls = HttpClient(
            url, name="Nuclio", limits=Limits(connect_s=connect_s, attempts=1, max_bytes=max_body_bytes)
        )
        self._scopes: Lru[tuple[str, ...], _Scope] = Lru(_MOST_SCOPES)
        # Lists have a thread of their own: they must not wait for calls.
        self._list_thread = ThreadPoolExecutor(1, thread_name_prefix="nuclio-list")
        self._call_threads = ThreadPoolExecutor(_MOST_CALLS, thread_name_prefix="nuclio-call")
        self._under_way = 0

    def close(self) -> None:
        """Hand on nothing more. What is under way ends by itself."""
        self._list_thread.shutdown(wait=False, cancel_futures=True)
        self._call_threads.shutdown(wait=False, cancel_futures=True)
        self._lists.close()
        self._calls.close()

    async def functions(self, headers: Mapping[str, str]) -> Listed:
        """What it lists, as far as is known by now: nothing before it has answered once, and what it said last while
        it does not answer. Never raises."""
        told = self._told_on(headers)
        key = tuple(told.get(name, "") for name in _SCOPE)
        scope = self._scopes.get(key)
        if scope is None:
            scope = _Scope()
            self._scopes.put(key, scope)
        loop = asyncio.get_running_loop()
        if scope.reading is None and loop.time() - scope.read_at >= self._fresh_s:
            first = scope.read_at == float("-inf")
            scope.reading = asyncio.ensure_future(self._read(scope, told))
            if first:
                await asyncio.wait([scope.reading], timeout=self._first_s)
        return scope.functions

    async def function(self, name: str, headers: Mapping[str, str]) -> Answer:
        """The function ``name``, as Nuclio describes it.

        Raises:
            Overloaded: too many calls are under way.
            ToolError: it cannot be reached, or its answer is too large.
        """
        return await self._handed_on("GET", f"/api/functions/{name}", None, headers)

    async def invoke(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        """What the function named in the headers answers to ``body``; raises as :meth:`function`."""
        return await self._handed_on("POST", "/api/function_invocations", body, headers)

    def has_sent(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers came from here: then Nuclio's address leads back to this server."""
        return self._name in headers.get(HANDED_ON, "").split()

    def _told_on(self, headers: Mapping[str, str]) -> dict[str, str]:
        """What of a request's headers is told on; their names in lower case."""
        lowered = {name.lower(): value for name, value in headers.items()}
        told = {name: lowered[name][:200] for name in _TOLD_ON if name in lowered}
        return {**told, HANDED_ON: f"{lowered.get(HANDED_ON, '')[-200:]} {self._name}".strip()}

    async def _handed_on(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Answer:
        if self._under_way >= _MOST_CALLS:
            raise Overloaded(
                f"{self._under_way} calls of Nuclio's functions are under way",
                retry_after=5,
                expected=f"at most {_MOST_CALLS} at a time",
                todo="Try again later",
            )
        told = self._told_on(headers)

        def send() -> Reply:
            return self._calls.request(
                method,
                path,
                json=body,
                headers=told,
                accept=range(400, 600),
                read_s=_time_limit(told.get("x-nuclio-invoke-timeout", "")),
            )

        self._under_way += 1
        try:
            reply = await asyncio.get_running_loop().run_in_executor(self._call_threads, send)
        finally:
            self._under_way -= 1
        return Answer(reply.status, reply.body, {k: reply.headers[k] for k in _ANSWERED if k in reply.headers})

    async def _read(self, scope: _Scope, headers: Mapping[str, str]) -> None:
        loop = asyncio.get_running_loop()
        trouble: object = None
        try:
            scope.functions, trouble = await loop.run_in_executor(self._list_thread, self._list, headers)
        except LabelbridgeError as error:
            trouble = error.as_dict()
        except RuntimeError:
            return  # closed meanwhile
        finally:
            scope.read_at, scope.reading = loop.time(), None
        if trouble and trouble != scope.trouble:
            self._log.warning("nuclio_upstream", **trouble)  # type: ignore[arg-type]
        scope.trouble = trouble

    def _list(self, headers: Mapping[str, str]) -> tuple[Listed, dict[str, Any]]:
        """What can be listed, and what is to be said about the rest."""
        reply = self._lists.request("GET", "/api/functions", headers=headers)
        try:
            found = orjson.loads(reply.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ToolError(
                "Nuclio's list of functions is no JSON object",
                expected="a Nuclio dashboard",
                todo="Check LABELBRIDGE_NUCLIO_UPSTREAM: does another server answer there?",
            )
        functions, left_out = {}, {}
        for name, function in found.items():
            wrong = problems(function)
            if wrong:
                left_out[name[:100]] = "; ".join(wrong)[:300]
                continue
            try:
                functions[str(function["metadata"]["name"])] = orjson.Fragment(orjson.dumps(function))
            except TypeError:
                left_out[name[:100]] = "it is nested too deeply"
        if left_out:
            return functions, {
                "found": "functions of Nuclio are not listed, since CVAT might show no model at all",
                "left_out": left_out,
            }
        return functions, {}


def _time_limit(text: str) -> int:
    """Seconds that the caller waits, as in ``120s``."""
    match = _SECONDS.fullmatch(text.strip())
    return min(max(int(match.group(1)), 1), _LONGEST_CALL_S) if match else _CALL_S
