"""Projects."""

from __future__ import annotations

from fakes.cvat_server.accounts import basic_user
from fakes.cvat_server.labels import add_labels, patch_labels
from fakes.cvat_server.lists import listing
from fakes.cvat_server.permissions import check_assignee, deny, get_project, lists_project, manages, owns_project
from fakes.cvat_server.routing import Context, Reply, require, route
from fakes.cvat_server.state import Project, Row


def project_row(ctx: Context, project: Project) -> Row:
    state = ctx.state
    tasks = [t for t in state.tasks.values() if t.project == project.id]
    return {
        "url": f"{ctx.base}/api/projects/{project.id}",
        "id": project.id,
        "name": project.name,
        "owner": basic_user(ctx, project.owner),
        "assignee": basic_user(ctx, project.assignee),
        "guide_id": next((g.id for g in state.guides.values() if g.project == project.id), None),
        "bug_tracker": project.bug_tracker,
        "task_subsets": sorted({t.subset for t in tasks if t.subset}),
        "created_date": project.created,
        "updated_date": project.updated,
        "status": "annotation",
        "dimension": "2d" if tasks else None,
        "organization": project.org,
        **({"organization_id": project.org} if ctx.version.minor >= 75 else {}),
        "target_storage": None,
        "source_storage": None,
        "tasks": {"count": len(tasks), "url": f"{ctx.base}/api/tasks?project_id={project.id}"},
        "labels": {"url": f"{ctx.base}/api/labels?project_id={project.id}"},
        "assignee_updated_date": None,
    }


@route("GET", "/api/projects")
def list_projects(ctx: Context) -> Reply:
    users = ctx.state.users
    terms = {
        "id": lambda p: p.id,
        "name": lambda p: p.name,
        "owner": lambda p: users[p.owner].name,
        "assignee": lambda p: users[p.assignee].name if p.assignee else None,
        "updated_date": lambda p: p.updated,
        "status": lambda p: "annotation",
    }
    found = [p for p in ctx.state.projects.values() if lists_project(ctx, p)]
    return listing(ctx, found, terms, lambda p: project_row(ctx, p))


@route("POST", "/api/projects")
def create_project(ctx: Context) -> Reply:
    body, state = ctx.json, ctx.state
    require(body, "name")
    check_assignee(ctx, ctx.org_id, body.get("assignee_id"))
    number, now = state.new_id("project"), state.now()
    project = Project(number, body["name"], ctx.user.id, ctx.org_id, now, now, body.get("assignee_id"))
    project.bug_tracker = body.get("bug_tracker", "")
    add_labels(state, body.get("labels") or [], project=number)
    state.projects[number] = project
    return Reply(201, project_row(ctx, project))


@route("GET", "/api/projects/{id}")
def one_project(ctx: Context, number: int) -> Reply:
    return Reply(200, project_row(ctx, get_project(ctx, number)))


@route("PATCH", "/api/projects/{id}")
def patch_project(ctx: Context, number: int) -> Reply:
    project, body = get_project(ctx, number), ctx.json
    if not (manages(ctx, project.org) or owns_project(ctx, project)):
        raise deny()
    if "assignee_id" in body:
        check_assignee(ctx, project.org, body["assignee_id"])
        project.assignee = body["assignee_id"]
    project.name = body.get("name", project.name)
    project.bug_tracker = body.get("bug_tracker", project.bug_tracker)
    patch_labels(ctx.state, body.get("labels") or [], project=number)
    project.updated = ctx.state.now()
    return Reply(200, project_row(ctx, project))


@route("DELETE", "/api/projects/{id}")
def delete_project(ctx: Context, number: int) -> Reply:
    project = get_project(ctx, number)
    if not (manages(ctx, project.org) or owns_project(ctx, project)):
        raise deny()
    for task in [t for t in ctx.state.tasks.values() if t.project == number]:
        ctx.state.remove_task(task)
    for label in [x for x in ctx.state.labels.values() if x.project == number]:
        del ctx.state.labels[label.id]
    del ctx.state.projects[number]
    return Reply(204)
