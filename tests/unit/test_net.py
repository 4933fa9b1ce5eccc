from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.canned_server import CannedServer

from bridge.errors import AuthError, ConfigError, LabelbridgeError, NotFound, ToolError, ToolUnreachable
from bridge.net import HttpClient, Limits, Reply, origin_of, public_url


@pytest.fixture
def server() -> Iterator[CannedServer]:
    running = CannedServer()
    yield running
    running.close()


@pytest.fixture
def other() -> Iterator[CannedServer]:
    running = CannedServer()
    yield running
    running.close()


Make = Callable[..., HttpClient]


@pytest.fixture
def make(server: CannedServer) -> Iterator[Make]:
    made: list[HttpClient] = []

    def build(base: str | None = None, **options: Any) -> HttpClient:
        options.setdefault("sleep", lambda _: None)
        made.append(HttpClient(base or server.url, name="Label Studio", **options))
        return made[-1]

    yield build
    for client in made:
        client.close()


def test_sends_credentials_and_json_and_counts(server: CannedServer, make: Make) -> None:
    server.on("/api/x", (200, {}, b'{"ok": true}'))
    client = make(auth=lambda: {"Authorization": "Token s3cret-token"})
    assert client.request("POST", "/api/x", json={"a": 1}, params={"q": "ä b"}).json() == {"ok": True}
    method, path, headers, body = server.seen[0]
    assert (method, json.loads(body)) == ("POST", {"a": 1})
    assert path == "/api/x?q=%C3%A4+b"
    assert headers["authorization"] == "Token s3cret-token"
    assert client.requests_made == 1


def test_keeps_the_path_of_its_base(server: CannedServer, make: Make) -> None:
    server.on("/ls/api/x", (200, {}, b"1"))
    assert make(server.url + "/ls/").request("GET", "/api/x").json() == 1


def test_repeats_what_is_safe_and_waits_as_long_as_asked(server: CannedServer, make: Make) -> None:
    slept: list[float] = []
    limits = Limits(longest_wait_s=9)
    server.on(
        "/x", (503, {"retry-after": "3"}, b""), (429, {"retry-after": "999"}, b""), (502, {}, b""), (200, {}, b"1")
    )
    client = make(sleep=slept.append, limits=limits)
    assert client.request("GET", "/x").json() == 1
    assert slept == [3, 9, 2.0]
    assert client.requests_made == 4


def test_a_reading_that_broke_is_repeated_and_a_write_is_not(server: CannedServer, make: Make) -> None:
    server.on("/x", (500, {}, b""), (200, {}, b"1"))
    server.on("/y", (500, {}, b""), (200, {}, b"1"))
    assert make().request("GET", "/x").json() == 1
    with pytest.raises(ToolError, match="500"):
        make().request("PUT", "/y")


def test_gives_up_after_its_attempts(server: CannedServer, make: Make) -> None:
    server.on("/x", (503, {}, b""))
    client = make(limits=Limits(attempts=3))
    with pytest.raises(ToolUnreachable, match="503"):
        client.request("GET", "/x")
    assert client.requests_made == 3


def test_a_client_that_asks_once_hands_on_how_long_to_wait(server: CannedServer, make: Make) -> None:
    server.on("/x", (429, {"retry-after": "77"}, b""), (503, {}, b""))
    client = make(limits=Limits(attempts=1))
    for asked in (77, None):
        with pytest.raises(ToolUnreachable) as caught:
            client.request("GET", "/x")
        assert caught.value.retry_after_s == asked
    assert client.requests_made == 2


def test_each_request_keeps_the_pace_repetitions_included(server: CannedServer, make: Make) -> None:
    paces: list[None] = []
    server.on("/x", (503, {}, b""), (302, {"location": "/y"}, b""))
    server.on("/y", (200, {}, b"1"))
    client = make(pace=lambda: paces.append(None), sleep=lambda _: None)
    client.request("GET", "/x")
    assert len(paces) == client.requests_made == 3


def test_the_servers_clock() -> None:
    dated = Reply(200, {"date": "Sun, 29 Nov 2026 19:09:34 GMT"}, b"", "")
    assert dated.moment == "2026-11-29T19:09:34+00:00"
    assert Reply(200, {}, b"", "").moment == Reply(200, {"date": "noon"}, b"", "").moment == ""


def test_what_may_have_arrived_is_not_posted_twice(server: CannedServer, make: Make) -> None:
    server.on("/x", (503, {}, b""), (200, {}, b"1"))
    client = make()
    with pytest.raises(ToolUnreachable):
        client.request("POST", "/x", json={})
    assert client.requests_made == 1
    assert client.request("POST", "/x", json={}, repeatable=True).status == 200


