"""Issues on frames, and the comments below them."""

from __future__ import annotations

from fakes.cvat_server.accounts import basic_user
from fakes.cvat_server.lists import listing
from fakes.cvat_server.permissions import check_assignee, deny, get_job, is_staff, lists_job, require_context, sees_job
from fakes.cvat_server.routing import ApiError, Context, Reply, require, route
from fakes.cvat_server.state import Comment, Issue, Row


def issue_row(ctx: Context, issue: Issue) -> Row:
    count = sum(comment.issue == issue.id for comment in ctx.state.comments.values())
    return {
        "id": issue.id,
        "frame": issue.frame,
        "position": issue.position,
        "job": issue.job,
        "owner": basic_user(ctx, issue.owner),
        "assignee": basic_user(ctx, issue.assignee),
        "created_date": issue.created,
        "updated_date": issue.updated,
        "resolved": issue.resolved,
        "comments": {"url": f"{ctx.base}/api/comments?issue_id={issue.id}", "count": count},
    }


def comment_row(ctx: Context, comment: Comment) -> Row:
    return {
        "id": comment.id,
        "issue": comment.issue,
        "owner": basic_user(ctx, comment.owner),
        "message": comment.message,
        "created_date": comment.created,
        "updated_date": comment.updated,
    }


def _issue(ctx: Context, number: int) -> Issue:
    issue = ctx.state.issues.get(number)
    if issue is None:
        raise ApiError(404, "Not found.")
    if not sees_job(ctx, ctx.state.jobs[issue.job]) and issue.owner != ctx.user.id:
        raise deny()
    return issue


def _lists(ctx: Context, issue: Issue) -> bool:
    return lists_job(ctx, ctx.state.jobs[issue.job])


@route("GET", "/api/issues")
def list_issues(ctx: Context) -> Reply:
    state = ctx.state
    terms = {
        "id": lambda i: i.id,
        "owner": lambda i: state.users[i.owner].name,
        "assignee": lambda i: state.users[i.assignee].name if i.assignee else None,
        "job_id": lambda i: i.job,
        "task_id": lambda i: state.jobs[i.job].task,
        "frame_id": lambda i: i.frame,
        "resolved": lambda i: i.resolved,
    }
    # facts/cvat.md (c) Auth, paging: what issues can be filtered by
    return listing(ctx, [i for i in state.issues.values() if _lists(ctx, i)], terms, lambda i: issue_row(ctx, i))


@route("POST", "/api/issues")
def create_issue(ctx: Context) -> Reply:
    body, state = ctx.json, ctx.state
    require(body, "frame", "position", "job", "message")
    # seen on 2.15
    if not str(body["message"]).strip():
        raise ApiError(400, {"message": ["This field may not be blank."]})
    if int(body["job"]) not in state.jobs:
        raise ApiError(400, ["Job matching query does not exist."])
    job = get_job(ctx, int(body["job"]))
    task = state.tasks[job.task]
    require_context(ctx, task.org)
    # facts/cvat.md (c) Issues: a position is checked for emptiness only, a frame for nothing
    if not body["position"]:
        raise ApiError(400, {"position": ["This list may not be empty."]})
    check_assignee(ctx, task.org, body.get("assignee"))
    number, now = state.new_id("issue"), state.now()
    position = [float(x) for x in body["position"]]
    issue = Issue(number, job.id, int(body["frame"]), position, ctx.user.id, now, now, body.get("assignee"))
    issue.resolved = bool(body.get("resolved"))
    state.issues[number] = issue
    # facts/cvat.md (c) Issues: the message becomes the first comment
    _add_comment(ctx, issue, body["message"])
    return Reply(201, issue_row(ctx, issue))


@route("GET", "/api/issues/{id}")
def one_issue(ctx: Context, number: int) -> Reply:
    return Reply(200, issue_row(ctx, _issue(ctx, number)))


@route("PATCH", "/api/issues/{id}")
def patch_issue(ctx: Context, number: int) -> Reply:
    issue, body = _issue(ctx, number), ctx.json
    # facts/cvat.md (c) Issues: frame, job and message are written once and then left alone without a word
    if "assignee" in body:
        check_assignee(ctx, ctx.state.tasks[ctx.state.jobs[issue.job].task].org, body["assignee"])
        issue.assignee = body["assignee"]
    if "position" in body:
        if not body["position"]:
            raise ApiError(400, {"position": ["This list may not be empty."]})
        issue.position = [float(x) for x in body["position"]]
    issue.resolved = bool(body.get("resolved", issue.resolved))
    issue.updated = ctx.state.now()
    return Reply(200, issue_row(ctx, issue))


@route("DELETE", "/api/issues/{id}")
def delete_issue(ctx: Context, number: int) -> Reply:
    issue = _issue(ctx, number)
    task = ctx.state.tasks[ctx.state.jobs[issue.job].task]
    if not is_staff(ctx, task) and issue.owner != ctx.user.id:  # not in the facts
        raise deny()
    for comment in [c for c in ctx.state.comments.values() if c.issue == number]:
        del ctx.state.comments[comment.id]
    del ctx.state.issues[number]
    return Reply(204)


def _add_comment(ctx: Context, issue: Issue, message: str) -> Comment:
    state = ctx.state
    number, now = state.new_id("comment"), state.now()
    state.comments[number] = Comment(number, issue.id, ctx.user.id, message, now, now)
    return state.comments[number]


def _comment(ctx: Context, number: int) -> Comment:
    comment = ctx.state.comments.get(number)
    if comment is None:
        raise ApiError(404, "Not found.")
    _issue(ctx, comment.issue)
    return comment


@route("GET", "/api/comments")
def list_comments(ctx: Context) -> Reply:
    state = ctx.state
    found = [c for c in state.comments.values() if _lists(ctx, state.issues[c.issue])]
    terms = {
        "id": lambda c: c.id,
        "issue_id": lambda c: c.issue,
        "owner": lambda c: state.users[c.owner].name,
        "job_id": lambda c: state.issues[c.issue].job,
        "frame_id": lambda c: state.issues[c.issue].frame,
    }
    return listing(ctx, found, terms, lambda c: comment_row(ctx, c))


@route("POST", "/api/comments")
def create_comment(ctx: Context) -> Reply:
    body = ctx.json
    require(body, "issue", "message")
    issue = _issue(ctx, int(body["issue"]))
    require_context(ctx, ctx.state.tasks[ctx.state.jobs[issue.job].task].org)
    return Reply(201, comment_row(ctx, _add_comment(ctx, issue, body["message"])))


@route("GET", "/api/comments/{id}")
def one_comment(ctx: Context, number: int) -> Reply:
    return Reply(200, comment_row(ctx, _comment(ctx, number)))


@route("PATCH", "/api/comments/{id}")
def patch_comment(ctx: Context, number: int) -> Reply:
    # facts/cvat.md (c) Issues: comments can be changed; that only their authors may is not in the facts
    comment = _own(ctx, number)
    comment.message = ctx.json.get("message", comment.message)
    comment.updated = ctx.state.now()
    return Reply(200, comment_row(ctx, comment))


@route("DELETE", "/api/comments/{id}")
def delete_comment(ctx: Context, number: int) -> Reply:
    del ctx.state.comments[_own(ctx, number).id]
    return Reply(204)


def _own(ctx: Context, number: int) -> Comment:
    comment = _comment(ctx, number)
    task = ctx.state.tasks[ctx.state.jobs[ctx.state.issues[comment.issue].job].task]
    if comment.owner != ctx.user.id and not is_staff(ctx, task):
        raise deny()
    return comment
