"""Quality control: the annotations of jobs against those of the ground truth."""

from __future__ import annotations

from fakes.cvat_server import requests_queue
from fakes.cvat_server.lists import listing
from fakes.cvat_server.permissions import deny, get_task, is_staff, lists_task, require_context
from fakes.cvat_server.routing import ApiError, Context, Reply, require, route
from fakes.cvat_server.state import Job, QualityReport, Row, Task

Corners = tuple[float, float, float, float]
LOW_OVERLAP = 0.8


def settings_of(ctx: Context, task: int) -> Row:
    stored = ctx.state.quality_settings
    if task not in stored:
        number = ctx.state.new_id("quality settings")
        stored[task] = {"id": number, "task_id": task, "iou_threshold": 0.4, "low_overlap_threshold": LOW_OVERLAP}
    return stored[task]


def _settings_row(ctx: Context, row: Row) -> Row:
    # facts/cvat.md (c) Native overlay: later the thresholds lie in requirements
    if not ctx.version.has_requirements:
        return row
    return {"id": row["id"], "task_id": row["task_id"], "project_id": None, "job_filter": "", "requirements": []}


@route("GET", "/api/quality/settings")
def list_settings(ctx: Context) -> Reply:
    if "task_id" not in ctx.query:
        raise ApiError(400, {"task_id": ["This field is required."]})
    row = settings_of(ctx, get_task(ctx, int(ctx.query["task_id"])).id)
    return Reply(200, {"count": 1, "next": None, "previous": None, "results": [_settings_row(ctx, row)]})


@route("PATCH", "/api/quality/settings/{id}")
def patch_settings(ctx: Context, number: int) -> Reply:
    row = next((x for x in ctx.state.quality_settings.values() if x["id"] == number), None)
    if row is None:
        raise ApiError(404, "Not found.")
    get_task(ctx, row["task_id"], manage=True)
    row.update({key: value for key, value in ctx.json.items() if key not in ("id", "task_id")})
    return Reply(200, _settings_row(ctx, row))


@route("POST", "/api/quality/reports")
def create_report(ctx: Context) -> Reply:
    asked = ctx.query.get("rq_id")
    if asked is not None:  # facts/cvat.md (c) Native overlay: up to 2.22 the same URL is asked again until 201
        return _old_poll(ctx, asked)
    body = ctx.json
    require(body, "task_id")
    task = get_task(ctx, int(body["task_id"]))
    _require_right(ctx, task)
    require_context(ctx, task.org)
    truth = _truth(ctx, task)
    # facts/cvat.md (c) Native overlay: the job of ground truth is accepted and completed before
    if truth is None or truth.status != "completed":
        text = (
            "Quality reports require a Ground Truth job in the task at the acceptance stage and in the completed state"
        )
        raise ApiError(400, [text])
    # read in CVAT's public source, not in the facts: at first each request had an id of its own; later one of a task is
    # refused while another is under way
    number = f"action=calculate;target=task;id={task.id}"
    if not ctx.version.has_project_reports:
        number += f"&n={ctx.state.new_id('report request')}"
    elif number in ctx.state.requests and ctx.state.requests[number].status in ("queued", "started"):
        raise ApiError(409, "Request is being processed")
    operation = {"type": "calculate:quality", "target": "task", "task_id": task.id, "job_id": None}
    request = requests_queue.start(ctx, number, operation, lambda: _report(ctx, task).id)
    return Reply(202, {"rq_id": request.id})


def _require_right(ctx: Context, task: Task) -> None:
    # read in CVAT's public source, not in the facts: 2.15 lets administrators alone ask for reports, later releases
    # those who manage the task too
    if not (is_staff(ctx, task) if ctx.version.has_project_reports else ctx.user.is_superuser):
        raise deny()


def _old_poll(ctx: Context, asked: str) -> Reply:
    request = ctx.state.requests.get(asked)
    if request is None:
        raise ApiError(404, "Unknown request id")
    requests_queue.poll(request)
    if request.status not in ("failed", "finished"):
        # read in CVAT's public source, not in the facts: no body in 2.15
        return Reply(202, {"rq_id": asked} if ctx.version.has_requests else None)
    del ctx.state.requests[asked]  # so is this: whoever asks again is told that there is no such request
    if request.status == "failed":
        raise ApiError(500 if ctx.version.has_requests else 400, [request.message])
    return Reply(201, _report_row(ctx, ctx.state.reports[int(str(request.result_id))]))


def _truth(ctx: Context, task: Task) -> Job | None:
    return next((job for job in ctx.state.jobs_of(task.id) if job.type == "ground_truth"), None)


