"""Label Studio's dialect of asking a model: setup, predict, interactive predict, versions, webhook.

What Label Studio 1.23.2 expects, and what happens otherwise:

- ``/health`` within one second and ``/setup`` within three, before *every* task that is opened: both answer from
  memory.
- ``model_version`` of ``/setup`` equal to that of every prediction, or all tasks are predicted anew on each opening.
- one item per task, in order. A missing or malformed item, or a score that is no number, costs the whole batch. An
  empty list says "nothing about this task", and Label Studio asks again another time; it answers the tasks for which
  there was no time.
- fresh region ids: a second suggestion with the id of the first would replace it.
- ``/webhook`` within a second, or the event is lost and the annotator waits meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.annotations import Box
from bridge.dialects.label_studio import LabelConfig, Region, box_entries, prediction_entry
from bridge.errors import DataError, LabelbridgeError
from ml_backend.http_shell import HttpProblem, json_response, read_object
from ml_backend.logs import Log
from ml_backend.metrics import Metrics
from ml_backend.projects import Projects
from ml_backend.prompts import Candidate, answer_prompt, read_prompt
from ml_backend.runtime import Late, Outcome, Overloaded, Runtime, Seen

#: The class is part of the protocol: Label Studio's own servers answer with its name.
HEALTH = {"model_class": "LabelStudioMLBase", "status": "UP"}

KNOWN_EVENTS = frozenset(
    {
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_DELETED",
        "TASKS_CREATED",
        "TASKS_DELETED",
        "PROJECT_CREATED",
        "PROJECT_UPDATED",
        "PROJECT_DELETED",
        "LABEL_LINK_CREATED",
        "LABEL_LINK_UPDATED",
        "LABEL_LINK_DELETED",
        "START_TRAINING",
    }
)
_UNKNOWN_EVENT = "unknown"


@dataclass(frozen=True, slots=True)
class _Question:
    """One call of ``/predict``, read: ``context`` is what the annotator drew, None in a batch call."""

    tasks: Sequence[Any]
    label_config: str
    project: str
    context: Any


@dataclass(frozen=True, slots=True)
class _Reading:
    """A project's configuration, and for each class of the model the label it has there (None: none)."""

    config: LabelConfig
    targets: tuple[str | None, ...]


class LabelStudioDialect:
    """The routes that Label Studio calls.

    Args:
        max_body_bytes: larger requests are refused.
        new_id: a fresh region id at each call.
    """

    def __init__(
        self,
        runtime: Runtime,
        projects: Projects,
        metrics: Metrics,
        log: Log,
        *,
        max_body_bytes: int,
        new_id: Callable[[], str],
    ) -> None:
        self._runtime = runtime
        self._projects = projects
        self._metrics = metrics
        self._log = log
        self._max_body_bytes = max_body_bytes
        self._new_id = new_id

    def router(self) -> APIRouter:
        """The routes, with their bodies described for ``/openapi.json``."""
        router = APIRouter(default_response_class=Response)
        add = router.add_api_route
        add("/", self.health, methods=["GET"], summary="Is the server up", name="root")
        add("/health", self.health, methods=["GET"], summary="Is the server up; says nothing about the model")
        add("/versions", self.versions, methods=["GET"], summary="Model versions that can be asked for")
        add("/setup", self.setup, methods=["POST"], summary="Announce a project", openapi_extra=_body(_SETUP))
        add("/predict", self.predict, methods=["POST"], summary="Predict tasks", openapi_extra=_body(_PREDICT))
        add(
            "/webhook",
            self.webhook,
            methods=["POST"],
            status_code=201,
            summary="Take note of an event; always 201",
            openapi_extra=_body(_WEBHOOK),
        )
        return router

    async def health(self) -> Response:
        return json_response(HEALTH)

    async def versions(self) -> Response:
        return json_response({"versions": [self._runtime.name]})

    async def setup(self, request: Request) -> Response:
        body = await read_object(request, self._max_body_bytes)
        self._projects.remember(_project(body), body.get("schema"), body.get("extra_params"))
        return json_response({"model_version": self._runtime.name})

    async def predict(self, request: Request) -> Response:
        question = self._question(await read_object(request, self._max_body_bytes))
        try:
            results = await self._answers(question, request.is_disconnected)
        except Overloaded as error:
            raise HttpProblem(503, error, {"Retry-After": str(error.retry_after)}) from None
        except LabelbridgeError as error:
            raise HttpProblem(503, error) from None
        return json_response({"results": results})

    async def webhook(self, request: Request) -> Response:
        action = _UNKNOWN_EVENT
        try:
            found = (await read_object(request, self._max_body_bytes)).get("action")
            action = found if isinstance(found, str) and found in KNOWN_EVENTS else _UNKNOWN_EVENT
        except HttpProblem as problem:
            # The sender neither reads the answer nor tries again, so refusing would help nobody.
            self._log.warning("webhook_unreadable", **problem.error.as_dict())
        self._metrics.webhooks.labels(action).inc()
        return json_response({}, 201)

    def _question(self, body: dict[str, Any]) -> _Question:
        tasks = body.get("tasks")
        if isinstance(tasks, dict):
            tasks = [tasks]
        if not isinstance(tasks, list):
            raise HttpProblem(
                400,
                DataError(
                    f"tasks is {'missing' if 'tasks' not in body else type(tasks).__name__}",
                    expected='a list of tasks, as in {"tasks": [{"id": 1, "data": {...}}], "label_config": "..."}',
                ),
            )
        project = _project(body)
        label_config = body.get("label_config")
        params = body.get("params")
        context = params.get("context") if isinstance(params, dict) else None
        return _Question(
            tasks=tasks,
            label_config=label_config if isinstance(label_config, str) else self._projects.schema(project),
            project=project,
            context=context if isinstance(context, dict) and context.get("result") else None,
        )

    async def _answers(self, question: _Question, gone: Callable[[], Awaitable[bool]]) -> list[Any]:
        """One prediction per task, in order; an empty list for a task that was not reached in time."""
        if not question.tasks:
            return []
        if not question.label_config:
            self._log.warning("label_config_missing", project=question.project)
            return [self._nothing() for _ in question.tasks]
        config = self._projects.config(question.label_config)
        if config is None:
            return [self._nothing() for _ in question.tasks]
        references = [_reference(task, config.image_key) for task in question.tasks]
        seen = iter(await self._runtime.look([r for r in references if isinstance(r, str)], gone))
        outcomes = [next(seen) if isinstance(r, str) else r for r in references]
        predictor = self._runtime.predictor
        targets = self._projects.targets(question.label_config, config, predictor.classes) if predictor else ()
        return [
            self._answer(task, outcome, _Reading(config, targets), question)
            for task, outcome in zip(question.tasks, outcomes, strict=True)
        ]

    def _answer(self, task: Any, outcome: Outcome, reading: _Reading, question: _Question) -> Any:
        if isinstance(outcome, Late):
            return []
        if not isinstance(outcome, Seen):
            task_id = task.get("id") if isinstance(task, dict) else None
            self._log.warning("task_failed", task=task_id, project=question.project, **outcome.as_dict())
            return self._nothing()
        threshold = self._projects.threshold(question.project)
        candidates = [c for c in _candidates(outcome, reading) if c.confidence >= threshold]
        if question.context is None:
            shown = [c for c in candidates if c.label is not None]
        else:
            prompt = read_prompt(question.context, outcome.width, outcome.height)
            shown = answer_prompt(prompt, candidates) if prompt else []
        return prediction_entry(self._regions(shown, outcome, reading), self._runtime.name)

    def _regions(self, shown: Sequence[Candidate], seen: Seen, reading: _Reading) -> list[Region]:
        regions: list[Region] = []
        for candidate in shown:
            if candidate.label is None:
                continue
            box = Box(*candidate.xyxy)
            try:
                regions += box_entries(
                    reading.config, self._new_id(), candidate.label, box, seen.width, seen.height, candidate.confidence
                )
            except DataError as error:
                # Only a prompt can carry a label that no box may have: a smart point of a label without rectangles.
                self._log.warning("label_without_box", **error.as_dict())
        return regions

    def _nothing(self) -> dict[str, Any]:
        return prediction_entry([], self._runtime.name)


