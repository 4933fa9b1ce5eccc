"""Outbound HTTP, and nothing else in labelbridge makes any.

One :class:`HttpClient` speaks to one server (its *own origin*) and may fetch from others, as image URLs lead anywhere:

- its credentials go to its own origin only, never along a redirect;
- redirects are followed by hand, and every hop is judged like a first request;
- an address outside the own and the explicitly allowed origins must not lead into a private, loopback or link-local
  network (cloud metadata services live there). The address that was judged is the one that is connected to, so a name
  that resolves differently the second time gains nothing;
- connecting and reading have time limits, answers have a byte limit, and what is safe to repeat is repeated.
"""

from __future__ import annotations

import html
import ipaddress
import json
import re
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from bridge.errors import AuthError, ConfigError, NotFound, ToolError, ToolUnreachable

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({429, 502, 503, 504})
_CHUNK = 65_536
#: Characters of an error text that are looked at, and that are shown.
_EXCERPT, _LINE = 65_536, 300
_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Closed like private networks, though the library that judges addresses lets them pass.
_ALSO_CLOSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's host: metadata and keys of the virtual machine
            "::/96",  # IPv4 in IPv6, the oldest form
            "::ffff:0:0:0/96",  # IPv4 in IPv6, translated (SIIT)
            "fec0::/10",  # the site-local addresses of old
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how often and how much.

    Attributes:
        connect_s, read_s: seconds to connect, and between two pieces of an answer.
        total_s: seconds for one whole answer, so that a trickle cannot hold a worker.
        attempts: how often a request that is safe to repeat is made altogether.
        backoff_s: pause before the first repetition; doubled each time.
        longest_wait_s: no single pause is longer, whatever ``Retry-After`` asks for.
        max_bytes: bytes of an answer after decompression.
        max_redirects: hops.
    """

    connect_s: float = 5.0
    read_s: float = 120.0
    total_s: float = 600.0
    attempts: int = 4
    backoff_s: float = 0.5
    longest_wait_s: float = 30.0
    max_bytes: int = 256 * 1024 * 1024
    max_redirects: int = 5


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    method: str = "GET"

    @property
    def moment(self) -> str:
        """The server's clock when it answered, in ISO 8601; empty where it does not say."""
        try:
            return parsedate_to_datetime(self.headers.get("date", "")).isoformat()
        except ValueError:
            return ""

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ToolError: it is none. Usually another kind of server, or a login page, stands at this address.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            kind = self.headers.get("content-type", "no content type")
            raise ToolError(
                f"{self.method} {public_url(self.url)} answered {self.status} with {kind} that is no JSON",
                expected="a JSON answer",
                todo="Check the address: does another server, a proxy or a login page answer there?",
            ) from None


