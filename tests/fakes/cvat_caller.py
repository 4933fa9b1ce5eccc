"""CVAT, as far as a Nuclio dashboard meets it: its calls, how it reads what comes back, and what it cannot stand.

Three generations, which differ in what they forgive: 2.15, 2.22, and ``new`` for what came later.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

VERSIONS = ("2.15", "2.22", "new")
KINDS = ("detector", "interactor", "tracker", "reid")


class ListFailed(Exception):
    """CVAT's own list of models answers with this status, and its page shows none of them."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"CVAT answers {status}")


class CallFailed(Exception):
    """A function answered with no success; CVAT knows the status and nothing else."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"{status} Error")


class PageFailed(Exception):
    """CVAT's page shows an error message instead of a shape."""


class _Skipped(Exception):
    pass


@dataclass(frozen=True)
class Function:
    """A function as CVAT understood it."""

    id: str
    kind: str
    name: str
    description: str
    version: int
    labels: Mapping[str, str]
    attributes: Mapping[str, Sequence[str]]
    min_pos_points: int
    min_neg_points: int
    startswith_box: bool
    startswith_box_optional: bool
    help_message: str
    port: int | None

    @property
    def can_be_started(self) -> bool:
        return self.kind != "interactor" or self.version >= 2

    def asks(self, version: str, positive: int, negative: int, boxes: int = 0) -> bool:
        """Whether CVAT's page calls the interactor once a person has drawn that much."""
        if boxes and not (self.startswith_box or (version != "2.15" and self.startswith_box_optional)):
            return False
        if negative and self.min_neg_points < 0:
            return False  # the page takes no such clicks
        enough = positive >= self.min_pos_points and negative >= self.min_neg_points
        return enough and (version == "2.15" or bool(positive or boxes))


@dataclass(frozen=True)
class TaskLabel:
    """A label of the task: its type, and its attributes' input types."""

    type: str = "any"
    attributes: Mapping[str, str] = ()  # type: ignore[assignment]


def read_list(body: Any, version: str) -> list[Function]:
    """The list of functions as this version of CVAT reads it.

    Raises:
        ListFailed: one of them cannot be read in a way that this version does not expect.
    """
    if not isinstance(body, dict):
        raise ListFailed(500)
    functions = []
    for item in body.values():
        try:
            functions.append(_read(item, version))
        except _Skipped:
            continue
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ListFailed(500) from error
    return functions


def _read(item: Any, version: str) -> Function:
    notes = item["metadata"]["annotations"]
    kind = notes.get("type")
    if kind not in KINDS:
        if version != "2.15":
            raise _Skipped
        kind = "unknown"
    labels = json.loads(notes.get("spec") or "[]")
    names = [label["name"] for label in labels]
    unique = len(set(names)) == len(names)
    for label in labels:
        attributes = [(a["name"], a["input_type"], a["values"]) for a in label.get("attributes", [])]
        unique = unique and len({name for name, _, _ in attributes}) == len(attributes)
    if not unique:
        if version == "2.15":
            raise ListFailed(404)
        raise _Skipped
    switches = ("startswith_box", "startswith_box_optional")
    with_box, optional = (bool(notes.get(key, False)) for key in switches)
    return Function(
        id=item["metadata"]["name"],
        kind=kind,
        name=notes.get("name", item["metadata"]["name"]),
        description=item["spec"]["description"],
        version=int(notes.get("version", "1")),
        labels={label["name"]: label.get("type", "any" if version == "new" else "unknown") for label in labels},
        attributes={label["name"]: [a["name"] for a in label.get("attributes", [])] for label in labels},
        min_pos_points=int(notes.get("min_pos_points", 1)),
        min_neg_points=int(notes.get("min_neg_points", -1)),
        startswith_box=with_box,
        startswith_box_optional=optional and version != "2.15",
        help_message=notes.get("help_message", ""),
        port=item["status"].get("httpPort"),
    )