def test_what_may_be_outdated_after_a_pause_is_sent_once(server: CannedServer, make: Make) -> None:
    server.on("/a", (503, {}, b""))
    with pytest.raises(ToolUnreachable):
        make().request("PUT", "/a", attempts=1)
    assert len(server.seen) == 1


def test_a_closed_connection_is_repeated_only_where_that_is_safe(server: CannedServer, make: Make) -> None:
    server.on("/x", (0, {}, b""), (200, {}, b"1"))
    assert make().request("GET", "/x").json() == 1
    server.on("/y", (0, {}, b""), (200, {}, b"1"))
    with pytest.raises(ToolUnreachable, match="without an answer"):
        make().request("POST", "/y")
    assert [path for _, path, _, _ in server.seen].count("/y") == 1


def test_nobody_there(server: CannedServer, make: Make) -> None:
    server.close()
    slept: list[float] = []
    client = make(sleep=slept.append)
    with pytest.raises(ToolUnreachable, match=r"connection refused.*Is Label Studio running") as caught:
        client.request("POST", "/x")
    assert server.url in str(caught.value)
    assert len(slept) == 3, "what never arrived is repeated, even a POST"


def test_an_unknown_host_is_named(make: Make) -> None:
    with pytest.raises(ToolUnreachable, match="host name is not known"):
        make("http://no-such-host.invalid").request("GET", "/x")


def test_a_slow_answer_ends(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ToolUnreachable, match=r"did not answer GET .* within 0\.2 s"):
            make(url, limits=Limits(read_s=0.2, attempts=1)).request("GET", "/x")


def test_a_trickle_ends(server: CannedServer, make: Make) -> None:
    server.on("/x", (200, {}, b"x" * 200_000))
    ticks = iter(range(0, 10_000, 400))
    with pytest.raises(ToolUnreachable, match="still sending after 600 s"):
        make(clock=lambda: float(next(ticks))).request("GET", "/x")


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthError), (403, AuthError), (404, NotFound), (400, ToolError), (500, ToolError)]
)
def test_error_statuses(server: CannedServer, make: Make, status: int, kind: type[LabelbridgeError]) -> None:
    server.on("/x", (status, {}, b'{"detail": "because of s3cret-token"}'))
    client = make(auth=lambda: {"Authorization": "Bearer s3cret-token"})
    with pytest.raises(LabelbridgeError) as caught:
        client.request("GET", "/x?signature=hush")
    assert type(caught.value) is kind
    assert f"answered {status} to GET {server.url}/x: because of ***" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert client.request("GET", "/x", accept=(status,)).status == status


def test_validation_errors_are_quoted_and_pages_are_not(server: CannedServer, make: Make) -> None:
    server.on("/x", (400, {}, b'{"detail": "Validation error", "validation_errors": {"title": ["too long"]}}'))
    with pytest.raises(ToolError, match="too long"):
        make().request("GET", "/x")


_TRACEBACK = 'Traceback (most recent call last):\n  File "views.py", line 7, in get\n    stack\nValueError: no {}'
_LONG = "\n".join(f"stack {n}" for n in range(5000))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("<!doctype html><html>stack</html>", ""),
        (f"<!DOCTYPE html><head><title>KeyError\n at /api/x &amp; y</title></head>{_LONG}", "KeyError at /api/x & y"),
        (f"KeyError at /api/x\n'id'\n\nRequest Method: GET\n{_TRACEBACK}{_LONG}", "KeyError at /api/x 'id'"),
        (_TRACEBACK.format("frame 3"), "ValueError: no frame 3"),
        (json.dumps({"detail": _TRACEBACK.format("frame 4")}), "ValueError: no frame 4"),
        (json.dumps(_TRACEBACK.format("frame 5")), "ValueError: no frame 5"),
        ("x" * 900, "x" * 300),
    ],
)  # fmt: skip
def test_of_a_page_or_a_traceback_one_line_is_shown(server: CannedServer, make: Make, body: str, shown: str) -> None:
    server.on("/x", (500, {}, body.encode()))
    with pytest.raises(ToolError) as caught:
        make().request("GET", "/x")
    assert caught.value.found == f"{make().name} answered 500 to GET {server.url}/x" + (f": {shown}" if shown else "")


def test_no_json_is_explained(server: CannedServer, make: Make) -> None:
    server.on("/x", (200, {"content-type": "text/html"}, b"<html>login</html>"))
    with pytest.raises(ToolError, match="text/html that is no JSON"):
        make().request("GET", "/x").json()


