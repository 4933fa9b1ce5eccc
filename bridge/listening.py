"""Listening sockets, and running several applications in one process until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from bridge.bounded_http import BoundedHttp
from bridge.errors import ConfigError

_SHUTDOWN_S = 30
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: the port is taken or not allowed, or the host is no address of this machine.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"{port} is no port", expected="a number from 0 to 65535", todo="Choose one with --port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"{host!r} is no address to listen on: {error}", todo="Listen on 127.0.0.1, or on 0.0.0.0 for all"
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Only now is the port surely ours; whoever calls early waits in line.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _not_bound(host, port, error) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """The address that a socket listens on, as in ``http://127.0.0.1:9090``."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Servers:
    """Applications in one event loop. The first one listens to signals, and ends the others with it.

    Args:
        apps: each with the socket that it answers on. The first one's lifespan begins before any other answers, and
            ends last.
    """

    def __init__(self, apps: Sequence[tuple[ASGIApp, socket.socket]]) -> None:
        (app, self._socket), *others = apps
        self._first = uvicorn.Server(_config(app))
        self._others = [(_Guest(_config(app, lifespan=False)), listener) for app, listener in others]

    def run(self) -> None:
        """Answer until the process is told to stop; requests that are being answered then are answered first."""
        with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """Ask to stop, from any thread."""
        self._first.should_exit = True

    async def _serve(self) -> None:
        guests = [asyncio.ensure_future(self._follow(guest, listener)) for guest, listener in self._others]
        try:
            await self._first.serve(sockets=[self._socket])
        finally:
            for guest, _ in self._others:
                guest.should_exit = True
            await asyncio.gather(*guests)

    async def _follow(self, guest: uvicorn.Server, listener: socket.socket) -> None:
        while not self._first.started and not self._first.should_exit:
            await asyncio.sleep(0.01)
        watching = asyncio.ensure_future(self._end_with_first(guest))
        await guest.serve(sockets=[listener])
        await watching

    async def _end_with_first(self, guest: uvicorn.Server) -> None:
        while not (self._first.should_exit or guest.should_exit):
            await asyncio.sleep(0.05)
        guest.should_exit = True


class ServerThread:
    """One application in a thread and an event loop of its own, so that nothing else makes its callers wait.

    Args:
        listener: the socket that it answers on; closed in the end.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._server = _Guest(_config(app))
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="server")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer what is being asked, and end."""
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        with self._listener, asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(self._server.serve(sockets=[self._listener]))


class _Guest(uvicorn.Server):
    """A server that leaves signals to the first one."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp, *, lifespan: bool = True) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedHttp,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on" if lifespan else "off",
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _not_bound(host: str, port: int, error: OSError) -> ConfigError:
    match error.errno:
        case errno.EADDRINUSE:
            return ConfigError(
                f"port {port} on {host} is taken by another program",
                expected="a free port",
                todo="Choose another one with --port, or stop the other program (perhaps an earlier server)",
            )
        case errno.EACCES:
            return ConfigError(
                f"this user may not listen on port {port}",
                expected="a port from 1024 upwards",
                todo="Choose another one with --port",
            )
        case _:
            return ConfigError(
                f"cannot listen on {host} port {port}: {error.strerror or error}",
                expected="an address of this machine",
                todo="Listen on 127.0.0.1, or on 0.0.0.0 for all",
            )
