"""The server's OpenAPI document, made from its endpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ml_backend.endpoints import Endpoint

_PARAMETER = re.compile(r"{(\w+)}")
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error", "found", "expected", "todo"],
    "properties": {name: {"type": "string"} for name in ("error", "found", "expected", "todo")},
}


def openapi(title: str, version: str, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """An OpenAPI 3.1 document.

    Args:
        title, version: of the API.
        endpoints: in the order in which they shall be listed.
    """
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "responses": {
            str(endpoint.status): {"description": "The answer."},
            "default": {"description": "What is wrong, and what to do.", **error},
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(endpoint.path)
    ]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.body}}}
    return operation
