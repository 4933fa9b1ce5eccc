"""The model server: an application factory, and a function that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bridge.dialects.label_map_file import read_label_map
from bridge.errors import ConfigError, DataError, LabelbridgeError, ModelError
from ml_backend.http_shell import HttpProblem, Shell, json_response
from ml_backend.image_source import ImageSource
from ml_backend.inference import ModelSource, State
from ml_backend.label_studio_api import LabelStudioDialect
from ml_backend.logs import Log, json_logger
from ml_backend.metrics import CONTENT_TYPE, Metrics
from ml_backend.models import Predictor
from ml_backend.models.catalogue import EMBEDDED, describe_model, load_predictor
from ml_backend.projects import Projects
from ml_backend.runtime import Images, Runtime
from ml_backend.server_settings import ServerSettings

#: Probes of orchestrators carry no password, and these two tell nothing.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})

#: The model is loaded with this threshold, so that a project may ask for fainter suggestions than the default.
FAINTEST = 0.05

_SHUTDOWN_S = 30
_BACKLOG = 2048


def create_app(
    settings: ServerSettings,
    model: ModelSource,
    *,
    log: Log | None = None,
    images: Images | None = None,
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:12],
    on_failure: Callable[[LabelbridgeError], None] | None = None,
) -> FastAPI:
    """The server as an ASGI application. Nothing happens before its lifespan begins; then the model loads in a thread.

    Args:
        settings: see :class:`~ml_backend.server_settings.ServerSettings`.
        model: what to serve.
        log: where log lines go; JSON on stderr by default.
        images: where images come from; by default what the settings allow.
        new_id: a fresh region id at each call.
        on_failure: told, in the inference thread, that the model could not be loaded.
    """
    log = log or _default_log(settings)
    metrics = Metrics()
    images = images or ImageSource(settings)
    runtime = Runtime(model, images, settings, metrics, log, on_failure)
    projects = Projects(settings.label_map, settings.threshold, log)
    dialect = LabelStudioDialect(runtime, projects, metrics, log, max_body_bytes=settings.max_body_bytes, new_id=new_id)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        runtime.start()
        try:
            yield
        finally:
            await asyncio.to_thread(runtime.close)
            if isinstance(images, ImageSource):
                images.close()

    app = FastAPI(
        title="labelbridge model server", docs_url=None, redoc_url=None, lifespan=lifespan, redirect_slashes=False
    )
    app.include_router(dialect.router())
    app.include_router(_operations(runtime, metrics))
    app.add_exception_handler(HttpProblem, _problem)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(
        Shell,
        metrics=metrics,
        log=log,
        routes=frozenset(app.openapi()["paths"]),
        open_paths=OPEN_PATHS,
        credentials=(settings.user, settings.password) if settings.user and settings.password else None,
    )
    return app


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 9090,
    detector: str = EMBEDDED,
    weights: Path | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    threshold: float | None = None,
    label_map: Mapping[str, str] | str | Path | None = None,
    log: Log | None = None,
    **settings: Any,
) -> None:
    """Run the server until it is told to stop; requests that are being answered then are answered first.

    Args:
        host, port: where to listen; port 0 picks a free one, which the first log line names.
        detector, weights, classes, device: see :func:`ml_backend.models.catalogue.load_predictor`.
        threshold: suggestions below it are not shown; None takes what the model's makers recommend.
        label_map: see :func:`bridge.dialects.label_map_file.read_label_map`.
        log: where log lines go; JSON on stderr by default.
        settings: further fields of :class:`~ml_backend.server_settings.ServerSettings`.

    Raises:
        ConfigError: a setting is wrong, or the address cannot be listened on.
        ModelError: the model cannot be loaded, or the label map names a class it does not have.
    """
    card = describe_model(detector, weights=weights)
    names = read_label_map(label_map)
    chosen = ServerSettings(
        threshold=card.score_threshold if threshold is None else threshold, label_map=names, **settings
    )
    log = log or _default_log(chosen)

    def load() -> Predictor:
        predictor = load_predictor(
            detector, weights=weights, classes=classes, device=device, score_threshold=min(FAINTEST, chosen.threshold)
        )
        _check_classes(names, predictor.classes)
        return predictor

    failures: list[LabelbridgeError] = []

    def stop(error: LabelbridgeError) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(chosen, ModelSource(card.name, load), log=log, on_failure=stop)
    with listen(host, port) as listener:
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_SHUTDOWN_S
            )
        )
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        log.info("listening", url=f"http://{shown}:{address[1]}", model=card.name)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    if failures:
        raise failures[0]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: the port is taken or not allowed, or the host is no address of this machine.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"{port} is no port", expected="a number from 0 to 65535", todo="Choose one with --port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"{host!r} is no address to listen on: {error}", todo="Listen on 127.0.0.1, or on 0.0.0.0 for all"
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Only now is the port surely ours; whoever calls early waits in line.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _not_bound(host, port, error) from None
    return listener


def _not_bound(host: str, port: int, error: OSError) -> ConfigError:
    match error.errno:
        case errno.EADDRINUSE:
            return ConfigError(
                f"port {port} on {host} is taken by another program",
                expected="a free port",
                todo="Choose another one with --port, or stop the other program (perhaps an earlier server)",
            )
        case errno.EACCES:
            return ConfigError(
                f"this user may not listen on port {port}",
                expected="a port from 1024 upwards",
                todo="Choose another one with --port",
            )
        case _:
            return ConfigError(
                f"cannot listen on {host} port {port}: {error.strerror or error}",
                expected="an address of this machine",
                todo="Listen on 127.0.0.1, or on 0.0.0.0 for all",
            )


def _check_classes(names: Mapping[str, str], classes: Sequence[str]) -> None:
    strange = [name for name in names if name not in classes]
    if strange:
        raise ModelError(
            f"the label map names {', '.join(map(repr, strange))}, which the model does not have",
            expected="classes of the model on the left: " + ", ".join(map(repr, classes)),
            todo="Correct the label map; upper and lower case count there",
        )


def _default_log(settings: ServerSettings) -> Log:
    return json_logger(sys.stderr, [s for s in (settings.label_studio_api_key, settings.password) if s])


def _operations(runtime: Runtime, metrics: Metrics) -> APIRouter:
    """What those who run the server ask, whatever the annotation tool."""
    router = APIRouter(default_response_class=Response)

    async def healthz() -> Response:
        return json_response({"status": "UP"})

    async def readyz() -> Response:
        return json_response({"state": runtime.state}, 200 if runtime.state is State.READY else 503)

    async def metrics_text() -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    router.add_api_route("/healthz", healthz, methods=["GET"], summary="Is the process alive; needs no password")
    router.add_api_route("/readyz", readyz, methods=["GET"], summary="Is the model loaded; needs no password")
    router.add_api_route("/metrics", metrics_text, methods=["GET"], summary="Counters for Prometheus")
    return router


async def _problem(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HttpProblem)
    return problem.response()


async def _http_error(request: Request, error: Exception) -> Response:
    """Wrong paths and methods, in the same form as every other error."""
    assert isinstance(error, HTTPException)
    what = {404: f"there is no {request.url.path[:200]}", 405: f"{request.url.path} does not take {request.method}"}
    shown = DataError(what.get(error.status_code, str(error.detail)), todo="/openapi.json lists what there is")
    return HttpProblem(error.status_code, shown, error.headers).response()
