"""Jobs: whose turn it is, at which stage, in which state."""

from __future__ import annotations

from collections.abc import Container

from fakes.cvat_server.accounts import basic_user
from fakes.cvat_server.lists import listing
from fakes.cvat_server.permissions import (
    check_assignee,
    deny,
    get_job,
    get_task,
    is_staff,
    lists_job,
    may_add_jobs,
    require_context,
)
from fakes.cvat_server.routing import ApiError, Context, Reply, require, route
from fakes.cvat_server.segments import add_ground_truth, random_frames
from fakes.cvat_server.state import Job, Row, Task
from fakes.cvat_server.tasks import honeypot_row

STAGES = ("annotation", "validation", "acceptance")
STATES = ("new", "in progress", "completed", "rejected")


def job_row(ctx: Context, job: Job) -> Row:
    state = ctx.state
    task = state.tasks[job.task]
    row: Row = {
        "url": f"{ctx.base}/api/jobs/{job.id}",
        "id": job.id,
        "task_id": job.task,
        "project_id": task.project,
        "assignee": basic_user(ctx, job.assignee),
        "guide_id": _guide_of(ctx, task),
        "dimension": "2d",
        "bug_tracker": task.bug_tracker or None,
        "status": job.status,
        "stage": job.stage,
        "state": job.state,
        "mode": task.mode,
        # facts/cvat.md (c) five ways: deleted frames leave the count; not yet on 2.15
        "frame_count": len(set(job.frames) - (task.deleted if ctx.version.has_requests else set())),
        "start_frame": job.start,
        "stop_frame": job.stop,
        "data_chunk_size": task.chunk_size,
        "data_compressed_chunk_type": "imageset",
        "data_original_chunk_type": "video" if task.mode == "interpolation" else "imageset",
        "created_date": job.created,
        "updated_date": job.updated,
        "issues": {
            "url": f"{ctx.base}/api/issues?job_id={job.id}",
            "count": sum(issue.job == job.id for issue in state.issues.values()),
        },
        "labels": {"url": f"{ctx.base}/api/labels?job_id={job.id}"},
        "type": job.type,
        "organization": task.org,
        "target_storage": None,
        "source_storage": None,
        "assignee_updated_date": job.assignee_updated,
    }
    if ctx.version.has_replicas:
        row["parent_job_id"] = job.parent
        replicas = sum(other.parent == job.id for other in state.jobs.values())
        row |= {"replicas_count": replicas} if ctx.version.minor >= 80 else {"consensus_replicas": replicas}
    if ctx.version.minor >= 80:
        project = state.projects.get(task.project or 0)
        row |= {"task_name": task.name, "project_name": project.name if project else None}
    return row


def _guide_of(ctx: Context, task: Task) -> int | None:
    # seen on 2.15: of a task in a project, jobs show the project's guide and never the task's own
    mine = (task.project, None) if task.project is not None else (None, task.id)
    return next((g.id for g in ctx.state.guides.values() if (g.project, g.task) == mine), None)


@route("GET", "/api/jobs")
def list_jobs(ctx: Context) -> Reply:
    state = ctx.state

    def project_name(job: Job) -> str | None:
        project = state.projects.get(state.tasks[job.task].project or 0)
        return project.name if project else None

    terms = {
        "id": lambda j: j.id,
        "task_id": lambda j: j.task,
        "task_name": lambda j: state.tasks[j.task].name,
        "project_id": lambda j: state.tasks[j.task].project,
        "project_name": project_name,
        "assignee": lambda j: state.users[j.assignee].name if j.assignee else None,
        "stage": lambda j: j.stage,
        "state": lambda j: j.state,
        "status": lambda j: j.status,
        "type": lambda j: j.type,
        "dimension": lambda j: "2d",
        "updated_date": lambda j: j.updated,
        "parent_job_id": lambda j: j.parent,
    }
    return listing(ctx, [j for j in state.jobs.values() if lists_job(ctx, j)], terms, lambda j: job_row(ctx, j))


