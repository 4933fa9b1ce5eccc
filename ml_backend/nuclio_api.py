"""CVAT's serverless dialect: this server answers as the dashboard of a Nuclio whose functions are our models.

What CVAT expects, and what happens otherwise:

- the list of functions at every load of its pages: answered from memory, whatever the models are doing.
- no broken function in that list: one is enough, and some versions show no model at all.
- the function by its name before every click, and before every batch.
- no refusal in a batch: CVAT does not try again, and a batch of a thousand frames ends at the first answer that is no
  success. Where the server is full, a call therefore waits for a while.
- nothing in the body of an error: CVAT shows its status only, so every refusal is logged, with the request's id.

There is no authentication in this dialect: CVAT has none to offer. It belongs into a network that only CVAT reaches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import orjson
from prometheus_client import Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bridge.core.annotations import Polygon
from bridge.core.masks import MaskCrop
from bridge.dialects.cvat_functions import (
    DetectorCall,
    InteractorCall,
    Outline,
    detection_items,
    is_id,
    mask_answer,
    read_detector_call,
    read_interactor_call,
)
from bridge.errors import DataError, LabelbridgeError, NotFound
from bridge.logs import Log
from ml_backend.endpoints import Endpoint, Handler
from ml_backend.http_shell import HttpProblem, json_response, read_object
from ml_backend.image_source import ImageRef
from ml_backend.json_api import as_problem
from ml_backend.metrics import Metrics
from ml_backend.models import Prompt
from ml_backend.nuclio_functions import Function, ProjectFunction, listed_functions
from ml_backend.nuclio_upstream import Answer, NuclioUpstream
from ml_backend.runtime import Overloaded, Runtime, Seen

__all__ = ["NuclioDialect", "ProjectFunction"]

T = TypeVar("T")
Gone = Callable[[], Awaitable[bool]]

NAME_HEADER = "x-nuclio-function-name"

#: Calls that wait for a place at a time; each holds an image in memory.
_MOST_WAITING = 16
_LONGEST_PAUSE_S = 5.0
_UPSTREAM = "upstream"


class NuclioDialect:
    """The routes that CVAT calls.

    Args:
        functions: what is listed besides the models themselves.
        max_body_bytes: larger requests are refused. A frame comes as base64: a third larger than its file.
        upstream: a real Nuclio whose functions are listed and called too; ours win where ids are equal.
        direct_ports: where functions can be called directly, by id; see :meth:`direct_endpoints`.
        patience_s: how long a call waits for a place where the server is full; CVAT hangs up after 120 s.
        outline: makes a mask's polygon.
    """

    def __init__(
        self,
        runtime: Runtime,
        functions: Sequence[ProjectFunction],
        log: Log,
        metrics: Metrics,
        *,
        max_body_bytes: int,
        upstream: NuclioUpstream | None = None,
        direct_ports: Mapping[str, int] = MappingProxyType({}),
        patience_s: float = 60.0,
        outline: Outline | None = None,
    ) -> None:
        self._runtime = runtime
        self._log = log
        self._max_body_bytes = max_body_bytes
        self._upstream = upstream
        self._patience_s = patience_s
        self._outline = outline or _outline
        self._waiting = 0
        self._functions = listed_functions(runtime.entries, functions, direct_ports, log)
        self._shown = {id_: orjson.Fragment(orjson.dumps(f.shown)) for id_, f in self._functions.items()}
        self._calls = Counter(
            "labelbridge_cvat_calls",
            "Calls of functions by CVAT; those of a real Nuclio behind this server are counted together.",
            ["function", "status"],
            registry=metrics.registry,
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """The functions that are listed, in their order, without those of a real Nuclio."""
        return tuple(self._functions)

    def endpoints(self) -> list[Endpoint]:
        """What a Nuclio dashboard answers, as far as CVAT asks."""
        return [
            Endpoint("GET", "/api/functions", self.functions, "Models, as CVAT lists them"),
            Endpoint("GET", "/api/functions/{name}", self._noting(self.function), "One model, as CVAT lists it"),
            Endpoint(
                "POST",
                "/api/function_invocations",
                self._noting(self.invoke),
                f"Call the model that the header {NAME_HEADER} names",
                body=_CALL,
            ),
        ]

    def direct_endpoints(self, function_id: str) -> list[Endpoint]:
        """What the port of one function answers: CVAT calls it there without naming it."""

        async def call(request: Request) -> Response:
            return await self._call(self._known(function_id), request)

        async def health(_request: Request) -> Response:
            return json_response({"status": "UP", "function": function_id})

        return [
            Endpoint("POST", "/", self._noting(call, function_id), f"Call {function_id}", body=_CALL),
            Endpoint("GET", "/health", health, "Is the server up; says nothing about the model"),
        ]

    async def functions(self, request: Request) -> Response:
        if self._upstream is None:
            return json_response(self._shown)
        theirs = await self._upstream.functions(request.headers)
        return json_response({**self._shown, **{id_: f for id_, f in theirs.items() if id_ not in self._shown}})

    async def function(self, request: Request) -> Response:
        name = request.path_params["name"]
        upstream = self._upstream_for(name, request)
        if upstream is not None:
            return _as_it_is(await upstream.function(name, request.headers))
        return json_response(self._known(name).shown)

    async def invoke(self, request: Request) -> Response:
        name = request.headers.get(NAME_HEADER, "").strip()
        if not name:
            raise DataError(
                f"the header {NAME_HEADER} is missing",
                expected="the id of a function",
                todo="Call as CVAT does; for other callers there is /v1/models",
            )
        upstream = self._upstream_for(name, request)
        if upstream is None:
            return await self._call(self._known(name), request)
        body = await read_object(request, self._max_body_bytes)
        answer = await upstream.invoke(body, request.headers)
        self._calls.labels(_UPSTREAM, str(answer.status)).inc()
        return _as_it_is(answer)

    async def _call(self, function: Function, request: Request) -> Response:
        status = 500
        try:
            body = await read_object(request, self._max_body_bytes)
            if function.entry.interactive:
                response = await self._segment(function, read_interactor_call(body), request.is_disconnected)
            else:
                response = await self._detect(function, read_detector_call(body), request.is_disconnected)
            status = response.status_code
            return response
        except (LabelbridgeError, HttpProblem) as error:
            problem = _problem(error)
            status = problem.status
            raise problem from None
        except ClientDisconnect:
            status = 499
            raise
        finally:
            self._calls.labels(function.id, str(status)).inc()

    async def _detect(self, function: Function, call: DetectorCall, gone: Gone) -> Response:
        entry = function.entry
        references = [_reference(call.image)]
        (outcome,) = await self._patiently(lambda: self._runtime.look(entry.id, references, gone), gone)
        if not isinstance(outcome, Seen):
            raise outcome
        seen = outcome
        threshold = entry.threshold if call.threshold is None else call.threshold

        def answer() -> Response:
            items = detection_items(
                seen.detections,
                function.targets,
                shape=function.shape,
                threshold=threshold,
                size=(seen.width, seen.height),
                outline=self._outline,
            )
            return json_response(items)

        # Masks are long lists: writing them here would hold up everybody else.
        return await asyncio.to_thread(answer) if seen.detections.masks else answer()

    async def _segment(self, function: Function, call: InteractorCall, gone: Gone) -> Response:
        if call.empty:
            return json_response(mask_answer(None, size=(0, 0), outline=self._outline))
        prompts = [Prompt(call.positive, call.negative, call.box)]
        reference = _reference(call.image)
        found = await self._patiently(lambda: self._runtime.segment(function.entry.id, reference, prompts, gone), gone)
        segment, size = found.segments[0], (found.width, found.height)

        def answer() -> Response:
            mask = None if segment is None else segment.mask
            return json_response(mask_answer(mask, size=size, outline=self._outline))

        return await asyncio.to_thread(answer)

    async def _patiently(self, ask: Callable[[], Awaitable[T]], gone: Gone) -> T:
        """The answer of ``ask``, asked again while the server is full and the caller still waits."""
        until = time.monotonic() + self._patience_s
        while True:
            try:
                return await ask()
            except Overloaded as error:
                pause = min(float(error.retry_after), _LONGEST_PAUSE_S)
                # Whether there is room is asked last: nothing may happen between that and taking it.
                if time.monotonic() + pause > until or await gone() or self._waiting >= _MOST_WAITING:
                    raise
            self._waiting += 1
            try:
                await asyncio.sleep(pause)
            finally:
                self._waiting -= 1

    def _noting(self, handler: Handler, function_id: str = "") -> Handler:
        """``handler``, with a log line for every refusal: CVAT drops what an error says."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (LabelbridgeError, HttpProblem) as error:
                problem = _problem(error)
            name = function_id or request.path_params.get("name") or request.headers.get(NAME_HEADER, "")
            said = problem.error.as_dict()
            self._log.warning("cvat_call_refused", function=name[:100], status=problem.status, **said)
            raise problem

        return answer

    def _upstream_for(self, name: str, request: Request) -> NuclioUpstream | None:
        """Who is asked about a function that is not ours; None where nobody is."""
        if name in self._functions or self._upstream is None or not is_id(name):
            return None
        if self._upstream.has_sent(request.headers):
            self._log.error(
                "nuclio_upstream_is_this_server",
                todo="Set LABELBRIDGE_NUCLIO_UPSTREAM to the address of the real Nuclio",
            )
            return None
        return self._upstream

    def _known(self, name: str) -> Function:
        function = self._functions.get(name)
        if function is None:
            raise NotFound(
                f"there is no function {name[:100]!r}",
                expected="one of " + ", ".join(self.ids[:50]) if self.ids else "no function: none can be listed",
                todo="Load CVAT's page again: the models may have changed. What is not listed is in this server's log",
            )
        return function


def _problem(error: LabelbridgeError | HttpProblem) -> HttpProblem:
    return error if isinstance(error, HttpProblem) else as_problem(error)


def _as_it_is(answer: Answer) -> Response:
    return Response(answer.body, answer.status, headers=dict(answer.headers))


def _reference(image: str) -> ImageRef:
    # Said to be data, so that no text can be taken for a path or an address.
    return ImageRef("data:;base64," + image)


def _outline(mask: MaskCrop) -> Polygon:
    # Brings OpenCV along.
    from bridge.outlines import outline

    return outline(mask)


_POINTS: dict[str, Any] = {
    "type": ["array", "null"],
    "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
}
_CALL: dict[str, Any] = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "minLength": 1, "description": "An image file in base64."},
        "threshold": {
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
            "description": "Of a detector; absent or 0 takes its own.",
        },
        "pos_points": {**_POINTS, "description": "Of an interactor: clicks on the object."},
        "neg_points": {**_POINTS, "description": "Of an interactor: clicks beside it."},
        "obj_bbox": {**_POINTS, "description": "Of an interactor: two opposite corners of a box, or nothing."},
    },
}
