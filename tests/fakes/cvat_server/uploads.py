"""Frames for a task: files of the client, or names on the server's share."""

from __future__ import annotations

import io
import re
from pathlib import PurePosixPath

from fakes.cvat_server import requests_queue
from fakes.cvat_server.permissions import get_task
from fakes.cvat_server.routing import ApiError, Context, Reply, route
from fakes.cvat_server.segments import add_ground_truth, cut_jobs, random_frames
from fakes.cvat_server.state import Frame, Row, State, Task
from fakes.cvat_server.versions import Version
from PIL import Image


def read_frame(name: str, data: bytes) -> Frame:
    with Image.open(io.BytesIO(data)) as image:
        return Frame(name, data, *image.size)


@route("POST", "/api/tasks/{id}/data")
def upload(ctx: Context, number: int) -> Reply:
    """One request with everything, or Upload-Start, Upload-Multiple and Upload-Finish."""
    task = get_task(ctx, number, manage=True)
    if task.data_id is not None:  # seen on 2.15
        raise ApiError(400, "Adding more data is not supported")
    fields = _fields(ctx)
    _, files = ctx.form()
    if "upload-start" in ctx.headers:
        task.data_request |= fields
        return Reply(202)
    if "image_quality" not in fields:  # seen on 2.15
        raise ApiError(400, {"image_quality": ["This field is required."]})
    for _, path, data in files:
        # seen on 2.15: folders are cut off, and what has the same name then breaks the server
        name = PurePosixPath(path).name
        if name in task.uploaded:
            raise ApiError(500, "Server Error (500)")
        task.uploaded[name] = data
    if "upload-multiple" in ctx.headers:
        return Reply(200)
    task.data_request |= fields
    _check_order(task)
    operation = {"type": "create:task", "target": "task", "task_id": number, "project_id": task.project}

    def work() -> object:
        fill(ctx.state, ctx.version, task)
        return number

    task.upload_state = ("Queued", "")
    # an id that has to be quoted in a URL: not in the facts
    request = requests_queue.start(ctx, f"action=create&target=task&id={number}", {**operation, "job_id": None}, work)
    # facts/cvat.md (b) Compatibility trap: the old release names no request
    asked = {"image_quality": task.image_quality, "client_files": list(task.uploaded)}
    return Reply(202, {"rq_id": request.id} if ctx.version.has_requests else asked)


@route("GET", "/api/tasks/{id}/status", until=21)
def upload_status(ctx: Context, number: int) -> Reply:
    # facts/cvat.md (c) Auth, paging: the old release is polled at each endpoint
    get_task(ctx, number)
    request = ctx.state.requests.get(f"action=create&target=task&id={number}")
    if request is None:  # seen on 2.15: a task without data is as finished as any
        return Reply(200, {"state": "Finished", "message": "", "progress": 0.0})
    requests_queue.poll(request)
    return Reply(200, {"state": request.status.capitalize(), "message": request.message, "progress": 0.0})


def _fields(ctx: Context) -> Row:
    """The body, be it JSON or a form, whose keys may count as in ``server_files[0]``."""
    kind = ctx.headers.get("content-type", "")
    if not kind.startswith(("multipart/", "application/json")):  # seen on 2.15
        raise ApiError(415, {"detail": f'Unsupported media type "{kind}" in request.'})
    if kind.startswith("application/json"):
        return ctx.json
    row: Row = {}
    for key, value in ctx.form()[0]:
        name, *numbers = re.findall(r"[^\[\]]+", key)
        if numbers:
            rows = row.setdefault(name, [])
            if len(numbers) > 1:
                while len(rows) <= int(numbers[0]):
                    rows.append([])
                rows = rows[int(numbers[0])]
            rows.append(value)
        else:
            row[name] = {"true": True, "false": False}.get(value.lower(), value)
    return row


def fill(state: State, version: Version, task: Task) -> None:
    """Makes the frames and the jobs of a task from what was asked."""
    asked = task.data_request
    names = asked.get("server_files") or []
    files = task.uploaded or {name: _shared(state, name) for name in names}
    if not files:
        raise ValueError("No media data found")
    task.storage = "local" if task.uploaded or asked.get("copy_data") else "share"
    mapping: list[list[str]] | None = asked.get("job_file_mapping")
    if mapping:
        # facts/cvat.md (c) five ways: jobs by lists of file names
        order = [name for names_of_job in mapping for name in names_of_job]
        if sorted(order) != sorted(files):
            raise ValueError("job_file_mapping: expected each file once")
    else:
        order = _sorted(list(files), str(asked.get("sorting_method") or "lexicographical"), asked)
    frames = [read_frame(name, files[name]) for name in order]
    step = re.search(r"step\s*=\s*([1-9]\d*)", str(asked.get("frame_filter") or ""))
    task.start_frame, task.step = int(asked.get("start_frame") or 0), int(step[1]) if step else 1
    stop = int(asked.get("stop_frame") or len(frames) - 1)
    task.frames = frames[task.start_frame : stop + 1 : task.step]
    task.image_quality = int(asked.get("image_quality") or 70)
    task.chunk_size = int(asked.get("chunk_size") or 36)
    task.data_id = state.new_id("data")
    task.updated = state.now()
    cut_jobs(state, version, task, [len(x) for x in mapping] if mapping else None)
    _validation(state, task, asked.get("validation_params"))


def _check_order(task: Task) -> None:
    """The list of files names each of them, as it was stored."""
    # seen on 2.15
    order = task.data_request.get("upload_file_order")
    if order and set(order) != set(task.uploaded):
        missing = [f"{name} (missing)" for name in order if name not in task.uploaded]
        extra = [f"{name} (extra)" for name in task.uploaded if name not in order]
        raise ApiError(400, ["Uploaded files do not match the 'upload_file_order': " + ", ".join(missing + extra)])


def _shared(state: State, name: str) -> bytes:
    if name not in state.share:
        raise ValueError(f"No such file on the share: {name}")
    return state.share[name]


def _sorted(names: list[str], method: str, asked: Row) -> list[str]:
    # facts/cvat.md (c) five ways: an order is kept only with the method predefined; the default sorts
    if method == "predefined":
        order = asked.get("upload_file_order") or asked.get("server_files") or names
        return [name for name in order if name in names]
    if method == "natural":
        return sorted(names, key=_natural)
    if method == "random":
        return sorted(names, key=lambda name: hash((name, len(names))))
    return sorted(names)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _validation(state: State, task: Task, params: Row | None) -> None:
    """A ground truth job that comes with the task."""
    # facts/cvat.md (c) Honeypots: validation_params at creation; frames by name. The pool of gt_pool: see the seeds
    if not params or params.get("mode") != "gt":
        return
    if params.get("frames"):
        names = [frame.name for frame in task.frames]
        chosen = [names.index(name) for name in params["frames"]]
    else:
        chosen = random_frames(task, int(params.get("frame_count") or 1), params.get("random_seed"))
    add_ground_truth(state, task, chosen)
