"""Long operations: they are done only when somebody polls, as a client must wait for them."""

from __future__ import annotations

from collections.abc import Callable

from fakes.cvat_server.accounts import basic_user
from fakes.cvat_server.lists import listing
from fakes.cvat_server.permissions import deny
from fakes.cvat_server.routing import ApiError, Context, Reply, route
from fakes.cvat_server.state import LongRequest, Row


def start(ctx: Context, number: str, operation: Row, work: Callable[[], object]) -> LongRequest:
    state = ctx.state
    request = LongRequest(number, ctx.user.id, operation, work, state.polls_until_done, state.now())
    state.requests[number] = request
    return request


def poll(request: LongRequest) -> None:
    """One look at a request: queued, started, and at last finished or failed."""
    # facts/cvat.md (c) Auth, paging: the states of a long operation
    if request.status in ("finished", "failed"):
        return
    if request.polls_left > 0:
        request.polls_left -= 1
        request.status = "started"
        return
    try:
        request.result_id = request.work()
        request.status = "finished"
    except (ApiError, ValueError, OSError) as error:
        request.status, request.message = "failed", str(error)


def _row(ctx: Context, request: LongRequest) -> Row:
    owner = basic_user(ctx, request.owner) or {}
    return {
        "id": request.id,
        "status": request.status,
        "message": request.message,
        "progress": 1.0 if request.status == "finished" else None,
        "operation": request.operation,
        "created_date": request.created,
        "started_date": None if request.status == "queued" else request.created,
        "finished_date": request.created if request.status in ("finished", "failed") else None,
        "expiry_date": None,
        "owner": {"id": owner.get("id"), "username": owner.get("username")},
        "result_url": None,
        "result_id": request.result_id,
    }


@route("GET", "/api/requests", since=22)
def list_requests(ctx: Context) -> Reply:
    found = [r for r in ctx.state.requests.values() if ctx.user.is_superuser or r.owner == ctx.user.id]
    return listing(ctx, found, {"id": lambda r: r.id, "status": lambda r: r.status}, lambda r: _row(ctx, r))


@route("GET", "/api/requests/<id>", since=22)
def one_request(ctx: Context, number: object) -> Reply:
    request = ctx.state.requests.get(str(number))
    # facts/cvat.md (c) Native overlay: 2.22 tells about quality reports at their own URL alone
    hidden = request is not None and request.operation["type"] == "calculate:quality"
    if request is None or (hidden and not ctx.version.has_project_reports):
        raise ApiError(404, "Not found.")
    if not ctx.user.is_superuser and request.owner != ctx.user.id:
        raise deny()
    poll(request)
    return Reply(200, _row(ctx, request))
