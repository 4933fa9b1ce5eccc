"""Tasks."""

from __future__ import annotations

from fakes.cvat_server.accounts import basic_user
from fakes.cvat_server.labels import add_labels, patch_labels
from fakes.cvat_server.lists import listing
from fakes.cvat_server.permissions import check_assignee, get_project, get_task, lists_task, require_context
from fakes.cvat_server.routing import ApiError, Context, Reply, require, route
from fakes.cvat_server.state import Row, Task


def task_row(ctx: Context, task: Task) -> Row:
    state = ctx.state
    jobs = [job for job in state.jobs_of(task.id) if job.type == "annotation"]
    done = sum(job.status == "completed" for job in jobs)
    ready = task.data_id is not None
    project = state.projects.get(task.project or 0)
    row: Row = {
        "url": f"{ctx.base}/api/tasks/{task.id}",
        "id": task.id,
        "name": task.name,
        "project_id": task.project,
        "mode": task.mode if ready else "",
        "owner": basic_user(ctx, task.owner),
        "assignee": basic_user(ctx, task.assignee),
        "bug_tracker": task.bug_tracker,
        "created_date": task.created,
        "updated_date": task.updated,
        "overlap": task.overlap if ready else None,
        "segment_size": task.segment_size,
        "status": "completed" if jobs and done == len(jobs) else "annotation",
        "guide_id": next((g.id for g in state.guides.values() if g.task == task.id), None),
        "data": task.data_id,
        "dimension": "2d",
        "subset": task.subset,
        "organization": task.org,
        "target_storage": None,
        "source_storage": None,
        "jobs": {
            "count": len(state.jobs_of(task.id)),
            "completed": done,
            "validation": sum(job.stage == "validation" for job in jobs),
            "url": f"{ctx.base}/api/jobs?task_id={task.id}",
        },
        "labels": {"url": f"{ctx.base}/api/labels?task_id={task.id}"},
        "assignee_updated_date": None,
    }
    if ready:  # these are missing until there are data: not in the facts
        row |= {"size": len(task.frames), "image_quality": task.image_quality, "data_chunk_size": task.chunk_size}
        row["data_compressed_chunk_type"] = "imageset"
        row["data_original_chunk_type"] = "video" if task.mode == "interpolation" else "imageset"
    if ctx.version.has_validation_layout:
        row["validation_mode"] = task.validation_mode
    if 27 <= ctx.version.minor < 80:
        row["consensus_enabled"] = task.replicas > 0
    if ctx.version.minor >= 80:
        row |= {"initial_replicas": task.replicas, "organization_id": task.org}
        row["project_name"] = project.name if project else None
    return row


@route("GET", "/api/tasks")
def list_tasks(ctx: Context) -> Reply:
    state = ctx.state
    terms = {
        "id": lambda t: t.id,
        "name": lambda t: t.name,
        "project_id": lambda t: t.project,
        "project_name": lambda t: state.projects[t.project].name if t.project else None,
        "owner": lambda t: state.users[t.owner].name,
        "assignee": lambda t: state.users[t.assignee].name if t.assignee else None,
        "subset": lambda t: t.subset,
        "mode": lambda t: t.mode,
        "dimension": lambda t: "2d",
        "status": lambda t: task_row(ctx, t)["status"],
        "updated_date": lambda t: t.updated,
        "validation_mode": lambda t: t.validation_mode,
    }
    found = [t for t in state.tasks.values() if lists_task(ctx, t)]
    return listing(ctx, found, terms, lambda t: task_row(ctx, t))


@route("POST", "/api/tasks")
def create_task(ctx: Context) -> Reply:
    """An empty task; its frames and jobs come with POST of data."""
    body, state = ctx.json, ctx.state
    require(body, "name")
    project_id = body.get("project_id")
    if project_id is not None:
        project = get_project(ctx, project_id)
        require_context(ctx, project.org)
        if body.get("labels"):  # not in the facts
            raise ApiError(400, {"labels": ["Cannot be set for a task of a project."]})
    check_assignee(ctx, ctx.org_id, body.get("assignee_id"))
    replicas = int(body.get("initial_replicas" if ctx.version.minor >= 80 else "consensus_replicas") or 0)
    number, now = state.new_id("task"), state.now()
    task = Task(number, body["name"], ctx.user.id, ctx.org_id, now, now, project_id, body.get("assignee_id"))
    if project_id is not None:
        task.org = state.projects[project_id].org
    task.subset, task.bug_tracker = body.get("subset", ""), body.get("bug_tracker", "")
    task.segment_size, task.overlap = int(body.get("segment_size") or 0), int(body.get("overlap") or 0)
    task.replicas = replicas if ctx.version.has_replicas else 0
    add_labels(state, body.get("labels") or [], task=number)
    state.tasks[number] = task
    return Reply(201, task_row(ctx, task))


@route("GET", "/api/tasks/{id}")
def one_task(ctx: Context, number: int) -> Reply:
    return Reply(200, task_row(ctx, get_task(ctx, number)))


@route("PATCH", "/api/tasks/{id}")
def patch_task(ctx: Context, number: int) -> Reply:
    task, body = get_task(ctx, number, manage=True), ctx.json
    if "assignee_id" in body:
        check_assignee(ctx, task.org, body["assignee_id"])
        task.assignee = body["assignee_id"]
    if body.get("labels"):
        if task.project is not None:  # not in the facts
            raise ApiError(400, {"labels": ["Labels of a project are changed in the project."]})
        patch_labels(ctx.state, body["labels"], task=number)
    task.name, task.subset = body.get("name", task.name), body.get("subset", task.subset)
    task.bug_tracker = body.get("bug_tracker", task.bug_tracker)
    task.updated = ctx.state.now()
    return Reply(200, task_row(ctx, task))


@route("DELETE", "/api/tasks/{id}")
def delete_task(ctx: Context, number: int) -> Reply:
    ctx.state.remove_task(get_task(ctx, number, manage=True))
    return Reply(204)


@route("GET", "/api/tasks/{id}/validation_layout", since=22)
def task_layout(ctx: Context, number: int) -> Reply:
    """Which frames are honeypots, and of which frame each is a copy."""
    # facts/cvat.md (c) Honeypots
    task = get_task(ctx, number)
    if task.validation_mode is None:
        return Reply(200, {"mode": None})
    row: Row = {"mode": task.validation_mode, "validation_frames": task.validation_frames, "disabled_frames": []}
    if task.validation_mode == "gt_pool":
        row["frames_per_job_count"] = task.frames_per_job
        row |= honeypot_row(task, range(len(task.frames)))
    return Reply(200, row)


def honeypot_row(task: Task, frames: range) -> Row:
    mine = [frame for frame in sorted(task.honeypots) if frame in frames]
    real = [task.honeypots[frame] for frame in mine]
    return {"honeypot_count": len(mine), "honeypot_frames": mine, "honeypot_real_frames": real}
