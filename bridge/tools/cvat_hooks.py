"""CVAT's webhooks to us: one for the project of a target, or for its organization where it is in no project."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import AuthError, ToolError
from bridge.net import Reply
from bridge.tools.cvat_client import NAME, CvatClient, Row
from bridge.tools.cvat_target import CvatTarget
from bridge.tools.hooks import CVAT, CVAT_EVENTS, HookAddress, host_warnings, same_door

_POLLED = "Changes are found by polling, without webhooks"


@dataclass(frozen=True, slots=True)
class HookPlace:
    """What a webhook is of; ``project`` 0 is the organization that the client works in."""

    project: int

    @property
    def fields(self) -> Row:
        return {"type": "project", "project_id": self.project} if self.project else {"type": "organization"}

    @property
    def words(self) -> str:
        return f"cvat:project/{self.project}" if self.project else ""

    def holds(self, row: Row) -> bool:
        """Whether a webhook, as CVAT lists it, is of this."""
        return row.get("type") == self.fields["type"] and (row.get("project_id") or 0) == self.project


def settle_hook(client: CvatClient, what: CvatTarget, hook: HookAddress) -> tuple[str, ...]:
    """Make the webhook to us for a target, or bring it up to date; a second one of ours goes.

    Returns:
        What may keep events from coming, as sentences with what to do.

    Raises:
        ToolError: CVAT has nothing to hang a webhook on for this target, or refused it.
        AuthError: this user may not.
    """
    place = _place_of(client, what)
    url = hook.url(CVAT, place.words)
    body: Row = {
        "target_url": url,
        "description": "labelbridge",
        "events": list(CVAT_EVENTS),
        "secret": hook.secret,
        "content_type": "application/json",
        "enable_ssl": True,
        "is_active": True,
    }
    rows = _ours(client, place)
    for row in rows[1:]:
        _delete(client, row)
    if rows:
        reply = client.call("PATCH", f"/api/webhooks/{rows[0]['id']}", json=body, accept=(400, 403), repeatable=True)
    else:
        reply = client.call("POST", "/api/webhooks", json={**place.fields, **body}, accept=(400, 403))
    if reply.status >= 400:
        raise _refused(reply, place, url)
    return tuple(host_warnings(NAME, client.url, url))


def remove_hook(client: CvatClient, what: CvatTarget) -> int:
    """Take the webhook to us away. Returns how many there were."""
    rows = _ours(client, _place_of(client, what))
    for row in rows:
        _delete(client, row)
    return len(rows)


def _place_of(client: CvatClient, what: CvatTarget) -> HookPlace:
    """The project of a target; the organization, for a task or a job in none."""
    if what.kind == "project":
        return HookPlace(what.id)
    row = client.task(what.id) if what.kind == "task" else client.job(what.id)
    project = row.get("project_id")
    if project:
        return HookPlace(int(project))
    if client.organization:
        return HookPlace(0)
    raise ToolError(
        f"{what.text} is in no project and no organization, and {NAME} has webhooks for nothing else",
        expected="a target in a project, or in the organization that cvat_organization names",
        todo=_POLLED,
    )


def _refused(reply: Reply, place: HookPlace, url: str) -> ToolError:
    if reply.status == 403:
        return AuthError(
            f"{NAME} lets this user make no webhook for {place.words or 'the organization'}",
            expected="the owner of the project, a maintainer of its organization, or an administrator",
            todo=f"Run this as such a user. {_POLLED}",
        )
    why = " ".join(reply.body.decode("utf-8", "replace").split())[:300]
    return ToolError(f"{NAME} refused the webhook to {url}: {why}", todo=_POLLED)


def _ours(client: CvatClient, place: HookPlace) -> list[Row]:
    rows = client.rows("/api/webhooks", sort="id")
    return [row for row in rows if place.holds(row) and same_door(row.get("target_url"), CVAT)]


def _delete(client: CvatClient, row: Row) -> None:
    client.call("DELETE", f"/api/webhooks/{row['id']}", accept=(404,))
