"""What the tests of CVAT's dialect share: little models of each role, and a server that speaks only this dialect."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
import uvicorn
from scipy import ndimage
from serving_kit import Running, SquareFinder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.core.annotations import Polygon
from bridge.core.masks import MaskCrop
from bridge.listening import listen
from bridge.logs import Log, json_logger
from ml_backend.endpoints import Endpoint
from ml_backend.entry import ModelEntry
from ml_backend.http_shell import HttpProblem
from ml_backend.image_source import ImageSource
from ml_backend.metrics import Metrics
from ml_backend.models import Detections, Kind, Prompt, Segment
from ml_backend.models.catalogue import ModelCard
from ml_backend.nuclio_api import NuclioDialect, ProjectFunction
from ml_backend.nuclio_upstream import NuclioUpstream
from ml_backend.operations import Operations
from ml_backend.runtime import Runtime
from ml_backend.server_settings import ServerSettings

Image = npt.NDArray[np.uint8]


class PatchFinder(SquareFinder):
    """The squares with their pixels."""

    name = "patch-finder-1"
    kind: Kind = "mask"

    def _one(self, image: Image) -> Detections:
        boxes = super()._one(image)
        masks = tuple(MaskCrop.of(image[:, :, channel] > 200) for channel in boxes.label.tolist())
        return Detections(boxes.xyxy, boxes.label, boxes.confidence, tuple(m for m in masks if m is not None))


class Judge:
    """Says of a whole picture how much of it is red, and how much green."""

    name = "judge-1"
    classes = ("reddish", "greenish")
    kind: Kind = "tag"

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Detections:
        shares = (image[:, :, :2] > 200).mean(axis=(0, 1))
        order = np.argsort(-shares, kind="stable")
        whole = np.array([[0, 0, image.shape[1], image.shape[0]]] * 2, float)
        return Detections(whole, order.astype(np.int64), shares[order])


@dataclass(frozen=True)
class Prepared:
    labels: npt.NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        return self.labels.nbytes


class Filler:
    """The bright patch that was clicked, or all that is bright in a box; without what was clicked as beside it."""

    name = "filler-1"

    def __init__(self) -> None:
        self.looked = 0

    def preprocess(self, image: Image) -> Prepared:
        self.looked += 1
        labels, _ = ndimage.label((image > 200).any(axis=2))
        return Prepared(labels.astype(np.int32))

    def prompt(self, preprocessed: Prepared, prompts: Sequence[Prompt]) -> list[Segment | None]:
        return [self._one(preprocessed.labels, prompt) for prompt in prompts]

    def _one(self, labels: npt.NDArray[np.int32], prompt: Prompt) -> Segment | None:
        mask = np.isin(labels, [self._at(labels, point) for point in prompt.positive])
        if prompt.box is not None:
            x1, y1, x2, y2 = (round(n) for n in prompt.box)
            mask[y1:y2, x1:x2] = True
        mask &= ~np.isin(labels, [0, *(self._at(labels, point) for point in prompt.negative)])
        crop = MaskCrop.of(mask)
        return None if crop is None else Segment(crop, 0.9)

    def _at(self, labels: npt.NDArray[np.int32], point: tuple[float, float]) -> int:
        x, y = int(point[0]), int(point[1])
        return int(labels[y, x]) if 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1] else 0


def entry(id_: str, model: Any = None, **more: Any) -> ModelEntry:
    """A model as the server serves it; SquareFinder where none is given. ``model`` may be what loads it."""
    load = model if callable(model) else lambda: model or SquareFinder()
    known = more.pop("known", None) or load()
    role = getattr(known, "kind", "interactor")
    card = ModelCard(
        known.name, role, more.pop("classes", getattr(known, "classes", ())), description=more.pop("about", "")
    )
    return ModelEntry(id_, card, load, **more)


def box_of(mask: MaskCrop) -> Polygon:
    x1, y1, x2, y2 = mask.xyxy
    return Polygon(((x1, y1), (x2, y1), (x2, y2), (x1, y2)))


@contextmanager
def cvat_server(
    entries: Sequence[ModelEntry] = (),
    functions: Sequence[ProjectFunction] = (),
    settings: ServerSettings | None = None,
    upstream: Callable[[Log], NuclioUpstream] | None = None,
    direct: Sequence[str] = (),
    port: int = 0,
    runtime: Any = None,
    **options: Any,
) -> Iterator[Running]:
    """A server of this dialect alone; ``direct`` names the functions that get a port of their own."""
    settings = settings or ServerSettings()
    text = io.StringIO()
    log, metrics = json_logger(text), Metrics()
    runtime = runtime or Runtime(entries, ImageSource(settings), settings, metrics, log)
    listeners = [listen("127.0.0.1", port), *(listen("127.0.0.1", 0) for _ in direct)]
    ports = dict(zip(direct, (one.getsockname()[1] for one in listeners[1:]), strict=True))
    behind = upstream(log) if upstream else None
    options = {"max_body_bytes": settings.max_body_bytes, "outline": box_of, **options}
    dialect = NuclioDialect(runtime, functions, log, metrics, upstream=behind, direct_ports=ports, **options)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        runtime.start()
        yield
        runtime.close()

    endpoints = [*dialect.endpoints(), *Operations(runtime, metrics).endpoints()]
    apps = [_app(endpoints, lifespan), *(_app(dialect.direct_endpoints(name)) for name in direct)]
    servers = [
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
        for app in apps
    ]
    threads = [
        threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        for server, listener in zip(servers, listeners, strict=True)
    ]
    running = Running(f"http://127.0.0.1:{listeners[0].getsockname()[1]}", text, lambda: None)
    try:
        for thread in threads:
            thread.start()
        _wait(listeners)
        yield running
    finally:
        running.http.close()
        for server in servers:
            server.should_exit = True
        for thread, listener in zip(threads, listeners, strict=True):
            thread.join(20)
            listener.close()
        if behind:
            behind.close()


def _app(endpoints: Sequence[Endpoint], lifespan: Any = None) -> Starlette:
    async def problem(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HttpProblem)
        return error.response()

    app = Starlette(
        routes=[Route(e.path, e.handler, methods=[e.method]) for e in endpoints],
        exception_handlers={HttpProblem: problem},
        lifespan=lifespan,
    )
    app.add_middleware(_RequestIds)
    return app


class _RequestIds:
    """Of what the server's shell does, the part that log lines need."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"x-request-id", b"")
        with structlog.contextvars.bound_contextvars(request_id=given.decode()):
            await self.app(scope, receive, send)


def _wait(listeners: Sequence[socket.socket]) -> None:
    """A listening socket takes connections at once; the server answers them a moment later."""
    for listener in listeners:
        with socket.create_connection(listener.getsockname()[:2], timeout=10) as client:
            client.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(12)


def eventually(what: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def counted(running: Running, metric: str, **labels: str) -> float:
    """The value of a counter with these labels."""
    for line in running.get("/metrics").text.splitlines():
        if line.startswith(metric + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.split()[-1])
    return 0.0
