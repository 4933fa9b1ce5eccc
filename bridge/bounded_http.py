"""uvicorn's HTTP, with bounds for callers who send a request's head without end, never finish it, or are too many.

uvicorn keeps whatever comes as a head in memory, waits for the rest for ever, holds connections that say nothing, and
takes as many as there are.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes of one request that are no body: its head, the framing of chunks, trailers.
MAX_FRAMING = 64 * 1024
#: Seconds from a connection's beginning, or a request's first byte, to the end of the request's head.
HEAD_S = 30.0
#: Connections of one server at a time. A process may have 1,024 files open on most systems, and the database is one.
MAX_CONNECTIONS = 400


class BoundedHttp(HttpToolsProtocol):
    """One connection. What breaks a bound is answered 400, or not at all, and the connection is closed."""

    _framing = 0
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.close()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._framing += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._framing > MAX_FRAMING:
            self.send_400_response("The head of the request is too large.")
        elif self.cycle is None or self.cycle.response_complete:
            # uvicorn has just stopped its own clock for idle connections, whatever these bytes are.
            self._wait()

    def on_message_begin(self) -> None:
        self._framing = 0
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._framing = max(0, self._framing - len(body))
        super().on_body(body)

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_S, self._give_up)

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        self.transport.close()
