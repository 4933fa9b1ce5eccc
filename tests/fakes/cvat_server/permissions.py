"""Who may see and do what."""

from __future__ import annotations

from fakes.cvat_server.routing import ApiError, Context
from fakes.cvat_server.state import Job, Project, Task

MANAGERS = ("owner", "maintainer")
DENIED = "You do not have permission to perform this action."


def deny() -> ApiError:
    return ApiError(403, DENIED)


def manages(ctx: Context, org: int | None) -> bool:
    """An administrator, or a maintainer and higher of the organization."""
    # facts/cvat.md (c) Permissions: the maintainer of an organization can do all of it
    return ctx.user.is_superuser or (org is not None and ctx.state.role(ctx.user.id, org) in MANAGERS)


def staff_of_project(project: Project | None) -> set[int | None]:
    return {project.owner, project.assignee} if project else set()


def staff_of_task(ctx: Context, task: Task) -> set[int | None]:
    """Owners and assignees of a task and of its project."""
    return {task.owner, task.assignee} | staff_of_project(ctx.state.projects.get(task.project or 0))


def _inside(ctx: Context, org: int | None) -> bool:
    return org is None or ctx.user.is_superuser or ctx.state.role(ctx.user.id, org) is not None


def owns_project(ctx: Context, project: Project) -> bool:
    return ctx.user.id in staff_of_project(project)


def is_staff(ctx: Context, task: Task) -> bool:
    """May manage the task."""
    if manages(ctx, task.org):
        return True
    return _inside(ctx, task.org) and ctx.user.id in staff_of_task(ctx, task)


def may_add_jobs(ctx: Context, task: Task) -> bool:
    """May create and delete ground truth jobs."""
    # read in CVAT's public source, 2.15 and later, not in the facts: in an organization its workers may not
    if manages(ctx, task.org):
        return True
    return is_staff(ctx, task) and (task.org is None or ctx.state.role(ctx.user.id, task.org) == "supervisor")


def _own_task(ctx: Context, task: Task) -> bool:
    # seen on 2.15: whoever has only a job of a task sees that job, and neither its task nor its project
    return ctx.user.id in staff_of_task(ctx, task)


def _own_job(ctx: Context, job: Job) -> bool:
    return ctx.user.id in staff_of_task(ctx, ctx.state.tasks[job.task]) | {job.assignee}


def sees_project(ctx: Context, project: Project) -> bool:
    return manages(ctx, project.org) or (_inside(ctx, project.org) and owns_project(ctx, project))


def sees_task(ctx: Context, task: Task) -> bool:
    return manages(ctx, task.org) or (_inside(ctx, task.org) and _own_task(ctx, task))


def sees_job(ctx: Context, job: Job) -> bool:
    org = ctx.state.tasks[job.task].org
    return manages(ctx, org) or (_inside(ctx, org) and _own_job(ctx, job))


def lists(ctx: Context, org: int | None, own: bool) -> bool:
    """Whether a list shows an object of the organization; ``own``: owner or assignee somewhere above it."""
    # facts/cvat.md (c) Auth, paging: in another context than the object's a list is empty and says nothing
    if ctx.org_given and org != ctx.org_id:
        return False
    if ctx.user.is_superuser or own:
        return True
    return ctx.org_given and manages(ctx, org)


def lists_project(ctx: Context, project: Project) -> bool:
    return lists(ctx, project.org, owns_project(ctx, project))


def lists_task(ctx: Context, task: Task) -> bool:
    return lists(ctx, task.org, _own_task(ctx, task))


def lists_job(ctx: Context, job: Job) -> bool:
    return lists(ctx, ctx.state.tasks[job.task].org, _own_job(ctx, job))


def require_context(ctx: Context, org: int | None) -> None:
    """Creating needs the organization of what it is created in."""
    # facts/cvat.md (c) Auth, paging: 403 on create without the organization's header
    # an administrator is let through: not in the facts
    if org != ctx.org_id and not ctx.user.is_superuser:
        raise deny()


def get_project(ctx: Context, number: int) -> Project:
    project = ctx.state.projects.get(number)
    if project is None:
        raise ApiError(404, "Not found.")
    if not sees_project(ctx, project):
        raise deny()
    return project


def get_task(ctx: Context, number: int, *, manage: bool = False) -> Task:
    task = ctx.state.tasks.get(number)
    if task is None:
        raise ApiError(404, "Not found.")
    if not (is_staff(ctx, task) if manage else sees_task(ctx, task)):
        raise deny()
    return task


def get_job(ctx: Context, number: int) -> Job:
    job = ctx.state.jobs.get(number)
    if job is None:
        raise ApiError(404, "Not found.")
    if not sees_job(ctx, job):
        raise deny()
    return job


def check_assignee(ctx: Context, org: int | None, user: int | None) -> None:
    """Whether the asking user may make ``user`` the assignee of something."""
    if user is None:
        return
    # facts/cvat.md (c) Permissions: outside an organization nobody but an administrator sees, or assigns, others
    if org is None and not ctx.user.is_superuser and user != ctx.user.id:
        raise deny()
    # seen on 2.15: whoever may assign may assign people from outside the organization, and nobody breaks the server
    if user not in ctx.state.users:
        raise ApiError(500, "Server Error (500)")
