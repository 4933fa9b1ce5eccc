"""The server's own API: models, predictions and prompts as plain JSON, for scripts and other tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.masks import MaskCrop
from bridge.core.rle import coco_string, encode_coco
from bridge.errors import DataError, ImageError, LabelbridgeError, NotFound, ToolError
from ml_backend.endpoints import Endpoint
from ml_backend.entry import ModelEntry
from ml_backend.http_shell import HttpProblem, json_response, read_object
from ml_backend.image_source import ImageRef
from ml_backend.models import Prompt, Segment
from ml_backend.runtime import Late, Outcome, Overloaded, Runtime, Seen

_MOST_IMAGES = 1000
_MOST_PROMPTS = 1000
_MOST_POINTS = 1000
#: No image is that large; what is not finite is not below it either.
_FAR = 1e9


class JsonApi:
    """``/v1/models``, and what to ask of each.

    Args:
        max_body_bytes: larger requests are refused.
    """

    def __init__(self, runtime: Runtime, *, max_body_bytes: int) -> None:
        self._runtime = runtime
        self._max_body_bytes = max_body_bytes

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "/v1/models", self.models, "What is served"),
            Endpoint("POST", "/v1/models/{model}/predict", self.predict, "Find objects in images", body=_PREDICT),
            Endpoint("POST", "/v1/models/{model}/prompt", self.prompt, "Outline what prompts point at", body=_PROMPT),
        ]

    async def models(self, _request: Request) -> Response:
        return json_response({"models": [self._model(entry) for entry in self._runtime.entries.values()]})

    async def predict(self, request: Request) -> Response:
        body = await read_object(request, self._max_body_bytes)
        images = [_image(image) for image in _some(body, "images", _MOST_IMAGES)]
        try:
            entry = self._runtime.entry(request.path_params["model"])
            threshold = _share(body.get("threshold"), entry.threshold)
            outcomes = await self._runtime.look(entry.id, images, request.is_disconnected)
        except LabelbridgeError as error:
            raise as_problem(error) from None
        return json_response({"model": entry.card.name, "results": [_result(o, entry, threshold) for o in outcomes]})

    async def prompt(self, request: Request) -> Response:
        body = await read_object(request, self._max_body_bytes)
        image = _image(body.get("image"))
        prompts = [_prompt(prompt) for prompt in _some(body, "prompts", _MOST_PROMPTS)]
        try:
            entry = self._runtime.entry(request.path_params["model"])
            found = await self._runtime.segment(entry.id, image, prompts, request.is_disconnected)
        except LabelbridgeError as error:
            raise as_problem(error) from None
        size = (found.height, found.width)
        results = [None if segment is None else _segment(segment, size) for segment in found.segments]
        return json_response(
            {"model": entry.card.name, "width": found.width, "height": found.height, "results": results}
        )

    def _model(self, entry: ModelEntry) -> dict[str, Any]:
        return {
            "id": entry.id,
            "name": entry.card.name,
            "role": entry.card.role,
            "classes": entry.card.classes,
            "threshold": entry.threshold,
            "description": entry.card.description,
            "state": self._runtime.state_of(entry.id),
        }


def as_problem(error: LabelbridgeError) -> HttpProblem:
    """The error with the HTTP status that fits it."""
    match error:
        case Overloaded():
            return HttpProblem(503, error, {"Retry-After": str(error.retry_after)})
        case Late():
            return HttpProblem(503, error, {"Retry-After": "5"})
        case NotFound():
            return HttpProblem(404, error)
        case ImageError() | DataError():
            return HttpProblem(400, error)
        case ToolError():
            return HttpProblem(502, error)
        case _:
            return HttpProblem(503, error)


def _result(outcome: Outcome, entry: ModelEntry, threshold: float) -> dict[str, Any]:
    if not isinstance(outcome, Seen):
        return {"error": outcome.as_dict()}
    found = outcome.detections
    objects: list[dict[str, Any]] = []
    for k in range(int((found.confidence >= threshold).sum())):
        name = entry.card.classes[int(found.label[k])]
        one: dict[str, Any] = {"label": name, "confidence": float(found.confidence[k])}
        if entry.card.role != "tag":
            one["xyxy"] = found.xyxy[k].tolist()
        if found.masks:
            one["mask"] = _mask(found.masks[k], (outcome.height, outcome.width))
        objects.append(one)
    return {"width": outcome.width, "height": outcome.height, "objects": objects}


def _segment(segment: Segment, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "confidence": segment.confidence,
        "xyxy": list(segment.mask.xyxy),
        "mask": _mask(segment.mask, size),
    }


def _mask(mask: MaskCrop, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed run lengths, which every COCO tool reads."""
    return {"size": list(size), "counts": coco_string(encode_coco(mask.full(*size)).counts)}


