"""The model server as an application factory, and as a command that runs until it is told to stop."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from starlette.applications import Starlette

from bridge.dialects.label_map_file import read_label_map
from bridge.errors import ConfigError, LabelbridgeError, ModelError
from bridge.listening import Servers, listen, url_of
from bridge.logs import AccessLog, Log, json_logger
from bridge.net import is_loopback
from ml_backend.entry import ModelEntry, is_id
from ml_backend.models import Interactor, Predictor
from ml_backend.models.catalogue import EMBEDDED, ModelSpec, describe, load
from ml_backend.models_file import ModelsFile, read_models_file
from ml_backend.nuclio_api import ProjectFunction
from ml_backend.runtime import Images
from ml_backend.server import Server
from ml_backend.server_settings import ServerSettings

#: Models are loaded with this threshold, so that a caller may ask for fainter suggestions than the default.
FAINTEST = 0.05


def create_app(
    settings: ServerSettings,
    entries: Sequence[ModelEntry],
    *,
    stream: TextIO = sys.stderr,
    images: Images | None = None,
    functions: Sequence[ProjectFunction] = (),
    on_failure: Callable[[LabelbridgeError], None] | None = None,
) -> Starlette:
    """The server as one ASGI application, all dialects on one port.

    Nothing happens before its lifespan begins; then the default models load in threads. Log lines go to ``stream`` as
    JSON; the other arguments are those of :class:`~ml_backend.server.Server`.
    """
    server = Server(
        settings, entries, functions=functions, images=images, on_failure=on_failure, **_logs(settings, stream)
    )
    return server.app(nuclio=True)


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 9090,
    detector: str | None = None,
    interactor: str | None = None,
    weights: Path | None = None,
    classes: Sequence[str] | None = None,
    models: Path | None = None,
    device: str = "auto",
    threshold: float | None = None,
    label_map: Mapping[str, str] | str | Path | None = None,
    nuclio_host: str | None = None,
    nuclio_port: int | None = None,
    nuclio_direct_port: int | None = None,
    own_names: Sequence[str] = (),
    stream: TextIO = sys.stderr,
    **settings: Any,
) -> None:
    """Run the server until it is told to stop; requests that are being answered then are answered first.

    Args:
        host, port: where to listen; port 0 picks a free one, which the first log line names.
        detector, weights, classes, device: the default detector; see
            :class:`ml_backend.models.catalogue.ModelSpec`. Without one, the models file's first, or the embedded one.
        interactor: the default interactive model, likewise; ``none`` for no such model.
        models: a models file; see :mod:`ml_backend.models_file`.
        threshold: the detector's suggestions below it are not shown; None takes what the model's makers recommend.
        label_map: for the detector; see :func:`bridge.dialects.label_map_file.read_label_map`.
        nuclio_host, nuclio_port: where CVAT is answered; by default on the same port as everything else.
        nuclio_direct_port: for CVAT's direct mode, the first of as many ports as there are models and functions.
        own_names: host names under which the server may be called without a password, besides those that nobody can
            register. Any, where it listens to other machines and none is given: then they cannot be known.
        stream: where log lines go, as JSON.
        settings: further fields of :class:`~ml_backend.server_settings.ServerSettings`.

    Raises:
        ConfigError: a setting is wrong, or an address cannot be listened on.
        ModelError: a default model cannot be loaded, or a label map names a class that its model does not have.
    """
    chosen = ServerSettings(**settings)
    logs = _logs(chosen, stream)
    log: Log = logs["log"]
    file = read_models_file(models) if models else None
    own = ModelSpec(
        detector or EMBEDDED, weights=weights, classes=None if classes is None else tuple(classes), device=device
    )
    entries = from_file = _from_file(file, models, device)
    if detector or all(e.interactive for e in from_file):
        entries = [make_entry(None, own, threshold, read_label_map(label_map)), *entries]
    wanted = (interactor or "").lower() != "none"
    if wanted and (interactor or not any(e.interactive for e in from_file)):
        entries = [make_entry(None, ModelSpec(interactor or DEFAULT_INTERACTOR, device=device)), *entries]
    _check_ids([e.id for e in entries])
    functions = _functions(file)
    failures: list[LabelbridgeError] = []

    def stop(error: LabelbridgeError) -> None:
        failures.append(error)
        servers.stop()

    names = [e.id for e in entries] + [f.id for f in functions]
    ports = {} if nuclio_direct_port is None else {n: nuclio_direct_port + k for k, n in enumerate(names)}
    server = Server(chosen, entries, functions=functions, direct_ports=ports, on_failure=stop, **logs)
    apart = nuclio_port is not None
    with_keys = bool(chosen.password or chosen.token)
    inside = nuclio_host or host
    here, there = (own_names if own_names or is_loopback(one) else None for one in (host, inside))
    apps = [(server.app(nuclio=not apart and not with_keys, names=here), listen(host, port))]
    if nuclio_port is not None:
        apps.append((server.nuclio_app(there), listen(inside, nuclio_port)))
    apps += [
        (server.direct_app(name, there), listen(inside, number))
        for name, number in ports.items()
        if name in server.functions
    ]
    servers = Servers(apps)
    log.info("listening", url=url_of(apps[0][1]), models={e.id: e.card.name for e in entries})
    if nuclio_port is not None:
        log.info("listening_for_cvat", url=url_of(apps[1][1]), authentication="none")
    elif with_keys:
        log.info("not_listening_for_cvat", reason="it shows no password; give it a port of its own: nuclio_port")
    try:
        servers.run()
    finally:
        for _, listener in apps:
            listener.close()
    if failures:
        raise failures[0]


#: Answers smart tools where nobody names another model: it needs no download.
DEFAULT_INTERACTOR = "grabcut"


def make_entry(
    id_: str | None, spec: ModelSpec, threshold: float | None = None, label_map: Mapping[str, str] | None = None
) -> ModelEntry:
    """A model to serve; without an id it is called as its spec, or its name where that is a path.

    Raises:
        ConfigError: the threshold is no number from 0 to 1.
        ModelError: there is no such model, or the label map names a class that it does not have.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(
            f"the threshold is {threshold}", expected="a number from 0 to 1", todo="Give another with --threshold"
        )
    card = describe(spec)
    shown = card.score_threshold if threshold is None else threshold
    if card.role != "interactor":
        spec = replace(spec, score_threshold=min(FAINTEST, shown))
    if label_map:
        _check_classes(label_map, card.classes)

    def load_it() -> Predictor | Interactor:
        return load(spec)

    called = id_ or next(n for n in (spec.spec, re.sub(r"[^\w.-]", "-", card.name)) if is_id(n))
    return ModelEntry(called, card, load_it, shown, label_map or {})


