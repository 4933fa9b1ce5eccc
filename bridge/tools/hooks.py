"""Webhooks as they are set up in a tool and received from it: paths, headers and events, the same for both sides."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

LABEL_STUDIO, CVAT = "label-studio", "cvat"
PATHS = {LABEL_STUDIO: "/hooks/label-studio", CVAT: "/hooks/cvat"}

TOKEN_HEADER = "X-Labelbridge-Token"  # noqa: S105
"""Label Studio signs nothing; its webhooks carry fixed headers, and this one holds the secret."""

SIGNATURE_HEADER = "X-Signature-256"
"""CVAT's: ``sha256=`` and the HMAC of the body."""

LABEL_STUDIO_EVENTS = (
    *("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"),
    *("TASKS_CREATED", "TASKS_DELETED", "PROJECT_UPDATED"),
)
CVAT_EVENTS = (
    *("create:task", "update:task", "delete:task", "update:job"),
    *("create:issue", "update:issue", "delete:issue", "create:comment", "update:comment"),
)
"""No event tells of annotations, but each save of them updates the job."""


@dataclass(frozen=True, slots=True)
class HookAddress:
    """Where webhooks are received, as the tool reaches it.

    Attributes:
        base: the address without the path.
        secret: what the tool proves itself with.
    """

    base: str
    secret: str

    def url(self, tool: str, place: str = "") -> str:
        """The whole address; ``place`` is what the webhook is of, where its events do not all tell."""
        return self.base.rstrip("/") + PATHS[tool] + (f"?place={place}" if place else "")


def same_door(url: object, tool: str) -> bool:
    """Whether an address of a webhook is a receiver's, on whatever host."""
    return urlsplit(str(url or "")).path.endswith(PATHS[tool])


def host_warnings(name: str, tool_url: str, url: str) -> Iterator[str]:
    """Addresses that the tool ``name`` at ``tool_url`` surely does not reach, as sentences with what to do."""
    host, there = urlsplit(url).hostname or "", urlsplit(tool_url).hostname or ""
    if is_loopback(host) and not is_loopback(there):
        yield (
            f"{url} is this machine only for programs on this machine, and {name} is at {there}. Use an "
            f"address that is valid where {name} runs"
        )


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
