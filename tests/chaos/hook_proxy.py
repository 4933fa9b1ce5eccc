"""Between the tool and the product's receiver: drops webhooks, doubles them, and lets them overtake one another."""

from __future__ import annotations

import heapq
import http.client
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

_LONGEST_S = 3.0


class HookProxy:
    """Takes every webhook at once, and delivers it to ``receiver`` later, twice or never. Use it with ``with``.

    Attributes:
        url: where the tool is to send its webhooks.
        told: how many were ``received``, ``dropped``, ``doubled`` and ``refused`` (nobody took them).
    """

    def __init__(self, seed: int, receiver: str, drop: float = 0.2, double: float = 0.2) -> None:
        self._receiver = receiver
        self.told: Counter[str] = Counter(received=0, dropped=0, doubled=0, refused=0)
        self._drop, self._double = drop, double
        self._chance = random.Random(f"hook proxy {seed}")
        self._lock = threading.Condition()
        self._waiting: list[tuple[float, int, str, dict[str, str], bytes]] = []
        self._closed = False
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        threading.Thread(target=self._deliver, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """One webhook has come."""
        with self._lock:
            self.told["received"] += 1
            luck = self._chance.random()
            copies = 0 if luck < self._drop else 2 if luck < self._drop + self._double else 1
            self.told["dropped"] += copies == 0
            self.told["doubled"] += copies == 2
            for _ in range(copies):
                due = time.monotonic() + self._chance.uniform(0, _LONGEST_S)
                heapq.heappush(self._waiting, (due, self.told["received"] * 2 + copies, path, headers, body))
                copies -= 1
            self._lock.notify()

    def _deliver(self) -> None:
        while True:
            with self._lock:
                while not self._closed and (not self._waiting or self._waiting[0][0] > time.monotonic()):
                    pause = self._waiting[0][0] - time.monotonic() if self._waiting else None
                    self._lock.wait(pause)
                if self._closed:
                    return
                _, _, path, headers, body = heapq.heappop(self._waiting)
            if not self._post(path, headers, body):
                self.told["refused"] += 1

    def _post(self, path: str, headers: dict[str, str], body: bytes) -> bool:
        parts = urlsplit(self._receiver)
        assert parts.hostname
        there = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=5)
        try:
            there.request("POST", path, body, headers)
            return there.getresponse().status < 400
        except OSError:  # it was killed just now
            return False
        finally:
            there.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: HookProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
        self.proxy.take(self.path, headers, body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