def _some(body: Mapping[str, Any], key: str, most: int) -> list[Any]:
    found = body.get(key)
    if not isinstance(found, list) or not 0 < len(found) <= most:
        shown = f"a list of {len(found)}" if isinstance(found, list) else type(found).__name__
        raise _wrong(f"{key} is {shown}", f"a list of 1 to {most}")
    return found


def _image(value: Any) -> ImageRef:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(f"an image is {_shown(value)}", "a path, URL, data: URI or base64 text")
    return ImageRef(value)


def _share(value: Any, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _wrong(f"threshold is {_shown(value)}", "a number from 0 to 1")
    return float(value)


def _prompt(value: Any) -> Prompt:
    if not isinstance(value, dict):
        raise _wrong(f"a prompt is {_shown(value)}", 'an object, as in {"positive": [[x, y]], "box": [x1, y1, x2, y2]}')
    prompt = Prompt(
        _points(value, "positive"),
        _points(value, "negative"),
        None if value.get("box") is None else _box(value["box"]),
    )
    if prompt.empty:
        raise _wrong("a prompt has neither a positive point nor a box", "at least one of the two")
    return prompt


def _points(value: Mapping[str, Any], key: str) -> tuple[tuple[float, float], ...]:
    points = value.get(key) or []
    if not isinstance(points, list) or len(points) > _MOST_POINTS or not all(_numbers(p, 2) for p in points):
        raise _wrong(f"{key} is {_shown(points)}", "a list of pairs [x, y] in pixels")
    return tuple((float(x), float(y)) for x, y in points)


def _box(value: Any) -> tuple[float, float, float, float]:
    if not _numbers(value, 4) or value[2] <= value[0] or value[3] <= value[1]:
        raise _wrong(f"box is {_shown(value)}", "[x1, y1, x2, y2] in pixels, with area")
    x1, y1, x2, y2 = map(float, value)
    return x1, y1, x2, y2


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(n, int | float) and not isinstance(n, bool) for n in value)
        and all(-_FAR < n < _FAR for n in value)
    )


def _shown(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()[:80]
    except TypeError:
        return type(value).__name__


def _wrong(found: str, expected: str) -> HttpProblem:
    return HttpProblem(400, DataError(found, expected=expected, todo="Correct the request; /openapi.json describes it"))


_IMAGE = {"type": "string", "description": "A path on Label Studio, an allowed URL, a data: URI or base64."}
_POINTS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}
_PREDICT: dict[str, Any] = {
    "type": "object",
    "required": ["images"],
    "properties": {
        "images": {"type": "array", "items": _IMAGE, "minItems": 1, "maxItems": _MOST_IMAGES},
        "threshold": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    },
}
_PROMPT: dict[str, Any] = {
    "type": "object",
    "required": ["image", "prompts"],
    "properties": {
        "image": _IMAGE,
        "prompts": {
            "type": "array",
            "minItems": 1,
            "maxItems": _MOST_PROMPTS,
            "items": {
                "type": "object",
                "properties": {
                    "positive": _POINTS,
                    "negative": _POINTS,
                    "box": {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
                },
            },
        },
    },
}
