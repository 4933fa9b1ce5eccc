"""The HTTP server: reads requests, logs them, lets them fail as planned, and answers."""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from fakes.cvat_server.calls import Call, Failures
from fakes.cvat_server.routing import Reply

Handle = Callable[[Call], Reply]


class Wire:
    """Serves ``handle`` on a free port of 127.0.0.1.

    Attributes:
        on_call: called before each request is handled, ``on_answer`` before its answer is sent.
        hold_s: how long a call that times out is held open when the client does not give up.
        retry_after: what a 429 says.
    """

    def __init__(self, handle: Handle) -> None:
        self.calls: list[Call] = []
        self.failures = Failures()
        self.on_call: Callable[[Call], None] | None = None
        self.on_answer: Callable[[Call], None] | None = None
        self.hold_s = 30.0
        self.retry_after = "0"
        self._handle = handle
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def fail(self, number: int, how: str) -> None:
        with self._lock:
            self.failures.plan(len(self.calls) + number, how)

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def serve(self, call: Call, connection: socket.socket) -> Reply | None:
        """The answer, or None when the connection is to be reset."""
        with self._lock:
            call.number = len(self.calls) + 1
            self.calls.append(call)
            kind, apply = self.failures.take(call.number)
        reply = Reply(204)
        if apply:
            if self.on_call:
                self.on_call(call)
            reply = self._handle(call)
            call.applied = True
            if self.on_answer:
                self.on_answer(call)
        if kind == "reset":
            return None
        if kind == "timeout":
            self._hold(connection)
            return None
        if kind:
            headers = {"Retry-After": self.retry_after} if kind == "429" else {}
            reply = Reply(int(kind), {"detail": "a planned failure"}, headers=headers)
        call.status = reply.status
        return reply

    def _hold(self, connection: socket.socket) -> None:
        """Says nothing until the client gives up."""
        end = time.monotonic() + self.hold_s
        while time.monotonic() < end and not self._closing.is_set():
            if select.select([connection], [], [], 0.02)[0]:
                return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent about a client that goes away, which is what some tests want."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _handler(wire: Wire) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = unquote(url.path).rstrip("/") or "/"
            reply = wire.serve(Call(0, self.command, path, query, headers, body), self.connection)
            if reply is None:
                self._reset()
                return
            data = reply.data()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if reply.status != 204 and self.command != "HEAD":
                self.wfile.write(data)

        do_POST = do_PATCH = do_DELETE = do_PUT = do_HEAD = do_OPTIONS = do_GET  # noqa: N815

        def _reset(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket(fileno=self.connection.detach()).close()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
