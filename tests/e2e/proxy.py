"""A forwarding proxy between a command and Label Studio, which can kill the one or silence the other at any request.

It forwards every request as it came and sends the answer back as it was; a *rule* is asked first and may want
something else done.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit


class Act(Enum):
    """What to do with a request."""

    FORWARD = "forward"
    KILL_BEFORE = "kill the command, and never let the request arrive"
    KILL_AFTER = "let Label Studio do it, and kill the command before it hears of that"
    DROP = "close the connection without an answer"
    EXPIRE = "answer 401, as Label Studio does to an old access token"
    INTERRUPT = "somebody presses Ctrl-C while the command waits for an answer that never comes"


@dataclass(frozen=True)
class Request:
    """``number`` counts from 1 since the rule was set; ``occurrence`` counts equal requests."""

    number: int
    method: str
    path: str
    body: bytes
    occurrence: int

    @property
    def writes(self) -> bool:
        """Whether it changes anything in Label Studio."""
        return self.method != "GET" and not self.path.startswith("/api/token")

    def __str__(self) -> str:
        text = hashlib.sha256(self.body).hexdigest()[:6] if self.body else ""
        return f"{self.method} {self.path} {text} #{self.occurrence}"


class Rule(Protocol):
    def __call__(self, request: Request) -> Act: ...


def forward(request: Request) -> Act:
    """The rule that does nothing."""
    return Act.FORWARD


def at(number: int, act: Act) -> Rule:
    """Do it to one request."""
    return lambda request: act if request.number == number else Act.FORWARD


def from_on(number: int, act: Act) -> Rule:
    """Do it to this request and all that follow."""
    return lambda request: act if request.number >= number else Act.FORWARD


class KillEverywhere:
    """Over many attempts at the same command, kill it once at every request it ever makes.

    Each attempt gets one request further than the one before. At a request that writes the command is killed twice:
    once before Label Studio gets it, once after. ``points`` lists them all.
    """

    def __init__(self) -> None:
        self.points: list[str] = []

    def __call__(self, request: Request) -> Act:
        acts = (Act.KILL_BEFORE, Act.KILL_AFTER) if request.writes else (Act.KILL_AFTER,)
        for act in acts:
            point = f"{act.name} {request}"
            if point not in self.points:
                self.points.append(point)
                return act
        return Act.FORWARD


class Proxy:
    """Use it with ``with``.

    Attributes:
        url: where it listens.
        victim: the process to be killed.
        seen: the requests since the rule was set.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname
        self._upstream = (parts.hostname, parts.port or 80)
        self._lock = threading.Lock()
        self._rule: Rule = forward
        self._counts: Counter[tuple[str, str, bytes]] = Counter()
        self.seen: list[Request] = []
        self.victim = 0
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def obey(self, rule: Rule) -> None:
        """Set the rule and count from 1 again."""
        with self._lock:
            self._rule, self.seen = rule, []
            self._counts.clear()

    def decide(self, method: str, path: str, body: bytes) -> Act:
        with self._lock:
            self._counts[method, path, body] += 1
            request = Request(len(self.seen) + 1, method, path, body, self._counts[method, path, body])
            self.seen.append(request)
            return self._rule(request)

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.victim, number)

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(*self._upstream, timeout=120)
        try:
            upstream.request(method, path, body or None, headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A killed client leaves broken connections behind: they are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        act = self.proxy.decide(self.command, self.path, body)
        if act is Act.EXPIRE:
            self._answer(401, [("Content-Type", "application/json")], b'{"detail": "Given token not valid"}')
            return
        if act is Act.KILL_BEFORE:
            self.proxy.signal(signal.SIGKILL)
        if act is Act.INTERRUPT:
            self.proxy.signal(signal.SIGINT)
            self.proxy.closing.wait()
        if act in (Act.KILL_BEFORE, Act.DROP, Act.INTERRUPT):
            self.close_connection = True
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
        answer = self.proxy.forward(self.command, self.path, headers, body)
        if act is Act.KILL_AFTER:
            self.proxy.signal(signal.SIGKILL)
            self.close_connection = True
            return
        self._answer(*answer)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
