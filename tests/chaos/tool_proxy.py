"""Between the product and the tool: answers 429, 500 or nothing, before or after the tool has done what was asked."""

from __future__ import annotations

import http.client
import random
import select
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

Answer = tuple[int, list[tuple[str, str]], bytes]
#: The failures, the nasty ones (done, but not told) as often as the others.
FAILURES = ("429", "500", "timeout before", "timeout after", "500 after")
_HOLD_S = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes


#: Passes a request on by calling ``forward`` once, and may look at what is asked and answered.
Watcher = Callable[[Request, Callable[[], Answer]], Answer]


class ToolProxy:
    """Use it with ``with``.

    Attributes:
        url: where it listens.
        rate: share of the requests that fail, 0 at first.
        failed: how many failed in which way.
    """

    def __init__(self, upstream: str, seed: int, watcher: Watcher) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname
        self.upstream = (parts.hostname, parts.port or 80)
        self.rate, self.watcher = 0.0, watcher
        self.failed: Counter[str] = Counter()
        self.requests = 0
        self._chance = random.Random(f"tool proxy {seed}")
        self._lock = threading.Lock()
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

    def fate(self) -> str:
        """How the next request fails; empty for not at all."""
        with self._lock:
            self.requests += 1
            fate = self._chance.choice(FAILURES) if self._chance.random() < self.rate else ""
            if fate:
                self.failed[fate] += 1
            return fate


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A killed client leaves broken connections behind: they are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: ToolProxy
    upstream: http.client.HTTPConnection | None = None

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
        request = Request(self.command, self.path, body)
        fate = self.proxy.fate()
        if fate in ("429", "500"):
            self._answer(int(fate), [("Retry-After", "1")] if fate == "429" else [], b'{"detail": "not now"}')
            return
        if fate != "timeout before":
            answer = self.proxy.watcher(request, lambda: self._forward(request, headers))
        if fate.startswith("timeout"):
            self._hold()
        elif fate == "500 after":
            self._answer(500, [], b'{"detail": "it broke just now"}')
        else:
            self._answer(*answer)

    def _forward(self, request: Request, headers: dict[str, str]) -> Answer:
        """Over a connection of this one's own, made anew where the tool has closed it in the meantime."""
        for _ in range(2):
            if self.upstream is None:
                self.upstream = http.client.HTTPConnection(*self.proxy.upstream, timeout=120)
                fresh = True
            else:
                fresh = False
            try:
                self.upstream.request(request.method, request.path, request.body or None, headers)
                answer = self.upstream.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            except (http.client.RemoteDisconnected, ConnectionError):
                self.upstream = None
                if fresh:
                    raise
        raise AssertionError("a fresh connection answers or raises")

    def _hold(self) -> None:
        """Say nothing until the client gives up."""
        self.close_connection = True
        end = time.monotonic() + _HOLD_S
        while time.monotonic() < end and not self.proxy.closing.is_set():
            if select.select([self.connection], [], [], 0.05)[0]:
                return

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def finish(self) -> None:
        super().finish()
        if self.upstream is not None:
            self.upstream.close()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
