"""Label Studio's webhooks to us: exactly one for each project, with the secret and the events that matter.

They run inside an annotator's Submit, one after the other, for up to a second each. So one that nobody needs goes: that
to a model server, which Label Studio makes by itself, for all events and without credentials.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from bridge.errors import ToolError
from bridge.net import Reply
from bridge.tools.hooks import (
    LABEL_STUDIO,
    LABEL_STUDIO_EVENTS,
    TOKEN_HEADER,
    HookAddress,
    host_warnings,
    is_address,
    same_door,
)
from bridge.tools.label_studio_client import NAME, LabelStudioClient, Row

ENV_LINES = "USE_DEFAULT_BANNED_SUBNETS=false\nUSER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16"
"""Environment of Label Studio: hosts in private networks may be called, cloud metadata services still may not."""

_REFUSALS = (400, 403, 500)


def settle_hook(client: LabelStudioClient, project: int, hook: HookAddress) -> tuple[str, ...]:
    """Make the project's webhook to us, or bring it up to date; a second one of ours goes.

    Returns:
        Why no events come, as sentences with what to do; nothing where they do.
    """
    url = hook.url(LABEL_STUDIO)
    body: Row = {
        "project": project,
        "url": url,
        "send_payload": True,
        "send_for_all_actions": False,
        "actions": list(LABEL_STUDIO_EVENTS),
        "headers": {TOKEN_HEADER: hook.secret},
        "is_active": True,
    }
    rows = _ours(client, project)
    for row in rows[1:]:
        _delete(client, row)
    if rows:
        reply = client.call("PATCH", f"/api/webhooks/{rows[0]['id']}/", json=body, accept=_REFUSALS, repeatable=True)
    else:
        reply = client.call("POST", "/api/webhooks/", json=body, accept=_REFUSALS)
    if reply.status >= 400:
        return (_refusal(reply, url),)
    return tuple(host_warnings(NAME, client.url, url))


def remove_hook(client: LabelStudioClient, project: int) -> int:
    """Take the project's webhook to us away. Returns how many there were."""
    rows = _ours(client, project)
    for row in rows:
        _delete(client, row)
    return len(rows)


def webhooks_at(client: LabelStudioClient, project: int, url: str) -> list[Row]:
    """The project's webhooks to an address."""
    return [row for row in _webhooks(client, project) if row.get("url") == url]


def remove_webhooks_at(client: LabelStudioClient, project: int, url: str) -> None:
    for row in webhooks_at(client, project, url):
        _delete(client, row)


def dotless(host: str) -> bool:
    """Whether a host's name has no dot: a webhook's address must have one, or be ``localhost``."""
    return host != "localhost" and "." not in host and not is_address(host)


def short(reply: Reply) -> str:
    """What an answer says, in a line."""
    text = " ".join(reply.body.decode("utf-8", "replace").split())
    try:
        data = reply.json()
        text = str(data.get("detail") or data) if isinstance(data, dict) else text
    except ToolError:
        pass
    return text[:300]


def _refusal(reply: Reply, url: str) -> str:
    host, polled = urlsplit(url).hostname or "", "until then, changes are found by polling"
    if reply.status == 403:
        return (
            f"{NAME} sends no events to {url}, because it is in a private network; {polled}. To have events, set in "
            f"its environment:\n{ENV_LINES}"
        )
    if dotless(host):
        return (
            f"{NAME} sends no events to {host!r}, because the name has no dot. Give the container a network alias "
            f"with a dot, as in labelbridge.local, and set LABELBRIDGE_HOOKS_URL; {polled}"
        )
    if "_" in host:
        return (
            f"{NAME} sends no events to {host!r}, because the name has an underscore. Give the container a network "
            f"alias without one; {polled}"
        )
    return f"{NAME} refused the webhook to {url}: {short(reply)}; {polled}"


def _ours(client: LabelStudioClient, project: int) -> list[Row]:
    return [row for row in _webhooks(client, project) if same_door(row.get("url"), LABEL_STUDIO)]


def _webhooks(client: LabelStudioClient, project: int) -> list[Row]:
    rows = client.call("GET", "/api/webhooks/", params={"project": project}).json()
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [row for row in found if row.get("project") == project]


def _delete(client: LabelStudioClient, row: Row) -> None:
    client.call("DELETE", f"/api/webhooks/{row['id']}/", accept=(404,))
