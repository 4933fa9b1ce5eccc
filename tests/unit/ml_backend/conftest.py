"""Fixtures that start model servers."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
import uvicorn
from serving_kit import Running, SquareFinder, Start

from bridge.bounded_http import BoundedHttp
from bridge.listening import listen
from ml_backend.app import create_app
from ml_backend.entry import ModelEntry
from ml_backend.models import Predictor
from ml_backend.models.catalogue import ModelCard
from ml_backend.runtime import Images
from ml_backend.server_settings import ServerSettings


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(predictor, settings)`` runs a server until the test ends."""
    stops: list[Callable[[], None]] = []

    def begin(
        model: Predictor | Callable[[], Predictor] | None = None,
        settings: ServerSettings | None = None,
        name: str = SquareFinder.name,
        images: Images | None = None,
        threshold: float = 0.5,
        label_map: Mapping[str, str] | None = None,
        more: Sequence[ModelEntry] = (),
    ) -> Running:
        log = io.StringIO()
        load = model if callable(model) else lambda: model or SquareFinder()  # type: ignore[return-value]
        settings = settings or ServerSettings()
        card = ModelCard(name, "rectangle", SquareFinder.classes)
        entries = [ModelEntry("squares", card, load, threshold, label_map or {}), *more]
        app = create_app(settings, entries, stream=log, images=images)
        listener = listen("127.0.0.1", 0)
        config = uvicorn.Config(app, http=BoundedHttp, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()

        def stop_soon() -> None:
            server.should_exit = True

        running = Running(f"http://127.0.0.1:{listener.getsockname()[1]}", log, stop_soon)

        def stop() -> None:
            running.http.close()
            stop_soon()
            thread.join(20)
            listener.close()
            assert not thread.is_alive()

        stops.append(stop)
        return running

    yield begin
    for stop in stops:
        stop()


@pytest.fixture
def server(start: Start) -> Running:
    """A ready server of :class:`SquareFinder`."""
    running = start()
    running.wait_until_ready()
    return running
