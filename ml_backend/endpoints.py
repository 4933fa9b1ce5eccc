"""One endpoint of the server: what routing needs to know, and what ``/openapi.json`` says about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Attributes:
    method: ``GET`` or ``POST``.
    path: as Starlette writes paths, with parameters in braces.
    handler: answers a request; raises :class:`~ml_backend.http_shell.HttpProblem` for what it cannot answer.
    summary: one line for people.
    body: JSON schema of the request's body; None where it takes none.
    status: of the usual answer.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    body: dict[str, Any] | None = None
    status: int = 200