def origin_of(url: str) -> str:
    """``scheme://host:port`` of a URL, in lower case and with the port always written out.

    Raises:
        ConfigError: it is no http(s) URL, or holds a user name or password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ConfigError(
            f"{public_url(url)!r} is no web address", expected="http:// or https://, a host, and a port if needed"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"the address of {parts.hostname} holds a user name or a password",
            expected="an address without credentials",
            todo="Move them to the settings made for secrets",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or _DEFAULT_PORTS[parts.scheme]}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def public_url(url: str) -> str:
    """A URL that may be shown: without query, fragment and credentials, where signatures and tokens live."""
    text = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"(?<=://)[^/@]*@", "", text)[:300]


class HttpClient:
    """Requests to one server. Safe to use from several threads.

    Args:
        base: its address; a path in it is kept (``https://host/label-studio``).
        name: what to call it in messages, as in ``Label Studio``.
        auth: gives the headers that prove who we are; asked before each request to the own origin.
        allowed: further origins that may lie in private networks; they get no credentials.
        private_networks: whether *every* address may; for closed networks where all hosts are trusted.
        hidden: texts that are sent in bodies and must not be shown, should an error answer repeat them.
        pace: called before each request; it may wait.
        sleep, clock: replaced in tests. ``clock`` counts seconds from anywhere.
    """

    def __init__(
        self,
        base: str,
        *,
        name: str,
        auth: Callable[[], Mapping[str, str]] | None = None,
        allowed: Iterable[str] = (),
        private_networks: bool = False,
        hidden: Iterable[str] = (),
        limits: Limits | None = None,
        pace: Callable[[], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.origin = origin_of(base)
        self.base = base.rstrip("/")
        self.name = name
        self._auth = auth
        self._allowed = {self.origin, *map(origin_of, allowed)}
        self._private_networks = private_networks
        self._hidden = frozenset(filter(None, hidden))
        self._limits = limits or Limits()
        self._pace = pace
        self._sleep = sleep
        self._clock = clock
        self._count = 0
        self._lock = threading.Lock()
        self._trusted = _session(guarded=False)
        self._guarded = _session(guarded=True)

    @property
    def requests_made(self) -> int:
        """Requests sent so far, with repetitions and redirects."""
        return self._count

    def close(self) -> None:
        self._trusted.close()
        self._guarded.close()

    def url(self, path: str) -> str:
        """The full URL of a path on this server; a full URL stays as it is."""
        if "://" in path.split("?", 1)[0]:
            return path
        return f"{self.base}/{path.lstrip('/')}"

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: Container[int] = (),
        repeatable: bool | None = None,
        max_bytes: int | None = None,
        read_s: float | None = None,
        attempts: int | None = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, File] | None = None,
    ) -> Reply:
        """Send a request and read the whole answer.

        ``path`` is below ``base``, or a full URL. ``form`` and ``files`` are fields of a form by name. ``accept``
        names error statuses to hand back instead of raising.
        ``repeatable`` overrides whether the request may be sent again after it may have arrived (by default GET, HEAD,
        OPTIONS, PUT and DELETE). A request that certainly did not arrive is always repeated. ``attempts`` overrides how
        often it is sent altogether: what was right to write a moment ago may be wrong after a pause.

        Raises:
            ToolUnreachable: no answer, or not in time, or 429, 502, 503, 504 to the end.
            AuthError: 401 or 403.
            NotFound: 404.
            ToolError: any other error status, a forbidden address, too large or endless an answer.
        """
        call = _Call(
            method=method.upper(),
            params=dict(params or {}),
            json=json,
            headers=dict(headers or {}),
            repeatable=method.upper() in _SAFE if repeatable is None else repeatable,
            max_bytes=max_bytes or self._limits.max_bytes,
            read_s=read_s or self._limits.read_s,
            attempts=attempts or self._limits.attempts,
            form=form,
            files=files,
        )
        url = self.url(path)
        for _ in range(self._limits.max_redirects + 1):
            reply = self._persist(call, url)
            target = reply.headers.get("location")
            if reply.status not in _REDIRECTS or not target:
                break
            url, call = self._redirected(reply, call, target), call.without_params()
        else:
            raise ToolError(f"{public_url(self.url(path))} redirects more than {self._limits.max_redirects} times")
        if reply.status >= 400 and reply.status not in accept:
            self.raise_for(reply)
        return reply

    def _redirected(self, reply: Reply, call: _Call, target: str) -> str:
        there = urljoin(reply.url, target)
        if call.method not in ("GET", "HEAD"):
            raise ToolError(
                f"{self.name} answered {call.method} {public_url(reply.url)} with a redirect to {public_url(there)}",
                expected="an address that answers by itself",
                todo=f"Set the address of {self.name} to where it leads (often https instead of http)",
            )
        return there

    def _persist(self, call: _Call, url: str) -> Reply:
        """Send until it is answered, or repeating is unsafe or has been done often enough."""
        limits = self._limits
        for attempt in range(1, call.attempts + 1):
            last = attempt == call.attempts
            pause = min(limits.backoff_s * 2 ** (attempt - 1), limits.longest_wait_s)
            try:
                reply = self._send(call, url)
            except _NotSent as error:
                if last:
                    raise error.shown from None
            except _Lost as error:
                if last or not call.repeatable:
                    raise error.shown from None
            else:
                if not call.may_pass(reply.status) or last:
                    return reply
                pause = min(_retry_after(reply) or pause, limits.longest_wait_s)
            self._sleep(pause)
        raise AssertionError("unreachable: attempts is at least 1")  # pragma: no cover

    def _send(self, call: _Call, url: str) -> Reply:
        try:
            origin = origin_of(url)
        except ConfigError as error:
            raise ToolError(f"refused to open {public_url(url)}: {error.found}", expected=error.expected) from None
        trusted = self._private_networks or origin in self._allowed
        session = self._trusted if trusted else self._guarded
        own = dict(self._auth()) if self._auth and origin == self.origin else {}
        if self._pace:
            self._pace()
        with self._lock:
            self._count += 1
        try:
            with session.request(
                call.method,
                url,
                params=call.params,
                json=call.json,
                data=call.form,
                files=call.files,
                headers={**call.headers, **own},
                timeout=(self._limits.connect_s, call.read_s),
                allow_redirects=False,
                stream=True,
                # Any truthy value: without one, requests would look for a password in the user's netrc file.
                auth=_no_auth,
            ) as response:
                body = self._read(response, call, url)
                lowered = {k.lower(): v for k, v in response.headers.items()}
                return Reply(response.status_code, lowered, body, url, call.method)
        except InvalidIPAddress:
            raise ToolError(
                f"refused to open {public_url(url)}: the host is in a private network",
                expected="a public address, or an origin that is allowed by name",
                todo=f"If you trust this host, add {origin} to the allowed origins",
            ) from None
        except (requests.RequestException, InvalidHeader, OSError) as error:
            raise self._failure(error, call, url) from None

    def _read(self, response: requests.Response, call: _Call, url: str) -> bytes:
        too_large = ToolError(
            f"the answer to {call.method} {public_url(url)} is larger than {call.max_bytes:,} bytes",
            expected="a smaller answer",
            todo="Raise the limit in the settings if this is meant to be so large",
        )
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > call.max_bytes and call.method != "HEAD":
            raise too_large
        body = bytearray()
        until = self._clock() + self._limits.total_s
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > call.max_bytes:
                raise too_large
            if self._clock() > until:
                raise ToolUnreachable(
                    f"{call.method} {public_url(url)} was still sending after {self._limits.total_s:g} s",
                    todo="Try again; look at the load of that server",
                )
        return bytes(body)

    def _failure(self, error: Exception, call: _Call, url: str) -> Exception:
        """What a library's exception means: surely not sent, perhaps arrived, or of no use to repeat."""
        here = origin_of(url)
        who = self.name if here == self.origin else "the server"
        running = f"Is {who} running, and is the address right?"
        if isinstance(error, requests.exceptions.SSLError):
            return ToolUnreachable(
                f"the certificate of {here} is not trusted: {_reason(error)}",
                todo="Use the name the certificate is made for, or add its authority with REQUESTS_CA_BUNDLE",
            )
        if isinstance(error, requests.ConnectTimeout):
            seconds = self._limits.connect_s
            return _NotSent(ToolUnreachable(f"nothing answers at {here} within {seconds:g} s", todo=running))
        if isinstance(error, requests.ReadTimeout) or "timed out" in str(error).lower():
            return _Lost(
                ToolUnreachable(
                    f"{who} did not answer {call.method} {public_url(url)} within {call.read_s:g} s",
                    todo=f"Look at the load and the log of {who}, then try again",
                )
            )
        if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError | OSError):
            shown = ToolUnreachable(f"nothing answers at {here}: {_reason(error)}", todo=running)
            return _NotSent(shown) if _never_connected(error) else _Lost(shown)
        return ToolError(f"{call.method} {public_url(url)} failed: {_reason(error)}")

    def raise_for(self, reply: Reply) -> None:
        """Raise the error that an error status stands for."""
        what = f"{reply.method} {public_url(reply.url)}"
        here = origin_of(reply.url) == self.origin
        who = self.name if here else "the server"
        said = self._without_secrets(_detail(reply))
        found = f"{who} answered {reply.status} to {what}" + (f": {said}" if said else "")
        if reply.status in (401, 403):
            raise AuthError(
                found,
                expected="a token that is valid and allowed to do this",
                todo=f"Check the token in the settings, and the rights of its user in {who}" if here else "",
            )
        if reply.status == 404:
            raise NotFound(found, todo="Check the id, and whether the token's user can see it" if here else "")
        if reply.status in _BUSY:
            down = f"Is {who} up behind its proxy? Try again in a minute"
            todo = "Try again in a minute, with less at once" if reply.status == 429 else down
            unreachable = ToolUnreachable(found, todo=todo)
            unreachable.retry_after_s = _retry_after(reply)
            raise unreachable
        raise ToolError(found)

    def _without_secrets(self, text: str) -> str:
        sent = (part for value in (self._auth() if self._auth else {}).values() for part in value.split())
        for secret in sorted({*self._hidden, *(part for part in sent if len(part) > 8)}, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


#: A file to upload: its name and its content.
File = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    params: dict[str, str | int]
    json: Any
    headers: dict[str, str]
    repeatable: bool
    max_bytes: int
    read_s: float
    attempts: int
    form: Mapping[str, str] | None = None
    files: Mapping[str, File] | None = None

    def may_pass(self, status: int) -> bool:
        """Whether it may be answered in a moment. Both tools answer a reading with 500 when their database is busy."""
        return self.repeatable and (status in _BUSY or (status == 500 and self.method == "GET"))

    def without_params(self) -> _Call:
        return replace(self, params={})


class _Failure(Exception):
    def __init__(self, shown: ToolUnreachable) -> None:
        self.shown = shown
        super().__init__(str(shown))


class _NotSent(_Failure):
    """The request never reached the server: repeating is always safe."""


class _Lost(_Failure):
    """The request may have been carried out though no answer came."""


def _session(*, guarded: bool) -> requests.Session:
    session = requests.Session()
    session.headers["User-Agent"] = "labelbridge"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    # Repeating is decided in _persist, which knows what is safe and counts requests.
    for scheme in _DEFAULT_PORTS:
        adapter = _PublicOnly(is_https_proto=scheme == "https") if guarded else HTTPAdapter()
        session.mount(f"{scheme}://", adapter)
    return session


class _PublicOnly(IPFilterAdapter):  # type: ignore[misc]
    """Connects to public addresses only, and to the very address that it judged."""

    def build_connection_pool_key_attributes(self, *args: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        host_params, pool_params = super().build_connection_pool_key_attributes(*args, **options)
        address = ipaddress.ip_address(host_params["host"].strip("[]"))
        if any(address in network for network in _ALSO_CLOSED):
            raise InvalidIPAddress(address)
        return host_params, pool_params


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _retry_after(reply: Reply) -> float | None:
    value = reply.headers.get("retry-after")
    if value is None:
        return None
    try:
        return Retry().parse_retry_after(value)
    except InvalidHeader:
        return None


def _never_connected(error: Exception) -> bool:
    return "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error) or "resolve" in str(error)


def _reason(error: Exception) -> str:
    """The innermost cause in plain words, without addresses of objects."""
    text = str(error)
    for words in ("connection refused", "no route to host", "network is unreachable", "connection reset by peer"):
        if words in text.lower():
            return words
    if "resolve" in text.lower() or "name or service not known" in text.lower():
        return "the host name is not known"
    if "closed connection without response" in text or "aborted" in text.lower():
        return "it closed the connection without an answer"
    if "certificate" in text.lower():
        found = re.search(r"certificate verify failed: ([^(]+)", text)
        return found.group(1).strip() if found else "certificate verify failed"
    return type(error).__name__


def _detail(reply: Reply) -> str:
    """What an error answer says, short, from the places where servers put it."""
    try:
        data = json.loads(reply.body)
    except (ValueError, RecursionError):
        return _line(reply.body[:_EXCERPT].decode("utf-8", "replace"))
    if isinstance(data, dict):
        errors = data.get("validation_errors")
        if errors:
            return json.dumps(errors, ensure_ascii=False)[:400]
        for key in ("detail", "message", "error"):
            if isinstance(data.get(key), str) and data[key]:
                return _line(data[key])
    if isinstance(data, str):
        return _line(data)
    return json.dumps(data, ensure_ascii=False)[:400]


def _line(text: str) -> str:
    """The one line of an error text that says what is wrong: of a page its title, of a traceback its last line."""
    if re.search(r"<(!doctype|html|head|body)\b", text, re.IGNORECASE):
        return _title(text)
    first = re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]
    if first.startswith("Traceback (most recent call last)"):
        first = text.strip().splitlines()[-1]
    return " ".join(first.split())[:_LINE]


def _title(page: str) -> str:
    """Each sign is looked for once: one pattern for all would begin anew at every ``<title`` of a hostile page."""
    found = re.search(r"<title\b", page, re.IGNORECASE)
    _, opened, text = page[found.end() :].partition(">") if found else ("", "", "")
    end = re.search(r"</title>", text, re.IGNORECASE) if opened else None
    return " ".join(html.unescape(text[: end.start()]).split())[:_LINE] if end else ""