@route("POST", "/api/jobs")
def create_job(ctx: Context) -> Reply:
    """A ground truth job, the only kind that is made by hand."""
    # facts/cvat.md (c) Native overlay: type, task, method and frames
    body = ctx.json
    require(body, "type", "task_id")
    if body["type"] != "ground_truth":
        raise ApiError(400, [f"Unexpected job type '{body['type']}'"])
    task = get_task(ctx, int(body["task_id"]))
    if not may_add_jobs(ctx, task):
        raise deny()
    require_context(ctx, task.org)
    if any(job.type == "ground_truth" for job in ctx.state.jobs_of(task.id)):
        # facts/cvat.md (c) Native overlay, limits: one for each task
        raise ApiError(400, ["A task can have only 1 ground truth job"])
    method = body.get("frame_selection_method")
    if method == "manual":
        # read in CVAT's public source, 2.15 and later, not in the facts: frames are counted in the source, as
        # included_frames are, and not in the task
        given = body.get("frames") or []
        _check_frames(given, task.source_frames)
        frames = [task.source_frames.index(n) for n in given]
    elif method == "random_uniform":
        frames = random_frames(task, int(body.get("frame_count") or 1), body.get("random_seed", body.get("seed")))
    else:
        raise ApiError(400, {"frame_selection_method": [f'"{method}" is not a valid choice.']})
    job = add_ground_truth(ctx.state, task, frames)
    _assign(ctx, job, body.get("assignee"))
    return Reply(201, job_row(ctx, job))


def _check_frames(frames: list[int], known: Container[int]) -> None:
    # seen on 2.15
    if not frames:
        raise ApiError(400, ["The list of frames cannot be empty"])
    if len(set(frames)) < len(frames):
        raise ApiError(400, ["Frames must not repeat"])
    if unknown := [str(n) for n in frames if n not in known]:
        raise ApiError(400, [f"The following frames are not included in the task: {', '.join(unknown)}"])


@route("GET", "/api/jobs/{id}")
def one_job(ctx: Context, number: int) -> Reply:
    return Reply(200, job_row(ctx, get_job(ctx, number)))


@route("PATCH", "/api/jobs/{id}")
def patch_job(ctx: Context, number: int) -> Reply:
    job, body = get_job(ctx, number), ctx.json
    stage, state = body.get("stage", job.stage), body.get("state")
    for name, value, choices in (("stage", stage, STAGES), ("state", state, (None, *STATES))):
        if value not in choices:
            raise ApiError(400, {name: [f'"{value}" is not a valid choice.']})
    # facts/cvat.md (c) Permissions: an annotator changes the state alone; the assignee that he is, is no change
    changed = "stage" in body or body.get("assignee", job.assignee) != job.assignee
    if changed and not is_staff(ctx, ctx.state.tasks[job.task]):
        raise deny()
    if "assignee" in body:
        _assign(ctx, job, body["assignee"])
    # facts/cvat.md (c) Jobs: another stage without a state starts anew
    job.state = state or (job.state if stage == job.stage else "new")
    job.stage = stage
    ctx.state.touch(job)
    return Reply(200, job_row(ctx, job))


def _assign(ctx: Context, job: Job, user: int | None) -> None:
    # facts/cvat.md (c) Jobs: one assignee, and who it was before is forgotten
    if user == job.assignee:
        return
    check_assignee(ctx, ctx.state.tasks[job.task].org, user)
    job.assignee, job.assignee_updated = user, ctx.state.now()


@route("DELETE", "/api/jobs/{id}")
def delete_job(ctx: Context, number: int) -> Reply:
    job = get_job(ctx, number)
    task = ctx.state.tasks[job.task]
    if not may_add_jobs(ctx, task):
        raise deny()
    if job.type == "annotation":  # not in the facts
        raise ApiError(400, ["Only ground truth jobs can be removed"])
    ctx.state.remove_job(job)
    if job.type == "ground_truth":
        task.validation_mode, task.validation_frames = None, []
    return Reply(204)


@route("GET", "/api/jobs/{id}/validation_layout", since=22)
def job_layout(ctx: Context, number: int) -> Reply:
    # facts/cvat.md (c) Honeypots
    job = get_job(ctx, number)
    return Reply(200, honeypot_row(ctx.state.tasks[job.task], range(job.start, job.stop + 1)))
