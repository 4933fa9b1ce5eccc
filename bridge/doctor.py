"""What is right and wrong with a set-up, each with the exact thing to do."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bridge import wiring
from bridge.clients import cvat_client, label_studio_client
from bridge.errors import LabelbridgeError
from bridge.net import is_loopback
from bridge.settings import Settings
from bridge.store import Store
from bridge.tools.label_studio_connect import Check, probe


def examine(
    settings: Settings, target: str | None, backend_url: str | None, detector: str | None, label_map: str | None
) -> list[Check]:
    """Every check that can be made with what is set; never raises for what it finds.

    Args:
        target: also checked, with the label map of ``detector`` against its labels.
        backend_url: the model server as Label Studio sees it; None leaves it out unless ``target`` is in Label Studio.
    """
    checks = [_home(settings), *_store(settings), *_open_doors(settings)]
    is_cvat = settings.cvat_url is not None if target is None else target.startswith("cvat:")
    # Without any target, the tool that is set up; without any tool, what Label Studio wants.
    if target.startswith("ls:") if target else settings.label_studio_url is not None or not is_cvat:
        checks += _label_studio(settings, target, backend_url)
    if is_cvat:
        checks += _cvat(settings)
    if target is not None and all(c.ok for c in checks if c.name.startswith(("Label Studio", "Token", "CVAT's s"))):
        checks += _target(settings, target, detector, label_map)
    return checks


def _home(settings: Settings) -> Check:
    home = settings.home
    existing = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    if os.access(existing, os.W_OK):
        return Check("Data folder", True, str(home))
    return Check("Data folder", False, f"{home} cannot be written", "Set LABELBRIDGE_HOME to a folder of yours")


def _store(settings: Settings) -> Iterator[Check]:
    try:
        with Store.open(settings.store_url) as store:
            broken = store.verify_events()
            runs = len(store.runs())
    except LabelbridgeError as error:
        yield _failed("Database", error)
        return
    if broken:
        yield Check("Database", False, f"its event log was changed: {broken[0]}", "Restore it from a backup")
    else:
        yield Check("Database", True, f"{runs} runs, event log unbroken")


def _open_doors(settings: Settings) -> Iterator[Check]:
    """Who can use the model server without a password. CVAT never shows one, so that door is a matter of networks."""
    keys = settings.backend_token is not None or settings.backend_password is not None
    if not keys and not is_loopback(settings.backend_host):
        yield Check(
            "Model server",
            True,
            f"whoever reaches {settings.backend_host} port {settings.backend_port} can use it, without a password",
            "Keep that port on a trusted network, or set LABELBRIDGE_BACKEND_USER and LABELBRIDGE_BACKEND_PASSWORD",
        )
    elif keys:
        yield Check("Model server", True, "callers must show a password or a token")
    host = settings.nuclio_host or settings.backend_host
    if settings.nuclio_port is not None and not is_loopback(host):
        yield Check(
            "CVAT's port",
            True,
            f"{host} port {settings.nuclio_port} has no authentication, because CVAT shows none",
            "Publish it on no other network than CVAT's own",
        )
    elif settings.nuclio_port is None and keys:
        yield Check(
            "CVAT's port",
            True,
            "CVAT is not answered: the model server wants a password, and CVAT shows none",
            "If you use CVAT, set LABELBRIDGE_NUCLIO_PORT to a port that only CVAT's network reaches",
        )


def _label_studio(settings: Settings, target: str | None, backend_url: str | None) -> list[Check]:
    try:
        client = label_studio_client(settings)
    except LabelbridgeError as error:
        return [_failed("Label Studio's settings", error)]
    project = target.rpartition("/")[2] if target else ""
    server = wiring.backend(settings, backend_url) if backend_url or target else None
    return probe(client, int(project) if project.isdigit() else None, server)


def _cvat(settings: Settings) -> Iterator[Check]:
    try:
        client = cvat_client(settings)
        version = ".".join(map(str, client.version()))
        user = client.whoami()
    except LabelbridgeError as error:
        yield _failed("CVAT's settings", error)
        return
    yield Check("CVAT's server", True, f"{version} at {client.url}")
    where = f"the organization {client.organization}" if client.organization else "no organization"
    yield Check("CVAT's user", True, f"{user.get('username')}, in {where}")


def _target(settings: Settings, target: str, detector: str | None, label_map: str | None) -> list[Check]:
    try:
        tool = wiring.open_target(target, settings)
        info = tool.describe()
    except LabelbridgeError as error:
        return [_failed(target, error)]
    checks = [Check(target, True, f"{info.items} items, labels {', '.join(info.labels.names) or 'none'}")]
    try:
        predictor = wiring.load_model(wiring.SourceOptions(detector=detector), settings.device)
        mapping = wiring.map_labels(tool, predictor, label_map)
    except LabelbridgeError as error:
        return [*checks, _failed("Label map", error)]
    found = f"{predictor.name}: {len(mapping.classes) - len(mapping.unmatched_classes)} classes matched"
    if mapping.unmatched_labels:
        found += f"; labels it can never suggest: {', '.join(mapping.unmatched_labels)}"
    if mapping.unmatched_classes:
        found += f"; {len(mapping.unmatched_classes)} of its classes dropped"
    return [*checks, Check("Label map", True, found)]


def _failed(name: str, error: LabelbridgeError) -> Check:
    expected = f" (expected {error.expected})" if error.expected else ""
    return Check(name, False, error.found + expected, error.todo)
