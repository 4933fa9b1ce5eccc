"""Webhooks: kept, and delivered with a signature after each request that changed something they are of."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import requests
from fakes.cvat_server.accounts import basic_user
from fakes.cvat_server.issues import comment_row, issue_row
from fakes.cvat_server.jobs import job_row
from fakes.cvat_server.lists import listing
from fakes.cvat_server.permissions import deny, manages
from fakes.cvat_server.projects import project_row
from fakes.cvat_server.routing import ApiError, Context, Reply, require, route
from fakes.cvat_server.state import Row, Webhook
from fakes.cvat_server.tasks import task_row

FIELDS = ("target_url", "description", "type", "content_type", "is_active", "enable_ssl", "project_id", "events")


def _webhook_row(ctx: Context, hook: Webhook) -> Row:
    row = {"id": hook.id, "url": f"{ctx.base}/api/webhooks/{hook.id}", "owner": basic_user(ctx, hook.owner)}
    row |= {name: hook.fields.get(name) for name in FIELDS}
    dates = {"created_date": hook.created, "updated_date": hook.updated}
    return {**row, **dates, "organization": hook.fields.get("organization"), "last_status": 0}


def _may_hook(ctx: Context, fields: Row) -> bool:
    # facts/cvat.md (c) Permissions: webhooks of a project are for its owner, of an organization for a maintainer
    if fields.get("type") == "organization":
        return fields.get("organization") is not None and manages(ctx, fields["organization"])
    project = ctx.state.projects.get(fields.get("project_id") or 0)
    return project is not None and (manages(ctx, project.org) or project.owner == ctx.user.id)


def _hook(ctx: Context, number: int) -> Webhook:
    hook = ctx.state.webhooks.get(number)
    if hook is None:
        raise ApiError(404, "Not found.")
    if not _may_hook(ctx, hook.fields):
        raise deny()
    return hook


@route("POST", "/api/webhooks")
def create_webhook(ctx: Context) -> Reply:
    body, state = ctx.json, ctx.state
    require(body, "target_url", "type", "events")
    fields = {"content_type": "application/json", "is_active": True, "enable_ssl": True, "description": "", **body}
    fields["organization"] = ctx.org_id
    if not _may_hook(ctx, fields):
        raise deny()
    number, now = state.new_id("webhook"), state.now()
    state.webhooks[number] = Webhook(number, ctx.user.id, fields, now, now)
    return Reply(201, _webhook_row(ctx, state.webhooks[number]))


@route("GET", "/api/webhooks")
def list_webhooks(ctx: Context) -> Reply:
    found = [
        hook
        for hook in ctx.state.webhooks.values()
        if _may_hook(ctx, hook.fields) and (not ctx.org_given or hook.fields["organization"] == ctx.org_id)
    ]
    terms = {
        "id": lambda h: h.id,
        "target_url": lambda h: h.fields["target_url"],
        "type": lambda h: h.fields["type"],
        "project_id": lambda h: h.fields.get("project_id"),
    }
    return listing(ctx, found, terms, lambda h: _webhook_row(ctx, h))


@route("GET", "/api/webhooks/{id}")
def one_webhook(ctx: Context, number: int) -> Reply:
    return Reply(200, _webhook_row(ctx, _hook(ctx, number)))


@route("PATCH", "/api/webhooks/{id}")
def patch_webhook(ctx: Context, number: int) -> Reply:
    hook = _hook(ctx, number)
    hook.fields.update({name: value for name, value in ctx.json.items() if name in (*FIELDS, "secret")})
    hook.updated = ctx.state.now()
    return Reply(200, _webhook_row(ctx, hook))


@route("DELETE", "/api/webhooks/{id}")
def delete_webhook(ctx: Context, number: int) -> Reply:
    del ctx.state.webhooks[_hook(ctx, number).id]
    return Reply(204)


# --- events and their delivery ----------------------------------------------------------------------------------------

Rows = dict[tuple[str, int], Row]


def rows_of(ctx: Context) -> Rows | None:
    """Everything that events are of, by noun and id; None where there is no webhook."""
    state = ctx.state
    if not state.webhooks:
        return None
    return (
        {("project", n): project_row(ctx, x) for n, x in state.projects.items()}
        | {("task", n): task_row(ctx, x) for n, x in state.tasks.items()}
        | {("job", n): job_row(ctx, x) for n, x in state.jobs.items()}
        | {("issue", n): issue_row(ctx, x) for n, x in state.issues.items()}
        | {("comment", n): comment_row(ctx, x) for n, x in state.comments.items()}
    )


def events_of(before: Rows, after: Rows) -> Iterator[tuple[str, Row]]:
    """The events of what changed: their names and bodies.

    facts/cvat.md (c) Webhooks: no event tells of annotations, but each save of them moves the date of the job and the
    task, and then nothing else is in ``before_update``.
    """
    for noun, number in {**before, **after}:
        old, new = before.get((noun, number)), after.get((noun, number))
        if old is None or new is None:
            yield ("delete" if new is None else "create") + f":{noun}", {noun: new or old}
        elif old["updated_date"] != new["updated_date"]:
            changed = {name: value for name, value in old.items() if new.get(name) != value}
            yield f"update:{noun}", {noun: new, "before_update": changed}


def project_of(ctx: Context, body: Row) -> int | None:
    """The project that an event happened in."""
    state, noun = ctx.state, next(iter(body))
    row = body[noun]
    if noun == "comment":
        issue = state.issues.get(row["issue"])
        row = {"job": issue.job if issue else 0}
    if "job" in row:
        job = state.jobs.get(row["job"])
        row = {"project_id": state.tasks[job.task].project if job else None}
    return row["id"] if noun == "project" else row.get("project_id")


@dataclass
class Delivery:
    """A webhook that was sent; ``status`` is what came back, 502 where nothing did."""

    event: str
    url: str
    body: bytes
    headers: dict[str, str]
    status: int


class Postman:
    """Delivers in the order of the events, one after the other, in a thread: CVAT's worker does it behind the request.

    Attributes:
        sent: every delivery so far.
    """

    def __init__(self) -> None:
        self.sent: list[Delivery] = []
        self._queue: queue.Queue[tuple[str, str, str, Row]] = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def hand_over(self, ctx: Context, before: Rows | None) -> None:
        """Send what changed since ``before`` to every webhook that wants it."""
        after = rows_of(ctx)
        if before is None or after is None:
            return
        for event, body in events_of(before, after):
            project = project_of(ctx, body)
            for hook in ctx.state.webhooks.values():
                fields = hook.fields
                mine = fields["type"] == "organization" or fields.get("project_id") == project
                if mine and fields["is_active"] and event in fields["events"]:
                    whole = {"event": event, **body, "sender": {"username": ctx.user.name}, "webhook_id": hook.id}
                    self._queue.put((event, fields["target_url"], fields.get("secret") or "", whole))

    def wait(self) -> list[Delivery]:
        """Every delivery, once all are made."""
        self._queue.join()
        return list(self.sent)

    def again(self, delivery: Delivery) -> int:
        """facts/cvat.md (c) Webhooks: a redelivery, which sends the same body. The status."""
        return self._post(delivery.event, delivery.url, delivery.body, delivery.headers)

    def _work(self) -> None:
        while True:
            event, url, secret, whole = self._queue.get()
            raw = json.dumps(whole).encode()
            headers = {"Content-Type": "application/json", "X-CVAT-Event": event}
            if secret:
                headers["X-Signature-256"] = "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
            self._post(event, url, raw, headers)
            self._queue.task_done()

    def _post(self, event: str, url: str, raw: bytes, headers: dict[str, str]) -> int:
        try:
            status = requests.post(url, data=raw, headers=headers, timeout=10).status_code
        except requests.RequestException:
            status = 502
        self.sent.append(Delivery(event, url, raw, headers, status))
        return status