@pytest.mark.parametrize("announce", [True, False])
def test_answers_have_a_limit(server: CannedServer, make: Make, announce: bool) -> None:
    headers = {} if announce else {"content-length": "99999999", "connection": "close"}
    server.on("/x", (200, headers, b"x" * 3000))
    with pytest.raises(ToolError, match="larger than 1,000 bytes"):
        make().request("GET", "/x", max_bytes=1000)


def test_a_compressed_bomb_counts_unpacked(server: CannedServer, make: Make) -> None:
    server.on("/x", (200, {"content-encoding": "gzip"}, gzip.compress(b"x" * 5_000_000)))
    with pytest.raises(ToolError, match="larger than"):
        make().request("GET", "/x", max_bytes=1_000_000)


def test_credentials_stay_at_home(server: CannedServer, other: CannedServer, make: Make) -> None:
    other.on("/image.png", (200, {}, b"png"))
    server.on("/away", (302, {"location": f"{other.url}/image.png"}, b""))
    client = make(auth=lambda: {"Authorization": "Token s3cret-token"}, allowed=[other.url])
    assert client.request("GET", f"{other.url}/image.png").body == b"png"
    assert client.request("GET", "/away").body == b"png"
    assert [("authorization" in h) for _, _, h, _ in other.seen] == [False, False]
    assert "authorization" in server.seen[0][2]


def test_redirects_at_home_keep_credentials_and_drop_parameters(server: CannedServer, make: Make) -> None:
    server.on("/old", (301, {"location": "/new?x=1"}, b""))
    server.on("/new", (200, {}, b"1"))
    make(auth=lambda: {"Authorization": "Token s3cret-token"}).request("GET", "/old", params={"q": "1"})
    assert server.seen[1][1] == "/new?x=1"
    assert server.seen[1][2]["authorization"] == "Token s3cret-token"


def test_redirects_end(server: CannedServer, make: Make) -> None:
    server.on("/x", (302, {"location": "/x"}, b""))
    client = make()
    with pytest.raises(ToolError, match="redirects more than 5 times"):
        client.request("GET", "/x")
    assert client.requests_made == 6


def test_a_redirected_post_says_which_address_to_set(server: CannedServer, make: Make) -> None:
    server.on("/x", (301, {"location": "https://labels.example.org/x"}, b""))
    with pytest.raises(ToolError, match=r"redirect to https://labels\.example\.org/x.*Set the address"):
        make().request("POST", "/x")


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:1/x",
        "http://localhost:1/x",
        "http://[::1]:1/x",
        "http://[::ffff:127.0.0.1]:1/x",
        "http://10.1.2.3/x",
        "http://192.168.0.1/x",
        "http://0.0.0.0:1/x",
        # 127.0.0.1 as other people write it
        "http://2130706433:1/x",
        "http://0x7f.1:1/x",
        "http://0177.0.0.1:1/x",
        "http://127.1:1/x",
        "http://[0:0:0:0:0:ffff:7f00:1]:1/x",
        # IPv4 carried in IPv6: compatible, translated, NAT64, 6to4, Teredo
        "http://[::7f00:1]:1/x",
        "http://[::ffff:0:7f00:1]:1/x",
        "http://[64:ff9b::a9fe:a9fe]/x",
        "http://[64:ff9b:1::a9fe:a9fe]/x",
        "http://[2002:a9fe:a9fe::]/x",
        "http://[2001:0:a9fe:a9fe::]/x",
        # metadata services of clouds
        "http://[::ffff:169.254.169.254]/x",
        "http://[fd00:ec2::254]/x",
        "http://100.100.100.200/x",
        "http://192.0.0.192/x",
        "http://168.63.129.16/x",
        # other networks that are not everybody's
        "http://[::]:1/x",
        "http://[fe80::1]/x",
        "http://[fec0::1]/x",
        "http://[ff02::1]/x",
        "http://224.0.0.1/x",
        "http://255.255.255.255/x",
    ],
)
def test_private_networks_are_out_of_reach(server: CannedServer, make: Make, url: str) -> None:
    server.on("/away", (302, {"location": url}, b""))
    client = make()
    for path in (url, "/away"):
        with pytest.raises(ToolError, match=r"private network.*allowed origins"):
            client.request("GET", path)


