"""What else a client may ask: the release, guides."""

from __future__ import annotations

from fakes.cvat_server.permissions import deny, get_project, get_task, manages, owns_project, require_context
from fakes.cvat_server.routing import ApiError, Context, Reply, route
from fakes.cvat_server.state import Guide, Row


@route("GET", "/api/server/about", anonymous=True)
def about(ctx: Context) -> Reply:
    row = {"name": "Computer Vision Annotation Tool", "description": "a fake", "version": str(ctx.version)}
    # facts/cvat.md, version landmarks: the logo's URL came later
    return Reply(200, {**row, **({"logo_url": "", "subtitle": ""} if ctx.version.has_logo else {})})


@route("GET", "/api/server/plugins")
def plugins(ctx: Context) -> Reply:
    return Reply(200, {"GIT_INTEGRATION": False, "ANALYTICS": False, "MODELS": False, "PREDICT": False})


def _guide_row(guide: Guide) -> Row:
    dates = {"created_date": guide.created, "updated_date": guide.updated}
    return {"id": guide.id, "task_id": guide.task, "project_id": guide.project, **dates, "markdown": guide.markdown}


def _guide(ctx: Context, number: int, *, change: bool = False) -> Guide:
    guide = ctx.state.guides.get(number)
    if guide is None:
        raise ApiError(404, "Not found.")
    if guide.task is not None:
        get_task(ctx, guide.task, manage=change)
    else:
        project = get_project(ctx, guide.project or 0)
        if change and not (manages(ctx, project.org) or owns_project(ctx, project)):
            raise deny()
    return guide


@route("POST", "/api/guides")
def create_guide(ctx: Context) -> Reply:
    body, state = ctx.json, ctx.state
    project, task = body.get("project_id"), body.get("task_id")
    # seen on 2.15
    if project is not None and task is not None:
        raise ApiError(400, ["Both project_id and task_id must not be specified"])
    if project is None and task is None:
        raise ApiError(500, "Server Error (500)")
    org = get_project(ctx, project).org if project is not None else get_task(ctx, int(task or 0), manage=True).org
    require_context(ctx, org)
    if any((g.project, g.task) == (project, task) for g in state.guides.values()):
        # facts/cvat.md (c) Guides: one for each object; a second breaks the server (seen on 2.15)
        raise ApiError(500, "Server Error (500)")
    number, now = state.new_id("guide"), state.now()
    state.guides[number] = Guide(number, project, task, body.get("markdown", ""), now, now)
    return Reply(201, _guide_row(state.guides[number]))


@route("GET", "/api/guides/{id}")
def one_guide(ctx: Context, number: int) -> Reply:
    return Reply(200, _guide_row(_guide(ctx, number)))


@route("PATCH", "/api/guides/{id}")
def patch_guide(ctx: Context, number: int) -> Reply:
    guide = _guide(ctx, number, change=True)
    guide.markdown, guide.updated = ctx.json.get("markdown", guide.markdown), ctx.state.now()
    return Reply(200, _guide_row(guide))


@route("DELETE", "/api/guides/{id}")
def delete_guide(ctx: Context, number: int) -> Reply:
    del ctx.state.guides[_guide(ctx, number, change=True).id]
    return Reply(204)