def _report(ctx: Context, task: Task) -> QualityReport:
    state, truth = ctx.state, _truth(ctx, task)
    if truth is None:  # read in CVAT's public source, not in the facts: it may have been deleted meanwhile
        raise ValueError("No report has been computed")
    now = state.now()
    whole = QualityReport(state.new_id("report"), task.id, None, None, now, task.updated, truth.updated)
    state.reports[whole.id] = whole
    for job in state.jobs_of(task.id):
        if job.type != "annotation":
            continue
        part = QualityReport(state.new_id("report"), task.id, job.id, whole.id, now, job.updated, truth.updated)
        state.reports[part.id] = part
        for frame in sorted(set(job.frames) & set(truth.frames) - task.deleted):
            for conflict in _compare(ctx, task, job, truth, frame):
                conflict |= {"id": state.new_id("conflict"), "report_id": part.id}
                part.conflicts.append(conflict)
        whole.conflicts += part.conflicts
    for report in (whole, *[r for r in state.reports.values() if r.parent == whole.id]):
        report.summary = {"conflict_count": len(report.conflicts), "frame_count": len(truth.frames)}
    return whole


def _compare(ctx: Context, task: Task, job: Job, truth: Job, frame: int) -> list[Row]:
    """Conflicts of one frame, matched greedily by the overlap of bounding boxes."""
    limits = settings_of(ctx, task.id)
    mine = [row for row in job.annotations.shapes if row["frame"] == frame]
    theirs = [row for row in truth.annotations.shapes if row["frame"] == frame]
    pairs = sorted(
        ((overlap(a["points"], b["points"]), i, k) for i, a in enumerate(mine) for k, b in enumerate(theirs)),
        key=lambda pair: -pair[0],
    )
    left, right = set(range(len(mine))), set(range(len(theirs)))
    found: list[Row] = []

    def add(kind: str, *members: tuple[Job, Row], severity: str = "error") -> None:
        ids = [
            {"obj_id": row["id"], "job_id": owner.id, "type": "shape", "shape_type": row["type"]}
            for owner, row in members
        ]
        found.append({"frame": frame, "type": kind, "severity": severity, "annotation_ids": ids})

    for value, i, k in pairs:
        if value < limits["iou_threshold"] or i not in left or k not in right:
            continue
        left.discard(i)
        right.discard(k)
        if mine[i]["label_id"] != theirs[k]["label_id"]:
            add("mismatching_label", (job, mine[i]), (truth, theirs[k]))
        # facts/cvat.md (c) Native overlay: no low_overlap, and no warning, by 2.80
        elif value < limits["low_overlap_threshold"] and ctx.version.minor < 80:
            add("low_overlap", (job, mine[i]), (truth, theirs[k]), severity="warning")
    for k in sorted(right):
        add("missing_annotation", (truth, theirs[k]))
    for i in sorted(left):
        add("extra_annotation", (job, mine[i]))
    return found


def overlap(a: list[float], b: list[float]) -> float:
    """IoU of bounding boxes."""
    first, second = _box(a), _box(b)
    left, top, right, bottom = (f(x, y) for f, x, y in zip((max, max, min, min), first, second, strict=True))
    shared = max(right - left, 0.0) * max(bottom - top, 0.0)
    whole = _area(first) + _area(second) - shared
    return shared / whole if whole else 0.0


def _box(points: list[float]) -> Corners:
    xs, ys = points[0::2], points[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _report_row(ctx: Context, report: QualityReport) -> Row:
    return {
        "id": report.id,
        "job_id": report.job,
        "task_id": report.task,
        "project_id": None,
        "parent_id": report.parent,
        "target": "job" if report.job else "task",
        "summary": report.summary,
        "created_date": report.created,
        "target_last_updated": report.target_updated,
        "gt_last_updated": report.truth_updated,
        "assignee": None,
    }


@route("GET", "/api/quality/reports")
def list_reports(ctx: Context) -> Reply:
    state = ctx.state
    for request in state.requests.values():  # time goes by for reports that nobody asks about any more
        if request.operation["type"] == "calculate:quality":
            requests_queue.poll(request)
    terms = {
        "id": lambda r: r.id,
        "task_id": lambda r: r.task,
        "job_id": lambda r: r.job,
        "parent_id": lambda r: r.parent,
        "target": lambda r: "job" if r.job else "task",
    }
    found = [r for r in state.reports.values() if lists_task(ctx, state.tasks[r.task])]
    return listing(ctx, found, terms, lambda r: _report_row(ctx, r))


@route("GET", "/api/quality/reports/{id}")
def one_report(ctx: Context, number: int) -> Reply:
    report = ctx.state.reports.get(number)
    if report is None:
        raise ApiError(404, "Not found.")
    get_task(ctx, report.task)
    return Reply(200, _report_row(ctx, report))


class _Conflict:
    """A row with the id that lists sort by."""

    def __init__(self, row: Row) -> None:
        self.id: int = row["id"]
        self.row = row


@route("GET", "/api/quality/conflicts")
def list_conflicts(ctx: Context) -> Reply:
    report = ctx.state.reports.get(int(ctx.query.get("report_id", 0)))
    if report is None:
        raise ApiError(404, "Not found.")
    get_task(ctx, report.task)
    terms = {
        "id": lambda c: c.id,
        "frame": lambda c: c.row["frame"],
        "type": lambda c: c.row["type"],
        "severity": lambda c: c.row["severity"],
    }
    return listing(ctx, [_Conflict(row) for row in report.conflicts], terms, lambda c: c.row)
