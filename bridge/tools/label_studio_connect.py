"""Connecting a model server to a Label Studio project, and finding out why that does not work.

Label Studio (1.23.1 and newer) refuses model servers in private networks unless it is told otherwise, can leave a
half-made connection behind when it answers with an error, and makes a webhook to the server that nobody asked for. So
nothing here trusts an answer: what counts is what is listed afterwards.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from bridge.dialects.label_studio import parse_label_config
from bridge.errors import LabelbridgeError, ToolError
from bridge.net import HttpClient, Limits, Reply
from bridge.tools.hooks import host_warnings
from bridge.tools.label_studio_client import NAME, LabelStudioClient, Row
from bridge.tools.label_studio_hooks import ENV_LINES, dotless, remove_webhooks_at, short, webhooks_at

TITLE = "labelbridge"

_REFUSALS = (400, 403, 500)
_PROBE_TITLE = "labelbridge doctor (temporary)"


@dataclass(frozen=True, slots=True)
class Connection:
    """What ``connect`` left in place. ``warnings`` are sentences for a person, with what to do."""

    backend: int
    url: str
    created: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``todo`` may have several lines, as environment variables to set."""

    name: str
    ok: bool
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """The model server as Label Studio is to call it."""

    url: str
    title: str = TITLE
    user: str | None = None
    password: str | None = None
    interactive: bool = True

    @property
    def webhook_url(self) -> str:
        """Where Label Studio by itself makes a webhook to."""
        return self.url.rstrip("/") + "/webhook"

    @property
    def credentials(self) -> dict[str, str]:
        """The header that the server asks for; none where it asks for nothing."""
        if not self.user or not self.password:
            return {}
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    def body(self, project: int) -> Row:
        fields: Row = {
            "url": self.url.rstrip("/"),
            "project": project,
            "title": self.title,
            "is_interactive": self.interactive,
            "auth_method": "NONE",
        }
        if self.user and self.password:
            fields |= {"auth_method": "BASIC_AUTH", "basic_auth_user": self.user, "basic_auth_pass": self.password}
        return fields


def connect(client: LabelStudioClient, project_id: int, backend: Backend) -> Connection:
    """Connect a model server to a project, or bring an existing connection up to date.

    Raises:
        ToolError: Label Studio refused; says which of its settings stands in the way. Nothing half-made is left.
    """
    before = _backends(client, project_id, backend.url)
    body = backend.body(project_id)
    if before:
        reply = client.call("PATCH", f"/api/ml/{before[0]['id']}", json=body, accept=_REFUSALS, repeatable=True)
    else:
        reply = client.call("POST", "/api/ml", json=body, accept=_REFUSALS)
    everything = _all_backends(client, project_id)
    rows = _at(everything, backend.url)
    usable = [row for row in rows if row.get("state") == "CO"]
    if not usable:
        for row in rows if not before else []:
            client.call("DELETE", f"/api/ml/{row['id']}", accept=(404, *_REFUSALS))
        raise _refused(reply, backend, rows)
    # Its server ignores it, and each webhook makes an annotator's Submit wait.
    remove_webhooks_at(client, project_id, backend.webhook_url)
    warnings = [*host_warnings(NAME, client.url, backend.url)]
    first = everything[0]
    if first["id"] != usable[0]["id"]:
        warnings.append(
            f"The model server {first.get('title')!r} was connected first, and Label Studio asks only the first one "
            "for predictions. Disconnect it, or use this one for smart tools only"
        )
    return Connection(int(usable[0]["id"]), backend.url, not before, tuple(warnings))


def disconnect(client: LabelStudioClient, project_id: int, backend_url: str) -> int:
    """Remove a model server and what Label Studio would leave behind of it. Answers how many were removed."""
    gone = 0
    for row in _backends(client, project_id, backend_url):
        client.call("DELETE", f"/api/ml/{row['id']}", accept=(404, 500))
        gone += 1
    remove_webhooks_at(client, project_id, Backend(backend_url).webhook_url)
    return gone


def probe(client: LabelStudioClient, project_id: int | None, backend: Backend | None) -> list[Check]:
    """Look at everything that has to be right, and stop where the rest could not be judged.

    Reading only, but for one thing: whether Label Studio may call the model server shows only when it is told to. So a
    project with the title "labelbridge doctor (temporary)" is made, the server is connected to that, and the project
    is deleted again with all it holds, whatever happens in between. Your own projects are not touched.
    """
    checks: list[Check] = []
    try:
        version = client.version()
    except LabelbridgeError as error:
        return [_failed("Label Studio's address", error)]
    checks.append(Check("Label Studio's address", True, f"Label Studio {version} answers at {client.url}"))
    try:
        user = client.whoami()
    except LabelbridgeError as error:
        return [*checks, _failed("Token", error)]
    checks.append(Check("Token", True, f"a {client.token_kind} of {user.get('email')}"))
    if project_id is not None:
        checks.extend(_project_checks(client, project_id))
    if backend is not None:
        checks.extend(_backend_checks(client, backend))
    return checks