def test_a_name_that_is_looked_up_twice_gains_nothing(
    other: CannedServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(other.url.rpartition(":")[2])
    public, private = "192.0.2.7", "127.0.0.1"
    asked: list[str] = []
    dialled: list[str] = []

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        # The first answer passes every judge; all later ones lead inside.
        address = host if host[0].isdigit() else "8.8.8.8" if len(asked) == 1 else private
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        dialled.append(address[0])
        raise ConnectionRefusedError(111, public)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", connect)
    client = make(limits=Limits(attempts=1))
    with pytest.raises(ToolUnreachable):
        client.request("GET", f"http://rebinding.example.org:{port}/x")
    assert dialled == ["8.8.8.8"], "the address that was judged is the one that is dialled"
    with pytest.raises(ToolError, match="private network"):
        client.request("GET", f"http://rebinding.example.org:{port}/x")
    assert dialled == ["8.8.8.8"]


@pytest.mark.parametrize(
    "url",
    [
        "http://{0}@evil.example.org/x",
        "http://{0}:80@evil.example.org/x",
        "http://{0}\\@evil.example.org/x",
        "http://evil.example.org\\@{0}/x",
        "http://{0}%2f@evil.example.org/x",
        "http://evil.example.org%00.{0}/x",
        "http://{0}.evil.example.org/x",
        "http://evil.example.org#@{0}/x",
        "http://evil.example.org?@{0}/x",
    ],
)
def test_no_spelling_makes_another_host_ours(make: Make, url: str) -> None:
    ours = "labels.example.org"
    try:
        origin = origin_of(url.format(ours))
    except ConfigError:
        return  # nothing is sent there at all
    assert origin != origin_of(f"http://{ours}")


def test_private_networks_can_be_trusted(other: CannedServer, make: Make) -> None:
    other.on("/x", (200, {}, b"1"))
    with pytest.raises(ToolError, match="private network"):
        make().request("GET", f"{other.url}/x")
    assert not other.seen, "the guard judges before it connects"
    assert make(allowed=[other.url]).request("GET", f"{other.url}/x").status == 200
    assert make(private_networks=True).request("GET", f"{other.url}/x").status == 200


@pytest.mark.parametrize("body", [b"<html>" + b"<title>" * 9_000, b"<html>" + b"<title" * 10_000, b"[" * 200_000])
def test_a_hostile_error_page_costs_no_time(server: CannedServer, make: Make, body: bytes) -> None:
    server.on("/x", (500, {}, body))
    began = time.monotonic()
    with pytest.raises(ToolError, match="answered 500"):
        make().request("GET", "/x")
    assert time.monotonic() - began < 1


def test_nesting_without_end_is_no_json(server: CannedServer, make: Make) -> None:
    server.on("/x", (200, {}, b"[" * 200_000))
    with pytest.raises(ToolError, match="no JSON"):
        make().request("GET", "/x").json()


def test_what_was_sent_in_secret_is_not_repeated(server: CannedServer, make: Make) -> None:
    server.on("/x", (500, {}, b'{"detail": "cannot use s3cret-token, nor pass-word, of s3cret-token-2"}'))
    client = make(auth=lambda: {"Authorization": "Token s3cret-token-2"}, hidden=["s3cret-token", "pass-word", ""])
    with pytest.raises(ToolError, match=r"cannot use \*\*\*, nor \*\*\*, of \*\*\*") as caught:
        client.request("POST", "/x", json={"refresh": "s3cret-token"})
    assert "s3cret" not in repr(caught.value.as_dict())


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/x", "http://user:pw@host/x", "gopher://x"])
def test_other_schemes_and_credentials_in_addresses_are_refused(server: CannedServer, make: Make, target: str) -> None:
    server.on("/away", (302, {"location": target}, b""))
    with pytest.raises(ToolError, match="refused to open") as caught:
        make().request("GET", "/away")
    assert "pw" not in str(caught.value).replace("passwd", "")


def test_cookies_are_not_kept(server: CannedServer, make: Make) -> None:
    server.on("/x", (200, {"set-cookie": "sessionid=1; Path=/"}, b""))
    client = make()
    client.request("GET", "/x")
    client.request("GET", "/x")
    assert "cookie" not in server.seen[1][2]


def test_passwords_in_the_netrc_file_are_not_sent(
    server: CannedServer, make: Make, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hush\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.on("/x", (200, {}, b""))
    make().request("GET", "/x")
    assert "authorization" not in server.seen[0][2]


def test_origins() -> None:
    assert origin_of("HTTP://Host/a?b") == "http://host:80"
    assert origin_of("https://host:8443/a") == "https://host:8443"
    assert origin_of("http://[::1]:80") == "http://[::1]:80"
    for bad in ("host:80", "ftp://x", "http://", "http://x:port", "http://u:p@x", "http://["):
        with pytest.raises(ConfigError):
            origin_of(bad)
    assert public_url("https://u:p@host/a?token=1#x") == "https://host/a"
