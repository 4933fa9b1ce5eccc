"""Requests, replies and the table of routes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fakes.cvat_server.state import Organization, Row, State, User
from fakes.cvat_server.versions import Version


class ApiError(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = {"detail": body} if status in (401, 403, 404, 405, 429) and isinstance(body, str) else body


@dataclass
class Reply:
    status: int = 200
    body: object = None
    content: bytes | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def data(self) -> bytes:
        if self.content is not None:
            return self.content
        return b"" if self.body is None else json.dumps(self.body).encode()


@dataclass
class Context:
    """One request with who asks, in which organization.

    Attributes:
        org_given: whether the request names an organization, be it the empty one.
    """

    state: State
    version: Version
    base: str
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    raw: bytes
    user: User = field(default_factory=lambda: User(0, "", ""))
    org: Organization | None = None
    org_given: bool = False
    with_access_token: bool = False

    @property
    def org_id(self) -> int | None:
        return self.org.id if self.org else None

    @property
    def json(self) -> Row:
        try:
            value = json.loads(self.raw or b"{}")
        except ValueError as error:
            raise ApiError(400, {"detail": f"JSON parse error - {error}"}) from None
        if not isinstance(value, dict):
            raise ApiError(400, {"non_field_errors": ["Invalid data. Expected a dictionary."]})
        return value

    def form(self) -> tuple[list[tuple[str, str]], list[tuple[str, str, bytes]]]:
        """The fields and the files (field, file name, bytes) of a multipart body."""
        found = re.search(r'boundary="?([^";]+)', self.headers.get("content-type", ""))
        if not found:
            return [], []
        fields: list[tuple[str, str]] = []
        files: list[tuple[str, str, bytes]] = []
        for part in self.raw.split(b"--" + found[1].encode())[1:-1]:
            head, _, data = part[2:-2].partition(b"\r\n\r\n")
            name = re.search(rb'[ ;]name="([^"]*)"', head)
            file_name = re.search(rb'filename="([^"]*)"', head)
            key = name[1].decode() if name else ""
            if file_name:
                files.append((key, file_name[1].decode(), data))
            else:
                fields.append((key, data.decode()))
        return fields, files


Handler = Callable[..., Reply]


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    anonymous: bool
    since: int
    until: int


ROUTES: list[Route] = []


def route(
    method: str, path: str, *, anonymous: bool = False, since: int = 0, until: int = 999
) -> Callable[[Handler], Handler]:
    """Registers a handler; ``{x}`` is a number and ``<x>`` any text, both passed on by position."""
    pattern = re.compile(re.sub(r"<\w+>", "([^/]+)", re.sub(r"{\w+}", r"(\\d+)", path)))

    def register(handler: Handler) -> Handler:
        ROUTES.append(Route(method, pattern, handler, anonymous, since, until))
        return handler

    return register


def find_route(method: str, path: str, version: Version) -> tuple[Route, list[Any]]:
    matched = False
    for candidate in ROUTES:
        found = candidate.pattern.fullmatch(path)
        if not found or not candidate.since <= version.minor <= candidate.until:
            continue
        matched = True
        if candidate.method == method:
            return candidate, [int(x) if x.isdigit() else x for x in found.groups()]
    if matched:
        raise ApiError(405, f'Method "{method}" not allowed.')
    raise ApiError(404, "Not found.")


def require(row: Row, *names: str) -> None:
    """Refuses a body that lacks a field."""
    missing = {name: ["This field is required."] for name in names if row.get(name) is None}
    if missing:
        raise ApiError(400, missing)
