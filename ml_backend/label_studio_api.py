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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from bridge.dialects.label_studio import LabelConfig, Region, prediction_entry
from bridge.errors import DataError, LabelbridgeError, ModelError, PluginError
from bridge.logs import Log
from ml_backend.endpoints import Endpoint, Handler
from ml_backend.entry import ModelEntry
from ml_backend.http_shell import HttpProblem, json_response, read_object
from ml_backend.image_source import ImageRef
from ml_backend.json_api import as_problem
from ml_backend.label_studio_answers import Answers, segment_regions
from ml_backend.metrics import Metrics
from ml_backend.models import Prompt
from ml_backend.projects import Projects
from ml_backend.prompts import Asked, prompt_size, read_prompt
from ml_backend.runtime import Gone, Late, Overloaded, Runtime, Seen
from ml_backend.template import NewId, Template

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


class LabelStudioDialect:
    """The routes that Label Studio calls.

    Args:
        detector: predicts whole tasks; None predicts nothing.
        interactor: answers smart tools; where it is None, the detector does as well as it can.
        prefix: of all paths, as in ``/models/sam``: Label Studio takes an address with a path for a model server.
        max_body_bytes: larger requests are refused.
        new_id: a fresh region id at each call.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        detector: ModelEntry | None,
        interactor: ModelEntry | None,
        metrics: Metrics,
        log: Log,
        max_body_bytes: int,
        new_id: Callable[[], str],
        prefix: str = "",
    ) -> None:
        first = detector or interactor
        assert first is not None
        self._runtime = runtime
        self._detector = detector
        self._interactor = interactor
        self._name = first.card.name
        self._projects = Projects(first, log)
        self._metrics = metrics
        self._log = log
        self._max_body_bytes = max_body_bytes
        self._new_id = new_id
        self._prefix = prefix

    def endpoints(self) -> list[Endpoint]:
        """The routes, with their bodies described for ``/openapi.json``."""

        def at(method: str, path: str, handler: Handler, summary: str, **more: Any) -> Endpoint:
            return Endpoint(method, self._prefix + path, handler, summary, **more)

        return [
            at("POST", "/predict", self.predict, "Predict tasks", body=_PREDICT),
            at("POST", "/setup", self.setup, "Announce a project", body=_SETUP),
            at("GET", "/health", self.health, "Is the server up; says nothing about the model"),
            at("GET", "/", self.health, "Is the server up"),
            at("GET", "/versions", self.versions, "Model versions that can be asked for"),
            at("POST", "/webhook", self.webhook, "Take note of an event; always 201", body=_WEBHOOK, status=201),
        ]

    async def health(self, _request: Request) -> Response:
        return json_response(HEALTH)

    async def versions(self, _request: Request) -> Response:
        return json_response({"versions": [self._name]})

    async def setup(self, request: Request) -> Response:
        body = await read_object(request, self._max_body_bytes)
        self._projects.remember(_project(body), body.get("schema"), body.get("extra_params"))
        return json_response({"model_version": self._name})

    async def predict(self, request: Request) -> Response:
        question = self._question(await read_object(request, self._max_body_bytes))
        try:
            if question.context is None:
                results = await self._predictions(question, request.is_disconnected)
            else:
                results = await self._suggestions(question, request.is_disconnected)
        except LabelbridgeError as error:
            raise as_problem(error) from None
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
            context=context if isinstance(context, dict) else None,
        )

    async def _predictions(self, question: _Question, gone: Gone) -> list[Any]:
        """One prediction per task, in order; an empty list for a task that was not reached in time."""
        config = self._config(question)
        if config is None or self._detector is None:
            return [self._nothing() for _ in question.tasks]
        references = [_reference(task, config.media_key) for task in question.tasks]
        wanted = [r for r in references if isinstance(r, ImageRef)]
        if len(wanted) == 1 and self._interactor and any(control.smart for control in config.media_controls):
            # Somebody has opened this task, and may be about to point at something in it.
            self._runtime.prefetch(self._interactor.id, wanted[0])
        seen = iter(await self._runtime.look(self._detector.id, wanted, gone) if wanted else ())
        answers = self._projects.answers(question.label_config, config)
        threshold = self._projects.threshold(question.project)
        results: list[Any] = []
        for task, reference in zip(question.tasks, references, strict=True):
            outcome = next(seen) if isinstance(reference, ImageRef) else reference
            if isinstance(outcome, Seen):
                results.append(self._shown(outcome, answers, threshold))
            else:
                results.append(self._failed(task, outcome, question))
        return results

    def _shown(self, seen: Seen, answers: Answers, threshold: float) -> orjson.Fragment:
        known = seen.notes.get(answers)
        if known is None or known[0] != threshold:

            def make(new_id: NewId) -> dict[str, Any]:
                return prediction_entry(
                    answers.of(seen.detections, seen.width, seen.height, threshold, new_id), self._name
                )

            known = (threshold, Template(make))
            # One project at a time: a remembered image must not collect the answers of all that ever asked.
            seen.notes.clear()
            seen.notes[answers] = known
        return known[1].filled(self._new_id)

    async def _suggestions(self, question: _Question, gone: Gone) -> list[Any]:
        """What the annotator's prompt points at, in each of the tasks: there is one."""
        config = self._config(question)
        size = prompt_size(question.context) or (100, 100)
        asked = read_prompt(question.context, config, *size) if config else None
        if config is None or asked is None:
            return [self._nothing() for _ in question.tasks]
        results: list[Any] = []
        for task in question.tasks:
            reference = _reference(task, config.media_key)
            if not isinstance(reference, ImageRef):
                results.append(self._failed(task, reference, question))
                continue
            try:
                regions = await self._suggestion(question, config, asked, reference, gone)
            except (Overloaded, Late, ModelError, PluginError):
                raise
            except LabelbridgeError as error:
                results.append(self._failed(task, error, question))
            else:
                name = self._interactor.card.name if self._interactor else self._name
                results.append(prediction_entry(regions, name))
        return results

    async def _suggestion(
        self, question: _Question, config: LabelConfig, asked: Asked, reference: ImageRef, gone: Gone
    ) -> list[Region]:
        """A mask where the project takes masks; a box of the detector where it takes boxes only, and where that finds
        none, the box of the mask."""
        wants_mask = asked.kind in ("brush", "polygon")
        if self._detector and not (wants_mask and self._interactor):
            regions = await self._detected(question, config, self._detector, reference, gone)
            if regions or not self._interactor:
                return regions
        if asked.problem is not None:
            self._log.warning("no_place_for_the_answer", project=question.project, **asked.problem.as_dict())
        if self._interactor is None or asked.place is None:
            return []

        def prompts(width: int, height: int) -> list[Prompt]:
            exact = read_prompt(question.context, config, width, height)
            return [exact.prompt] if exact else []

        found = await self._runtime.segment(self._interactor.id, reference, prompts, gone)
        segment = found.segments[0] if found.segments else None
        return segment_regions(asked, segment, found.width, found.height, self._new_id)

    async def _detected(
        self, question: _Question, config: LabelConfig, detector: ModelEntry, reference: ImageRef, gone: Gone
    ) -> list[Region]:
        (outcome,) = await self._runtime.look(detector.id, [reference], gone)
        if not isinstance(outcome, Seen):
            raise outcome
        width, height = outcome.width, outcome.height
        asked = read_prompt(question.context, config, width, height)
        if asked is None:
            return []
        threshold = self._projects.threshold(question.project)
        answers = self._projects.answers(question.label_config, config)
        return answers.prompted(asked, outcome.detections, width, height, threshold, self._new_id)

    def _config(self, question: _Question) -> LabelConfig | None:
        if not question.label_config:
            if question.tasks:
                self._log.warning("label_config_missing", project=question.project)
            return None
        return self._projects.config(question.label_config)

    def _failed(self, task: Any, error: LabelbridgeError, question: _Question) -> Any:
        if isinstance(error, Late):
            return []
        task_id = task.get("id") if isinstance(task, dict) else None
        self._log.warning("task_failed", task=task_id, project=question.project, **error.as_dict())
        return self._nothing()

    def _nothing(self) -> dict[str, Any]:
        return prediction_entry([], self._name)


def _project(body: dict[str, Any]) -> str:
    """``<id>.<created at>``, as Label Studio names projects; bounded, whatever is sent."""
    return str(body.get("project", ""))[:200]


def _reference(task: Any, key: str) -> ImageRef | DataError:
    data = task.get("data") if isinstance(task, dict) else None
    value = data.get(key) if isinstance(data, dict) else None
    if isinstance(value, str) and value.strip():
        return ImageRef(value, str(task.get("id", ""))[:40])
    return DataError(
        f"the task's data has no image under {key!r}: found {type(value).__name__}",
        expected="a path, URL, data: URI or base64 text",
        todo="Correct the task's data, or the Image tag of the label configuration",
    )


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