def _project_checks(client: LabelStudioClient, project_id: int) -> Iterator[Check]:
    try:
        project = client.project(project_id)
    except LabelbridgeError as error:
        yield _failed(f"Project {project_id}", error)
        return
    yield Check(f"Project {project_id}", True, f"{project.get('title')!r} with {project.get('task_number')} tasks")
    try:
        config = parse_label_config(str(project.get("label_config") or ""), texts=True)
    except LabelbridgeError as error:
        yield _failed("Label configuration", error)
        return
    names = config.labels.names
    usable = bool((names and (config.shape_controls or config.media == "text")) or config.choices)
    wanted = "Labels" if config.media == "text" else "RectangleLabels"
    yield Check(
        "Label configuration",
        usable,
        f"labels {', '.join(names)}" if names else f"no labels for regions of the {config.media}",
        "" if usable else f"Add {wanted} with at least one label in the labelling settings",
    )


def _backend_checks(client: LabelStudioClient, backend: Backend) -> Iterator[Check]:
    http = HttpClient(
        backend.url,
        name="the model server",
        auth=lambda: backend.credentials,
        limits=Limits(connect_s=3, read_s=5, attempts=1),
    )
    try:
        http.request("GET", "/health")
        yield Check("Model server, from here", True, f"{backend.url} answers")
    except LabelbridgeError as error:
        yield _failed("Model server, from here", error)
    finally:
        http.close()
    warnings = (*_name_warnings(backend), *host_warnings(NAME, client.url, backend.url))
    yield from (Check("Model server's name", False, *w.split(". ", 1)) for w in warnings)
    try:
        yield _probe_connection(client, backend)
    except LabelbridgeError as error:
        yield _failed("Model server, from Label Studio", error)


def _probe_connection(client: LabelStudioClient, backend: Backend) -> Check:
    name = "Model server, from Label Studio"
    project = int(client.create_project({"title": _PROBE_TITLE, "label_config": "<View></View>"})["id"])
    try:
        reply = client.call("POST", "/api/ml", json=backend.body(project), accept=_REFUSALS)
        rows = _backends(client, project, backend.url)
        hooks = webhooks_at(client, project, backend.webhook_url)
    finally:
        with contextlib.suppress(LabelbridgeError):
            client.call("DELETE", f"/api/projects/{project}/", accept=(404,))
    if not any(row.get("state") == "CO" for row in rows):
        return _failed(name, _refused(reply, backend, rows))
    if not hooks:
        reason = "webhooks to private networks are blocked" if reply.status == 403 else "its name has no dot"
        todo = ENV_LINES if reply.status == 403 else ""
        return Check(name, False, f"Label Studio reaches {backend.url}, but sends it no events: {reason}", todo)
    return Check(name, True, f"Label Studio reaches {backend.url}")


def _refused(reply: Reply, backend: Backend, rows: list[Row]) -> ToolError:
    """Why no connection came about, with the setting to change."""
    text = reply.body.decode("utf-8", "replace")
    if reply.status == 403 and "reserved network" in text:
        return ToolError(
            f"{NAME} refuses to call {backend.url}: the address is in a private network",
            expected="these lines in the environment of Label Studio",
            todo=f"Set them:\n{ENV_LINES}\nand restart Label Studio",
        )
    if "resolve hostname" in text:
        return ToolError(
            f"{NAME} cannot resolve the name in {backend.url}",
            todo="Use a name that is known where Label Studio runs: in Docker that of the service, or "
            "host.docker.internal for a server on the host",
        )
    if "401" in text or "Unauthorized" in text:
        return ToolError(
            f"{backend.url} refuses the user name and password that {NAME} sends",
            todo="Give connect the same backend_user and backend_password as the model server",
        )
    why = next((str(row["error_message"]) for row in rows if row.get("error_message")), "") or short(reply)
    return ToolError(
        f"{NAME} does not reach the model server at {backend.url} (status {reply.status}): {why}",
        expected="a running model server, seen from where Label Studio runs",
        todo="Start it with `labelbridge serve`. If Label Studio runs in a container, localhost is the container "
        "itself: use host.docker.internal or the name of the service",
    )


def _name_warnings(backend: Backend) -> Iterator[str]:
    """Names of the model server that webhooks could not be sent to, each as one sentence and what to do about it."""
    host = urlsplit(backend.url).hostname or ""
    if dotless(host):
        yield (
            f"{NAME} sends no events to {host!r}, because the name has no dot. Give the container a network alias "
            "with a dot, as in labelbridge.local, and use that; until then verdicts are read by `labelbridge sync`"
        )
    elif "_" in host:
        yield (
            f"{NAME} sends no events to {host!r}, because the name has an underscore. Give the container a network "
            "alias without one"
        )


def _all_backends(client: LabelStudioClient, project: int) -> list[Row]:
    rows = client.call("GET", "/api/ml", params={"project": project}).json()
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _backends(client: LabelStudioClient, project: int, url: str) -> list[Row]:
    return _at(_all_backends(client, project), url)


def _at(rows: list[Row], url: str) -> list[Row]:
    return [row for row in rows if str(row.get("url") or "").rstrip("/") == url.rstrip("/")]


def _failed(name: str, error: LabelbridgeError) -> Check:
    expected = f" (expected {error.expected})" if error.expected and "\n" not in error.todo else ""
    return Check(name, False, error.found + expected, error.todo)
