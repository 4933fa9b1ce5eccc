"""A small real HTTP server that plays a Nuclio dashboard with one function."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VEHICLES: dict[str, Any] = {
    "metadata": {
        "name": "vehicles",
        "namespace": "nuclio",
        "labels": {"nuclio.io/project-name": "cvat"},
        "annotations": {
            "name": "Vehicles",
            "type": "detector",
            "spec": '[{"id": 0, "name": "car", "type": "rectangle"}]',
        },
    },
    "spec": {"description": "finds cars", "handler": "main:handler", "runtime": "python:3.8"},
    "status": {"state": "ready", "httpPort": 32768},
}


class NuclioDashboard:
    """Lists its functions, describes each, and answers calls of them.

    Attributes:
        functions: by name.
        asked: method, path, headers (lower case) and body of every request.
        answer: status, content type and body of every call of a function.
        listing: sent instead of the list of functions, where it is set.
        held: while it is not set, no request is answered.
        called: set as soon as a function was called.
    """

    def __init__(self, port: int = 0) -> None:
        self.functions: dict[str, Any] = {"vehicles": VEHICLES}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: tuple[int, str, bytes] = (200, "application/json", b'[{"label": "car"}]')
        self.listing: tuple[int, bytes] | None = None
        self.held = threading.Event()
        self.held.set()
        self.called = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {k.lower(): v for k, v in self.headers.items()}
                owner.asked.append((self.command, self.path, headers, body))
                if self.path == "/api/function_invocations":
                    owner.called.set()
                owner.held.wait(30)
                self.reply(*owner._reply(self.command, self.path, headers))

            do_POST = do_GET  # noqa: N815

            def reply(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = _Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.held.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
        for connection in self.http.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _reply(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, bytes]:
        json_type = "application/json"
        if (method, path) == ("GET", "/api/functions"):
            status, body = self.listing or (200, json.dumps(self.functions).encode())
            return status, json_type, body
        if method == "GET" and path.startswith("/api/functions/"):
            function = self.functions.get(path.rpartition("/")[2])
            return (404, json_type, b'{"error": "Not found"}') if function is None else _found(function)
        if (method, path) == ("POST", "/api/function_invocations"):
            known = headers.get("x-nuclio-function-name") in self.functions
            return self.answer if known else (404, json_type, b'{"error": "Not found"}')
        return 405, json_type, b"{}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self.connections: list[socket.socket] = []
        super().__init__(*args)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, *_: object) -> None:
        """Clients of these tests hang up at will."""


def _found(function: Any) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps(function).encode()
