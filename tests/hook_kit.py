"""A receiver on a real port, and the bodies that the tools send to it."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests

from bridge.listening import ServerThread, listen, url_of
from bridge.service.group_commit import HintStore
from bridge.service.receiver import make_receiver

SECRET = "a-secret-of-enough-signs"
SECRETS = {"label-studio": SECRET, "cvat": SECRET}
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
Body = dict[str, Any]


def label_studio(action: str = "ANNOTATION_CREATED", project: int = 7, at: str = "2026-11-20T11:59:00Z") -> Body:
    """A body as Label Studio 1.23.2 sends it, with fewer fields."""
    whole = {"id": project, "title": "t", "token": "an-invitation", "updated_at": at}
    annotation = {"id": 3, "task": 129, "project": project, "updated_at": at, "result": []}
    parts: dict[str, Body] = {
        "ANNOTATION_CREATED": {"annotation": annotation, "task": {"id": 129}},
        "ANNOTATION_UPDATED": {"annotation": annotation, "task": {"id": 129}},
        "ANNOTATIONS_CREATED": {"annotation": [annotation], "task": [{"id": 129}]},
        "ANNOTATIONS_DELETED": {"annotations": [{"id": 3}]},
        "ANNOTATION_DELETED": {"annotation": {"id": 3}},
        "TASKS_CREATED": {"tasks": [{"id": 129, "updated_at": at}]},
        "TASKS_DELETED": {"tasks": [{"id": 129}]},
    }
    return {"action": action, **parts.get(action, {}), "project": whole}


def cvat(event: str = "update:job", at: str = "2026-11-20T11:59:00.123456Z", **subject: Any) -> Body:
    """A body as CVAT sends it, with fewer fields: what a save of annotations does, by default."""
    noun = event.partition(":")[2]
    rows: dict[str, Body] = {
        "job": {"id": 5, "task_id": 12, "project_id": 3, "state": "in progress"},
        "task": {"id": 12, "project_id": 3, "name": "walk"},
        "project": {"id": 3, "name": "pets"},
        "issue": {"id": 71, "job": 5, "resolved": False},
        "comment": {"id": 501, "issue": 71, "message": "accept"},
    }
    row = {**rows.get(noun, {}), "updated_date": at, **subject}
    changed = {"before_update": {"updated_date": "2026-11-20T11:00:00Z"}} if event.startswith("update") else {}
    return {"event": event, noun: row, **changed, "sender": {"username": "ann"}, "webhook_id": 1}


@dataclass
class Receiver:
    """A running receiver; ``wakes`` has an entry for each time that it woke the others."""

    url: str
    wakes: list[int] = field(default_factory=list)

    def post(self, path: str, body: bytes, headers: dict[str, str], **more: Any) -> tuple[int, str]:
        """The status, and what became of it."""
        answer = requests.post(self.url + path, data=body, headers=headers, timeout=20, **more)
        return answer.status_code, answer.json()["outcome"]

    def label_studio(self, body: Body, secret: str | None = SECRET) -> tuple[int, str]:
        headers = {"X-Labelbridge-Token": secret} if secret is not None else {}
        return self.post("/hooks/label-studio", json.dumps(body).encode(), headers)

    def cvat(self, body: Body, secret: str = SECRET, place: str = "") -> tuple[int, str]:
        raw = json.dumps(body).encode()
        return self.post("/hooks/cvat" + (f"?place={place}" if place else ""), raw, signed(raw, secret))

    def counted(self, tool: str, outcome: str) -> float:
        text = requests.get(self.url + "/metrics", timeout=20).text
        line = f'labelbridge_webhooks_total{{outcome="{outcome}",tool="{tool}"}} '
        return next(float(one.removeprefix(line)) for one in text.splitlines() if one.startswith(line))

    def raw(self, data: bytes, *, close: bool = True, wait_s: float = 5) -> bytes:
        """What comes back for bytes on the wire; ``close``: nothing more will be sent."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=wait_s) as connection:
            connection.sendall(data)
            if close:
                connection.shutdown(socket.SHUT_WR)
            found = b""
            while chunk := connection.recv(65536):
                found += chunk
            return found


def signed(raw: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Signature-256": "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()}


def head(path: str, length: int, **headers: str) -> bytes:
    """The beginning of a request that announces a body of ``length`` bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@contextmanager
def receiving(store: HintStore, **options: Any) -> Iterator[Receiver]:
    """A receiver over ``store`` on a free port; ``options`` as of :func:`bridge.service.receiver.make_receiver`."""
    listener = listen("127.0.0.1", 0)
    running = Receiver(url_of(listener))
    given = {"secrets": SECRETS, "wake": lambda: running.wakes.append(1), "now": lambda: NOW, "answer_s": 20, **options}
    server = ServerThread(make_receiver(store, **given), listener)
    server.start()
    try:
        yield running
    finally:
        server.stop()