class CvatCaller:
    """One CVAT server.

    Args:
        url: of the dashboard, without a path: CVAT can be told none.
        direct: whether functions are called at their own ports.
    """

    def __init__(self, url: str, version: str = "2.22", *, direct: bool = False, project: str = "cvat") -> None:
        self.url = url
        self.version = version
        self.direct = direct
        self.headers = {
            "x-nuclio-project-name": project,
            "x-nuclio-function-namespace": "nuclio",
            "x-nuclio-invoke-via": "domain-name",
            "X-Nuclio-Invoke-Timeout": "120s",
            "User-Agent": f"CVAT/{version} python-requests/2.32",
        }

    def list(self) -> list[Function]:
        """What the Models page shows; a server that cannot be asked shows nothing."""
        return read_list(self._http("GET", "/api/functions"), self.version)

    def get(self, name: str) -> Function:
        (function,) = read_list({name: self._http("GET", f"/api/functions/{name}")}, self.version)
        return function

    def call(self, name: str, payload: Mapping[str, Any]) -> Any:
        """Look the function up, then call it, as CVAT does for every click."""
        function = self.get(name)
        if self.direct:
            return self._http("POST", "", payload, base=f"http://127.0.0.1:{function.port}")
        told = {"x-nuclio-function-name": name, "x-nuclio-path": "/"}
        return self._http("POST", "/api/function_invocations", payload, told)

    def detect(
        self,
        name: str,
        image: bytes,
        labels: Mapping[str, TaskLabel],
        *,
        threshold: float = 0,
        masks_as_polygons: bool = False,
    ) -> Sequence[Mapping[str, Any]]:
        """What is stored after a detector was run on one frame, labels being matched by their names."""
        function = self.get(name)
        payload = {**({"threshold": threshold} if threshold else {}), "image": base64.b64encode(image).decode()}
        stored = []
        for item in self.call(name, payload):
            model, task = function.labels.get(item["label"]), labels.get(item["label"])
            if model is not None and task is not None and _fit(model, task.type):
                stored.append(_stored(item, function, task, masks_as_polygons))
        return stored

    def interact(
        self,
        name: str,
        image: bytes,
        positive: Sequence[Sequence[float]] = (),
        negative: Sequence[Sequence[float]] = (),
        box: Sequence[Sequence[float]] = (),
    ) -> Mapping[str, Any] | None:
        """What CVAT's page draws after clicks: a mask as run lengths with its box, and a polygon; None for nothing."""
        function = self.get(name)
        points, corners = [list(p) for p in positive], [list(c) for c in box]
        shown: Any = corners
        if self.version == "2.15":
            # The page mixes the box into the points; the server takes it off again only where it is compulsory.
            points = corners + points
            shown = points[:2] if function.startswith_box else None
            points = points[2:] if function.startswith_box else points
        answer = self.call(
            name,
            {
                "image": base64.b64encode(image).decode(),
                "pos_points": points,
                "neg_points": [list(p) for p in negative],
                "obj_bbox": shown,
            },
        )
        return draw(answer)

    def _http(
        self,
        method: str,
        path: str,
        payload: Any = None,
        told: Mapping[str, str] | None = None,
        base: str = "",
    ) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            reply = session.request(
                method, (base or self.url) + path, headers={**self.headers, **(told or {})}, json=payload, timeout=120
            )
        if reply.status_code >= 400:
            raise CallFailed(reply.status_code)
        return reply.json()


def draw(answer: Any) -> Mapping[str, Any] | None:
    """What the page makes of an interactor's answer; None where it draws nothing.

    Raises:
        PageFailed: it cannot be drawn.
    """
    try:
        rows, points = answer["mask"], answer.get("points")
        if points is None:
            raise PageFailed("the page looks for a contour, which an empty mask does not have")
        flat = [pixel for row in rows for pixel in row]
        bounds = answer.get("bounds") or [0, 0, len(rows[0]) - 1, len(rows) - 1]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise PageFailed(repr(error)) from error
    left, top, right, bottom = bounds
    if len(flat) != (right - left + 1) * (bottom - top + 1) or not set(flat) <= {0, 1}:
        raise PageFailed("the mask does not fill its box")
    if not points:
        return None
    if len(points) < 3:
        raise PageFailed("a polygon of less than three points")
    return {"mask": [*runs(flat), *bounds], "polygon": points}


def runs(flat: Sequence[int]) -> list[int]:
    """Lengths of alternating runs of 0 and 1, beginning with 0."""
    lengths = [len(list(group)) for _, group in itertools.groupby(flat)]
    return [0, *lengths] if flat and flat[0] else lengths


def _fit(model: str, task: str) -> bool:
    pair = {model, task}
    return model == task or pair == {"mask", "polygon"} or task == "any" or model in ("any", "unknown")


def _stored(item: Mapping[str, Any], function: Function, task: TaskLabel, masks_as_polygons: bool) -> dict[str, Any]:
    """One item of an answer as the database takes it; raises where the real one would."""
    attributes = {}
    for attribute in item.get("attributes", []):
        kind = dict(task.attributes).get(attribute["name"])
        if attribute["name"] not in function.attributes[item["label"]] or kind is None:
            continue
        value = attribute["value"]
        assert isinstance(value, str), "CVAT calls text methods of every value"
        if kind == "text" or (kind == "number" and value.isnumeric()):
            attributes[attribute["name"]] = value
    stored = {"label": item["label"], "type": item["type"], "attributes": attributes}
    match item["type"]:
        case "tag":
            return stored
        case "mask" if masks_as_polygons and "points" in item:
            return {**stored, "type": "polygon", "points": _numbers(item["points"], 6)}
        case "mask":
            *pixels, left, top, right, bottom = item["mask"]
            assert len(pixels) == (right - left + 1) * (bottom - top + 1)
            assert set(pixels) <= {0, 1}
            return {**stored, "points": [*runs(pixels), left, top, right, bottom]}
        case "rectangle":
            return {**stored, "points": _numbers(item["points"], 4), "rotation": item.get("rotation", 0)}
    raise AssertionError(item["type"])


def _numbers(points: Sequence[Any], least: int) -> list[float]:
    assert len(points) >= least
    assert len(points) % 2 == 0
    assert all(isinstance(n, int | float) and math.isfinite(n) for n in points)
    return [float(n) for n in points]
