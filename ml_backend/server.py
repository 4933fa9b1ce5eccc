"""The parts of one model server, put together: a runtime, the dialects over it, the applications that speak them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.errors import DataError, LabelbridgeError
from bridge.logs import AccessLog, Log
from ml_backend.browser_guard import BrowserGuard
from ml_backend.endpoints import Endpoint
from ml_backend.entry import ModelEntry
from ml_backend.fresh_ids import fresh_ids
from ml_backend.http_shell import HttpProblem, Keys, Shell, json_response
from ml_backend.image_source import ImageSource
from ml_backend.json_api import JsonApi
from ml_backend.label_studio_api import LabelStudioDialect
from ml_backend.metrics import Metrics
from ml_backend.nuclio_api import NuclioDialect, ProjectFunction
from ml_backend.nuclio_upstream import NuclioUpstream
from ml_backend.openapi import openapi
from ml_backend.operations import OPEN_PATHS, Operations
from ml_backend.runtime import Images, Runtime
from ml_backend.server_settings import ServerSettings

Names = Collection[str] | None


class Server:
    """One runtime and everything that is asked of it.

    Args:
        settings: see :class:`~ml_backend.server_settings.ServerSettings`.
        entries: what to serve; the first detector and the first interactive model are the default ones.
        functions: models under a project's own label names, for CVAT.
        direct_ports: for CVAT's direct mode, the port that each model or function answers on, by id.
        log, access: where log lines go, and the line about each request.
        images: where images come from; by default what the settings allow.
        on_failure: told, in some thread, that a default model could not be loaded.
    """

    def __init__(
        self,
        settings: ServerSettings,
        entries: Sequence[ModelEntry],
        *,
        log: Log,
        access: AccessLog,
        functions: Sequence[ProjectFunction] = (),
        direct_ports: Mapping[str, int] | None = None,
        images: Images | None = None,
        on_failure: Callable[[LabelbridgeError], None] | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._access = access
        new_id = fresh_ids()
        self._metrics = metrics = Metrics()
        self._images = images or ImageSource(settings)
        self._runtime = runtime = Runtime(entries, self._images, settings, metrics, log, on_failure)
        self._upstream = (
            NuclioUpstream(settings.nuclio_upstream, log, max_body_bytes=settings.max_body_bytes)
            if settings.nuclio_upstream
            else None
        )
        self._nuclio = NuclioDialect(
            runtime,
            functions,
            log=log,
            metrics=metrics,
            max_body_bytes=settings.max_body_bytes,
            upstream=self._upstream,
            direct_ports=direct_ports or {},
        )

        def label_studio(detector: ModelEntry | None, interactor: ModelEntry | None, prefix: str) -> list[Endpoint]:
            return LabelStudioDialect(
                runtime,
                detector=detector,
                interactor=interactor,
                metrics=metrics,
                log=log,
                max_body_bytes=settings.max_body_bytes,
                new_id=new_id,
                prefix=prefix,
            ).endpoints()

        self._endpoints = label_studio(runtime.detector, runtime.interactor, "")
        self._endpoints += Operations(runtime, metrics).endpoints()
        self._endpoints += JsonApi(runtime, max_body_bytes=settings.max_body_bytes).endpoints()
        for entry in entries:
            detector = None if entry.interactive else entry
            interactor = entry if entry.interactive else runtime.interactor
            self._endpoints += label_studio(detector, interactor, f"/models/{entry.id}")

    def app(self, *, nuclio: bool, names: Names = None) -> Starlette:
        """What Label Studio and scripts talk to; its lifespan is that of the models.

        Args:
            nuclio: whether CVAT is answered here too. It shows no password, so where there are keys it is asked for one
                in vain.
            names: see :class:`~ml_backend.browser_guard.BrowserGuard`; where there are keys, they are not looked at: no
                page of others can show one.
        """
        endpoints = [*self._endpoints, *(self._nuclio.endpoints() if nuclio else ())]
        document = openapi("labelbridge model server", version("labelbridge"), endpoints)

        async def described(_request: Request) -> Response:
            return json_response(document)

        settings = self._settings
        keys = Keys(settings.user, settings.password, settings.token)
        page = Endpoint("GET", "/openapi.json", described, "This description")
        guard = BrowserGuard(None if keys.any else names)
        return self._application([*endpoints, page], keys if keys.any else None, guard, self._lifespan)

    @property
    def functions(self) -> tuple[str, ...]:
        """The ids under which CVAT lists what is served."""
        return self._nuclio.ids

    def nuclio_app(self, names: Names = None) -> Starlette:
        """What CVAT talks to, and nothing else: it has no authentication. ``names`` as in :meth:`app`."""
        return self._application([*self._nuclio.endpoints(), *self._probes()], None, BrowserGuard(names), None)

    def direct_app(self, function: str, names: Names = None) -> Starlette:
        """One model for CVAT's direct mode, where the port tells which model is meant. No authentication."""
        endpoints = [*self._nuclio.direct_endpoints(function), *self._probes()]
        return self._application(endpoints, None, BrowserGuard(names), None)

    def _probes(self) -> list[Endpoint]:
        return [e for e in Operations(self._runtime, self._metrics).endpoints() if e.path in OPEN_PATHS]

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._runtime.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self._runtime.close)
            if isinstance(self._images, ImageSource):
                self._images.close()
            if self._upstream:
                self._upstream.close()

    def _application(
        self, endpoints: Sequence[Endpoint], keys: Keys | None, guard: BrowserGuard, lifespan: Any
    ) -> Starlette:
        app = Starlette(
            routes=[
                Route(e.path, e.handler, methods=[e.method], name=f"{e.method} {e.path}") for e in _merged(endpoints)
            ],
            exception_handlers={HttpProblem: _problem, HTTPException: _http_error},
            lifespan=lifespan,
        )
        app.router.redirect_slashes = False
        app.add_middleware(
            Shell,
            metrics=self._metrics,
            log=self._log,
            access=self._access,
            routes=frozenset(e.path for e in endpoints if "{" not in e.path),
            open_paths=OPEN_PATHS,
            keys=keys,
            guard=guard,
        )
        return app


def _merged(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Checked to be one per method and path: Starlette would silently take the first."""
    taken = [(e.method, e.path) for e in endpoints]
    assert len(set(taken)) == len(taken), f"two endpoints for {[t for t in taken if taken.count(t) > 1][:1]}"
    return list(endpoints)


async def _problem(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HttpProblem)
    return problem.response()


async def _http_error(request: Request, error: Exception) -> Response:
    """Wrong paths and methods, in the same form as every other error."""
    assert isinstance(error, HTTPException)
    what = {404: f"there is no {request.url.path[:200]}", 405: f"{request.url.path} does not take {request.method}"}
    shown = DataError(what.get(error.status_code, str(error.detail)), todo="/openapi.json lists what there is")
    return HttpProblem(error.status_code, shown, error.headers).response()