def _candidates(seen: Seen, reading: _Reading) -> list[Candidate]:
    """The detections as plain numbers; what is not finite, without area or of no class is passed over."""
    found = seen.detections
    candidates = []
    for (x1, y1, x2, y2), index, confidence in zip(
        found.xyxy.tolist(), found.label.tolist(), found.confidence.tolist(), strict=True
    ):
        usable = all(map(math.isfinite, (x1, y1, x2, y2, confidence))) and x2 > x1 and y2 > y1
        if usable and 0 <= index < len(reading.targets):
            candidates.append(Candidate(reading.targets[index], (x1, y1, x2, y2), min(max(confidence, 0.0), 1.0)))
    return candidates


def _project(body: dict[str, Any]) -> str:
    """``<id>.<created at>``, as Label Studio names projects; bounded, whatever is sent."""
    return str(body.get("project", ""))[:200]


def _reference(task: Any, key: str) -> str | DataError:
    data = task.get("data") if isinstance(task, dict) else None
    value = data.get(key) if isinstance(data, dict) else None
    if isinstance(value, str) and value.strip():
        return value
    return DataError(
        f"the task's data has no image under {key!r}: found {type(value).__name__}",
        expected="a path, URL, data: URI or base64 text",
        todo="Correct the task's data, or the Image tag of the label configuration",
    )


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_ANYTHING: dict[str, Any] = {}
_TEXT = {"type": "string"}
_SETUP: dict[str, Any] = {
    "type": "object",
    "properties": {"project": _TEXT, "schema": _TEXT, "hostname": _TEXT, "extra_params": _ANYTHING},
}
_TASK: dict[str, Any] = {"type": "object", "properties": {"id": {"type": "integer"}, "data": {"type": "object"}}}
_PREDICT: dict[str, Any] = {
    "type": "object",
    "required": ["tasks"],
    "properties": {
        "tasks": {"anyOf": [{"type": "array", "items": _TASK}, _TASK]},
        "project": _TEXT,
        "label_config": _TEXT,
        "params": {
            "type": ["object", "null"],
            "properties": {
                "context": {
                    "type": ["object", "null"],
                    "properties": {"result": {"type": "array", "items": {"type": "object"}}},
                }
            },
        },
    },
}
_WEBHOOK: dict[str, Any] = {"type": "object", "properties": {"action": _TEXT}}