def _from_file(file: ModelsFile | None, path: Path | None, device: str) -> list[ModelEntry]:
    if file is None or path is None:
        return []
    return [make_entry(one.id, one.spec(path.parent, device), one.threshold, one.label_map) for one in file.models]


def _check_ids(ids: Sequence[str]) -> None:
    twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
    if twice:
        raise ConfigError(
            f"two models are called {' and '.join(twice)}",
            expected="an id of its own for each model",
            todo="Leave out --detector or --interactor where the models file has them, or give other ids there",
        )


def _functions(file: ModelsFile | None) -> list[ProjectFunction]:
    return [
        ProjectFunction(one.id, one.model, one.title or one.id, one.labels, one.label_map)
        for one in (file.functions if file else ())
    ]


def _check_classes(names: Mapping[str, str], classes: Sequence[str]) -> None:
    strange = [name for name in names if name not in classes]
    if strange:
        raise ModelError(
            f"the label map names {', '.join(map(repr, strange))}, which the model does not have",
            expected="classes of the model on the left: " + ", ".join(map(repr, classes)),
            todo="Correct the label map; upper and lower case count there",
        )


def _logs(settings: ServerSettings, stream: TextIO) -> dict[str, Any]:
    secrets = [s for s in (settings.label_studio_api_key, settings.password, settings.token) if s]
    return {"log": json_logger(stream, secrets), "access": AccessLog(stream, secrets)}
