"""A server against callers who never come to an end, or say two things at once."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from bridge import bounded_http
from bridge.bounded_http import MAX_FRAMING, BoundedHttp

Dial = Callable[[], socket.socket]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers how many bytes of body came, one request after the other."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    answer = f"{scope['path']} {length}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture
def dial(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dial]:
    monkeypatch.setattr(bounded_http, "HEAD_S", 0.4)
    config = uvicorn.Config(echo, http=BoundedHttp, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        runner = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        runner.start()
        dialled: list[socket.socket] = []

        def connect() -> socket.socket:
            dialled.append(socket.create_connection(listener.getsockname(), timeout=10))
            return dialled[-1]

        yield connect
        for one in dialled:
            one.close()
        server.should_exit = True
        runner.join(20)
    assert not runner.is_alive()


def read(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def wait_for(connection: socket.socket, ending: bytes) -> None:
    """Read until an answer ends so."""
    found = b""
    while not found.endswith(ending):
        part = connection.recv(65536)
        assert part, found
        found += part


def flood(connection: socket.socket, piece: bytes, megabytes: int = 20) -> bool:
    """Whether the other side hung up before all was sent."""
    try:
        for _ in range(max(1, megabytes * 1_000_000 // len(piece))):
            connection.sendall(piece)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"GET /", b"a" * 50_000),
        (HEAD + b"X: ", b"a" * 50_000),
        (HEAD, b"X: y\r\n" * 10_000),
        (CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000),
        (CHUNKED + b"0\r\nX: ", b"a" * 50_000),
        (CHUNKED, b"1;extension=" + b"a" * 50_000),
    ],
    ids=["target", "header", "headers", "trailers", "trailer", "chunk extension"],
)
def test_a_head_without_end_is_cut_off(dial: Dial, beginning: bytes, piece: bytes) -> None:
    connection = dial()
    connection.sendall(beginning)
    assert flood(connection, piece)


@pytest.mark.parametrize("said", [b"", b"GET / HT", HEAD, b"\r\n"], ids=["nothing", "a word", "half a head", "blank"])
def test_who_does_not_finish_a_head_is_hung_up_on(dial: Dial, said: bytes) -> None:
    connection, began = dial(), time.monotonic()
    connection.sendall(said)
    assert read(connection) == b""
    assert 0.3 < time.monotonic() - began < 5


def test_a_trickle_does_not_help(dial: Dial) -> None:
    first, began = dial(), time.monotonic()
    first.sendall(HEAD + b"\r\n")
    wait_for(first, b"/ 0")
    while not (cut := flood(first, b"\r\n", megabytes=0)) and time.monotonic() - began < 5:
        time.sleep(0.05)
    assert cut


def test_large_bodies_and_many_requests_pass(dial: Dial) -> None:
    connection = dial()
    for _ in range(3):
        connection.sendall(HEAD.replace(b"GET /", b"POST /x") + b"Content-Length: 3000000\r\n\r\n" + b"b" * 3_000_000)
        wait_for(connection, b"/x 3000000")
    chunk = b"10000\r\n" + b"c" * 65_536 + b"\r\n"
    connection.sendall(CHUNKED + chunk * 100 + b"0\r\n\r\n")
    wait_for(connection, b"/ 6553600")
    connection.sendall(HEAD + b"X: " + b"a" * (MAX_FRAMING // 2) + b"\r\n\r\n")
    wait_for(connection, b"/ 0")


def test_a_body_may_take_longer_than_a_head(dial: Dial) -> None:
    connection = dial()
    connection.sendall(HEAD.replace(b"GET", b"POST") + b"Content-Length: 10\r\n\r\n")
    for _ in range(10):
        time.sleep(0.08)
        connection.sendall(b"x")
    wait_for(connection, b"/ 10")


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: \rb\r\n\r\n",
    ],
    ids=["both lengths", "two lengths", "strange coding", "space before the colon", "folded line", "bare line end"],
)
def test_what_two_servers_would_read_differently_is_refused(dial: Dial, request_: bytes) -> None:
    connection = dial()
    connection.sendall(request_)
    assert read(connection).split(b"\r\n")[0] == b"HTTP/1.1 400 Bad Request"


def test_too_many_are_hung_up_on_and_there_is_room_when_one_leaves(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(bounded_http, "HEAD_S", 10)
    first, second = dial(), dial()
    for one in (first, second):
        one.sendall(b"POST /here HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
    assert read(dial()) == b""
    first.sendall(b"x")
    assert first.recv(15) == b"HTTP/1.1 200 OK"
    first.close()
    deadline = time.monotonic() + 10
    while not (answer := ask(dial())):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.endswith(b"/there 0")


def ask(connection: socket.socket) -> bytes:
    try:
        connection.sendall(b"GET /there HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    except OSError:
        return b""
    return read(connection)
